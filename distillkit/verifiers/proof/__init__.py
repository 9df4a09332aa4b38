"""A proof by the proof assistant itself: it must prove *this* statement, from no axiom that was not allowed.

A proof assistant accepts `Admitted`, new axioms, a notation that turns 1 = 2 into True, and flags that switch its own
checks off, so acceptance alone says nothing. What is done about it stands in `gallina` (Coq) and `lean`; the compiler
runs in the sandbox, once per proof.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from distillkit.errors import MissingError
from distillkit.sandbox import Box, BoxError, Level, Limits, probe
from distillkit.spec import EXECUTION, digest
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.fence import last_block
from distillkit.verifiers.proof import gallina, lean

MAX_CHARS = 200_000
"""A longer proof is wrong."""
LABELS = ("coq", "rocq", "v", "gallina", "lean", "lean4")


@dataclass(frozen=True, slots=True)
class Task:
    """Files to compile, the commands that do it, and what the last one's output says against the proof.

    Commands before `from_answer` look at the reference alone.
    """

    files: dict[str, str]
    steps: list[list[str]]
    from_answer: int
    unproved: Callable[[str], str | None]


class Proof(Verifier):
    """Correct when the assistant accepts a proof of the reference's statement.

    A reference holds the statement, and a preamble where it needs one:
    {"statement": "Theorem twice_even : forall n, Nat.even (twice n) = true.",
     "preamble": "Require Import Arith Lia. Definition twice (n : nat) := n + n."}
    The candidate gives a script, with or without `Proof.` and `Qed.`, or a file that proves a theorem of that name;
    with Lean the proof alone.
    """

    votes: ClassVar[bool] = False  # two proofs of one theorem need not look alike

    kind: Literal["proof"] = "proof"
    assistant: Literal["coq", "lean"] = "coq"
    """Lean 4 is run through your own `lean`."""
    axioms: list[str] = Field(default_factory=list)
    """Axioms that a proof may rest on, as the assistant prints them: Classical_Prop.classic. Those of the preamble
    may be used in any case, and with Lean propext, Classical.choice and Quot.sound."""
    libraries: list[str] = Field(default_factory=lambda: ["Coq", "Corelib", "Stdlib", "Ltac2"])
    """First names of the libraries that a Coq proof may load."""
    cpu_s: Annotated[int, Field(ge=1)] = 60
    """CPU seconds that each compilation of a proof may take."""
    memory_gib: Annotated[float, Field(gt=0)] = 3.0
    """Memory of a proof's box in GiB."""
    sandbox: Annotated[Level, EXECUTION] = "bubblewrap"
    """none: the compiler runs as a plain process of yours; needs `run --trust`."""
    workers: Annotated[int | None, Field(ge=1), EXECUTION] = None
    """Proofs at a time; left out: one per CPU."""

    def answer(self, trace: Trace) -> str | None:
        """The last fenced block that is labelled as a proof or not at all, else the declared answer or tag."""
        return last_block(trace.response, LABELS) or super().answer(trace)

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        return self._each(lambda pair: self._verdict(pair[0].reference, pair[1]), answered)

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        return self._each(self._complaint, references)

    def check(self) -> list[str]:
        level = probe(self.sandbox)
        self._program()
        return [f"sandbox: {level}"]

    def foreign(self) -> list[str]:
        return ["runs proofs that models wrote without a sandbox"] if self.sandbox == "none" else []

    def _each(self, judge: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        if not items:
            return []
        self.check()
        with ThreadPoolExecutor(self.workers or os.cpu_count() or 1, "proof") as threads:
            return list(threads.map(judge, items))

    def _verdict(self, reference: Any, candidate: str) -> Verdict:
        if complaint := self._shape(reference):
            return Verdict.of("unparseable_gold", candidate, error=complaint)
        reason, error = self._refusal(reference, candidate) or self._judge(self._task(reference, candidate))
        verdict = Verdict.of(reason, candidate, **({"error": error} if error else {}))
        verdict.telemetry["sandbox"] = self.sandbox
        return verdict

    def _judge(self, task: Task) -> tuple[str, str]:
        """Reason and the first line that says more."""
        try:
            done = self._run(task.files, task.steps)
        except BoxError as error:
            return ("grader_timeout" if error.cause == "wall" else "crashed"), f"the box ended: {error.cause}"
        last = done[-1]
        of_answer = len(done) > task.from_answer
        if last["code"] == 127:
            return "grader_crashed", last["out"]
        # The kernel counts CPU time in ticks, so what was used may seem less than the limit.
        if last["code"] < 0 and last["cpu_s"] >= 0.5 * self.cpu_s:
            return "out_of_time" if of_answer else "grader_timeout", f"more than {self.cpu_s} s of CPU time"
        if last["code"] < 0:
            return "crashed" if of_answer else "grader_crashed", f"killed by signal {-last['code']}"
        if last["code"] != 0 and of_answer:
            of_check = len(done) == len(task.steps)
            return "wrong", ("proves something else: " if of_check else "") + _first_error(last["out"])
        if last["code"] != 0:
            return "unparseable_gold", _first_error(last["out"])
        missing = task.unproved(last["out"])
        return ("wrong", missing) if missing else ("correct", "")

    def _complaint(self, reference: Any) -> str | None:
        complaint = self._shape(reference)
        if complaint or self.assistant == "lean":
            return complaint
        task = self._task(reference, "")
        try:
            [done] = self._run(task.files, task.steps[: task.from_answer])
        except BoxError as error:
            return f"the statement could not be compiled: {error.cause}"
        return None if done["code"] == 0 else f"coqc refuses the statement: {_first_error(done['out'])}"

    def _refusal(self, reference: dict[str, str], candidate: str) -> tuple[str, str] | None:
        """Reason and words where the text alone shows that it is no proof."""
        if len(candidate) > MAX_CHARS:
            return "wrong", f"longer than {MAX_CHARS:,} characters"
        if self.assistant == "lean":
            refused = lean.refusal(lean.proof_in(reference["statement"], candidate))
            return ("wrong", refused) if refused else None
        try:
            return gallina.refusal(gallina.sentences(candidate))
        except gallina.UnreadableError as error:
            return "wrong", str(error)

    def _shape(self, reference: Any) -> str | None:
        """Why it is no reference, seen without a compiler."""
        match reference:
            case {"statement": str(statement)} if isinstance(reference.get("preamble", ""), str):
                pass
            case _:
                return (
                    "not a reference of proof: it must be an object with statement and, if needed, preamble"
                )
        if self.assistant == "lean":
            return (
                None
                if lean.name_of(statement)
                else "not a statement `theorem name ... : ...` without a proof"
            )
        try:
            gallina.name_of(statement)
            gallina.sentences(reference.get("preamble", ""))
        except gallina.UnreadableError as error:
            return str(error)
        return None

    def _task(self, reference: dict[str, str], candidate: str) -> Task:
        statement, preamble = reference["statement"], reference.get("preamble", "")
        program = self._program()
        if self.assistant == "lean":
            files = lean.compose(preamble, statement, lean.proof_in(statement, candidate))
            # The box's own library path; the toolchain finds its core library by itself.
            base = ["/usr/bin/env", "LEAN_PATH={here}", program]
            steps = [[*base, "-o", "{here}/Answer.olean", "{here}/Answer.lean"], [*base, "{here}/Check.lean"]]
            return Task(files, steps, 0, lambda said: lean.unproved(said, self.axioms))
        # A library name that no candidate can have written down before.
        root = f"P{digest([preamble, statement, candidate])[:16]}"
        files = gallina.compose(preamble, statement, candidate, root)
        base = [
            "/usr/bin/env",
            "HOME={here}",
            "OCAMLFIND_CONF={here}/ocamlfind.conf",
            program,
            "-q",
            "-w",
            "none",
        ]
        base += ["-native-compiler", "no", "-Q", "{here}", root]
        steps = [[*base, f"{{here}}/{name}"] for name in files]
        files["ocamlfind.conf"] = _plugin_paths()  # /etc, where it stands, is not shown in the sandbox
        return Task(files, steps, 1, lambda said: gallina.unproved(said, root, self.axioms, self.libraries))

    def _run(self, files: dict[str, str], steps: list[list[str]]) -> list[dict[str, Any]]:
        """What each step did, in a fresh box; a box that met the wall clock is tried once more."""
        wall_s = max(120.0, 10.0 * self.cpu_s)
        frame = json.dumps({"files": files, "steps": steps}).encode()
        memory_mib = int(1024 * self.memory_gib)
        limits = Limits(
            cpu_s=self.cpu_s, memory_mib=memory_mib, processes=32, open_files=256, file_mib=64, tmp_mib=256
        )
        for attempt in (1, 2):
            with Box([("prover", _prover())], limits, self.sandbox) as box:
                try:
                    box.send(frame, time.monotonic() + wall_s)
                    done: list[dict[str, Any]] = json.loads(box.receive(time.monotonic() + wall_s))
                    return done
                except BoxError as error:
                    if error.cause != "wall" or attempt == 2:
                        raise
        raise AssertionError("unreachable")

    def _program(self) -> str:
        name = {"coq": "coqc", "lean": "lean"}[self.assistant]
        how = {
            "coq": "apt install coq",
            "lean": "install Lean 4 (https://lean-lang.org) so that `lean` is on the PATH",
        }[self.assistant]
        found = shutil.which(name)
        if found is None:
            raise MissingError(f"proofs need the program {name!r}, which is not here; {how}")
        path = Path(found).resolve()
        if self.sandbox == "bubblewrap" and not path.is_relative_to("/usr"):
            raise MissingError(
                f"{name} lies in {path.parent}, but the sandbox shows only /usr; install it below /usr/local, or run "
                "proofs without protection by `sandbox: none` on the verifier and `run --trust`"
            )
        return str(path)


@cache
def _prover() -> CodeType:
    source = Path(__file__).with_name("prover.py")
    return compile(source.read_bytes(), "prover.py", "exec")


@cache
def _plugin_paths() -> str:
    """Where Coq finds its own plugins, as its packager says."""
    conf = Path("/etc/ocamlfind.conf")
    return conf.read_text() if conf.exists() else ""


def _first_error(output: str) -> str:
    """The first error of a compiler in one line, without the folder that it ran in."""
    lines = [line for line in output.splitlines() if line.strip()]
    for at, line in enumerate(lines):
        if line.startswith("Error:") or ": error:" in line:
            place = lines[at - 1] if at and lines[at - 1].startswith("File ") else ""
            number = place.partition(", line ")[2].partition(",")[0]
            said = " ".join([line, *lines[at + 1 : at + 4]])
            return (f"line {number}: " if number else "") + " ".join(said.split())[:300]
    return " ".join(lines)[:300]
