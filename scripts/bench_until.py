"""How much of a teacher's bill `until` saves: the same problems sampled n times, and until enough are right.

Both draw from one store on the packaged base, so both see the very same samples; what differs is how many are
asked. Three mixes of problems, by how hard they are for it.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from distillkit.artifact import Model
from distillkit.engines.transformers import TransformersEngine
from distillkit.sampling import Plan, Sampling, Until, drawn
from distillkit.store import Store
from distillkit.toy import BASE
from distillkit.toy.problems import generate
from distillkit.trace import Problem, Trace
from distillkit.verifiers.exact import Exact

TOY = Model("toy:base", str(BASE), "content")
MIXES = {"hard": ((3, 8), 1.0), "medium": ((3, 4), 0.7), "easy": ((2, 2), 0.5)}
"""Terms of the chains, and the temperature."""
UNTILS = [
    Until(correct=1),
    Until(correct=2),
    Until(correct=1, give_up_after=8),
    Until(correct=2, give_up_after=8),
    Until(correct=2, give_up_after=16),
]


def sampled(
    store: Path, problems: list[Problem], n: int, temperature: float, until: Until | None
) -> list[Trace]:
    """All traces of one draw."""
    sampling = Sampling(engine=TransformersEngine(block=256), max_tokens=64, temperature=temperature)
    plan = Plan.of(sampling, TOY, problems, n, 5, until)
    with drawn(plan, TOY, Store(store), verifiers={"chain": Exact()}) as found:
        return list(found.traces())


def rights(traces: list[Trace]) -> Counter[str]:
    """Right traces of each problem."""
    verdicts = Exact().grade_all(traces)
    return Counter(
        trace.problem_id for trace, verdict in zip(traces, verdicts, strict=True) if verdict.score == 1
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=150)
    parser.add_argument("--n", type=int, nargs="+", default=[32, 8])
    options = parser.parse_args()
    print(
        "| mix | pass@1 | n | until | asked | of plain n | tokens | problems served | of those that plain n serves |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (terms, temperature) in MIXES.items():
        problems = (
            generate(options.problems, 3, "train", terms)
            if name != "easy"
            else generate(min(options.problems, 80), 3, "train", terms)
        )
        for n in options.n:
            with tempfile.TemporaryDirectory() as folder:
                plain = sampled(Path(folder), problems, n, temperature, None)
                found, tokens = rights(plain), sum(trace.completion_tokens or 0 for trace in plain)
                for until in UNTILS:
                    if (until.give_up_after or 0) > n:
                        continue
                    some = sampled(Path(folder), problems, n, temperature, until)
                    served = sum(each >= until.correct for each in rights(some).values())
                    possible = sum(each >= until.correct for each in found.values())
                    share = sum(trace.completion_tokens or 0 for trace in some) / tokens
                    print(
                        f"| {name} | {found.total() / len(plain):.2f} | {n} | {until.model_dump(exclude_none=True)} "
                        f"| {len(some):,} | {len(some) / len(plain):.2f} | {share:.2f} | {served} | "
                        f"{served / possible:.0%} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
