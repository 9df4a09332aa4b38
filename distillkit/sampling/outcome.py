"""What became of each problem that was asked `until` something, noted the moment that it is known.

A resumed draw takes it from there: a million recorded completions are not judged a second time.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, Self

from distillkit.durable import disk_error

Stopped = Literal["enough", "hopeless", "all"]


class Outcome(NamedTuple):
    """Samples of a problem that were asked, right ones among them, and why no more were."""

    n: int
    correct: int
    stopped: Stopped


class Notes:
    """Problem id -> outcome; in a file of JSON lines, where one is given."""

    def __init__(self, file: BinaryIO | None = None) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path | None, holds: Callable[[str, Outcome], bool]) -> Iterator[Self]:
        """The notes of an earlier draw, of those problems for which `holds`, and a file to add to."""
        if path is None:
            yield cls()
            return
        with path.open("a+b", buffering=0) as file:
            notes = cls(file)
            file.seek(0)
            lines = file.read().split(b"\n")
            if lines[-1]:  # a kill tore it
                file.write(b"\n")
            notes.outcomes |= {problem: found for problem, found in _read(lines) if holds(problem, found)}
            yield notes

    def add(self, problem: str, outcome: Outcome) -> None:
        """Note an outcome; raises MissingError where the disk is full."""
        self.outcomes[problem] = outcome
        if self._file is None:
            return
        try:
            self._file.write(json.dumps([problem, *outcome]).encode() + b"\n")
        except OSError as error:
            raise disk_error(Path(self._file.name), error) from None


def _read(lines: Iterable[bytes]) -> Iterator[tuple[str, Outcome]]:
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            continue
        match found:
            case [str(problem), int(n), int(correct), "enough" | "hopeless" | "all" as stopped]:
                yield problem, Outcome(n, correct, stopped)
