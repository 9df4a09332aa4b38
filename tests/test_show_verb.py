"""`distillkit show` of rows and rules: what was rejected and why, one trace, and the funnel at other thresholds."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inprocess import curation, distillkit
from rich.console import Console

from distillkit.artifact import load_manifest
from distillkit.show import find_rejected, render_one, render_rejected
from distillkit.show.piece import excerpts, pieces, visible

DECONTAMINATED = (
    "  - name: kept\n",
    "  - {name: leaks, kind: decontaminate, on: prompt, against: [{file: bench.jsonl, columns: {prompt: q}}]}\n"
    "  - name: kept\n",
)
LEAKED = ("      - {field: score", "      - {field: leak, is: null, reason: leaked}\n      - {field: score")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curation that was run with a benchmark that leaks, its filter with an ablation."""
    folder = tmp_path_factory.mktemp("shown")
    ablate = ("    kind: filter\n", "    kind: filter\n    ablate: true\n")
    recipe = curation(folder, DECONTAMINATED, LEAKED, ablate)
    bench = {"q": "A train goes 180 km in 3 hours. What is its speed in km/h?"}
    (folder / "bench.jsonl").write_text(json.dumps(bench) + "\n", "utf-8")
    answer = distillkit("run", recipe, "--store", folder / "store", "--until", "chosen")
    assert answer.code == 0, answer.err
    return folder


def shown(ran: Path, *arguments: str) -> str:
    answer = distillkit("show", "curation/1", "--store", ran / "store", *arguments)
    assert answer.code == 0, answer.err
    return answer.out


def told(ran: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown(ran, "--json", *arguments))
    return found


class TestRejected:
    def test_the_foreign_segments_are_marked(self, ran: Path) -> None:
        text = shown(ran, "--rejected", "mixed_language")
        assert "rejected as mixed_language: 2 in kept" in text
        assert "measures.language.share at least 0.9: it is " in text
        assert "{zh: 首先} we take 12 {zh: 个苹果}" in text

    def test_as_data(self, ran: Path) -> None:
        found = told(ran, "--rejected", "mixed_language", "--limit", "2")
        assert found["counts"] == {"kept": 2} and len(found["traces"]) == 2
        for trace in found["traces"]:
            [fate] = trace["fates"]
            assert fate["reason"] == "mixed_language" and not fate["kept"]
            for start, end, mark in trace["marks"]:
                assert mark != "zh" or any(c > "\u2e7f" for c in trace["text"][start:end])

    def test_the_first_reason_comes_first_and_the_others_are_told(self, ran: Path) -> None:
        found = told(ran, "--rejected", "wrong", "--limit", "99")
        firsts = [trace["fates"][0]["reason"] == "wrong" for trace in found["traces"]]
        assert firsts == sorted(firsts, reverse=True)
        assert found["counts"]["kept"] == sum(firsts) < len(firsts)
        assert any("; also " in line for line in shown(ran, "--rejected", "leaked").splitlines())

    def test_a_leak_says_where_it_is_from(self, ran: Path) -> None:
        text = shown(ran, "--rejected", "leaked", "--limit", "1")
        assert "leaked from bench.jsonl, row 1" in text
        assert "n-gram: a train goes 180 km" in text
        assert "prompt: {leak: A train goes 180 km in 3 hours." in text

    def test_a_duplicate_names_the_one_that_stayed(self, ran: Path) -> None:
        for trace in told(ran, "--rejected", "duplicate")["traces"]:
            stayed = told(ran, "--trace", trace["kept_of_cluster"])
            assert [fate["kept"] for fate in stayed["fates"]] == [True, True]
            assert stayed["labels"]["twins.cluster"] == trace["cluster"] == trace["labels"]["twins.cluster"]
        assert "duplicate in cluster" in shown(ran, "--rejected", "duplicate")

    def test_any_reason_of_one_stage(self, ran: Path) -> None:
        found = told(ran, "--rejected", "all", "--stage", "chosen", "--limit", "50")
        assert {trace["fates"][0]["stage"] for trace in found["traces"]} == {"chosen"}
        assert sum(found["counts"].values()) == len(found["traces"])

    def test_no_such_reason_names_those_there_are(self, ran: Path) -> None:
        answer = distillkit("show", "curation/1", "--store", ran / "store", "--rejected", "ugly")
        assert answer.code == 2
        assert "nothing was rejected as 'ugly'; reasons are " in answer.mistake and "wrong" in answer.mistake
        answer = distillkit(
            "show", "curation/1", "--store", ran / "store", "--rejected", "all", "--stage", "twins"
        )
        assert "no selection twins" in answer.mistake


