"""The traces that a page shows: kept and dropped ones of the same problems, and what each model answers.

A trace is hostile input. Here it becomes plain pieces of text, with the characters that reorder or hide text made
visible; the page puts them into text nodes and never into markup.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain, zip_longest
from typing import Any

from distillkit.artifact import Artifact, Row, shard_of
from distillkit.reader import look_up
from distillkit.report.formula import Node, formulas, tree
from distillkit.report.material import Material
from distillkit.report.pool import pool_of, rows_by_id
from distillkit.show.piece import Mark, Piece, leak_marks, marks_of, pieces, visible
from distillkit.values import narrow

TRACES = 300
"""Most traces in the browser; at most half of them dropped ones, spread evenly over reasons and models."""
BYTES = 3 * 2**20
"""Most of the page that traces may take."""
FORMULA_BYTES = 2**19
"""Most of the page that formulas may take; further ones stay text."""
CHARACTERS = 6000
"""A longer text is cut in the page; the artifact has it whole."""
DETAIL = 400
"""Characters of a verdict's detail."""
PROBLEMS = 4
"""Problems whose answers by each model stand side by side."""
MATH = "math"
"""Mark of a formula."""


def browsed(material: Material) -> dict[str, Any]:
    """What the trace browser shows: {kept, dropped, total, counts, models, verdicts, traces, formulas}.

    kept, dropped: what the two sides are called; a fate is that of the first side, or the reason for the other.
    counts, models, verdicts: {fate, model or right, wrong, unjudged: n} of all traces of the run. formulas: [[text,
    MathML tree]] of those in the traces shown.
    """
    pool = pool_of(material)
    if pool is None:
        empty: dict[str, Any] = {"counts": {}, "models": {}, "verdicts": {}, "traces": [], "formulas": []}
        return {"kept": "", "dropped": "", "total": 0, **empty}
    order = {id: at for at, id in enumerate(choose(pool.fates, pool.kept, pool.shards, pool.models))}
    rows = sorted(pool.rows(order), key=lambda row: order[row["id"]])
    found = _fitting(
        {
            **shown(row),
            "fate": pool.fates[row["id"]],
            "others": pool.others.get(row["id"], []),
            "model": visible(pool.models.get(row["id"]) or ""),
            "right": pool.verdicts.get(row["id"]),
        }
        for row in rows
    )
    return {
        "kept": pool.kept,
        "dropped": pool.dropped,
        "total": len(pool.fates),
        "counts": dict(Counter(pool.fates.values())),
        "models": dict(Counter(visible(each) for each in pool.models.values() if each)),
        "verdicts": dict(Counter(pool.verdicts.values())),
        "traces": found,
        "formulas": list(_formulas(found).items()),
    }


def choose(
    fates: Mapping[str, str], good: str, shards: int, models: Mapping[str, str | None] | None = None
) -> list[str]:
    """At most TRACES ids, in turn of another fate and of the good one, of the same problem where there is one.

    The other fates take turns too, model by model. Drawn by a hash, shard by shard: a shard is a random draw of
    problems, so most shards need not be read.
    """
    strata: dict[tuple[str, str], list[str]] = defaultdict(list)
    for id in sorted(fates, key=lambda id: (shard_of(id, shards), hashlib.blake2b(id.encode()).digest())):
        strata[fates[id], (models or {}).get(id) or ""].append(id)
    kept = _turns(ids for (fate, _), ids in sorted(strata.items()) if fate == good)
    dropped = _turns(ids for (fate, _), ids in sorted(strata.items()) if fate != good)[: TRACES // 2]
    rank: dict[str, int] = {}
    for id in dropped:
        rank.setdefault(_problem(id), len(rank))
    kept.sort(key=lambda id: rank.get(_problem(id), len(rank)))
    pairs = zip_longest(dropped, kept[: TRACES - len(dropped)])
    return [id for pair in pairs for id in pair if id is not None]


def _turns(groups: Iterable[list[str]]) -> list[str]:
    """One of each group, then the next of each."""
    return [id for turn in zip_longest(*groups) for id in turn if id is not None]


def _problem(id: str) -> str:
    return id.split("/", 1)[0]


def shown(row: Row) -> dict[str, Any]:
    """The parts of a trace that a page shows."""
    language = look_up(row, "measures.language") or {}
    reasoned = bool(row["reasoning"])
    text = row["reasoning"] or row["completion"]
    marked = _pieces(text, marks_of(text, row))
    prompt = next((m["content"] for m in reversed(row["messages"]) if m["role"] == "user"), "")
    return {
        "id": row["id"],
        "problem": row["problem_id"],
        "prompt": _pieces(prompt, leak_marks(prompt, row, "prompt")),
        "reasoning": marked if reasoned else [],
        "response": _pieces(row["response"], []) if reasoned else marked,
        "reference": _reference(row["reference"]),
        "answer": visible(row["answer"]) if row.get("answer") is not None else None,
        "verdict": row.get("reason"),
        "detail": _detail(row.get("verdicts")),
        "leak": _leak(look_up(row, "leak")),
        "tokens": row["completion_tokens"],
        "mixed": bool(row.get("mixed", language.get("mixed"))),
    }


def _pieces(text: str, marks: list[Mark]) -> list[Piece]:
    """The beginning of a text, cut at its marks and at its formulas; a mark inside a formula is the one that counts."""
    start = text[:CHARACTERS]
    math = [
        (first, last, MATH)
        for first, last, _ in formulas(start)
        if not any(left < last and first < right for left, right, _ in marks)
    ]
    return _cut(pieces(text, [*marks, *math]))


def _leak(leak: Any) -> str:
    """The benchmark row that a trace shares words with; empty for none."""
    if not isinstance(leak, dict) or "benchmark" not in leak:
        return ""
    return visible(f"{leak['benchmark']}, row {leak.get('row')}, in the {leak.get('part', 'text')}")


def _detail(verdicts: Any) -> str:
    """What the verifiers kept besides their scores: `math: {"tests": 3}`."""
    told = verdicts if isinstance(verdicts, dict) else {}
    parts = [
        f"{name}: {json.dumps(each['detail'], ensure_ascii=False)}"
        for name, each in sorted(told.items())
        if isinstance(each, dict) and each.get("detail")
    ]
    return visible("; ".join(parts)[:DETAIL])


def _reference(text: str | None) -> str:
    value = json.loads(text) if text else None
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:200]


