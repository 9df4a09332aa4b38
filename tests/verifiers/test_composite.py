"""Any of, all of, weighted: every outcome of two and three parts against the table, and who is asked about what."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from distillkit.spec import digest, identity
from distillkit.text import split_think
from distillkit.trace import Trace, Verdict
from distillkit.training.rewards import accuracy
from distillkit.verifiers import AllOf, AnyOf, AnyVerifier, Exact, Format, Math, Python, Share, Weighted
from distillkit.verifiers.base import Answered, Verifier
from distillkit.verifiers.composite import Composite

SCORES = (None, 0.0, 0.5, 1.0)
REASON = {None: "grader_crashed", 0.0: "wrong", 0.5: "partial", 1.0: "correct"}


class Scripted(Verifier):
    """Reads its verdict from the trace: the `at`th of the scores in `extra`. Keeps what it was asked about."""

    votes: ClassVar[bool] = False
    asked: ClassVar[list[tuple[int, str]]] = []

    kind: Literal["scripted"] = "scripted"
    at: int

    def answer(self, trace: Trace) -> str | None:
        return f"answer {self.at}"

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        self.asked.extend((self.at, trace.problem_id) for trace, _ in answered)
        scores = [trace.extra["scores"][self.at] for trace, _ in answered]
        return [Verdict(score, REASON[score], f"answer {self.at}") for score in scores]


def trace(scores: Sequence[float | None], finish_reason: str = "stop") -> Trace:
    return Trace(repr(scores), [], "x", "", "x", finish_reason=finish_reason, extra={"scores": list(scores)})


def composed(kind: type[Composite], parts: int) -> Composite:
    scripted = [Scripted(at=at) for at in range(parts)]
    of: list[Any] = [{"weight": 1.0 + at, "verifier": each} for at, each in enumerate(scripted)]
    return kind.model_construct(of=scripted if kind is not Weighted else [_Share(**each) for each in of])


class _Share:
    def __init__(self, weight: float, verifier: Verifier) -> None:
        self.weight, self.verifier = weight, verifier


def asked_of(kind: type[Composite], scores: Sequence[float | None]) -> tuple[Verdict, list[int]]:
    Scripted.asked.clear()
    verdict = composed(kind, len(scores)).grade(trace(scores))
    return verdict, [at for at, _ in Scripted.asked]


@pytest.mark.parametrize("scores", [*product(SCORES, repeat=2), *product(SCORES, repeat=3)], ids=repr)
def test_any_of(scores: tuple[float | None, ...]) -> None:
    verdict, asked = asked_of(AnyOf, scores)
    first_right = scores.index(1.0) if 1.0 in scores else len(scores) - 1
    assert asked == list(range(first_right + 1))
    said = scores[: first_right + 1]
    expected = None if said[-1] is None else max(score for score in said if score is not None)
    assert verdict.score == expected
    decider = len(said) - 1 if expected is None else said.index(expected)
    assert (verdict.reason, verdict.answer) == (REASON[expected], f"answer {decider}")
    assert [part.score for part in verdict.parts.values()] == list(said)


@pytest.mark.parametrize("scores", [*product(SCORES, repeat=2), *product(SCORES, repeat=3)], ids=repr)
def test_all_of(scores: tuple[float | None, ...]) -> None:
    verdict, asked = asked_of(AllOf, scores)
    first_zero = scores.index(0.0) if 0.0 in scores else len(scores) - 1
    assert asked == list(range(first_zero + 1))
    said = scores[: first_zero + 1]
    expected = 0.0 if 0.0 in said else None if None in said else min(said)  # type: ignore[type-var]
    assert verdict.score == expected
    assert verdict.reason == REASON[expected]
    assert [part.score for part in verdict.parts.values()] == list(said)


@pytest.mark.parametrize("scores", [*product(SCORES, repeat=2), *product(SCORES, repeat=3)], ids=repr)
def test_weighted(scores: tuple[float | None, ...]) -> None:
    verdict, asked = asked_of(Weighted, scores)
    assert asked == list(range(len(scores)))
    weights = [1.0 + at for at in range(len(scores))]
    if None in scores:
        assert (verdict.score, verdict.reason) == (None, "grader_crashed")
        return
    mean = sum(w * (s or 0.0) for w, s in zip(weights, scores, strict=True)) / sum(weights)
    assert verdict.score == pytest.approx(mean, abs=1e-6)
    assert verdict.reason == {0.0: "wrong", 1.0: "correct"}.get(mean, "partial")


@pytest.mark.parametrize("kind", [AnyOf, AllOf, Weighted])
def test_rows_keep_their_order_and_unfinished_ones_ask_nobody(kind: type[Composite]) -> None:
    every = [trace(scores) for scores in product(SCORES, repeat=2)]
    unknown = (7.0, 7.0)  # a part that is asked about it raises
    mixed = [each for row in every for each in (row, trace(unknown, "length"), trace(unknown, "error"))]
    found = composed(kind, 2).grade_all(mixed)
    assert found[0::3] == [composed(kind, 2).grade(row) for row in every]
    assert {(each.reason, each.score, len(each.parts)) for each in found[1::3]} == {("truncated", 0.0, 0)}
    assert {(each.reason, each.score, len(each.parts)) for each in found[2::3]} == {("failed", None, 0)}
    assert composed(kind, 2).grade_all([]) == []


def of(declared: dict[str, Any]) -> Any:
    return TypeAdapter(AnyVerifier).validate_python(declared)


BOXED = r"<think>so</think><answer>\boxed{7}</answer>"


def stated(response: str, completion: str = "", reference: object = "7") -> Trace:
    return Trace("p", [], completion or response, "", response, reference=reference, finish_reason="stop")


def test_a_format_gate_is_all_of_with_the_format_first() -> None:
    gate = of({"kind": "all_of", "of": [{"kind": "format"}, {"kind": "exact"}]})
    right = "<think> so </think> <answer> 7 </answer>"
    bare = "7, that is <answer> 7 </answer>"
    wrong = "<think> so </think> <answer> 8 </answer>"
    found = gate.grade_all([stated(text.rpartition("</think>")[2], text) for text in (right, bare, wrong)])
    assert [(each.score, each.reason) for each in found] == [
        (1.0, "correct"),
        (0.0, "bad_format"),
        (0.0, "wrong"),
    ]
    assert list(found[1].parts) == ["format"]
    prefilled = of({"kind": "format", "prefilled": True})
    opened = stated("<answer> 7 </answer>", "so </think> <answer> 7 </answer>")
    assert prefilled.grade(opened).score == 1.0 and Format().grade(opened).score == 0.0
    assert not Format.votes and gate.votes


def test_it_reads_and_compares_as_its_first_part_that_can() -> None:
    both = of({"kind": "any_of", "of": [{"kind": "format"}, {"kind": "exact", "ignore_case": True}]})
    assert both.votes and both.same("Paris", "paris")
    assert both.answer(stated("<answer>Paris</answer>")) == "Paris"
    neither = of({"kind": "any_of", "of": [{"kind": "format"}, {"kind": "format", "prefilled": True}]})
    assert not neither.votes


def test_references_need_one_part_or_all() -> None:
    golds = ["7", None, {"tests": []}]
    exact = {"kind": "exact"}
    either = of({"kind": "any_of", "of": [exact, {"kind": "format"}]})
    assert either.check_references(golds) == [None, None, None]
    both = of({"kind": "all_of", "of": [{"kind": "format"}, exact]})
    assert [complaint is None for complaint in both.check_references(golds)] == [True, False, False]
    assert both.check_references([]) == []


def test_parts_are_declared_in_yaml_and_part_of_the_identity(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def grade(row):\n    return 0.5\n")
    declared = {
        "kind": "weighted",
        "of": [
            {"weight": 3, "verifier": {"kind": "any_of", "of": [{"kind": "exact"}, {"kind": "exact"}]}},
            {"weight": 1, "verifier": {"kind": "python", "file": str(file), "workers": 1}},
        ],
    }
    made = of(declared)
    assert isinstance(made, Weighted) and isinstance(made.of[0].verifier, AnyOf)
    assert isinstance(made.of[1].verifier, Python)
    assert of(made.model_dump(mode="json")) == made
    before = digest(identity(made))
    assert made.foreign() == [f"runs grade() of {file}"]
    with made:
        verdict = made.grade(stated("<answer>7</answer>"))
        assert verdict.score == pytest.approx(0.875)
        assert {name: part.score for name, part in verdict.parts.items()} == {"any_of": 1.0, "python": 0.5}
        assert list(verdict.parts["any_of"].parts) == ["exact"]
        assert made.probe(stated("<answer>8</answer>")).score == pytest.approx(0.125)
    file.write_text("def grade(row):\n    return 0.25\n")
    assert digest(identity(made)) != before
    assert AnyOf(of=[Exact(), Math(), Exact()]).names == ["exact", "math", "exact-2"]


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"kind": "any_of", "of": [{"kind": "exact"}]}, "at least 2"),
        ({"kind": "any_of", "of": [{"kind": "exact"}, {"kind": "exakt"}]}, "exakt"),
        (
            {"kind": "all_of", "marker": "A:", "of": [{"kind": "exact"}, {"kind": "math"}]},
            "belongs to the verifiers",
        ),
        ({"kind": "weighted", "of": [{"weight": 0, "verifier": {"kind": "exact"}}] * 2}, "greater than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        of(declared)


def test_the_weighted_score_is_the_reward_of_grpo() -> None:
    form = "<think>so</think>\n<answer>{}</answer>"
    texts = [form.format(7), form.format(8), "so \\boxed{7}", form.format(7)]
    ends = ["stop", "stop", "stop", "length"]
    traces = [
        Trace("p", [], text, *split_think(text), reference="7", finish_reason=end)
        for text, end in zip(texts, ends, strict=True)
    ]
    shares = [Share(weight=0.9, verifier=Exact()), Share(weight=0.1, verifier=Format())]
    assert accuracy(traces, {"math": Weighted(of=shares)}) == [1.0, 0.1, 0.9, 0.0]
