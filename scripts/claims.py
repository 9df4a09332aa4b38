"""Write docs/claims.md: what the R1 literature says, and what finished runs of the toy recipes measured of it.

    distillkit run recipes/quickstart.yaml          # and the other recipes named in the table
    python scripts/claims.py --store store --out docs/claims.md

Nothing in the table is typed: every figure is read from a run of the stores that are given, the newest finished
one of each recipe (all its seeds where it has several). What has no run is said to be not measured.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from claim_figures import (
    Finding,
    Run,
    amortised,
    budget,
    cold_start,
    complexity,
    early,
    elicitation,
    faithfulness,
    growth,
    into_one_try,
    language_price,
    narrowing,
    no_signal,
    nothing_above,
    one_over_a,
    sft_ceiling,
    truncation,
    voting_temperature,
    wrong_length,
)


class Claim(NamedTuple):
    """What somebody says, and how a run shows it."""

    text: str
    source: str
    recipe: str
    measure: Callable[[list[Run]], Finding]
    """Of the runs of the recipe, one per seed."""


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
        growth("mean_tokens", lambda row: float(row["completion_tokens"]), "tokens"),
    ),
    Claim(
        "Reflection grows under pure RL",
        "arXiv:2501.12948v1, 2.2.4; doubted by arXiv:2503.20783, 2.3",
        "quickstart",
        growth("reflection", lambda row: float(row["reflections"] > 0), "with a reflection phrase"),
    ),
    Claim(
        "Pure RL mixes languages",
        "arXiv:2501.12948v1, 2.2.4",
        "quickstart",
        growth("mixed_language", lambda row: float(row["mixed"]), "mixed"),
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
(`dr-grpo-toy` with `--seeds 1,2,3,4,5`). Trainings on another machine, or with another number of threads
(`DISTILLKIT_THREADS`), end in other last bits: a figure of one seed then moves, here and there beyond its interval.
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
    except (LookupError, TypeError, ValueError, ArithmeticError, StopIteration, FileNotFoundError) as error:
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
