"""Rules over real label artifacts: which reason a row gets, what is counted, and what the content covers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from distillkit.apply import apply
from distillkit.artifact import Artifact, Manifest
from distillkit.errors import RecipeError, StageError
from distillkit.executor import Processes
from distillkit.reader import View
from distillkit.rule import PRESETS, ablation
from distillkit.spec import identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.filter import Filter, Rule
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

SHARDS = 3
finite = st.floats(allow_nan=False, allow_infinity=False)
CORRECT = {"field": "score", "min": 1.0, "reason": "wrong"}
FINISHED = {"field": "finish_reason", "is": "stop", "reason": "truncated"}
ENGLISH = {"field": "measures.language.share", "min": 0.98, "reason": "mixed_language"}
VERDICTS = pa.schema([("id", pa.string()), ("score", pa.float64()), ("reason", pa.string())])
MEASURES = pa.schema([("id", pa.string()), ("measures", pa.string())])
FLAGS = pa.schema([("id", pa.string()), ("flag", pa.string())])


def trace(number: int, **fields: Any) -> Trace:
    ask = [{"role": "user", "content": f"{number} + 0"}]
    defaults = {"problem_id": f"{number:016x}", "origin": "0" * 12, "finish_reason": "stop", "reasoning": ""}
    return Trace(messages=ask, completion=f"it is {number}", response="", **{**defaults, **fields})


class World:
    """A store with traces and labels beside them, and filters that run over them."""

    def __init__(self, root: Path, traces: list[Trace]) -> None:
        self.store = Store(root / "store")
        self.traces = traces
        self.labels: list[Input] = []
        self.text = self._seal("own", "traces", [to_row(each) for each in traces], trace_schema())

    def label(self, stage: str, schema: pa.Schema, labels: list[dict[str, Any]]) -> None:
        rows = [{"id": each.id, **label} for each, label in zip(self.traces, labels, strict=True)]
        self.labels.append(self._seal(stage, "labels", rows, schema))

    def _seal(self, name: str, type_: str, rows: list[dict[str, Any]], schema: pa.Schema) -> Input:
        with self.store.building(type_, f"{len(self.store.all()):016x}", print) as out:
            write_shards(Job(self.store, out, {}, shards=SHARDS), rows, schema)
            return reference(self.store.seal(out, Manifest(name, type_, type_, "", "")))

    def job(self, out: Any, source: Input | None = None, **fields: Any) -> Job:
        inputs = {"input": [source or self.text], "labels": self.labels}
        return Job(self.store, out, inputs, shards=SHARDS, **fields)

    def filter(
        self, *rules: dict[str, Any], source: Input | None = None, ablate: bool = False, **fields: Any
    ) -> Artifact:
        with self.store.building("filter", f"{len(self.store.all()):016x}", print) as out:
            job = self.job(out, source, **fields)
            Filter(name="kept", rules=list(rules), ablate=ablate).run(job)
            named = {
                slot: [
                    {"name": i.name, "type": i.type, "content": i.content, "artifact": i.artifact}
                    for i in ends
                ]
                for slot, ends in job.inputs.items()
            }
            return self.store.seal(out, Manifest("kept", "filter", "selection", "", "", inputs=named))


def reference(artifact: Artifact) -> Input:
    return Input(artifact.stage, artifact.type, artifact.content, artifact=artifact.path.name)


def reasons(artifact: Artifact) -> dict[int, str | None]:
    """Problem number -> reject reason."""
    for row in artifact.rows():
        assert row["kept"] == (row["reason"] is None)
    return {int(row["id"].split("/")[0], 16): row["reason"] for row in artifact.rows()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Six traces: right, wrong, unjudged, cut off and wrong, mixed, unmeasured."""
    made = World(tmp_path, [trace(n, finish_reason="length" if n == 3 else "stop") for n in range(6)])
    scores = [1.0, 0.0, None, 0.0, 1.0, 1.0]
    made.label("judged", VERDICTS, [{"score": s, "reason": "correct" if s else "wrong"} for s in scores])
    shares = [1.0, 1.0, 1.0, 1.0, 0.5, None]
    made.label("measured", MEASURES, [{"measures": json.dumps({"language": {"share": s}})} for s in shares])
    made.label("flags", FLAGS, [{"flag": "aime24" if n == 0 else None} for n in range(6)])
    return made