class TestTrace:
    def test_it_is_whole(self, ran: Path) -> None:
        [trace] = told(ran, "--rejected", "mixed_language", "--limit", "1")["traces"]
        found = told(ran, "--trace", trace["id"])
        same = {"id", "prompt", "text", "response", "completion", "labels", "marks"}
        assert {key: found[key] for key in same} == {key: trace[key] for key in same}
        assert found["labels"]["judged.verdicts"] and "judged.telemetry" not in found["labels"]
        text = shown(ran, "--trace", trace["id"])
        assert "reasoning:" in text and "judged.score: 1.0" in text

    def test_a_kept_one_was_asked_by_every_selection(self, ran: Path) -> None:
        [trace] = told(ran, "--rejected", "duplicate", "--limit", "1")["traces"]
        fates = told(ran, "--trace", trace["id"])["fates"]
        assert [(each["stage"], each["kept"]) for each in fates] == [("kept", True), ("chosen", False)]

    def test_an_unknown_id_is_one_clear_line(self, ran: Path) -> None:
        answer = distillkit("show", "curation/1", "--store", ran / "store", "--trace", "nobody")
        assert answer.code == 2 and "no trace 'nobody' in this run" in answer.mistake


HOSTILE = "\x1b]0;owned\x07\x1b[2J [red]x[/red] \u202egnihton\u202c \x9b31m \ud800 \r\n"


@pytest.mark.parametrize("whole", [False, True])
def test_nothing_of_a_trace_commands_the_terminal(ran: Path, whole: bool) -> None:
    found = find_rejected(ran / "store" / "runs" / "curation" / "1", ran / "store", "leaked", limit=1)
    [trace] = found["traces"]
    for key in ("id", "prompt", "text", "response", "completion", "kept_of_cluster", "cluster"):
        trace[key] = HOSTILE + "所以" + HOSTILE
    trace["marks"] = [[3, len(HOSTILE) + 2, "zh"]]
    trace["leak"] = {**trace["leak"], "benchmark": HOSTILE, "ngram": HOSTILE, "row": HOSTILE}
    trace["labels"] = {"judged.answer": HOSTILE, "judged.verdicts": {"math": {"detail": {"x": HOSTILE}}}}
    page = io.StringIO()
    Console(file=page, width=200, force_terminal=False).print(
        render_one(trace) if whole else render_rejected(found)
    )
    seen = page.getvalue()
    assert not set(seen) & set("\x1b\x07\x9b\r\u202e\u202c\ud800")
    assert "[red]x[/red]" in seen, "brackets of a trace are no markup"


@given(
    st.text(st.characters(exclude_characters="\r"), max_size=60),
    st.lists(
        st.tuples(st.integers(-3, 70), st.integers(-3, 70), st.sampled_from(["zh", "leak"])), max_size=6
    ),
    st.integers(0, 9),
)
def test_pieces_and_excerpts_are_of_the_text(
    text: str, marks: list[tuple[int, int, str]], around: int
) -> None:
    assert "".join(part for _, part in pieces(text, marks)) == text
    fitting = [mark for mark in marks if 0 <= mark[0] < mark[1] <= len(text)]
    for place in excerpts(text, fitting, around, 9):
        assert "".join(part for _, part in place) in text
        assert any(mark for mark, _ in place)
    assert visible(text) == visible(visible(text))


def counted(ran: Path, *arguments: str) -> dict[str, Any]:
    answer = distillkit("show", "curation/1", "--store", ran / "store", "--rules", "--json", *arguments)
    assert answer.code == 0, answer.err
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_the_rules_as_they_are_change_nothing(ran: Path) -> None:
    found = counted(ran)
    assert found["stage"] == "kept"
    assert found["rows_kept"] == found["rows_kept_before"] > 0
    assert found["rejected"] == found["rejected_before"]
    assert found["rows_in"] == found["rows_kept"] + sum(found["rejected"].values())
    assert sum(each["rejected"] for each in found["rules"]) == sum(found["rejected"].values())


