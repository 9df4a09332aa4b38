import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Script, problems
from scripted import perform as draw

from distillkit.engines.base import Completion
from distillkit.sampling import Until
from distillkit.sampling.outcome import Outcome

PROBLEMS = problems(5)
N = 7


class Killed(Exception):
    """Stands for the end of the process."""


def answering(right: dict[str, list[bool]], **facts):
    def answer(request, parameters):
        said = "1" if right[request.problem_id][request.index] else "2"
        return Completion(f"<answer>{said}</answer>", "stop", 3, 4)

    return Script(answer, **facts)


def decided(row: list[bool], until: Until) -> Outcome:
    """The rule, by the book."""
    correct = 0
    for index in range(N):
        correct += row[index]
        if correct == until.correct:
            return Outcome(index + 1, correct, "enough")
        if correct == 0 and index + 1 == until.give_up_after:
            return Outcome(index + 1, 0, "hopeless")
    return Outcome(N, correct, "all")


truths = st.lists(st.lists(st.booleans(), min_size=N, max_size=N), min_size=5, max_size=5)
untils = st.builds(Until, correct=st.integers(1, 3), give_up_after=st.none() | st.integers(1, N))


@settings(max_examples=60)
@given(truths, untils, st.integers(1, 9), st.integers(0, 2**32), st.lists(st.integers(0, 12), max_size=3))
def test_whatever_the_window_the_order_and_the_kills_the_same_samples_are_asked(
    table, until, window, seed, kills
):
    right = dict(zip([problem.id for problem in PROBLEMS], table, strict=True))
    expected = {problem: decided(row, until) for problem, row in right.items()}
    with TemporaryDirectory() as folder:
        facts = {"store": Path(folder), "until": until, "notes": Path(folder) / "notes"}
        asked = []
        for kill in kills:

            def die(finished, kill=kill):
                if finished == kill:
                    raise Killed

            script = answering(right, window=window, dice=random.Random(seed), before=die)
            try:
                draw(script, PROBLEMS, N, **facts)
            except Killed:
                asked += script.asked
        drawing = draw(answering(right, window=window, dice=random.Random(seed)), PROBLEMS, N, **facts)
    assert drawing.found.outcomes == expected
    wanted = {(problem, index) for problem, outcome in expected.items() for index in range(outcome.n)}
    assert set(drawing.traces) == wanted
    asked += drawing.script.asked
    assert {(request.problem_id, request.index) for request in asked} <= wanted
    done, total, _ = drawing.told[-1]
    assert done == total == len(wanted)


def test_what_is_known_is_not_asked_and_what_is_settled_is_not_judged_again(perform, tmp_path):
    right = {problem.id: [False, True, True, False, True, False, False] for problem in PROBLEMS}
    plain = perform(answering(right), PROBLEMS, 4)
    assert len(plain.script.asked) == 20
    until, notes = Until(correct=2, give_up_after=3), tmp_path / "notes"
    first = perform(answering(right), PROBLEMS, N, until=until, notes=notes)
    assert first.script.opened == 0 and first.script.asked == []
    assert first.told[-1][2]["accepted"] == pytest.approx(2 / 3)
    assert first.told[-1][2]["enough"] == 5
    assert set(first.found.outcomes.values()) == {Outcome(3, 2, "enough")}
    again = perform(answering(right), PROBLEMS, N, until=until, notes=notes)
    assert "accepted" not in again.told[-1][2]
    assert again.traces == first.traces and again.found.outcomes == first.found.outcomes
    assert {trace.origin for trace in first.traces.values()} == {t.origin for t in plain.traces.values()}
    assert {trace.sampling["until"]["correct"] for trace in first.traces.values()} == {2}


def test_notes_without_their_completions_are_not_believed(perform, tmp_path):
    right = {problem.id: [True] * N for problem in PROBLEMS}
    notes = tmp_path / "notes"
    first = perform(answering(right), PROBLEMS, N, until=Until(correct=2), notes=notes)
    notes.write_bytes(notes.read_bytes() + b'["q", 3')
    elsewhere = perform(
        answering(right), PROBLEMS, N, store=tmp_path / "other", until=Until(correct=2), notes=notes
    )
    assert len(elsewhere.script.asked) == len(first.script.asked) == 10
    assert elsewhere.found.outcomes == first.found.outcomes


def test_what_cannot_be_judged_counts_as_tried(perform):
    from distillkit.trace import Problem

    unreadable = [Problem([{"role": "user", "content": "q"}], reference={"no": "answer"})]
    right = {unreadable[0].id: [True] * N}
    drawing = perform(answering(right), unreadable, N, until=Until(correct=1, give_up_after=4))
    assert drawing.found.outcomes == {unreadable[0].id: Outcome(4, 0, "hopeless")}
    assert drawing.told[-1][2]["accepted"] == 0


def test_problems_with_one_prompt_share_samples_and_are_judged_apart(perform):
    from distillkit.trace import Problem

    ask = [{"role": "user", "content": "q"}]
    twins = [Problem(ask, reference="1"), Problem(ask, reference="2")]
    right = {twin.id: [True, True, True, False, False, True, True] for twin in twins}
    drawing = perform(answering(right), twins, N, until=Until(correct=1))
    assert drawing.found.outcomes == {
        twins[0].id: Outcome(1, 1, "enough"),
        twins[1].id: Outcome(4, 1, "enough"),
    }
    assert len(drawing.script.asked) == 4


def test_a_domain_without_a_verifier_is_one_clear_line(perform):
    from distillkit.errors import RecipeError
    from distillkit.trace import Problem

    strange = [Problem([{"role": "user", "content": "q"}], reference="1", domain="alchemy")]
    with pytest.raises(RecipeError, match="no verifier for domain 'alchemy'; add it to `verifiers:`"):
        perform(answering({strange[0].id: [True] * N}), strange, N, until=Until())


def test_a_slow_jury_holds_up_new_problems_and_changes_nothing(perform, tmp_path, monkeypatch):
    from distillkit.sampling import jury

    many = problems(40)
    right = {problem.id: [number % 3 == 0, number % 2 == 0] * 4 for number, problem in enumerate(many)}
    until = Until(correct=2, give_up_after=3)
    free = perform(answering(right, window=16), many, N, until=until)
    waiting = []
    monkeypatch.setattr(jury, "WAITING", 2)
    monkeypatch.setattr(jury, "BATCH", 1)
    real = jury.Jury.hand_in

    def hand_in(self, trace):
        real(self, trace)
        waiting.append(len(self._waiting))

    monkeypatch.setattr(jury.Jury, "hand_in", hand_in)
    held = perform(answering(right, window=16), many, N, store=tmp_path / "b", until=until)
    assert held.found.outcomes == free.found.outcomes and held.traces.keys() == free.traces.keys()
    assert max(waiting) <= 2 + 16
