"""Puzzles by reasoning-gym's scorers: full marks only, no junk, no code of a model's, no crash."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.errors import MissingError
from distillkit.trace import Trace, Verdict
from distillkit.verifiers import Logic, logic
from distillkit.verifiers.arithmetic import evaluate
from distillkit.verifiers.logic import reference_of
from distillkit.verifiers.logic.gym import pack, serve_problems, unpack

pytest.importorskip("reasoning_gym", reason="needs reasoning-gym: pip install 'distillkit[logic]'")

REFUSED = {"coin_flip", "game_of_life_halting"}  # in 0.1.25: any prefix is right; any text is right
NO_ANSWER = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}


@pytest.fixture(scope="module")
def verifier() -> Iterator[Logic]:
    with Logic(workers=1) as logic:
        yield logic


def references(task: str, count: int = 3, **settings: Any) -> list[dict[str, Any]]:
    entries = serve_problems(task, settings, 5, count)(0)
    return [json.loads(json.dumps(reference_of(task, settings, entry))) for entry in entries]


def trace(answer: str, reference: Any) -> Trace:
    response = f"So it is <answer>{answer}</answer>"
    return Trace("p", [], response, "", response, reference=reference, finish_reason="stop")


def grade(verifier: Logic, answer: str, reference: Any) -> Verdict:
    return verifier.grade(trace(answer, reference))


@pytest.mark.parametrize(
    "task",
    [
        "gcd",
        "acre",
        "n_queens",
        "prime_factorization",
        "arc_agi",
        "polynomial_multiplication",
        "spell_backward",
    ],
)
def test_the_stored_answer_is_right_and_what_is_near_is_wrong(verifier: Logic, task: str) -> None:
    found = references(task)
    assert verifier.check_references(found) == [None] * 3
    for each in found:
        right = each["answer"]
        assert grade(verifier, right, each).reason == "correct"
        for wrong in ("zzz", "-", right + " or so, but I am not sure of it", right[: len(right) // 2] + "?"):
            assert grade(verifier, wrong, each) == Verdict.of("wrong", wrong)


def test_a_valid_answer_counts_where_none_is_stored(verifier: Logic) -> None:
    for each in references("graph_color"):
        puzzle = unpack(each["metadata"])["puzzle"]
        colors: dict[str, int] = {}
        for vertex in puzzle["vertices"]:
            taken = {colors.get(str(b if a == vertex else a)) for a, b in puzzle["edges"] if vertex in (a, b)}
            colors[str(vertex)] = next(color for color in [*puzzle["color_options"], 0] if color not in taken)
        if 0 not in colors.values():  # else the greedy way found no coloring, which says nothing
            assert grade(verifier, json.dumps(colors), each).reason == "correct"
        same = json.dumps(dict.fromkeys(colors, puzzle["color_options"][0]))
        assert grade(verifier, same, each).reason == "wrong"


ATTACK = "__import__('pathlib').Path({!r}).touch()"


@pytest.mark.parametrize(
    ("task", "attack"),
    [
        ("n_queens", ATTACK),
        ("spiral_matrix", f"[{ATTACK}]"),
        ("binary_matrix", f"[[{ATTACK}]]"),
        ("string_insertion", f"[str({ATTACK})]"),
        ("countdown", ATTACK),
        ("puzzle24", ATTACK),
        ("simple_integration", f"x + {ATTACK}"),
        ("intermediate_integration", f"eval({ATTACK!r})"),
        ("polynomial_multiplication", "lambdify([], \"{}\")()".format(ATTACK.replace("'", "\\'"))),
    ],
)  # fmt: skip
def test_what_a_model_wrote_is_never_run(verifier: Logic, tmp_path: Path, task: str, attack: str) -> None:
    mark = tmp_path / "mark"
    for each in references(task):
        assert grade(verifier, attack.replace("{!r}", repr(str(mark))), each).reason == "wrong"
    assert not mark.exists()


@pytest.mark.parametrize("task", sorted(REFUSED))
def test_a_scorer_that_rewards_junk_is_refused(verifier: Logic, task: str) -> None:
    reference = {"task": task, "settings": {}, "answer": "0.5", "metadata": {}}
    [complaint] = verifier.check_references([reference])
    assert complaint is not None and f"scorer of {task} gives full marks to" in complaint
    verdict = grade(verifier, "0.5", reference)
    assert (verdict.score, verdict.reason) == (None, "unparseable_gold")


def test_a_mixture_with_such_a_task_is_refused_too(verifier: Logic) -> None:
    mixture = {"datasets": [{"name": "gcd"}, {"name": "coin_flip", "weight": 0.01}]}
    reference = {
        "task": "composite",
        "settings": mixture,
        "answer": "1",
        "metadata": {"source_dataset": "gcd"},
    }
    assert "gives full marks to" in (verifier.check_reference(reference) or "")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("6", "must be an object with task, settings, answer and metadata"),
        ({"task": "gcd", "answer": "6"}, "must be an object with task"),
        ({"task": "gdc", "settings": {}, "answer": "6", "metadata": {}}, "no task 'gdc'; did you mean gcd"),
        (
            {"task": "gcd", "settings": {"x": 1}, "answer": "6", "metadata": {}},
            "no setting 'x'; there are max_num",
        ),
        (
            {"task": "gcd", "settings": {"min_numbers": 0}, "answer": "6", "metadata": {}},
            "refuses its settings",
        ),
        (
            {"task": "prime_factorization", "settings": {}, "answer": "?", "metadata": {}},
            "does not accept the answer",
        ),
    ],
)
def test_references_that_are_none(verifier: Logic, reference: Any, words: str) -> None:
    assert words in (verifier.check_reference(reference) or "")
    assert grade(verifier, "6", reference).reason == "unparseable_gold"


def test_rows_keep_their_places(verifier: Logic) -> None:
    first, second = references("gcd", 2)
    rows = [
        trace(first["answer"], first),
        trace("6", None),
        trace("x" * 1_000_000, first),
        trace(second["answer"], second),
    ]
    assert [each.reason for each in verifier.grade_all(rows)] == [
        "correct",
        "unparseable_gold",
        "wrong",
        "correct",
    ]


@pytest.mark.parametrize(
    ("response", "whole", "answer"),
    [
        (r"\boxed{7}", False, "7"),
        ("seven", False, None),
        ("seven\n", True, "seven"),
        ("<answer>a</answer>", True, "a"),
    ],
)
def test_where_the_answer_stands(response: str, whole: bool, answer: str | None) -> None:
    assert Logic(whole_response=whole).answer(Trace("p", [], response, "", response)) == answer


def test_words_in_a_box_are_undressed(verifier: Logic) -> None:
    [each, *_] = references("course_schedule")
    assert grade(verifier, rf"\text{{{each['answer']}}}", each).reason == "correct"
    assert Logic().same(r"\text{Yes}", " Yes ") and not Logic().same("Yes", "No")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logic, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install 'distillkit\[logic\]'"):
        Logic().check()


@pytest.mark.parametrize("text", ["1 + 2 * -3", "[[1, 0], [0, 1]]", "('a', {'b': None})", "0x1f ^ 3"])
def test_arithmetic_and_literals_are_evaluated(text: str) -> None:
    assert evaluate(text) == eval(text)


@pytest.mark.parametrize(
    "text",
    [
        "f()",
        "x",
        "[].append",
        "[1][0]",
        "lambda: 1",
        "[x for x in ()]",
        "f'{1}'",
        "(x := 1)",
        "1 if 1 else 2",
        "not 1 or 2",
    ],
)
def test_anything_else_is_not(text: str) -> None:
    with pytest.raises(ValueError, match="is not evaluated"):
        evaluate(text)


PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False)
NESTED = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.text() | st.integers() | st.sampled_from(["__tuple__", "__items__"]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(NESTED)
def test_what_is_packed_comes_back(value: object) -> None:
    back = unpack(json.loads(json.dumps(pack(value))))
    assert repr(back) == repr(value)


def test_what_has_no_form_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no form"):
        pack({"a": {1}})


@pytest.mark.slow
def test_every_task_of_the_package(verifier: Logic) -> None:
    """Made, read back from JSON, right by its own answer, wrong by junk; or refused by name."""
    from reasoning_gym.factory import DATASETS

    mixture = {"datasets": [{"name": "gcd"}, {"name": "maze", "weight": 2, "config": {"min_dist": 5}}]}
    for task in sorted(DATASETS.keys() - REFUSED):
        found = references(task, 4, **(mixture if task == "composite" else {}))
        assert len(found) == 4 and verifier.check_references(found) == [None] * 4, task
        rows = [trace(each["answer"] or "zzz", each) for each in found]
        right = [each["answer"] is not None for each in found]
        assert [row.reason == "correct" for row in verifier.grade_all(rows)] == right, task
        assert not any(right) if task in NO_ANSWER else all(right), task
        junk = [
            trace(text, each) for each in found for text in ("zzz wrong", "I do not know", "{}", "x" * 1000)
        ]
        assert {row.reason for row in verifier.grade_all(junk)} == {"wrong"}, task
