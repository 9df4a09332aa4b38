"""How much of a teacher's bill `until` saves: the same problems sampled n times, and until enough are right.

Both draw from one store, so both see the very same samples; what differs is how many are asked. The packaged
base is right one time in six; `--model FOLDER` adds what a recipe has trained, which is right far more often.
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
UNTILS = [
    Until(correct=1),
    Until(correct=2),
    Until(correct=1, give_up_after=8),
    Until(correct=2, give_up_after=8),
    Until(correct=2, give_up_after=16),
]


def sampled(store: Path, model: Model, problems: list[Problem], n: int, until: Until | None) -> list[Trace]:
    """All traces of one draw."""
    sampling = Sampling(engine=TransformersEngine(block=256), max_tokens=64)
    plan = Plan.of(sampling, model, problems, n, 5, until)
    with drawn(plan, model, Store(store), verifiers={"chain": Exact()}) as found:
        return list(found.traces())


def rights(traces: list[Trace]) -> Counter[str]:
    """Right traces of each problem."""
    verdicts = Exact().grade_all(traces)
    return Counter(
        trace.problem_id for trace, verdict in zip(traces, verdicts, strict=True) if verdict.score == 1
    )


def compare(model: Model, problems: list[Problem], n: int) -> None:
    """Print a row per rule for one model and one n."""
    with tempfile.TemporaryDirectory() as folder:
        plain = sampled(Path(folder), model, problems, n, None)
        found, tokens = rights(plain), sum(trace.completion_tokens or 0 for trace in plain)
        for until in UNTILS:
            if max(until.correct, until.give_up_after or 0) > n:
                continue
            some = sampled(Path(folder), model, problems, n, until)
            served = sum(each >= until.correct for each in rights(some).values())
            possible = sum(each >= until.correct for each in found.values())
            share = sum(trace.completion_tokens or 0 for trace in some) / tokens
            rule = ", ".join(f"{key} {value}" for key, value in until.model_dump(exclude_none=True).items())
            print(
                f"| {model.name} | {found.total() / len(plain):.2f} | {n} | {rule} | {len(some):,} | "
                f"{len(some) / len(plain):.2f} | {share:.2f} | {served} | {served / possible:.0%} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=150)
    parser.add_argument("--n", type=int, nargs="+", default=[32, 8])
    parser.add_argument("--model", type=Path, help="folder of a trained model, to be compared as well")
    options = parser.parse_args()
    problems = generate(options.problems, 3, "train")
    models = [TOY] + ([Model("--model", str(options.model), "trained")] if options.model else [])
    print(
        f"{options.problems} problems, temperature 1, max_tokens 64; served: problems with `correct` right ones"
    )
    print(
        "| model | pass@1 | n | until | asked | of plain n | of its tokens | served | of those plain n serves |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for model in models:
        for n in options.n:
            compare(model, problems, n)


if __name__ == "__main__":
    main()
