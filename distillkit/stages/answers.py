"""What models answered in an evaluation: the tables that keep it, and every number that is told of it.

No stage itself, but the second half of evaluate.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from distillkit import scoring
from distillkit.artifact import Model, Row
from distillkit.reader import look_up
from distillkit.scoring import Ballot, Group, Judged, by_problem, leading, outcome, verdict_schema
from distillkit.stages.base import Job, write_shards
from distillkit.stages.book import Book
from distillkit.stages.outlook import size_of
from distillkit.stages.scored import Complexity, ProblemSet
from distillkit.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

SWEPT = ("pass@1", "pass@", "cons@", "truncated", "no_answer", "mean_tokens")
"""What is told of each point of a sweep."""

Key = tuple[str, str]
"""(model, benchmark)"""


@dataclass
class Answers:
    """What the models answered: groups for the metrics, rows for the tables."""

    groups: dict[Key, list[Group]] = field(default_factory=dict)
    """One group per problem, at the first temperature."""
    swept: dict[tuple[str, str, float], list[Group]] = field(default_factory=dict)
    """The same for each further temperature."""
    ballots: dict[Key, dict[str, Ballot]] = field(default_factory=dict)
    """The votes on each problem, where its verifier can compare answers."""
    book: Book = field(default_factory=Book)
    """The tables of the first temperature."""

    def __post_init__(self) -> None:
        self.others = self.book.aside()
        """Those of the further temperatures."""

    @property
    def samples(self) -> int:
        """Completions so far."""
        every = [*self.groups.values(), *self.swept.values()]
        return sum(len(group) for groups in every for group in groups)

    def lengths_known(self, model: str, given: ProblemSet) -> bool:
        """Whether the engine counted the tokens of what it gave."""
        groups = self.groups[model, given.name]
        return all(each.tokens is not None or each.reason == "failed" for group in groups for each in group)

    def add(self, model: str, given: ProblemSet, traces: Sequence[Trace], judged: list[Judged]) -> None:
        """Take in what a model said to a set of problems, and the verdicts on it."""
        key = model, given.name
        self.groups[key] = by_problem(judged)
        self.ballots[key] = scoring.ballots_of(self.groups[key], given.verifiers)
        self.book.add(traces, judged, model=model, benchmark=given.name)

    def add_swept(
        self, model: str, given: ProblemSet, temperature: float, traces: Sequence[Trace], judged: list[Judged]
    ) -> None:
        """Take in what a model said at a further temperature."""
        self.swept[model, given.name, temperature] = by_problem(judged)
        self.others.add(traces, judged, model=model, benchmark=given.name, temperature=temperature)

    def write(self, job: Job) -> None:
        """Write the tables, and tell what could not be judged."""
        import pyarrow as pa

        schema = verdict_schema("model", "benchmark")
        self.book.write(job, schema)
        write_shards(job, list(self._problems()), problem_schema(), "problems")
        if self.others.completions:
            self.others.write(job, schema.append(pa.field("temperature", pa.float64())), "swept_")
        self.book.tell(job)

    def _problems(self) -> Iterator[Row]:
        for (model, benchmark), groups in self.groups.items():
            for group in groups:
                problem_id = group[0].problem_id
                votes = self.ballots[model, benchmark].get(problem_id)
                lead = leading(votes) if votes else None
                yield {
                    "id": f"{problem_id}/{benchmark}/{model}",
                    "problem_id": problem_id,
                    "benchmark": benchmark,
                    "model": model,
                    **outcome(group),
                    "vote_right": lead.right if lead else None,
                    "vote_wrong": lead.wrong if lead else None,
                    "answers": lead.answers if lead else None,
                }

    def summary(self, sets: Sequence[ProblemSet], models: Sequence[Model], base: str) -> dict[str, Any]:
        """Every number besides the scores and gamma; see `Evaluate`."""
        names = [model.name for model in models]
        by_set = {each.name: {model: self.groups[model, each.name] for model in names} for each in sets}
        found: dict[str, Any] = {
            "differences": [
                {"benchmark": name, **row}
                for name, groups in by_set.items()
                for row in scoring.differences(groups)
            ],
            "reach": [row for each in sets for row in self._reach(each, names, base)],
            "bands": [
                {"model": model, "base": base, "benchmark": name, **row}
                for name, groups in by_set.items()
                for model in names
                for row in scoring.bands(groups[base], groups[model])
            ],
            "curves": [row for each in sets for row in self._curves(each, names)],
            "votes": [row for each in sets for row in self._votes(each, names)],
            "sweeps": {
                "temperature": [row for each in sets for row in self._by_temperature(each, names)],
                "max_tokens": [row for each in sets for row in self._by_cap(each, names)],
            },
            "cost": [self._cost(each, model) for each in sets for model in models],
        }
        best = scoring.best({model: [self.groups[model, each.name] for each in sets] for model in names})
        return found | ({"best": best} if best else {})

    def _reach(self, given: ProblemSet, names: Sequence[str], base: str) -> Iterator[Row]:
        k = scoring.largest_k(given.n)
        for model in names if k else []:
            found = scoring.reach(self.groups[base, given.name], self.groups[model, given.name], k or 1)
            if model != base and found is not None:
                yield {"model": model, "base": base, "benchmark": given.name, **found}

    def _curves(self, given: ProblemSet, names: Sequence[str]) -> Iterator[Row]:
        for model in names:
            found = scoring.curve(self.groups[model, given.name], given.n, self.ballots[model, given.name])
            if found is not None:
                yield {"model": model, "benchmark": given.name, **found}

    def _votes(self, given: ProblemSet, names: Sequence[str]) -> Iterator[Row]:
        for model in names:
            leads = [lead for each in self.ballots[model, given.name].values() if (lead := leading(each))]
            if leads:
                yield {"model": model, "benchmark": given.name, **scoring.tally(leads)}

    def _by_temperature(self, given: ProblemSet, names: Sequence[str]) -> Iterator[Row]:
        for model in names if len(given.temperatures) > 1 else []:
            for temperature in sorted(given.temperatures):
                first = temperature == given.temperatures[0]
                groups = (
                    self.groups[model, given.name] if first else self.swept[model, given.name, temperature]
                )
                n = given.at(temperature)[1]
                where = {"model": model, "benchmark": given.name, "temperature": temperature, "n": n}
                votes = self.ballots[model, given.name] if first else None
                yield {**where, "scores": _told(groups, n, given, votes)}

    def _by_cap(self, given: ProblemSet, names: Sequence[str]) -> Iterator[Row]:
        for model in names if len(given.caps) > 1 else []:
            if not self.lengths_known(model, given):
                continue
            groups, votes = self.groups[model, given.name], self.ballots[model, given.name]
            for cap in given.caps:
                left = [scoring.cut(group, cap) for group in groups]
                cast = {g[0].problem_id: g for g in groups}
                cut = {name: scoring.cut_votes(cast[name], each, cap) for name, each in votes.items()}
                where = {"model": model, "benchmark": given.name, "max_tokens": cap}
                yield {**where, "scores": _told(left, given.n, given, cut)}

    def complexity(
        self, sets: Sequence[ProblemSet], names: Sequence[str], asked: Complexity
    ) -> dict[str, Any]:
        """{field, trained, rows: [{model, benchmark, at, problems, pass@1, tokens}]}."""
        rows = []
        for given in sets:
            at = {each.id: _number(look_up({"extra": each.extra}, asked.field)) for each in given.problems}
            for model in names:
                groups = self.groups[model, given.name]
                for value in sorted({found for each in at.values() if (found := each) is not None}):
                    inside = [group for group in groups if at.get(group[0].problem_id) == value]
                    told = scoring.metrics(inside, [], {}, votes=False)
                    rows.append(
                        {
                            "model": model,
                            "benchmark": given.name,
                            "at": value,
                            "problems": len(inside),
                            "pass@1": told["pass@1"].as_json() if "pass@1" in told else None,
                            "tokens": told["mean_tokens"].as_json() if "mean_tokens" in told else None,
                        }
                    )
        return {
            "field": asked.field,
            "trained": list(asked.trained) if asked.trained else None,
            "rows": [row for row in rows if row["problems"] and row["pass@1"]],
        }

    def _cost(self, given: ProblemSet, model: Model) -> Row:
        """Tokens of a model's answers, and what they took: 2 operations per active parameter and token.

        None where the engine counts no tokens.
        """
        judged = [each for group in self.groups[model.name, given.name] for each in group]
        tokens = sum(each.tokens or 0 for each in judged) if self.lengths_known(model.name, given) else None
        size = size_of(model)
        active = size.active if size else None
        return {
            "model": model.name,
            "benchmark": given.name,
            "completions": len(judged),
            "tokens": tokens,
            "active": active,
            "operations": 2 * active * tokens if active and tokens is not None else None,
        }


def _told(
    groups: Sequence[Group], n: int, given: ProblemSet, votes: Mapping[str, Ballot] | None
) -> dict[str, Any]:
    """The metrics of one point of a sweep."""
    k = scoring.largest_k(n)
    found = scoring.metrics(groups, [k] if k else [], given.verifiers, ballots=votes)
    return {name: each.as_json() for name, each in found.items() if name.startswith(SWEPT)}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def problem_schema() -> "pa.Schema":
    """Arrow schema of the problems table; its id is problem_id/benchmark/model.

    vote_right, vote_wrong: shares of the judged samples that give the likeliest right and the likeliest wrong answer;
    answers: different ones. Null where the verifier cannot compare answers.
    """
    import pyarrow as pa

    return pa.schema(
        [
            *((name, pa.string()) for name in ("id", "problem_id", "benchmark", "model")),
            ("n", pa.int32()),
            ("correct", pa.int32()),
            ("pass_rate", pa.float64()),
            ("vote_right", pa.float64()),
            ("vote_wrong", pa.float64()),
            ("answers", pa.int32()),
        ]
    )
