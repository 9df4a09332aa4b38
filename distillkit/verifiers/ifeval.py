"""Instruction following that can be checked by rule: does the response do what its prompt asked of its form?

Reasoning models lose it: see what yours lost. Source: IFEval, Zhou et al. 2023, arXiv:2311.07911.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.instructions import CHECKS, follows, variants

Instruction = tuple[str, dict[str, Any]]
"""The name of an instruction and its arguments."""


class Ifeval(Verifier):
    """Correct when the response follows every instruction of its prompt; the reasoning before it is free.

    A reference is {"instructions": [names], "arguments": [an object for each]}, as the data set's instruction_id_list
    and kwargs; nulls in the arguments are as good as absent.
    """

    votes: ClassVar[bool] = False

    kind: Literal["ifeval"] = "ifeval"
    loose: bool = False
    """Also accept what follows them without its first line, its last one, or its asterisks (the paper's loose one)."""
    score: Literal["all", "fraction"] = "all"
    """all: 1 or 0 by prompt; fraction: the share of instructions that are followed."""

    def answer(self, trace: Trace) -> str | None:
        """The whole response."""
        return trace.response.strip() or None

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        return [self._verdict(trace.reference, answer) for trace, answer in answered]

    def _verdict(self, reference: Any, answer: str) -> Verdict:
        try:
            asked = instructions_of(reference)
            strict = [follows(answer, name, given) for name, given in asked]
            read = variants(answer)
            loose = [any(follows(each, name, given) for each in read) for name, given in asked]
        except (KeyError, ValueError, TypeError):
            return Verdict.of("unparseable_gold", answer)
        done = loose if self.loose else strict
        detail = {"instructions": [name for name, _ in asked], "strict": strict, "loose": loose}
        share = sum(done) / len(done)
        if self.score == "fraction" and 0 < share < 1:
            return Verdict(share, "partial", answer, detail)
        return Verdict.of("correct" if all(done) else "wrong", answer, **detail)

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        return [_complaint(reference) for reference in references]


def instructions_of(reference: Any) -> list[Instruction]:
    """The instructions in a reference; raises ValueError where there are none, KeyError for an unknown one."""
    names = reference.get("instructions") if isinstance(reference, dict) else None
    arguments = reference.get("arguments") if isinstance(reference, dict) else None
    if not isinstance(names, list) or not names:
        raise ValueError("no instructions in it: it must be an object with `instructions` and `arguments`")
    if not isinstance(arguments, list) or len(arguments) != len(names):
        raise ValueError(f"{len(names)} instructions need a list of as many arguments")
    for name in names:
        if name not in CHECKS:
            raise KeyError(name)
    return [
        (name, {key: value for key, value in (given or {}).items() if value is not None})
        for name, given in zip(names, arguments, strict=True)
    ]


def _complaint(reference: Any) -> str | None:
    try:
        for name, given in instructions_of(reference):
            follows("A response.", name, given)
    except KeyError as error:
        return f"an unknown instruction, or an argument that is missing: {error}"
    except (ValueError, TypeError) as error:
        return str(error)
    return None
