"""Instruction following that can be checked by rule: does the response do what its prompt asked of its form?

Reasoning models lose it: see what yours lost. Source: IFEval, Zhou et al. 2023, arXiv:2311.07911.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.ifeval.instruction import CHECKS, follows, variants

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
        return trace.response if trace.response.strip() else None

    def grade_all(self, traces: Sequence[Trace]) -> list[Verdict]:
        """As any verifier; a response that is cut or blank has followed none of its instructions."""
        verdicts = zip(traces, super().grade_all(traces), strict=True)
        return [
            _none_followed(trace, verdict) if verdict.reason in ("truncated", "no_answer") else verdict
            for trace, verdict in verdicts
        ]

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        return [self._verdict(trace.reference, answer) for trace, answer in answered]

    def shares(self, verdict: Verdict) -> Mapping[str, tuple[int, int]]:
        """The four accuracies of the paper; its `prompt_strict` is what others call IFEval."""
        found = {}
        for how in ("strict", "loose") if verdict.score is not None else ():
            done: list[bool] = verdict.detail.get(how, [])
            found[f"prompt_{how}"] = (int(all(done)), 1)
            found[f"instruction_{how}"] = (sum(done), len(done))
        return found

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
    for name, given in zip(names, arguments, strict=True):
        if name not in CHECKS:
            raise KeyError(name)
        if not isinstance(given, dict | None):
            raise ValueError(f"the arguments of {name} are no object: {given!r}")
    return [
        (name, {key: value for key, value in (given or {}).items() if value is not None})
        for name, given in zip(names, arguments, strict=True)
    ]


def _none_followed(trace: Trace, verdict: Verdict) -> Verdict:
    """The verdict on a response that was cut or is blank, with each instruction told as not followed."""
    if _complaint(trace.reference):
        return Verdict.of("unparseable_gold")
    names = [name for name, _ in instructions_of(trace.reference)]
    none = [False] * len(names)
    return replace(verdict, detail={"instructions": names, "strict": none, "loose": none})


def _complaint(reference: Any) -> str | None:
    try:
        for name, given in instructions_of(reference):
            follows("A response.", name, given)
    except KeyError as error:
        return f"an unknown instruction, or an argument that is missing: {error}"
    except (ValueError, TypeError) as error:
        return str(error)
    return None
