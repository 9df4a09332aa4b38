"""The traces that a page shows: kept and dropped ones of the same problems, and what each model answers.

A trace is hostile input. Here it becomes plain pieces of text, with the characters that reorder or hide text made
visible; the page puts them into text nodes and never into markup.
"""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any

from distillkit.artifact import Artifact, Row, shard_of
from distillkit.reader import View, look_up
from distillkit.report.material import Material
from distillkit.store import Store

SAMPLED = "sampled"
TRACES = 240
"""Most traces in the browser; at most half of them dropped ones, spread evenly over the reasons."""
BYTES = 3 * 2**20
"""Most of the page that traces may take."""
CHARACTERS = 6000
"""A longer text is cut in the page; the artifact has it whole."""
PROBLEMS = 4
"""Problems whose answers by each model stand side by side."""

Fate = tuple[str, str] | None
"""(stage, reason) of the selection that dropped a trace; None where it was kept."""
Piece = tuple[str, str]
"""(mark, text): mark is "" for plain text, "reflection", or the code of a foreign language."""

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_WORD = re.compile(r"[A-Za-z-]+", re.ASCII)


def visible(text: str) -> str:
    """The text with control and bidi characters as what they are called: `[U+202E]`."""
    return _HIDDEN.sub(lambda match: f"[U+{ord(match[0]):04X}]", text.replace("\r\n", "\n"))


def fates(store: Store, selection: Artifact) -> dict[str, Fate]:
    """Trace id -> its fate in a chain of selections: who dropped it first, and why."""
    found: dict[str, Fate] = {}
    for each in _chain(store, selection):
        for shard in range(each.shards()):
            columns = each.read(shard).to_pydict()
            for id, kept, reason in zip(columns["id"], columns["kept"], columns["reason"], strict=True):
                if found.get(id) is None:
                    found[id] = None if kept else (each.stage, reason)
    return found


def _chain(store: Store, selection: Artifact) -> list[Artifact]:
    """The selection and those that it was made from, the earliest first."""
    below = [
        each
        for end in selection.manifest.inputs["input"]
        if end["type"] == "selection"
        for each in _chain(store, store.open(end["artifact"], end["name"]))
    ]
    return [*below, selection]


def browsed(material: Material) -> dict[str, Any]:
    """What the trace browser shows: {kept, dropped, total, counts: {fate: n}, traces: [...]}.

    kept, dropped: what the two sides are called; a fate is that of the first side, or the reason for the other.
    The last selection of the run decides; without one, verdicts do, and without those all traces are alike.
    """
    selections = [artifact for artifact in material.artifacts if artifact.type == "selection"]
    texts = [artifact for artifact in material.artifacts if artifact.type == "traces"]
    if selections:
        names = ("kept", "dropped")
        view = View.of(material.store, selections[-1])
        decided = {
            id: f"{fate[1]} (stage {fate[0]})" if fate else names[0]
            for id, fate in fates(material.store, selections[-1]).items()
        }
    elif texts:
        view = View.of(material.store, texts[-1], _labels(material, texts[-1]))
        decided = _verdicts(view)
        names = ("correct", "not correct") if "reason" in view.fields else (SAMPLED, "others")
    else:
        return {"kept": "", "dropped": "", "total": 0, "counts": {}, "traces": []}
    order = {id: place for place, id in enumerate(choose(decided, names[0], view.shards))}
    rows = sorted(_rows(view, order), key=lambda row: order[row["id"]])
    return {
        "kept": names[0],
        "dropped": names[1],
        "total": len(decided),
        "counts": dict(Counter(decided.values())),
        "traces": _fitting([{"fate": decided[row["id"]], **shown(row)} for row in rows]),
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
    rows = (row for shard in range(view.shards) for row in view.stream(shard, columns=["id"]))
    return {row["id"]: row.get("reason") or SAMPLED for row in rows}


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


def _rows(view: View, ids: Collection[str]) -> Iterator[Row]:
    everything = View(view.texts, view.labels)
    for shard in sorted({shard_of(id, view.shards) for id in ids}):
        yield from (row for row in everything.stream(shard) if row["id"] in ids)


def shown(row: Row) -> dict[str, Any]:
    """The parts of a trace that a page shows."""
    language = look_up(row, "measures.language") or {}
    reasoned = bool(row["reasoning"])
    marked = _pieces(
        row["reasoning"] or row["completion"], language, look_up(row, "measures.reflection") or {}
    )
    return {
        "id": row["id"],
        "problem": row["problem_id"],
        "prompt": _prompt(row),
        "reasoning": marked if reasoned else [],
        "response": _cut([("", row["response"])]) if reasoned else marked,
        "reference": _reference(row["reference"]),
        "answer": visible(row["answer"]) if row.get("answer") is not None else None,
        "verdict": row.get("reason"),
        "tokens": row["completion_tokens"],
        "mixed": bool(row.get("mixed", language.get("mixed"))),
    }


def _prompt(row: Row) -> str:
    return visible(
        next((m["content"] for m in reversed(row["messages"]) if m["role"] == "user"), "")[:CHARACTERS]
    )


def _reference(text: str | None) -> str:
    value = json.loads(text) if text else None
    return visible(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))[:200]


def _pieces(text: str, language: Mapping[str, Any], reflection: Mapping[str, Any]) -> list[Piece]:
    """A text cut at its foreign segments and reflection words; offsets that do not fit it are left out."""
    marks = [
        (segment["start"], segment["end"], segment["language"]) for segment in language.get("foreign", [])
    ]
    for start in reflection.get("positions", []):
        word = _WORD.match(text, start)
        marks += [(start, word.end(), "reflection")] if word else []
    found: list[Piece] = []
    at = 0
    for start, end, mark in sorted(marks):
        if at <= start < end <= len(text):
            found += [("", text[at:start]), (mark, text[start:end])]
            at = end
    return _cut([*found, ("", text[at:])])


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
    values: list[Any] = artifact.read(shard, table, [name])[name].to_pylist()
    return values
