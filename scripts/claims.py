"""Write docs/claims.md: what the R1 literature says, and what finished runs of the toy recipes measured of it.

    distillkit run recipes/quickstart.yaml          # and the other recipes named in the table
    python scripts/claims.py --store store --out docs/claims.md

Nothing in the table is typed: every figure is read from a run of the stores that are given, the newest finished
one of each recipe (all its seeds where it has several). What has no run is said to be not measured.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from distillkit.interval import interval

Number = Mapping[str, Any]
"""An estimate: {value, low, high, n, samples}."""


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


class Claim(NamedTuple):
    """What somebody says, and how a run shows it."""

    text: str
    source: str
    recipe: str
    measure: Callable[[list[Run]], Finding]
    """Of the runs of the recipe, one per seed."""


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


def growth(metric: str, unit: str) -> Callable[[list[Run]], Finding]:
    """Whether a metric rose from the base to what RL made of it."""

    def measure(runs: list[Run]) -> Finding:
        before, after = (runs[0].score(model, metric) for model in ("toy:base", "zero"))
        return Finding(f"{of(before)} {unit} in the base, {of(after)} after RL", rises(before, after))

    return measure


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
    gains = {
        row["temperature"]: _voting_gain(row["scores"])
        for row in sorted(rows, key=lambda row: row["temperature"])
    }
    text = "cons@16 minus pass@1 at temperature " + ", ".join(
        f"{at:g}: {gain:+.3f}" for at, gain in gains.items()
    )
    return Finding(text, list(gains.values()) == sorted(gains.values()))


def _voting_gain(scores: Mapping[str, Number]) -> float:
    largest = max((name for name in scores if name.startswith("cons@")), key=lambda name: int(name[5:]))
    return float(scores[largest]["value"] - scores["pass@1"]["value"])


def one_over_a(runs: list[Run]) -> Finding:
    """Voting helps a problem if and only if its right answer is likelier than each wrong one."""
    import pyarrow.parquet as pq

    files = sorted(runs[0].file("scores", "tables/problems").glob("*.parquet"))
    rows = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
    rows = [row for row in rows if row["model"] == "toy:base" and row["vote_right"] is not None]
    leads = [row for row in rows if row["vote_right"] > row["vote_wrong"]]
    trails = [row for row in rows if row["vote_right"] < row["vote_wrong"]]
    curve = next(each for each in runs[0].summary("scores")["curves"] if each["model"] == "toy:base")
    first, last, goal = curve["cons"][0]["value"], curve["cons"][-1]["value"], len(leads) / len(rows)
    text = (
        f"in the base the right answer leads in {len(leads)} of {len(rows)} problems and trails in {len(trails)}: "
        f"cons@k goes from {first:.3f} to {last:.3f} (k {curve['k'][-1]}), towards {goal:.3f}"
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
    told = ", ".join(f"{point['budget']}: {point['accuracy']['value']:.3f}" for point in curve["points"])
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


CLAIMS = [
    Claim(
        "The skill is in the base: many tries reach what one does not (elicitation)",
        "arXiv:2504.13837; arXiv:2503.20783, 2",
        "quickstart",
        elicitation,
    ),
    Claim(
        "RL turns pass@k into pass@1",
        "arXiv:2402.03300, 5.2.2; arXiv:2504.13837",
        "quickstart",
        into_one_try,
    ),
    Claim("Nothing rises above the base's pass@k", "arXiv:2504.13837", "quickstart", nothing_above),
    Claim(
        "Completions grow longer under pure RL",
        "arXiv:2501.12948v1, 2.2.4, figure 3",
        "quickstart",
        growth("mean_tokens", "tokens"),
    ),
    Claim(
        "Reflection grows under pure RL",
        "arXiv:2501.12948v1, 2.2.4; doubted by arXiv:2503.20783, 2.3",
        "quickstart",
        growth("reflection", "with a reflection phrase"),
    ),
    Claim(
        "Pure RL mixes languages",
        "arXiv:2501.12948v1, 2.2.4",
        "quickstart",
        growth("mixed_language", "mixed"),
    ),
    Claim(
        "A reward for language consistency costs a little accuracy",
        "arXiv:2501.12948v1, 2.3.2",
        "claims-toy",
        language_price,
    ),
    Claim("A cold start mends the style", "arXiv:2501.12948v1, 2.3.1", "r1-full-toy", cold_start),
    Claim(
        "GRPO makes wrong answers longer, Dr. GRPO does not",
        "arXiv:2503.20783, 3.1",
        "dr-grpo-toy",
        wrong_length,
    ),
    Claim(
        "SFT stops at its demonstrations, RL climbs past them",
        "arXiv:2501.12948v2",
        "sft-vs-grpo-toy",
        sft_ceiling,
    ),
    Claim(
        "Distillation hands on what RL found, at a fraction of the cost",
        "arXiv:2501.12948v1, 4.1",
        "quickstart",
        amortised,
    ),
    Claim(
        "Voting gains more the higher the temperature",
        "arXiv:2203.11171",
        "probes-toy",
        voting_temperature,
    ),
    Claim(
        "Voting helps where the right answer is likelier than each wrong one (1/A at worst)",
        "arXiv:2203.11171; Condorcet",
        "probes-toy",
        one_over_a,
    ),
    Claim(
        "A cap on tokens scores a model too low",
        "arXiv:2501.12948v1, 3 (a cap of 32,768)",
        "probes-toy",
        truncation,
    ),
    Claim("Groups without a signal grow as RL goes on", "arXiv:2503.14476, 3.2", "quickstart", no_signal),
    Claim("Accuracy collapses beyond the trained complexity", "arXiv:2506.06941", "probes-toy", complexity),
    Claim(
        "Answers follow the reasoning where it is computed, and a probe tells where not (faithfulness)",
        "arXiv:2307.13702; arXiv:2505.05410",
        "probes-toy",
        faithfulness,
    ),
    Claim("Answers that the reasoning decides are fixed late", "arXiv:2307.13702", "probes-toy", early),
    Claim("More thinking gives more right answers, with a knee", "arXiv:2501.19393", "probes-toy", budget),
    Claim("RL narrows what a model answers", "arXiv:2504.13837", "probes-toy", narrowing),
]

HEAD = """\
# What is claimed, and what our toy shows

