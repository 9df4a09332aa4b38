"""What became of each trace in a chain of selections, and why."""

from collections.abc import Iterator
from typing import NamedTuple

from distillkit.artifact import Artifact, Row
from distillkit.store import Store


class Fate(NamedTuple):
    """The selection that dropped a trace, the reason that it gave, and all reasons that it had."""

    stage: str
    reason: str
    reasons: tuple[str, ...]


def fates(store: Store, selection: Artifact) -> dict[str, Fate | None]:
    """Trace id -> who dropped it first, and why; None where every selection kept it."""
    found: dict[str, Fate | None] = {}
    for each in chain(store, selection):
        for row in decisions(each):
            if found.get(row["id"]) is None:
                found[row["id"]] = fate_of(each, row)
    return found


def fate_of(selection: Artifact, row: Row) -> Fate | None:
    """What a selection's row says of a trace."""
    if row["kept"]:
        return None
    return Fate(selection.stage, row["reason"], tuple(row.get("reasons") or [row["reason"]]))


def decisions(selection: Artifact, shard: int | None = None) -> Iterator[Row]:
    """The rows of a selection, of one shard or all."""
    for each in range(selection.shards()) if shard is None else [shard]:
        yield from selection.read(each).to_pylist()


def chain(store: Store, selection: Artifact) -> list[Artifact]:
    """The selection and those that it was made from, the earliest first."""
    inputs = selection.manifest.inputs
    below = [
        each
        for slot in ("input", "inputs")
        for end in inputs.get(slot, [])
        if end["type"] == "selection"
        for each in chain(store, store.open(end["artifact"], end["name"]))
    ]
    return [*below, selection]
