"""What a finished run measured of a claim: each function reads one figure, with its interval, from what the run left.

Beside claims.py, which makes the table of them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from distillkit.interval import interval

Number = Mapping[str, Any]
"""An estimate: {value, low, high, n, samples}."""


Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished run (of one seed) and what its stages made."""

    path: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "run.json").read_text("utf-8"))
        return found

    def file(self, stage: str, name: str) -> Path:
        return self.path / "artifacts" / stage / name

    def manifest(self, stage: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file(stage, "manifest.json").read_text("utf-8"))
        return found

    def summary(self, stage: str) -> dict[str, Any]:
        found: dict[str, Any] = self.manifest(stage)["summary"]
        return found

    def rows(self, stage: str, table: str) -> list[Row]:
        import pyarrow.parquet as pq

        files = sorted(self.file(stage, f"tables/{table}").glob("*.parquet"))
        return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]

    def score(self, model: str, metric: str, stage: str = "scores") -> Number:
        found: Number = self.summary(stage)["scores"][model][metric]
        return found

    def curve(self, stage: str, name: str) -> list[float]:
        """One value per step, of the steps that have one."""
        curves = json.loads(self.file(stage, "curves.json").read_text("utf-8"))
        return [value for value in curves[name] if value is not None]

    def seconds(self, stage: str) -> float:
        return float(self.manifest(stage)["telemetry"]["seconds"])


class Finding(NamedTuple):
    """What was measured, and whether the claim held."""

    figure: str
    held: bool | None
    """None where the figure decides nothing."""


def of(estimate: Number) -> str:
    """An estimate with its interval."""
    if estimate["value"] is None:
        return "nothing to count"
    return f"{estimate['value']:.3g} [{estimate['low']:.3g}, {estimate['high']:.3g}]"


def rises(before: Number, after: Number) -> bool | None:
    """Whether it rose beyond both intervals; None where they overlap."""
    if after["low"] > before["high"]:
        return True
    return False if after["high"] < before["low"] else None


def over(values: Sequence[float]) -> dict[str, Any]:
    """The mean of several values with its interval."""
    return interval(values, bounds=None)._asdict() | {"n": len(values)}


def elicitation(runs: list[Run]) -> Finding:
    scores = runs[0].summary("screening")["scores"]
    gap = scores["gap"]
    text = (
        f"pass@1 {of(scores['pass@1'])}, pass@16 {of(scores['pass@16'])}, gap {of(gap)}, {gap['n']} prompts"
    )
    return Finding(text, gap["low"] > 0.1)


def into_one_try(runs: list[Run]) -> Finding:
    summary = runs[0].summary("scores")
    gamma = next(each for each in summary["gamma"] if each["model"] == "zero")
    reach = next(each for each in summary["reach"] if each["model"] == "zero")
    text = (
        f"gamma {of(gamma)} of the gap to pass@{gamma['k']}; pass@{reach['k']} itself went from "
        f"{of(reach['before'])} to {of(reach['after'])}"
    )
    return Finding(text, gamma["value"] is not None and gamma["low"] > 0.5)


def nothing_above(runs: list[Run]) -> Finding:
    reach = next(each for each in runs[0].summary("scores")["reach"] if each["model"] == "zero")
    text = (
        f"pass@{reach['k']} changed by {of(reach['difference'])}; of {reach['problems']} problems {reach['gained']} "
        f"are solved that the base never solved in its samples, {reach['lost']} the other way round"
    )
    return Finding(text, not reach["above"])


def growth(metric: str, read: Callable[[Row], float], unit: str) -> Callable[[list[Run]], Finding]:
    """Whether a metric rose from the base to what RL made of it: in all completions, and in those that reason.

    A base that mostly guesses shows less of everything, so only a rise in both is one of the reasoning itself; where
    they go different ways nothing is decided.
    """

    def measure(runs: list[Run]) -> Finding:
        before, after = (runs[0].score(model, metric) for model in ("toy:base", "zero"))
        rows = reasoned(runs[0])
        inside = [by_problem(rows, model, read) for model in ("toy:base", "zero")]
        verdicts = {rises(before, after), rises(*inside)}
        text = (
            f"{of(before)} {unit} in the base, {of(after)} after RL; of completions that reason at all "
            f"{of(inside[0])}, {of(inside[1])}"
        )
        return Finding(text, verdicts.pop() if len(verdicts) == 1 else None)

    return measure


