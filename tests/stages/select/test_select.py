"""Picking by cluster, band, problem and total: who stays, who goes and why, and what decides it."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distillkit.artifact import Artifact, Manifest
from distillkit.errors import RecipeError, StageError
from distillkit.executor import Executor, Inline, Processes
from distillkit.shingles import jaccard
from distillkit.spec import identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.select import Select
from distillkit.stages.select.choice import Balance, spread
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

SHARDS = 3
INLINE = Inline()
CLUSTERS = pa.schema([("id", pa.string()), ("cluster", pa.string())])
RATES = pa.schema([("id", pa.string()), ("problem_pass_rate", pa.float64())])


def trace(problem: int, index: int, text: str = "", **fields: Any) -> Trace:
    ask = [{"role": "user", "content": f"{problem} + 0"}]
    named = {"problem_id": f"{problem:016x}", "origin": "0" * 12, "index": index}
    text = text or f"answer {problem} {index}"
    return Trace(messages=ask, completion=text, reasoning=text, response="", **named, **fields)


def grid(problems: int, each: int) -> list[Trace]:
    return [trace(problem, index) for problem in range(problems) for index in range(each)]


class World:
    """A store with traces and labels beside them, and selections over them."""

    def __init__(self, root: Path, traces: list[Trace]) -> None:
        self.store = Store(root / "store")
        self.traces = traces
        self.labels: list[Input] = []
        self.text = self._seal("own", "traces", [to_row(each) for each in traces], trace_schema())

    def label(self, stage: str, schema: pa.Schema, values: list[Any]) -> None:
        column = schema.names[1]
        rows = [{"id": each.id, column: value} for each, value in zip(self.traces, values, strict=True)]
        self.labels.append(self._seal(stage, "labels", rows, schema))

    def _seal(self, name: str, type_: str, rows: list[dict[str, Any]], schema: pa.Schema) -> Input:
        with self.store.building(type_, f"{len(self.store.all()):016x}", print) as out:
            write_shards(Job(self.store, out, {}, shards=SHARDS), rows, schema)
            artifact = self.store.seal(out, Manifest(name, type_, type_, "", ""))
            return Input(name, type_, artifact.content, artifact=artifact.path.name)

    def select(self, seed: int = 0, executor: Executor = INLINE, **fields: Any) -> Artifact:
        with self.store.building("select", f"{len(self.store.all()):016x}", print) as out:
            inputs = {"input": [self.text], "labels": self.labels}
            job = Job(self.store, out, inputs, seed=seed, shards=SHARDS, executor=executor)
            Select(name="chosen", **fields).run(job)
            return self.store.seal(out, Manifest("chosen", "select", "selection", "", ""))

    def reasons(self, seed: int = 0, **fields: Any) -> dict[tuple[int, int], str | None]:
        """(problem, index) -> reject reason."""
        return reasons(self.select(seed, **fields))


def reasons(artifact: Artifact) -> dict[tuple[int, int], str | None]:
    found = {}
    for row in artifact.rows():
        assert row["kept"] == (row["reason"] is None)
        problem, _, index = row["id"].split("/")
        found[int(problem, 16), int(index)] = row["reason"]
    return found


def kept(found: dict[tuple[int, int], str | None]) -> set[tuple[int, int]]:
    return {where for where, reason in found.items() if reason is None}


class TestUnique:
    def test_one_of_each_cluster_over_problems_and_shards(self, tmp_path: Path) -> None:
        world = World(tmp_path, grid(12, 2))
        clusters = [
            "all" if n % 2 else f"own{n}" for n in range(24)
        ]  # one cluster has a row of every problem
        world.label("twins", CLUSTERS, clusters)
        found = world.reasons(unique=True)
        assert Counter(found.values()) == {None: 13, "duplicate": 11}
        assert len([where for where in kept(found) if where[1] == 1]) == 1

    def test_a_row_without_a_cluster_is_its_own(self, tmp_path: Path) -> None:
        world = World(tmp_path, grid(3, 2))
        world.label("twins", CLUSTERS, [None, None, "a", "a", None, None])
        assert Counter(world.reasons(unique=True).values()) == {None: 5, "duplicate": 1}

    def test_a_stage_is_named_where_there_are_two(self, tmp_path: Path) -> None:
        world = World(tmp_path, grid(2, 2))
        world.label("twins", CLUSTERS, ["a", "a", "b", "c"])
        world.label("triplets", CLUSTERS, ["a"] * 4)
        with pytest.raises(RecipeError, match=r"no field 'cluster'; there are .*twins\.cluster"):
            world.select(unique=True)
        assert len(kept(world.reasons(unique="twins"))) == 3
        assert len(kept(world.reasons(unique="triplets"))) == 1

    def test_without_a_dedup_stage_it_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match=r"no field 'twins\.cluster'"):
            World(tmp_path, grid(1, 1)).select(unique="twins")

    def test_the_shortest_of_a_cluster(self, tmp_path: Path) -> None:
        lengths = [30, 10, 20]
        world = World(tmp_path, [trace(0, n, completion_tokens=tokens) for n, tokens in enumerate(lengths)])
        world.label("twins", CLUSTERS, ["a"] * 3)
        assert kept(world.reasons(unique=True, prefer="shortest")) == {(0, 1)}


class TestPassRate:
    def test_both_ends_belong_to_the_band_and_an_unknown_rate_passes(self, tmp_path: Path) -> None:
        world = World(tmp_path, grid(6, 1))
        world.label("judged", RATES, [0.0, 0.25, 0.5, 0.75, 1.0, None])
        found = world.reasons(pass_rate=[0.25, 0.75])
        assert kept(found) == {(1, 0), (2, 0), (3, 0), (5, 0)}
        assert found[0, 0] == found[4, 0] == "pass_rate"

    def test_a_row_outside_of_the_band_stands_for_no_cluster(self, tmp_path: Path) -> None:
        world = World(tmp_path, grid(20, 1))
        world.label("judged", RATES, [0.5] + [1.0] * 19)
        world.label("twins", CLUSTERS, ["a"] * 20)
        assert kept(world.reasons(pass_rate=[0, 0.9], unique=True)) == {(0, 0)}

    def test_without_a_verify_stage_it_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RecipeError, match="no field 'problem_pass_rate'"):
            World(tmp_path, grid(1, 1)).select(pass_rate=[0, 1])


class TestPerProblem:
    def test_k_of_each_and_all_of_a_small_one(self, tmp_path: Path) -> None:
        world = World(tmp_path, [*grid(5, 6), trace(9, 0)])
        found = world.reasons(per_problem=2)
        assert Counter(problem for problem, _ in kept(found)) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 2, 9: 1}
        assert {reason for reason in found.values() if reason} == {"over_per_problem"}

    def test_shortest_by_tokens_or_by_characters_for_all(self, tmp_path: Path) -> None:
        texts = ["x" * n for n in (30, 10, 20)]
        counted = [trace(0, n, text, completion_tokens=n) for n, text in enumerate(texts)]
        uncounted = [
            trace(0, n, text, completion_tokens=None if n == 2 else n) for n, text in enumerate(texts)
        ]
        by = {"per_problem": 1, "prefer": "shortest"}
        assert kept(World(tmp_path / "a", counted).reasons(**by)) == {(0, 0)}
        assert kept(World(tmp_path / "b", uncounted).reasons(**by)) == {(0, 1)}

    def test_diverse_takes_the_odd_one_out(self, tmp_path: Path) -> None:
        alike = "first add two to eight and carry then subtract five from what is left number"
        texts = [f"{alike} {n}" for n in range(9)] + [
            "或者 count down from ten by threes until nothing remains"
        ]
        world = World(tmp_path, [trace(0, n, text) for n, text in enumerate(texts)])
        assert all((0, 9) in kept(world.reasons(seed, per_problem=2, prefer="diverse")) for seed in range(10))
        assert not all((0, 9) in kept(world.reasons(seed, per_problem=2)) for seed in range(10))

    def test_longest_is_the_other_end(self, tmp_path: Path) -> None:
        lengths = [10, 30, 20]
        world = World(tmp_path, [trace(0, n, completion_tokens=tokens) for n, tokens in enumerate(lengths)])
        assert kept(world.reasons(per_problem=1, prefer="longest")) == {(0, 1)}

    def test_no_text_is_read_where_tokens_are_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World(tmp_path, [trace(0, n, completion_tokens=9 - n) for n in range(4)])

        def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError("text was read")

        monkeypatch.setattr(Artifact, "stream", refuse)
        monkeypatch.setattr(Artifact, "read", refuse)
        chosen = world.select(per_problem=1, prefer="shortest")
        monkeypatch.undo()
        assert kept(reasons(chosen)) == {(0, 3)}


class TestOrder:
    def test_fields_decide_before_the_preference(self, tmp_path: Path) -> None:
        world = World(tmp_path, [trace(0, n, completion_tokens=n, model="ab"[n % 2]) for n in range(6)])
        world.label("judged", RATES, [0.5, 0.5, 1.0, 1.0, None, 0.0])
        by = {"per_problem": 1, "prefer": "shortest"}
        assert kept(world.reasons(**by, order=["-problem_pass_rate"])) == {(0, 2)}
        assert kept(world.reasons(**by, order=["-problem_pass_rate", "-model"])) == {(0, 3)}
        assert kept(world.reasons(**by, order=["problem_pass_rate"])) == {(0, 5)}
        assert kept(world.reasons(**{**by, "per_problem": 5}, order=["problem_pass_rate"])) == {
            (0, n) for n in range(6) if n != 4
        }, "a null comes last either way"

    def test_it_decides_for_a_cluster_too(self, tmp_path: Path) -> None:
        world = World(tmp_path, [trace(n, 0, source="xyz"[n]) for n in range(3)])
        world.label("twins", CLUSTERS, ["a"] * 3)
        assert kept(world.reasons(unique=True, order=["-source"])) == {(2, 0)}


class TestTokens:
    def test_a_long_row_goes_and_an_uncounted_one_says_so(self, tmp_path: Path) -> None:
        world = World(tmp_path, [trace(n, 0, completion_tokens=t) for n, t in enumerate([5, 6, None])])
        assert world.reasons(max_tokens=5) == {(0, 0): None, (1, 0): "too_long", (2, 0): "unmeasured"}

    def test_a_measured_length_stands_in_for_a_missing_count(self, tmp_path: Path) -> None:
        world = World(tmp_path, [trace(n, 0, completion_tokens=t) for n, t in enumerate([5, None, None])])
        labels = pa.schema([("id", pa.string()), ("measures", pa.string())])
        world.label("measured", labels, [f'{{"length":{{"tokens":{n}}}}}' for n in (99, 5, 6)])
        assert world.reasons(max_tokens=5) == {(0, 0): None, (1, 0): None, (2, 0): "too_long"}

    def test_so_many_tokens_in_all(self, tmp_path: Path) -> None:
        world = World(tmp_path, [trace(n, 0, completion_tokens=10) for n in range(20)])
        few, more = world.reasons(total_tokens=55), world.reasons(total_tokens=150)
        assert (len(kept(few)), len(kept(more))) == (5, 15)
        assert kept(few) < kept(more)
        assert set(few.values()) == {None, "over_tokens"}


class TestBalance:
    def test_with_a_limit_each_group_gives_as_many_as_the_others_or_all(self, tmp_path: Path) -> None:
        sizes = {"math": 30, "code": 10, "logic": 2}
        domains = [domain for domain, n in sizes.items() for _ in range(n)]
        world = World(tmp_path, [trace(n, 0, domain=domain) for n, domain in enumerate(domains)])
        found = world.reasons(balance={"by": "domain"}, limit=16)
        assert Counter(domains[problem] for problem, _ in kept(found)) == {"math": 7, "code": 7, "logic": 2}
        assert Counter(domains[problem] for problem, _ in kept(world.reasons(limit=16)))["math"] > 8

    def test_quotas_and_a_ratio(self, tmp_path: Path) -> None:
        domains = ["math"] * 12 + ["code"] * 6 + ["logic"] * 2
        world = World(tmp_path, [trace(n, 0, domain=domain) for n, domain in enumerate(domains)])

        def by(**fields: Any) -> Counter[str]:
            found = world.reasons(balance={"by": "domain", **fields})
            assert set(found.values()) <= {None, "over_quota"}
            return Counter(domains[problem] for problem, _ in kept(found))

        assert by(quotas={"math": 5, "logic": 9}) == {"math": 5, "code": 6, "logic": 2}
        assert by(ratio=2.5) == {"math": 5, "code": 5, "logic": 2}
        assert by(quotas={"logic": 0}, ratio=1) == {"math": 6, "code": 6}

    def test_a_number_is_cut_into_bands(self, tmp_path: Path) -> None:
        world = World(tmp_path, grid(12, 1))
        rates = [0.1] * 7 + [0.5] * 4 + [None]
        world.label("judged", RATES, rates)
        found = world.reasons(balance={"by": "problem_pass_rate", "edges": [0.25, 0.75]}, limit=6)
        left = Counter(rates[problem] for problem, _ in kept(found))
        assert left[None] == 1 and {left[0.1], left[0.5]} == {2, 3}

    @pytest.mark.parametrize(
        ("value", "name"),
        [(0.1, "<0.25"), (0.25, "0.25-0.5"), (0.5, ">=0.5"), (7, ">=0.5"), (None, "null"), ("a", "a")],
    )
    def test_the_names_of_bands(self, value: Any, name: str) -> None:
        assert Balance(by="x", edges=[0.25, 0.5]).group(value) == name

    def test_only_survivors_count(self, tmp_path: Path) -> None:
        world = World(tmp_path, [trace(n, 0, domain="ab"[n % 2]) for n in range(8)])
        world.label("twins", CLUSTERS, ["x" if n % 2 else f"own{n}" for n in range(8)])
        found = world.reasons(unique=True, balance={"by": "domain", "ratio": 1})
        assert Counter(found.values()) == {None: 2, "duplicate": 3, "over_quota": 3}


class TestLimit:
    def test_so_many_in_all_and_more_contain_the_fewer(self, tmp_path: Path) -> None:
        world = World(tmp_path, grid(20, 2))
        few, more = world.reasons(limit=5), world.reasons(limit=15)
        assert (len(kept(few)), len(kept(more))) == (5, 15)
        assert kept(few) < kept(more)
        assert Counter(few.values())["over_limit"] == 35

    def test_a_problem_of_many_traces_is_no_likelier_than_one_of_few(self, tmp_path: Path) -> None:
        many = [trace(problem, index) for problem in range(40) for index in range(32 if problem < 20 else 1)]
        world = World(tmp_path, many)
        crowded = sum(
            problem < 20
            for seed in range(8)
            for problem, _ in kept(world.reasons(seed, per_problem=1, limit=10))
        )
        assert 20 < crowded < 60  # of 80; drawing once for both steps gives nearly 80


class TestDraw:
    def test_the_seed_decides_and_nothing_else(self, tmp_path: Path) -> None:
        forward, backward = World(tmp_path / "a", grid(8, 4)), World(tmp_path / "b", grid(8, 4)[::-1])
        by = {"per_problem": 2, "limit": 9}
        assert forward.select(1, **by).content == backward.select(1, **by).content
        assert forward.select(1, **by).content != forward.select(2, **by).content

    def test_nor_do_workers(self, tmp_path: Path) -> None:
        world = World(tmp_path, grid(8, 4))
        by = {"per_problem": 2, "limit": 9, "prefer": "diverse"}
        assert world.select(1, Processes(2), **by).content == world.select(1, **by).content

    def test_a_new_problem_moves_nothing_of_the_others(self, tmp_path: Path) -> None:
        before = World(tmp_path / "a", grid(8, 4)).reasons(per_problem=2)
        after = World(tmp_path / "b", grid(9, 4)).reasons(per_problem=2)
        assert {where: after[where] for where in before} == before


def test_the_steps_follow_each_other(tmp_path: Path) -> None:
    world = World(tmp_path, grid(3, 4))
    world.label("judged", RATES, [0.0] * 4 + [0.5] * 8)
    world.label("twins", CLUSTERS, [*"abcd", "e", "e", "f", "g", *"hijk"])
    found = world.select(pass_rate=[0.1, 0.9], unique=True, per_problem=2, limit=3)
    assert found.manifest.rejected == {"pass_rate": 4, "duplicate": 1, "over_per_problem": 3, "over_limit": 1}
    assert (found.manifest.rows_in, found.manifest.rows_kept) == (12, 3)


def test_nothing_left_says_why(tmp_path: Path) -> None:
    world = World(tmp_path, grid(2, 1))
    world.label("judged", RATES, [1.0, 1.0])
    with pytest.raises(StageError, match=r"stages.chosen: none of 2 rows is left \(pass_rate 2\)"):
        world.select(pass_rate=[0, 0.5])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "picks by nothing"),
        ({"prefer": "shortest"}, "picks by nothing"),
        ({"pass_rate": [0.9, 0.1]}, "no band"),
        ({"pass_rate": [0, 2]}, "no band"),
        ({"limit": 3, "prefer": "diverse"}, "give per_problem"),
        ({"per_problem": 0}, "greater than or equal to 1"),
        ({"limit": 1, "prefer": "longest"}, "give unique or per_problem"),
        ({"limit": 1, "prefer": "best"}, "longest"),
        ({"limit": 1, "order": ["score"]}, "give unique or per_problem"),
        ({"balance": {"by": "domain"}}, "against what"),
        ({"balance": {"by": "score", "edges": [0.5, 0.5], "ratio": 1}}, "do not ascend"),
        ({"balance": {"by": "score", "ratio": 0.5}}, "greater than or equal to 1"),
    ],
)
def test_declarations_that_mean_nothing_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Select(name="chosen", **fields)


def test_what_it_reads_is_said_for_the_check() -> None:
    assert Select(name="a", unique="twins", pass_rate=[0, 1]).rule_fields() == [
        "problem_pass_rate",
        "twins.cluster",
    ]
    assert Select(name="a", unique=True).rule_fields() == ["cluster"]
    assert Select(name="a", limit=1).rule_fields() == []
    assert identity(Select(name="a", limit=1, input="x")) == identity(Select(name="b", limit=1, input="y"))


@given(st.lists(st.sets(st.integers(0, 6), min_size=1), max_size=8))
def test_spread_starts_with_the_first_and_goes_on_with_the_least_alike(sets: list[set[int]]) -> None:
    texts = [np.array(sorted(each), dtype=np.uint64) for each in sets]
    order = spread(list(range(len(texts))), texts)
    assert sorted(order) == list(range(len(texts)))
    assert order[:1] == list(range(len(texts)))[:1]
    for place in range(1, len(order)):
        nearest = {
            each: max(jaccard(texts[each], texts[other]) for other in order[:place]) for each in order[place:]
        }
        assert nearest[order[place]] == min(nearest.values())
