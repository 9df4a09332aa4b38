"""The system calls that the sandbox refuses, as a program for the kernel."""

import platform
import struct
from functools import cache

from distillkit.errors import MissingError

# Numbers of the refused calls on (x86_64, aarch64). They hold memory that no process's size shows (memfd_create,
# memfd_secret, shmget, msgget), reach into other processes or the kernel, or make namespaces and mounts.
_REFUSED = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "syslog": (103, 116),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "fsopen": (430, 430),
    "open_tree": (428, 428),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
}
_SOCKET = (41, 198)
# UNIX and INET, which the network namespace holds; not vsock, which reaches the hypervisor
_FAMILIES = (1, 2, 10)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}


@cache
def system_call_filter() -> bytes:
    """A classic BPF program: EPERM for the refused calls, death for those of another architecture (32 bit).

    Source: Linux, Documentation/userspace-api/seccomp_filter.rst.
    """
    if platform.machine() not in _MACHINES:
        raise MissingError(
            f"the sandbox knows no system call numbers of {platform.machine()}; use x86_64 or aarch64"
        )
    column, architecture = _MACHINES[platform.machine()]
    load, equal, at_least, give = 0x20, 0x15, 0x35, 0x06  # BPF_LD | ABS, BPF_JEQ, BPF_JGE, BPF_RET
    allow, refuse, kill = (give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x00050001), (give, 0, 0, 0x80000000)
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), kill, (load, 0, 0, 0)]
    program += [(at_least, 0, 1, 0x40000000), refuse]  # x32: the same calls under other numbers
    for numbers in _REFUSED.values():
        program += [(equal, 0, 1, numbers[column]), refuse]
    program += [(equal, 1, 0, _SOCKET[column]), allow, (load, 0, 0, 16)]  # the first argument
    for family in _FAMILIES:
        program += [(equal, 0, 1, family), allow]
    return b"".join(struct.pack("HBBI", *each) for each in [*program, refuse])
