"""The traces that a page shows: kept and dropped ones of the same problems, and what each model answers.

A trace is hostile input. Here it becomes plain pieces of text, with the characters that reorder or hide text made
visible; the page puts them into text nodes and never into markup.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

from distillkit.artifact import Artifact, Row, shard_of
from distillkit.reader import View, look_up
from distillkit.report.material import Material
from distillkit.show.fate import fates
from distillkit.show.piece import Piece, marks_of, pieces, visible
from distillkit.show.traces import rows_of
from distillkit.values import narrow, values_of

SAMPLED = "sampled"
TRACES = 240
"""Most traces in the browser; at most half of them dropped ones, spread evenly over the reasons."""
BYTES = 3 * 2**20
"""Most of the page that traces may take."""
CHARACTERS = 6000
"""A longer text is cut in the page; the artifact has it whole."""
DETAIL = 400
"""Characters of a verdict's detail."""
PROBLEMS = 4
"""Problems whose answers by each model stand side by side."""


def browsed(material: Material) -> dict[str, Any]:
    """What the trace browser shows: {kept, dropped, total, counts: {fate: n}, traces: [...]}.

    kept, dropped: what the two sides are called; a fate is that of the first side, or the reason for the other.
    The last selection of the run decides; without one, verdicts do, and without those all traces are alike.
    """
    selections = [artifact for artifact in material.artifacts if artifact.type == "selection"]
    texts = [artifact for artifact in material.artifacts if artifact.type == "traces"]
    others: dict[str, list[str]] = {}
    if selections:
        names = ("kept", "dropped")
        view = View.of(material.store, selections[-1])
        found = fates(material.store, selections[-1])
        others = {
            id: [each for each in fate.reasons if each != fate.reason] for id, fate in found.items() if fate
        }
        decided = {
            id: f"{fate.reason} (stage {fate.stage})" if fate else names[0] for id, fate in found.items()
        }
    elif texts:
        view = View.of(material.store, texts[-1], _labels(material, texts[-1]))
        decided = _verdicts(view)
        names = ("correct", "not correct") if "reason" in view.fields else (SAMPLED, "others")
    else:
        return {"kept": "", "dropped": "", "total": 0, "counts": {}, "traces": []}
    order = {id: place for place, id in enumerate(choose(decided, names[0], view.shards))}
    rows = sorted(rows_of(view, order), key=lambda row: order[row["id"]])
    return {
        "kept": names[0],
        "dropped": names[1],
        "total": len(decided),
        "counts": dict(Counter(decided.values())),
        "traces": _fitting(
            [{"fate": decided[row["id"]], "others": others.get(row["id"], []), **shown(row)} for row in rows]
        ),
    }


def _labels(material: Material, text: Artifact) -> list[Artifact]:
    return [
        artifact
        for artifact in material.artifacts
        if artifact.type == "labels"
        and [end["artifact"] for end in artifact.manifest.inputs["input"]] == [text.path.name]
    ]


def _verdicts(view: View) -> dict[str, str]:
    """Trace id -> the verifier's reason, where no stage has selected yet."""
    found: dict[str, str] = {}
    for shard in range(view.shards):
        values = values_of(view, shard, ["reason"])
        found |= {id: reason or SAMPLED for id, reason in zip(values["id"], values["reason"], strict=True)}
    return found


def choose(fates: Mapping[str, str], good: str, shards: int) -> list[str]:
    """At most TRACES ids, in turn of another fate and of the good one, of the same problem where there is one.

    The other fates take turns too. Drawn by a hash, shard by shard: a shard is a random draw of problems, so
    most shards need not be read.
    """
    by_fate: dict[str, list[str]] = defaultdict(list)
    for id in sorted(fates, key=lambda id: (shard_of(id, shards), hashlib.blake2b(id.encode()).digest())):
        by_fate[fates[id]].append(id)
    kept = by_fate.pop(good, [])
    turns = zip_longest(*(by_fate[reason] for reason in sorted(by_fate)))
    dropped = [id for turn in turns for id in turn if id is not None][: TRACES // 2]
    rank: dict[str, int] = {}
    for id in dropped:
        rank.setdefault(_problem(id), len(rank))
    kept.sort(key=lambda id: rank.get(_problem(id), len(rank)))
    pairs = zip_longest(dropped, kept[: TRACES - len(dropped)])
    return [id for pair in pairs for id in pair if id is not None]


def _problem(id: str) -> str:
    return id.split("/", 1)[0]


def shown(row: Row) -> dict[str, Any]:
    """The parts of a trace that a page shows."""
    language = look_up(row, "measures.language") or {}
    reasoned = bool(row["reasoning"])
    text = row["reasoning"] or row["completion"]
    marked = _cut(pieces(text, marks_of(text, row)))
    return {
        "id": row["id"],
        "problem": row["problem_id"],
        "prompt": _prompt(row),
        "reasoning": marked if reasoned else [],
        "response": _cut([("", row["response"])]) if reasoned else marked,
        "reference": _reference(row["reference"]),
        "answer": visible(row["answer"]) if row.get("answer") is not None else None,
        "verdict": row.get("reason"),
        "detail": _detail(row.get("verdicts")),
        "tokens": row["completion_tokens"],
        "mixed": bool(row.get("mixed", language.get("mixed"))),
    }


def _prompt(row: Row) -> str:
    return visible(
        next((m["content"] for m in reversed(row["messages"]) if m["role"] == "user"), "")[:CHARACTERS]
    )


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


def _fitting(traces: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that BYTES have room for, the first ones first."""
    found, left = [], BYTES
    for trace in traces:
        left -= len(json.dumps(trace, ensure_ascii=False).encode("utf-8"))
        if left < 0:
            continue
        found.append(trace)
    return found


def answers(artifact: Artifact) -> list[dict[str, Any]]:
    """The first sample of each model on a few problems of an evaluation: [{prompt, reference, answers: [...]}].

    The problems are the first by id, which is a hash: nothing is picked by hand.
    """
    shard = next((n for n, each in enumerate(artifact.manifest.tables["completions"]) if each.rows), None)
    if shard is None:
        return []
    verdicts = {row["id"]: row for row in artifact.read(shard, "verdicts").to_pylist()}
    firsts: dict[str, list[Row]] = defaultdict(list)
    for row in _first_samples(artifact, shard):
        firsts[row["problem_id"]].append(row | verdicts[row["id"]])
    order = [end["name"] for end in artifact.manifest.inputs["models"]]
    found = []
    for problem in sorted(firsts)[:PROBLEMS]:
        rows = sorted(firsts[problem], key=lambda row: order.index(row["model"]))
        parts = [shown(row) | {"model": row["model"]} for row in rows]
        found.append({"prompt": parts[0]["prompt"], "reference": parts[0]["reference"], "answers": parts})
    return found


def _first_samples(artifact: Artifact, shard: int) -> list[Row]:
    import pyarrow as pa
    import pyarrow.compute as pc

    table = artifact.read(shard, "completions")
    problems = pa.array(sorted(set(table["problem_id"].to_pylist()))[:PROBLEMS])
    chosen = pc.and_(pc.equal(table["index"], 0), pc.is_in(table["problem_id"], value_set=problems))
    rows: list[Row] = table.filter(chosen).to_pylist()
    return rows


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
            if n is not None:
                found[models[id]].append(n)
    return found


def _column(artifact: Artifact, shard: int, table: str, name: str) -> list[Any]:
    values: list[Any] = narrow(artifact, shard, [name], table)[name].to_pylist()
    return values