def nested(fields: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """{kind: {key: value}} of `measures.kind.key` fields."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        _, kind, key = name.split(".")
        found.setdefault(kind, {})[key] = value
    return found


class TestFilter:
    def test_the_first_rule_that_fails_gives_the_reason(self, world: World) -> None:
        found = world.filter(CORRECT, FINISHED, ENGLISH)
        assert reasons(found) == {
            0: None, 1: "wrong", 2: "unjudged", 3: "wrong", 4: "mixed_language", 5: "unmeasured",
        }  # fmt: skip
        assert found.manifest.rejected == {"wrong": 2, "unjudged": 1, "mixed_language": 1, "unmeasured": 1}
        assert (found.manifest.rows_in, found.manifest.rows_kept) == (6, 1)
        assert reasons(world.filter(FINISHED, CORRECT))[3] == "truncated"

    def test_what_each_rule_drops_alone_is_counted(self, world: World) -> None:
        counts = world.filter(CORRECT, FINISHED, ENGLISH).manifest.counts
        assert counts["failed"] == {
            "wrong": 2,
            "truncated": 1,
            "unjudged": 1,
            "mixed_language": 1,
            "unmeasured": 1,
        }
        assert counts["failed_alone"] == {"wrong": 1, "unjudged": 1, "mixed_language": 1, "unmeasured": 1}

    def test_every_row_keeps_all_its_reasons(self, world: World) -> None:
        found = world.filter(CORRECT, FINISHED, ENGLISH, {**FINISHED, "reason": "wrong"})
        rows = {int(row["id"].split("/")[0], 16): row for row in found.rows()}
        assert [rows[n]["reasons"] for n in range(6)] == [
            [], ["wrong"], ["unjudged"], ["wrong", "truncated"], ["mixed_language"], ["unmeasured"],
        ]  # fmt: skip
        assert {n: rows[n]["copies"] for n in range(6)} == {0: 1, **dict.fromkeys(range(1, 6), 0)}

    def test_the_funnel_without_each_rule_is_what_a_filter_without_it_makes(self, world: World) -> None:
        rules = [CORRECT, FINISHED, ENGLISH]
        without = ablation(world.filter(*rules, ablate=True))
        for left_out in range(3):
            others = world.filter(*rules[:left_out], *rules[left_out + 1 :]).manifest
            assert without[left_out]["rows_kept"] == others.rows_kept
            assert without[left_out]["rejected"] == others.rejected
        assert [each["rule"] for each in without] == [
            "score at least 1", "finish_reason is stop", "measures.language.share at least 0.98",
        ]  # fmt: skip

    def test_an_ablation_is_no_other_content(self, world: World) -> None:
        plain, ablated = world.filter(CORRECT, FINISHED), world.filter(CORRECT, FINISHED, ablate=True)
        assert plain.content == ablated.content
        assert "freed" not in plain.manifest.counts
        one, two = (Filter(name="a", rules=[CORRECT], ablate=each) for each in (False, True))
        assert identity(one) != identity(two), "else the counts of a stored filter would be missing"

    def test_null_is_tested_by_is(self, world: World) -> None:
        assert reasons(world.filter({"field": "flag", "is": None, "reason": "leaked"}))[0] == "leaked"
        found = world.filter({"field": "flag", "is_not": None, "reason": "clean"})
        assert [n for n, reason in reasons(found).items() if reason is None] == [0]
        unjudged = world.filter({"field": "score", "is": [None, 0], "reason": "right"})
        assert [n for n, reason in sorted(reasons(unjudged).items()) if reason is None] == [1, 2, 3]

    def test_fields_go_by_the_stage_s_name_too(self, world: World) -> None:
        rule = {"field": "judged.score", "min": 1, "reason": "wrong"}
        assert reasons(world.filter(rule)) == {
            0: None,
            1: "wrong",
            2: "unjudged",
            3: "wrong",
            4: None,
            5: None,
        }
        deep = {"field": "measured.measures.language.share", "min": 0.98, "reason": "mixed"}
        assert reasons(world.filter(deep))[4] == "mixed"

    def test_a_bare_name_of_two_stages_is_refused(self, world: World) -> None:
        world.label("again", VERDICTS, [{"score": 1.0, "reason": "correct"}] * 6)
        with pytest.raises(RecipeError, match=r"stages.kept: no field 'score'; there are .*again\.score"):
            world.filter(CORRECT)
        assert set(reasons(world.filter({**CORRECT, "field": "again.score"})).values()) == {None}

    def test_an_unknown_field_names_the_known_ones(self, world: World) -> None:
        with pytest.raises(RecipeError, match=r"no field 'scroe'; there are .*judged\.score"):
            world.filter({**CORRECT, "field": "scroe"})

    def test_min_of_a_text_is_refused(self, world: World) -> None:
        with pytest.raises(RecipeError, match="finish_reason: min and max need a number"):
            world.filter({"field": "finish_reason", "min": 1, "reason": "x"})

    def test_nothing_left_says_why_and_seals_nothing(self, world: World) -> None:
        before = len(world.store.all())
        with pytest.raises(StageError, match=r"none of 6 rows is left \(wrong 5, unjudged 1\)"):
            world.filter({**CORRECT, "min": 2})
        assert len(world.store.all()) == before

    def test_a_selection_is_narrowed_further(self, world: World) -> None:
        first = world.filter(CORRECT)
        second = world.filter(ENGLISH, source=reference(first))
        assert reasons(second) == {0: None, 4: "mixed_language", 5: "unmeasured"}
        assert second.manifest.rows_in == 3
        assert [row["id"] for row in View.of(world.store, second).rows()] == [world.traces[0].id]

    def test_content_covers_the_text_but_not_what_the_labels_were(self, world: World, tmp_path: Path) -> None:
        kept = world.filter(CORRECT)
        assert world.filter(CORRECT, ENGLISH).content != kept.content
        assert world.filter({**CORRECT, "min": 0.5}).content == kept.content
        other = World(tmp_path / "other", [trace(n, reasoning="more") for n in range(6)])
        other.label("judged", VERDICTS, [{"score": s, "reason": ""} for s in [1.0, 0.0, None, 0.0, 1.0, 1.0]])
        assert reasons(other.filter(CORRECT)) == reasons(kept)
        assert other.filter(CORRECT).content != kept.content

    def test_an_interrupted_run_goes_on_with_the_same_result(self, world: World) -> None:
        whole = world.filter(CORRECT, FINISHED)
        stage = Filter(name="kept", rules=[CORRECT, FINISHED])
        with world.store.building("filter", "f" * 16, print) as out:
            stage.run(world.job(out))
            (out.path / "tables" / "rows" / "00001.parquet").unlink()
        with world.store.building("filter", "f" * 16, print) as out:
            stage.run(world.job(out))
            again = world.store.seal(out, Manifest("kept", "filter", "selection", "", ""))
        assert (again.content, again.manifest.counts) == (whole.content, whole.manifest.counts)
        assert again.manifest.rows_kept == whole.manifest.rows_kept

    def test_processes_give_the_same(self, world: World) -> None:
        inline = world.filter(CORRECT, FINISHED)
        assert world.filter(CORRECT, FINISHED, executor=Processes(2)).content == inline.content

    @pytest.mark.parametrize("preset", PRESETS)
    def test_a_preset_drops_by_its_rules(self, tmp_path: Path, preset: str) -> None:
        rules = PRESETS[preset]
        ends = {rule["field"]: rule.get("max", rule.get("min")) for rule in rules}
        beyond = [{**ends, rule["field"]: rule["max"] + 1 if "max" in rule else 0.5} for rule in rules]
        world = World(tmp_path, [trace(n) for n in range(len(rules) + 1)])
        world.label(
            "measured", MEASURES, [{"measures": json.dumps(nested(each))} for each in [ends, *beyond]]
        )
        found = reasons(world.filter({"preset": preset}))
        assert [found[n] for n in range(len(found))] == [None, *(rule["reason"] for rule in rules)]

    def test_no_text_is_read_where_no_rule_names_it(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError("text was read")

        monkeypatch.setattr(Artifact, "stream", refuse)
        monkeypatch.setattr(Artifact, "read", refuse)
        assert world.filter(CORRECT, FINISHED, ENGLISH).manifest.rows_kept == 1

    def test_a_file_is_filtered_by_the_same_rules(self, tmp_path: Path) -> None:
        rows = [
            {"prompt": "?", "completion": str(n), "domain": d} for n, d in enumerate(["math", "code", "law"])
        ]
        source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        rules = "rules=[{field: domain, in: [math, code], reason: other}, {field: domain, not_in: [law], reason: law}]"
        assert apply("filter", source, target, [rules]) == {"rows": 3, "kept": 2, "refused": 0}
        out = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
        assert [row["reject_reason"] for row in out] == [None, None, "other"]
        assert [row["reject_reasons"] for row in out] == [[], [], ["other", "law"]]
        assert not any("copies" in row for row in out)


class TestRule:
    @given(finite, finite, st.floats() | st.none())
    def test_bounds_include_their_ends_and_nothing_else(
        self, one: float, two: float, value: float | None
    ) -> None:
        low, high = sorted((one, two))
        [failure] = Rule(field="score", min=low, max=high, reason="out").failures([value])
        if value is None or value != value:
            assert failure == "unjudged"
        else:
            assert failure == (None if low <= value <= high else "out")

    @pytest.mark.parametrize("field", ["score", "judged.score", "verdicts.math.score"])
    def test_a_null_score_is_unjudged(self, field: str) -> None:
        assert Rule(field=field, min=0, reason="low").failures([None]) == ["unjudged"]

    @pytest.mark.parametrize("field", ["measures.language.share", "similarity", "completion_tokens"])
    def test_another_null_is_unmeasured(self, field: str) -> None:
        assert Rule(field=field, max=1, reason="high").failures([None]) == ["unmeasured"]

    def test_a_null_passes_is_not(self) -> None:
        for test in ({"is_not": "aime24"}, {"not_in": ["aime24"]}):
            assert Rule(field="flag", **test, reason="leaked").failures([None, "aime24"]) == [None, "leaked"]

    def test_in_and_not_in_are_opposites(self) -> None:
        values = ["math", "code", None, 3]
        inside = Rule(field="domain", in_=["math", None], reason="x").failures(values)
        outside = Rule(field="domain", not_in=["math", None], reason="x").failures(values)
        assert inside == [None, "x", None, "x"]
        assert outside == ["x", None, "x", None]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{field: score, reason: x}", "exactly one test"),
            ("{field: score, min: 1, is: 1, reason: x}", "exactly one test"),
            ("{field: score, is: 1, is_not: 2, reason: x}", "exactly one test"),
            ("{field: score, is: [], reason: x}", "exactly one test"),
            ("{field: score, in: [], reason: x}", "exactly one test"),
            ("{field: score, in: [1], not_in: [2], reason: x}", "exactly one test"),
            ("{field: score, in: 1, reason: x}", "valid tuple"),
            ("{field: score, min: 1}", "needs field: and reason:"),
            ("{min: 1, reason: x}", "needs field: and reason:"),
            ("{field: score, min: 2, max: 1, reason: x}", "min 2 is above max 1"),
            ("{preset: r1_readable, min: 1}", "stands alone"),
            ("{preset: r1}", "r1_readable"),
            ("{field: score, min_scroe: 1, reason: x}", "min_scroe"),
        ],
    )
    def test_a_rule_that_says_nothing_or_two_things_is_refused(self, text: str, words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            Rule.model_validate(yaml.safe_load(text))

    def test_is_null_is_not_the_same_as_no_test(self) -> None:
        null, other = Rule(field="flag", is_=None, reason="x"), Rule(field="flag", is_not=None, reason="x")
        assert identity(null) != identity(other)

    def test_another_threshold_in_a_preset_is_another_identity(self) -> None:
        def identity_with(change: str) -> str:
            code = (
                f"from distillkit.measures.readability import R1_READABLE as rules; {change}\n"
                "from distillkit.spec import digest, identity; from distillkit.stages.filter import Rule\n"
                "print(digest(identity(Rule(preset='r1_readable'))))"
            )
            return subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout

        assert (
            identity_with("pass")
            == identity_with("rules[0]['max'] += 0")
            != identity_with("rules[0]['max'] += 1")
        )

    @pytest.mark.parametrize(
        "rule", [CORRECT, {"field": "flag", "is": None, "reason": "x"}, {"preset": "r1_readable"}]
    )
    def test_a_declaration_survives_a_round_trip(self, rule: dict[str, Any]) -> None:
        stage = Filter(name="kept", rules=[rule])
        for compact in (False, True):
            assert Filter.model_validate(stage.model_dump(mode="json", exclude_defaults=compact)) == stage

    def test_the_schema_speaks_the_recipe_s_words(self) -> None:
        keys = TypeAdapter(Rule).json_schema()["properties"]
        assert set(keys) == {"preset", "field", "min", "max", "is", "is_not", "in", "not_in", "reason"}
        assert {"type": "string"} in keys["is"]["anyOf"] and {"type": "null"} in keys["is"]["anyOf"]

    def test_a_preset_names_its_fields_for_the_check(self) -> None:
        fields = Filter(name="kept", rules=[CORRECT, {"preset": "r1_readable"}]).rule_fields()
        assert fields == ["score", *(rule["field"] for rule in PRESETS["r1_readable"])]


@pytest.mark.parametrize("key", ["min", "max"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_threshold_is_a_number_that_a_value_can_reach(key: str, value: str) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Rule(field="score", reason="wrong", **{key: float(value)})