@pytest.mark.parametrize(
    ("shown", "ran_with"),
    [
        ("kept.rules.mixed_language.min=0.3", "stages.kept.rules.2.min=0.3"),
        ("stages.kept.rules.1.min=0", "stages.kept.rules.1.min=0"),
        ("kept.rules=[{field: finish_reason, is: stop, reason: cut}]",) * 2,
    ],
)
def test_other_thresholds_count_what_a_run_would_keep(
    ran: Path, tmp_path: Path, shown: str, ran_with: str
) -> None:
    found = counted(ran, "--set", shown)
    key = ran_with if ran_with.startswith("stages.") else f"stages.{ran_with}"
    answer = distillkit(
        "run", ran / "curation.yaml", "--store", ran / "store", "--until", "kept", "--set", key
    )
    assert answer.code == 0, answer.err
    runs = sorted((ran / "store" / "runs" / "curation").iterdir(), key=lambda path: int(path.name))
    manifest = load_manifest(runs[-1] / "artifacts" / "kept" / "manifest.json")
    assert (found["rows_kept"], found["rejected"]) == (manifest.rows_kept, manifest.rejected)


def test_a_threshold_inside_a_preset_moves_by_its_reason(ran: Path) -> None:
    before, after = counted(ran), counted(ran, "--set", "kept.rules.long_paragraph.max=100000")
    rules = {each["rule"]: each for each in after["rules"]}
    assert rules["measures.readability.longest_paragraph_words at most 100000"]["failed"] == 0
    assert len(after["rules"]) == len(before["rules"])
    assert after["rows_kept"] >= before["rows_kept"]


def test_a_further_rule(ran: Path) -> None:
    found = counted(ran, "--rule", "{field: domain, not_in: [math], reason: sums}")
    assert found["rows_kept"] == 0 and found["rules"][-1]["reason"] == "sums"
    assert found["rules"][-1]["rows_kept"] == found["rows_kept_before"]


def test_as_tables(ran: Path) -> None:
    answer = distillkit(
        "show", "curation/1", "--store", ran / "store", "--rules", "--set", "kept.rules.wrong.min=0"
    )
    assert answer.code == 0
    for word in (
        "in the run",
        "with these rules",
        "kept without it",
        "score at least 0",
        "Nothing was built",
    ):
        assert word in answer.out


def test_the_run_shows_its_ablation(ran: Path) -> None:
    answer = distillkit("show", "curation/1", "--store", ran / "store", "--json")
    [step] = [step for step in json.loads(answer.out)["funnel"] if "ablation" in step]
    without = [each["rows_kept"] for each in step["ablation"]]
    first = distillkit("show", "curation/1", "--store", ran / "store", "--rules", "--json")
    assert without == [each["rows_kept"] for each in json.loads(first.out)["rules"]]
    assert "kept without each of its rules" in distillkit("show", "curation/1", "--store", ran / "store").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--rules", "--set", "kept.rules.nope.min=0"],
            "no rule nope; name one by its reason (leaked, wrong",
        ),
        (["--rules", "--set", "kept.rules.9.min=0"], "no rule 9"),
        (["--rules", "--set", "kept.rules.wrong.min=x"], "should be a valid number"),
        (["--rules", "--set", "kept.rules.wrong.mix=0"], "did you mean min?"),
        (["--rules", "--set", "other.rules.0.min=0"], "no filter 'other' in this run; there are kept"),
        (["--rules", "--rule", "{field: x"], "not YAML"),
        (["--rules", "--rule", "3"], "valid dictionary"),
        (["--rules", "--rule", "{field: zork, is: 3, reason: x}"], "no field 'zork'"),
        (["--rules", "--stage", "judged"], "no filter 'judged'"),
        (["--set", "kept.rules.0.min=0"], "give that, too"),
        (["--rules", "--trace", "x"], "give one of them"),
        (["--compare", "a,b", "--trace", "x"], "give one of them"),
        (["--problem", "x"], "it says what --compare shows"),
        (["--compare", "a,b"], "no evaluation has both a and b; models are none"),
    ],
)
def test_mistakes_are_one_clear_line(ran: Path, arguments: list[str], words: str) -> None:
    answer = distillkit("show", "curation/1", "--store", ran / "store", *arguments)
    assert answer.code == 2
    assert words in answer.mistake


def test_labels_that_left_the_store_are_named(ran: Path) -> None:
    moved = next((ran / "store" / "artifacts").glob("measure-*"))
    moved.rename(ran / "away")
    answer = distillkit("show", "curation/1", "--store", ran / "store", "--rules")
    (ran / "away").rename(moved)
    assert answer.code == 3
    assert "no longer in the store: measured" in answer.mistake