def _cut(pieces: Iterable[Piece]) -> list[Piece]:
    """The first CHARACTERS of a text, and a word on how much is missing."""
    left, missing, found = CHARACTERS, 0, []
    for mark, text in pieces:
        if text[:left]:
            found.append((mark, visible(text[:left])))
        missing += len(text[left:])
        left -= len(text[:left])
    return [*found, ("", f" ... ({missing:,} more characters)")] if missing else found


def _fitting(traces: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that BYTES have room for, the first ones first."""
    found, left = [], BYTES
    for trace in traces:
        left -= len(json.dumps(trace, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if left < 0:
            continue
        found.append(trace)
    return found


def _formulas(traces: Iterable[Mapping[str, Any]]) -> dict[str, Node]:
    """What is marked as a formula -> its tree, as far as FORMULA_BYTES go; one that stays text is left out."""
    found: dict[str, Node] = {}
    left = FORMULA_BYTES
    for trace in traces:
        for mark, text in chain(trace["prompt"], trace["reasoning"], trace["response"]):
            if mark == MATH and text not in found and left > 0:
                [latex] = [latex for _, _, latex in formulas(text)][:1] or [""]
                node = tree(" ".join(latex.split()))
                if node is not None:
                    found[text] = node
                    left -= len(json.dumps(node, ensure_ascii=False))
    return found


def answers(artifact: Artifact) -> list[dict[str, Any]]:
    """The first sample of each model on a few problems of an evaluation: [{prompt, reference, answers, formulas}].

    The problems are the first by id, which is a hash: nothing is picked by hand.
    """
    shards = artifact.manifest.tables.get("completions", [])
    shard = next((n for n, each in enumerate(shards) if each.rows), None)
    if shard is None:
        return []
    firsts = {
        id: row for id, row in rows_by_id(artifact, shard, "completions", PROBLEMS) if row["index"] == 0
    }
    verdicts = dict(rows_by_id(artifact, shard, "verdicts", PROBLEMS))
    by_problem: dict[str, list[Row]] = defaultdict(list)
    for id, row in firsts.items():
        by_problem[row["problem_id"]].append(row | verdicts.get(id, {}))
    order = [end["name"] for end in artifact.manifest.inputs["models"]]
    found = []
    for problem in sorted(by_problem):
        rows = sorted(by_problem[problem], key=lambda row: order.index(row["model"]))
        parts = [shown(row) | {"model": row["model"]} for row in rows]
        head = {"prompt": parts[0]["prompt"], "reference": parts[0]["reference"]}
        found.append({**head, "answers": parts, "formulas": _formulas(parts)})
    return found


def lengths(artifact: Artifact) -> dict[str, list[int]]:
    """Tokens of each completion: of a text under its stage's name, of an evaluation under its models'."""
    if artifact.type == "traces":
        tokens = [
            n
            for shard in range(artifact.shards())
            for n in _column(artifact, shard, "rows", "completion_tokens")
        ]
        return {artifact.stage: [n for n in tokens if n is not None]}
    found: dict[str, list[int]] = {end["name"]: [] for end in artifact.manifest.inputs["models"]}
    for shard in range(artifact.shards("completions")):
        ids = _column(artifact, shard, "verdicts", "id")
        models = dict(zip(ids, _column(artifact, shard, "verdicts", "model"), strict=True))
        ids = _column(artifact, shard, "completions", "id")
        for id, n in zip(ids, _column(artifact, shard, "completions", "completion_tokens"), strict=True):
            if n is not None and id in models:
                found.setdefault(models[id], []).append(n)
    return found


def _column(artifact: Artifact, shard: int, table: str, name: str) -> list[Any]:
    values: list[Any] = narrow(artifact, shard, [name], table)[name].to_pylist()
    return values