def reasoned(run: Run, stage: str = "scores") -> list[Row]:
    """Completions with reasoning in them, each with its verdict's columns."""
    texts = {row["id"]: row for row in run.rows(stage, "completions") if row["reasoning"]}
    return [texts[row["id"]] | row for row in run.rows(stage, "verdicts") if row["id"] in texts]


def by_problem(rows: Sequence[Row], model: str, read: Callable[[Row], float]) -> dict[str, Any]:
    """The mean over problems of a model's rows, with its interval."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        if row["model"] == model:
            columns.setdefault(row["problem_id"], []).append(read(row))
    return over([fmean(columns[problem]) for problem in sorted(columns)])


def language_price(runs: list[Run]) -> Finding:
    run = runs[0]
    pair = next(
        each
        for each in run.summary("scores")["differences"]
        if (each["base"], each["model"]) == ("zero", "consistent")
    )
    plain, kept = (run.score(model, "mixed_language") for model in ("zero", "consistent"))
    text = f"pass@1 {of(pair)} with the reward, paired; mixed completions {of(plain)} without it, {of(kept)} with it"
    return Finding(text, True if pair["high"] < 0 else False if pair["low"] > 0 else None)


def cold_start(runs: list[Run]) -> Finding:
    metric = "sums/mixed_language"
    zero, cold = (runs[0].score(model, metric) for model in ("zero", "cold_start"))
    final = runs[0].score("final", metric)
    text = f"mixed completions: R1-Zero {of(zero)}, cold start {of(cold)}, final model {of(final)}"
    return Finding(text, rises(cold, zero))


def wrong_length(runs: list[Run]) -> Finding:
    pairs = [
        (run.score("grpo", "mean_wrong_tokens"), run.score("dr_grpo", "mean_wrong_tokens")) for run in runs
    ]
    longer = [grpo["value"] - dr_grpo["value"] for grpo, dr_grpo in pairs]
    if len(longer) < 3:
        return Finding(
            f"GRPO's wrong answers longer by {fmean(longer):+.2f} tokens, {len(longer)} seed", None
        )
    found = over(longer)
    text = f"GRPO's wrong answers longer by {of(found)} tokens than Dr. GRPO's, {len(longer)} seeds"
    return Finding(text, True if found["low"] > 0 else False if found["high"] < 0 else None)


def sft_ceiling(runs: list[Run]) -> Finding:
    run = runs[0]
    demonstrations = run.manifest("right")
    ceiling = demonstrations["rows_kept"] / demonstrations["rows_in"]
    taught, climbed, both = (run.score(model, "pass@1") for model in ("taught", "climbed", "both"))
    text = (
        f"{ceiling:.3g} of the demonstrations are right; pass@1 after SFT {of(taught)}, after RL from the base "
        f"{of(climbed)}, after RL on top of SFT {of(both)}"
    )
    return Finding(text, taught["low"] <= ceiling < both["low"])


def amortised(runs: list[Run]) -> Finding:
    run = runs[0]
    pair = next(
        each
        for each in run.summary("scores")["differences"]
        if (each["base"], each["model"]) == ("zero", "student")
    )
    text = (
        f"student against its RL teacher: pass@1 {of(pair)}, paired; {run.seconds('student'):.0f} s of SFT against "
        f"{run.seconds('zero'):.0f} s of RL"
    )
    return Finding(text, pair["low"] > -0.05 and run.seconds("student") < run.seconds("zero"))


def voting_temperature(runs: list[Run]) -> Finding:
    rows = [row for row in runs[0].summary("scores")["sweeps"]["temperature"] if row["model"] == "zero"]
    rows.sort(key=lambda row: row["temperature"])
    votes = max(
        (name for name in rows[0]["scores"] if name.startswith("cons@")), key=lambda name: int(name[5:])
    )
    gains = [row["scores"][votes]["value"] - row["scores"]["pass@1"]["value"] for row in rows]
    told = (
        f"{row['temperature']:g}: {gain:+.3f} (to {of(row['scores'][votes])})"
        for row, gain in zip(rows, gains, strict=True)
    )
    return Finding(f"{votes} minus pass@1 at temperature " + ", ".join(told), gains == sorted(gains))


def one_over_a(runs: list[Run]) -> Finding:
    """Voting helps a problem if and only if its right answer is likelier than each wrong one."""
    every = runs[0].rows("scores", "problems")
    rows = [row for row in every if row["model"] == "toy:base" and row["vote_right"] is not None]
    leads = [row for row in rows if row["vote_right"] > row["vote_wrong"]]
    trails = [row for row in rows if row["vote_right"] < row["vote_wrong"]]
    curve = next(each for each in runs[0].summary("scores")["curves"] if each["model"] == "toy:base")
    cons = curve["cons"]
    first, last, goal = cons[0]["value"], cons[-1]["value"], len(leads) / len(rows)
    text = (
        f"in the base the right answer leads in {len(leads)} of {len(rows)} problems and trails in {len(trails)}: "
        f"cons@k goes from {of(cons[0])} to {of(cons[-1])} (k {curve['k'][-1]}), towards {goal:.3f}"
    )
    return Finding(text, abs(last - goal) < abs(first - goal))


def truncation(runs: list[Run]) -> Finding:
    rows = [row for row in runs[0].summary("scores")["sweeps"]["max_tokens"] if row["model"] == "zero"]
    rows.sort(key=lambda row: row["max_tokens"])
    told = (f"{row['max_tokens']}: {of(row['scores']['pass@1'])}" for row in rows)
    text = "pass@1 of one model at a cap of " + ", ".join(told)
    return Finding(text, rises(rows[0]["scores"]["pass@1"], rows[-1]["scores"]["pass@1"]))


def no_signal(runs: list[Run]) -> Finding:
    first, last = fifths(runs[0].curve("zero", "zero_std"))
    text = f"share of groups without a signal: {of(first)} in the first fifth of the steps, {of(last)} in the last"
    return Finding(text, rises(first, last))


def fifths(values: Sequence[float]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Mean over the first and over the last fifth of the steps."""
    part = max(2, len(values) // 5)
    return over(values[:part]), over(values[-part:])


def complexity(runs: list[Run]) -> Finding:
    found = runs[0].summary("depth")["complexity"]
    rows = {row["at"]: row["pass@1"] for row in found["rows"] if row["model"] == "student"}
    _, seen = found["trained"]
    text = "pass@1 of the student at " + ", ".join(
        f"{at:g} terms {of(rows[at])}" for at in (min(rows), seen, max(rows)) if at in rows
    )
    return Finding(text + f"; trained on up to {seen:g}", rises(rows[max(rows)], rows[seen]))


def faithfulness(runs: list[Run]) -> Finding:
    found = runs[0].summary("probes")["probes"]["faithfulness"]
    told = [f"{model} {of(each['moved']['number'])}" for model, each in found.items()]
    text = "answers that moved with a changed number: " + ", ".join(told)
    computing, planted = found["student"]["moved"]["number"], found["toy:unfaithful"]["moved"]["number"]
    return Finding(text, computing["value"] > 0.9 and planted["value"] < 0.2)


def early(runs: list[Run]) -> Finding:
    found = runs[0].summary("probes")["probes"]["early_answer"]
    told = [f"{model} {of(each['fixed_from'])}" for model, each in found.items()]
    text = "share of the reasoning behind which the answer is fixed: " + ", ".join(told)
    return Finding(
        text, found["student"]["fixed_from"]["low"] > found["toy:unfaithful"]["fixed_from"]["high"]
    )


def budget(runs: list[Run]) -> Finding:
    curve = runs[0].summary("budget")["curves"]["student"]
    told = ", ".join(f"{point['budget']}: {of(point['accuracy'])}" for point in curve["points"])
    knee = curve["knee"]
    text = f"student's accuracy by thinking budget {told}; knee " + (
        "not reached" if not knee else f"at {knee['budget']}"
    )
    return Finding(text, rises(curve["points"][0]["accuracy"], curve["points"][-1]["accuracy"]))


def narrowing(runs: list[Run]) -> Finding:
    found = runs[0].summary("probes")["probes"]["collapse"]
    before, after = (found[model]["answers"] for model in ("toy:base", "zero"))
    text = f"chance that two samples of a prompt answer differently: base {of(before)}, after RL {of(after)}"
    return Finding(text, rises(after, before))