<!-- Made by scripts/claims.py from finished runs; do not edit. -->

Each row is a claim of the R1-Zero, R1 or Dr. GRPO literature, the recipe that shows it in miniature, our figure with
its 95 % interval, and whether it held **there**: on chains of single-digit sums, with models of 0.3 million
parameters, on two CPU cores. A toy can show that a mechanism exists, and that our instruments see it. It cannot show
that a claim holds for a model of 7 billion parameters. `-` means that the figure decides neither way. Intervals are
over problems, for GRPO's lengths over seeds, for curves over steps.

| claim | source | recipe | our figure | held |
|---|---|---|---|---|
"""

TAIL = """
Made again by `python scripts/claims.py --store store --out docs/claims.md` behind runs of the recipes named
(`dr-grpo-toy` with `--seeds 1,2,3,4,5`).
"""


def runs_of(recipe: str, stores: Sequence[Path]) -> list[Run]:
    """The newest finished run of a recipe, as one run per seed; none where there is none."""
    found = [path for store in stores for path in (store / "runs" / recipe).glob("[0-9]*/run.json")]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        run = Run(path.parent)
        if run.record["status"] == "done":
            seeds = sorted((path.parent / "seeds").glob("*/run.json"))
            return [Run(each.parent) for each in seeds] or [run]
    return []


def measured(claim: Claim, runs: list[Run]) -> Finding:
    """The finding of a claim; says so where no run, or no run of this version, can tell."""
    if not runs:
        return Finding("not measured: no finished run of the recipe", None)
    try:
        return claim.measure(runs)
    except (KeyError, StopIteration, FileNotFoundError) as error:
        return Finding(f"not measured: the run lacks what it needs ({type(error).__name__})", None)


def lines(stores: Sequence[Path]) -> Iterator[str]:
    """One row of the table per claim."""
    for claim in CLAIMS:
        runs = runs_of(claim.recipe, stores)
        figure, held = measured(claim, runs)
        verdict = {True: "yes", False: "no", None: "-"}[held]
        yield f"| {claim.text} | {claim.source} | `{claim.recipe}` | {figure} | {verdict} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, action="append", help="folder of a store; may be given again")
    parser.add_argument("--out", type=Path, help="file to write; left out: print")
    arguments = parser.parse_args()
    text = HEAD + "\n".join(lines(arguments.store or [Path("store")])) + "\n" + TAIL
    if arguments.out is None:
        print(text)
    else:
        arguments.out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
