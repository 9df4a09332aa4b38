"""Two models on one problem, side by side: what each answered, of an evaluation that kept every completion."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.artifact import Artifact, Row, problem_in, shard_of
from distillkit.errors import RecipeError
from distillkit.run_folder import load_record
from distillkit.show.piece import marks_of, pieces, visible
from distillkit.show.run import load_artifacts
from distillkit.show.terminal import styled
from distillkit.store import Store
from distillkit.values import narrow

if TYPE_CHECKING:
    from rich.console import RenderableType

Pair = dict[str, Any]
"""{stage, problem, prompt, reference, sides: [{model, n, correct, id, reason, answer, tokens, text, response, marks}]};
n, correct: samples and right ones of the problem; the rest is of the model's first sample."""


def find_pair(run: Path, store: Path, names: str, problem: str | None = None) -> Pair:
    """Two models' answers to one problem; names: `A,B`.

    Left out, the problem is the first by id (which is a hash) that one mostly has right and the other has not.

    Raises:
        RecipeError: not two names, no evaluation of both models in this run, or no such problem in it.
        MissingError: no run there.
    """
    models = [name.strip() for name in names.split(",")]
    if len(models) != 2 or not all(models) or models[0] == models[1]:
        raise RecipeError(f"--compare {names}: write the names of two models with a comma, e.g. base,student")
    artifacts, _ = load_artifacts(load_record(run), Store(store))
    evaluations = [each for each in artifacts if each.manifest.kind == "evaluate"]
    scored = {each.stage: [end["name"] for end in each.manifest.inputs["models"]] for each in evaluations}
    for artifact in evaluations:
        if set(models) <= set(scored[artifact.stage]):
            return _pair(artifact, models, problem)
    there = "; ".join(f"{stage}: {', '.join(given)}" for stage, given in scored.items()) or "none"
    raise RecipeError(f"{run}: no evaluation has both {models[0]} and {models[1]}; models are {there}")


def _pair(artifact: Artifact, models: list[str], problem: str | None) -> Pair:
    chosen = problem or _differing(artifact, models)
    shards = artifact.shards("completions")
    shard = shard_of(chosen, shards) if shards else 0
    verdicts = _of_problem(artifact, shard, "verdicts", chosen) if shards else {}
    texts = _of_problem(artifact, shard, "completions", chosen) if shards else {}
    answers: dict[str, list[Row]] = defaultdict(list)
    for id, verdict in verdicts.items():
        if id in texts:
            answers[verdict["model"]].append(texts[id] | verdict)
    if not all(answers[model] for model in models):
        raise RecipeError(
            f"{artifact.stage}: {models[0]} and {models[1]} did not both answer problem {chosen!r}"
        )
    first = answers[models[0]][0]
    prompt = next((m["content"] for m in reversed(first["messages"]) if m["role"] == "user"), "")
    sides = [_side(model, sorted(answers[model], key=lambda row: row["index"])) for model in models]
    head = {"stage": artifact.stage, "problem": chosen, "prompt": prompt, "reference": first["reference"]}
    return {**head, "sides": sides}


def _of_problem(artifact: Artifact, shard: int, table: str, problem: str) -> dict[str, Row]:
    """The rows of a problem by trace id; ids ascend and begin with the problem's."""
    found: dict[str, Row] = {}
    for row in artifact.stream(shard, table):
        if problem_in(row["id"]) == problem:
            found[row["id"]] = row
        elif found:
            break
    return found


def _differing(artifact: Artifact, models: list[str]) -> str:
    """The first problem that exactly one model has right more often than not, else the first of all."""
    rates: dict[str, dict[str, float | None]] = defaultdict(dict)
    for shard in range(artifact.shards("problems")):
        table = narrow(artifact, shard, ["problem_id", "model", "pass_rate"], "problems")
        for row in table.to_pylist():
            rates[row["problem_id"]][row["model"]] = row["pass_rate"]
    both = sorted(id for id, found in rates.items() if set(models) <= set(found))
    if not both:
        raise RecipeError(f"{artifact.stage}: {models[0]} and {models[1]} answered no problem both")
    unlike = [id for id in both if len({(rates[id][model] or 0.0) >= 0.5 for model in models}) == 2]
    return (unlike or both)[0]


def _side(model: str, rows: list[Row]) -> dict[str, Any]:
    first = rows[0]
    text = first["reasoning"] or first["completion"]
    return {
        "model": model,
        "n": len(rows),
        "correct": sum(row["score"] == 1.0 for row in rows),
        **{name: first[name] for name in ("id", "reason", "answer", "response")},
        "tokens": first["completion_tokens"],
        "text": text,
        "reasoned": bool(first["reasoning"]),
        "marks": [list(mark) for mark in marks_of(text, first)],
    }


def render_pair(pair: Mapping[str, Any]) -> "RenderableType":
    """The two sides as columns of a terminal."""
    from rich import box
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_lines=False, expand=True)
    cells: list[RenderableType] = []
    for side in pair["sides"]:
        right = f"{side['correct']:,} of {side['n']:,} right"
        table.add_column(Text(visible(f"{side['model']}: {right}")), ratio=1)
        tokens = f", {side['tokens']:,} tokens" if side["tokens"] is not None else ""
        judged = f"{side['reason']}: {side['answer']}{tokens}"
        body = styled(pieces(side["text"], [tuple(mark) for mark in side["marks"]]))
        answer = [Text(), Text(visible(side["response"]))] if side["reasoned"] else []
        style = "green" if side["reason"] == "correct" else "red"
        cells.append(
            Group(Text(visible(judged), style=style), Text(), body, *answer, Text(side["id"], style="dim"))
        )
    table.add_row(*cells)
    head = Text.assemble(("problem ", "bold"), visible(f"{pair['problem']} ({pair['stage']})"))
    reference = Text.assemble(("reference ", "bold"), visible(str(pair["reference"])))
    return Group(head, Text(visible(pair["prompt"])), reference, table)
