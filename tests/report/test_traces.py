"""Which traces a page shows, and what of them: pairs, marks, cuts, hidden characters."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.artifact import shard_of
from distillkit.report import traces
from distillkit.report.material import Material
from distillkit.report.traces import answers, browsed, choose, lengths, shown
from distillkit.show.fate import fates
from distillkit.show.piece import visible


def row(**fields: Any) -> dict[str, Any]:
    defaults = {
        "id": "p/o/0",
        "problem_id": "p",
        "messages": [{"role": "user", "content": "1 + 1"}],
        "completion": "<think>so 2</think>2",
        "reasoning": "so 2",
        "response": "2",
        "reference": '"2"',
        "completion_tokens": 5,
    }
    return defaults | fields


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\u202e\u2066\u200f\x00\x1b\r\n\t\ufeff")))
def test_nothing_hidden_stays_hidden(text: str) -> None:
    shown = visible(text)
    assert not set(shown) & set(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\ufeff\x00\x1b\r"
    )
    assert visible(shown) == shown


def test_hidden_characters_are_called_by_name() -> None:
    assert visible("a\u202eb\r\nc\td\ud800") == "a[U+202E]b\nc\td[U+D800]"
    assert visible("می\u200cخواهم 👩\u200d🔬") == "می\u200cخواهم 👩\u200d🔬", "joiners are part of the script"


def test_foreign_segments_and_reflection_are_marked() -> None:
    text = "so 所以 then wait, 2"
    measures = {
        "language": {"foreign": [{"start": 3, "end": 5, "language": "zh"}], "mixed": True},
        "reflection": {"positions": [11]},
    }
    found = shown(row(reasoning=text, measures=measures))
    assert found["reasoning"] == [
        ("", "so "),
        ("zh", "所以"),
        ("", " then "),
        ("reflection", "wait"),
        ("", ", 2"),
    ]
    assert found["mixed"] is True
    assert found["response"] == [("", "2")]


def test_a_leak_is_marked_where_it_stands_in_the_reasoning() -> None:
    leak = {"part": "completion", "start": 10, "end": 16, "benchmark": "aime24"}
    found = shown(row(completion="<think>so seventy 2</think>2", reasoning="so seventy 2", leak=leak))
    assert found["reasoning"] == [("", "so "), ("leak", "sevent"), ("", "y 2")]
    found = shown(row(leak={**leak, "part": "prompt", "start": 0, "end": 3}))
    assert found["reasoning"] == [("", "so 2")]
    assert found["prompt"] == [("leak", "1 +"), ("", " 1")]
    assert found["leak"] == "aime24, row None, in the prompt"


def test_what_the_verifier_kept_is_told() -> None:
    verdicts = {"code": {"reason": "wrong", "detail": {"passed": 3, "of": "4\u202e"}}, "math": {"detail": {}}}
    assert shown(row(verdicts=verdicts))["detail"] == 'code: {"passed": 3, "of": "4[U+202E]"}'
    assert shown(row())["detail"] == ""


def test_the_other_reasons_of_a_dropped_trace_are_told(world: Any) -> None:
    found = browsed(Material.of(world.run, world.store))["traces"]
    rejected = {each["id"]: each["reasons"] for each in world.artifacts["right"].rows() if not each["kept"]}
    assert ["wrong", "long<img src=x onerror=window.hacked=55>"] in rejected.values()
    for trace in found:
        assert trace["others"] == rejected.get(trace["id"], [""])[1:]


def test_marks_stand_in_the_response_where_there_is_no_reasoning() -> None:
    measures = {"language": {"foreign": [{"start": 0, "end": 2, "language": "zh"}]}}
    found = shown(row(reasoning="", completion="所以 2", response="所以 2", measures=measures))
    assert found["reasoning"] == []
    assert found["response"] == [("zh", "所以"), ("", " 2")]


@given(
    st.text(st.characters(exclude_characters="\r"), max_size=30),
    st.lists(st.tuples(st.integers(-3, 40), st.integers(-3, 40)), max_size=6),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_marks_never_change_the_text(text: str, spans: list[tuple[int, int]], positions: list[int]) -> None:
    foreign = [{"start": start, "end": end, "language": "zh"} for start, end in spans]
    measures = {"language": {"foreign": foreign}, "reflection": {"positions": positions}}
    found = shown(row(reasoning="x" + text, measures=measures))
    assert "".join(part for _, part in found["reasoning"]) == visible("x" + text)


def test_formulas_are_marked_and_a_measured_mark_inside_one_counts_more() -> None:
    text = r"so $x^2$ and $y$ then"
    language = {"foreign": [{"start": 13, "end": 16, "language": "zh"}]}
    found = shown(row(reasoning=text, measures={"language": language}))
    marked = [("", "so "), ("math", "$x^2$"), ("", " and "), ("zh", "$y$"), ("", " then")]
    assert found["reasoning"] == marked


def test_a_run_that_only_evaluates_shows_what_was_answered(world: Any) -> None:
    found = Material.of(world.run, world.store)
    scored = [each for each in found.artifacts if each.type == "scores"]
    shown = browsed(Material(found.run, found.store, found.record, found.described, scored))
    assert (shown["kept"], shown["total"]) == ("correct", 16)
    assert shown["counts"] == {"correct": 12, "wrong": 4}
    assert len(shown["traces"]) == 16
    assert all(trace["model"] == "toy:base" for trace in shown["traces"])


def test_models_take_turns() -> None:
    decided = {f"{n:016x}/o/0": "wrong" for n in range(1000)}
    models: dict[str, str | None] = {id: "rare" if n < 5 else "often" for n, id in enumerate(decided)}
    chosen = choose(decided, "kept", 4, models)
    assert sum(models[id] == "rare" for id in chosen) == 5


def test_a_long_text_is_cut_and_says_so() -> None:
    found = shown(row(reasoning="x" * (traces.CHARACTERS + 1_234)))
    assert found["reasoning"] == [("", "x" * traces.CHARACTERS), ("", " ... (1,234 more characters)")]


def test_the_reference_is_shown_as_what_it_is() -> None:
    assert shown(row(reference='"\\u202e2"'))["reference"] == "[U+202E]2"
    assert shown(row(reference='{"tests":[1]}'))["reference"] == '{"tests": [1]}'
    assert shown(row(reference=None))["reference"] == "null"


def test_reasons_take_turns_and_kept_ones_are_of_the_same_problems() -> None:
    decided = {
        f"{n:016x}/o/{i}": ("kept", "wrong", "wrong", "rare")[i] if n < 3 else "kept"
        for n in range(500)
        for i in range(4)
    }
    chosen = choose(decided, "kept", 4)
    assert len(chosen) == len(set(chosen)) == traces.TRACES
    dropped = [id for id in chosen if decided[id] != "kept"]
    assert sorted(decided[id] for id in dropped) == ["rare"] * 3 + ["wrong"] * 6
    assert {decided[id] for id in dropped[:2]} == {"rare", "wrong"}
    kept = [id for id in chosen if decided[id] == "kept"]
    assert {id.split("/")[0] for id in kept[:3]} == {id.split("/")[0] for id in dropped}


def test_few_shards_are_enough() -> None:
    decided = {f"{n:016x}/o/0": "kept" if n % 2 else "wrong" for n in range(8_000)}
    assert len({shard_of(id, 16) for id in choose(decided, "kept", 16)}) == 1


@given(
    st.dictionaries(st.text("0123456789abcdef", min_size=1), st.sampled_from(["kept", "a", "b"]), max_size=40)
)
def test_every_trace_is_chosen_where_there_is_room(decided: dict[str, str]) -> None:
    assert sorted(choose(decided, "kept", 3)) == sorted(decided)


def test_a_chain_of_selections_tells_who_dropped_first(worlds: Any, tmp_path: Any) -> None:
    made = worlds.make_world(tmp_path, until="chosen")
    found = fates(made.store, made.artifacts["chosen"])
    assert len(found) == made.artifacts["traces"].count()
    right = {r["id"]: (r["kept"], r["reason"]) for r in made.artifacts["right"].rows()}
    chosen = {r["id"]: (r["kept"], r["reason"]) for r in made.artifacts["chosen"].rows()}
    for id, fate in found.items():
        if not right[id][0]:
            assert fate is not None and (fate.stage, fate.reason) == ("right", right[id][1])
        elif not chosen[id][0]:
            assert fate is not None and (fate.stage, fate.reason) == ("chosen", chosen[id][1])
        else:
            assert fate is None


def test_the_browser_of_a_run_counts_all_and_shows_some(world: Any) -> None:
    found = browsed(Material.of(world.run, world.store))
    assert found["total"] == 200
    assert found["counts"] == {"kept": 100, "wrong (stage right)": 50, "mixed_language (stage right)": 50}
    assert found["verdicts"] == {"right": 150, "wrong": 50}
    assert found["models"] == {"toy:base": 200}
    assert {trace["right"] for trace in found["traces"]} == {"right", "wrong"}
    assert len(found["traces"]) == 200
    assert (found["kept"], found["dropped"]) == ("kept", "dropped")
    assert json.loads(json.dumps(found)) is not None


def test_before_any_selection_verdicts_decide(worlds: Any, tmp_path: Any) -> None:
    made = worlds.make_world(tmp_path, until="judged")
    found = browsed(Material.of(made.run, made.store))
    assert (found["kept"], found["dropped"]) == ("correct", "not correct")
    assert found["counts"] == {"correct": 150, "wrong": 50}


def test_traces_stop_where_the_page_is_full(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "BYTES", 20_000)
    found = browsed(Material.of(world.run, world.store))
    assert found["total"] == 200
    assert 10 < len(found["traces"]) < 100
    assert found["counts"]["kept"] == 100, "all are counted"
    assert len(json.dumps(found["traces"], ensure_ascii=False).encode()) < 21_000
    assert {trace["fate"] for trace in found["traces"]} == set(found["counts"])


def test_models_answer_the_same_problems(world: Any) -> None:
    found = answers(world.artifacts["scores"])
    assert 0 < len(found) <= traces.PROBLEMS
    problems = [each["answers"][0]["problem"] for each in found]
    assert problems == sorted(problems)
    for each in found:
        [answer] = each["answers"]
        assert answer["model"] == "toy:base"
        assert answer["verdict"] == "correct"
        assert answer["id"].endswith("/0")


def test_lengths_are_those_of_every_completion(world: Any) -> None:
    assert sorted(lengths(world.artifacts["traces"])["traces"]) == sorted([10, 11, 12, 13] * 50)
    assert sorted(lengths(world.artifacts["scores"])["toy:base"]) == sorted([10, 11, 12, 13] * 4)
