"""What runs inside the sandbox for a proof: writes files, runs a compiler on them step by step, says how it went.

Standard library only, and no import of the package: its source is sent into the box, one box per proof.
"""

import json
import os
import resource
import subprocess
import tempfile
from pathlib import Path

MAX_CHARS = 20_000
"""What is kept of a step's output, from its beginning."""


def main() -> None:
    """One frame in ({"files": {name: text}, "steps": [argv]}), one out: a list of what each step did.

    "{here}" in an argument is the folder of the files. The first step that fails is the last.
    """
    work = json.loads(read_frame())
    with tempfile.TemporaryDirectory() as here:
        for name, text in work["files"].items():
            Path(here, name).write_text(text, "utf-8", "surrogatepass")
        done: list[dict[str, object]] = []
        for argv in work["steps"]:
            done.append(run([each.replace("{here}", here) for each in argv]))
            if done[-1]["code"] != 0:
                break
        write_frame(json.dumps(done).encode())


def run(argv: list[str]) -> dict[str, object]:
    """Exit code (minus the signal that killed it), output and CPU seconds of a program."""
    before = _children_cpu_s()
    with tempfile.TemporaryFile() as out:
        try:
            code = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
            ).returncode
        except OSError as error:
            return {"code": 127, "out": f"{argv[0]}: {error.strerror}", "cpu_s": 0.0}
        out.seek(0)
        said = out.read(4 * MAX_CHARS).decode("utf-8", "replace")[:MAX_CHARS]
    return {"code": code, "out": said, "cpu_s": _children_cpu_s() - before}


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def read_frame() -> bytes:
    """A frame from descriptor 0: four bytes of length, then the content."""
    return _read(int.from_bytes(_read(4), "big"))


def _read(size: int) -> bytes:
    parts = []
    while size:
        part = os.read(0, min(size, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_frame(content: bytes) -> None:
    """A frame to descriptor 1."""
    rest = len(content).to_bytes(4, "big") + content
    while rest:
        rest = rest[os.write(1, rest) :]
