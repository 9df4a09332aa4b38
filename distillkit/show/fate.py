"""What became of each trace in a chain of selections, and why."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from distillkit.artifact import Artifact, Row
from distillkit.store import Store


class Fate(NamedTuple):
    """The selection that dropped a trace, the reason that it gave, and all reasons that it had."""

    stage: str
    reason: str
    reasons: tuple[str, ...]


def fates(store: Store, selection: Artifact) -> dict[str, Fate | None]:
    """Trace id -> who dropped it, and why; None where it was kept."""
    below = chain(store, selection)
    return {id: fate for shard in range(selection.shards()) for id, fate in fates_in(below, shard).items()}


def fates_in(chain: Iterable[Artifact], shard: int) -> dict[str, Fate | None]:
    """The same of one shard. A selection speaks of the rows that came to it, so the last that does decides: what one
    input of a mix dropped may have stayed by another."""
    return {row["id"]: fate_of(each, row) for each in chain for row in decisions(each, shard)}


def fate_of(selection: Artifact, row: Row) -> Fate | None:
    """What a selection's row says of a trace."""
    if row["kept"]:
        return None
    return Fate(selection.stage, row["reason"], tuple(row.get("reasons") or [row["reason"]]))


def decisions(selection: Artifact, shard: int | None = None) -> Iterator[Row]:
    """The rows of a selection, of one shard or all."""
    for each in range(selection.shards()) if shard is None else [shard]:
        yield from selection.stream(each)


def chain(store: Store, selection: Artifact) -> list[Artifact]:
    """The selection and those that it was made from, each once, the earliest first."""
    inputs = selection.manifest.inputs
    below = [
        each
        for slot in ("input", "inputs")
        for end in inputs.get(slot, [])
        if end["type"] == "selection"
        for each in chain(store, store.open(end["artifact"], end["name"]))
    ]
    return list({each.path.name: each for each in [*below, selection]}.values())
