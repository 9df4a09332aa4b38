"""The problems of a built-in benchmark at a commit, asked the way its file declares.

No stage itself: evaluate reads with it what it knows by name, row by row as a problems stage would.
"""

import base64
import binascii
import json
import pickletools
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from string import ascii_uppercase
from typing import Any

from distillkit.artifact import Row
from distillkit.benchmarks import Benchmark
from distillkit.errors import StageError
from distillkit.hub import HubRef, dataset_rows
from distillkit.reader import look_up
from distillkit.spec import seed_of
from distillkit.stages.columns import Columns
from distillkit.stages.shape import Shape
from distillkit.trace import Problem

PLAIN = (None, "chat")
"""Templates that add no words of their own; a file is taken for one of them."""


@dataclass(frozen=True)
class Reading:
    """How the rows of a benchmark become problems under a template."""

    name: str
    benchmark: Benchmark
    instructed: bool = True
    """Whether the benchmark's own instruction is added."""

    def problems(self, commit: str, warn: Callable[[str], None]) -> list[Problem]:
        """Every row that has a question and a gold, sorted by id; what is left out is told with its reason.

        Raises:
            MissingError: gated, or out of reach and not in the local cache.
            RecipeError: no such config, split or column any more.
            StageError: no row is left.
        """
        found: dict[str, Problem] = {}
        left_out: Counter[str] = Counter()
        rows = 0
        for row in self._rows(commit):
            rows += 1
            problem = self.problem(row)
            if isinstance(problem, str):
                left_out[problem] += 1
            else:
                found.setdefault(problem.id, problem)
        why = ", ".join(f"{reason} {n}" for reason, n in left_out.most_common())
        if not found:
            raise StageError(f"{self.name}: none of its {rows} rows can be asked ({why or 'it is empty'})")
        if left_out:
            warn(f"{self.name}: {left_out.total()} of {rows} rows left out ({why}); no score counts them")
        return [found[each] for each in sorted(found)]

    def _rows(self, commit: str) -> Iterator[Row]:
        benchmark = self.benchmark
        extra = [*(benchmark.choices.columns if benchmark.choices else [])]

        def choose(names: list[str]) -> list[str]:
            columns = self._shape.columns
            wide = columns.model_copy(update={"extra": columns.extra | {each: each for each in extra}})
            return wide.among(names, self.name)

        ref = HubRef("dataset", benchmark.hub, commit)
        return dataset_rows(ref, benchmark.config, benchmark.hub_split, choose)

    @property
    def _shape(self) -> Shape:
        benchmark = self.benchmark
        more = {name: path for name, path in benchmark.columns.items() if name not in ("prompt", "reference")}
        columns = Columns.model_validate(
            {"prompt": benchmark.prompt, "reference": benchmark.columns["reference"], "extra": more}
        )
        return Shape(columns, benchmark.hub, benchmark.reference_pattern, benchmark.domain, "heldout")

    def problem(self, row: Row) -> Problem | str:
        """The problem in a row, or why there is none."""
        found = self._shape.problem(row)
        if isinstance(found, str):
            return found
        reference, quoted = found.reference, {name: _text(value) for name, value in found.extra.items()}
        if isinstance(reference, list) and len(reference) == 1:
            [reference] = reference
        if self.benchmark.decode is not None:
            reference = unpacked(reference)
        if self.benchmark.choices is not None:
            wrong = [str(look_up(row, column) or "").strip() for column in self.benchmark.choices.columns]
            reference = lettered(str(reference), wrong, self.benchmark.choices.seed, found.prompt)
            quoted["choices"] = "\n".join(
                f"{letter}) {text}" for letter, text in reference["options"].items()
            )
        if reference is None:
            return "no_reference"
        text = _filled(self.benchmark.question, {"prompt": found.prompt, **quoted}).strip()
        if self.instructed and self.benchmark.instruction:
            text = f"{text}\n\n{self.benchmark.instruction}"
        return replace(
            found, messages=[{"role": "user", "content": text}], reference=reference, extra={}, id=""
        )


def _filled(text: str, values: Mapping[str, str]) -> str:
    """The text with {name} replaced; what is filled in is not looked at again."""
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], match[0]), text)


def _text(value: Any) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def lettered(right: str, wrong: list[str], seed: int, question: str) -> dict[str, Any]:
    """A reference of the verifier `choice`: all answers in an order that seed and question decide."""
    options = [right.strip(), *wrong]
    random.Random(seed_of("choices", seed, question)).shuffle(options)
    return {
        "answer": ascii_uppercase[options.index(right.strip())],
        "options": dict(zip(ascii_uppercase, options, strict=False)),
    }


def unpacked(reference: Mapping[str, Any]) -> dict[str, Any] | None:
    """Public and private tests of a LiveCodeBench task as the verifier `code` reads them; None where they are broken.

    The private ones are JSON in a pickled text, compressed, in base 64. Nothing is unpickled: the text is the one
    string in the pickle.
    """
    try:
        tests = _tests(reference.get("public")) + _tests(reference.get("private"))
        metadata = json.loads(reference.get("metadata") or "{}")
    except (ValueError, binascii.Error, zlib.error):
        return None
    function = metadata.get("func_name") if isinstance(metadata, dict) else None
    return {"test_cases": tests} | ({"fn_name": function} if function else {}) if tests else None


def _tests(packed: Any) -> list[Any]:
    if not isinstance(packed, str) or not packed.strip():
        return []
    if packed.lstrip().startswith("["):
        found = json.loads(packed)
    else:
        opcodes = pickletools.genops(zlib.decompress(base64.b64decode(packed)))
        found = json.loads(next(value for _, value, _ in opcodes if isinstance(value, str)))
    if not isinstance(found, list):
        raise ValueError("no list of tests")
    return found
