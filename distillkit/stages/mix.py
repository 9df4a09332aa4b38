"""Put several trace sets together in declared proportions: reasoning beside chat, own traces beside bought ones.

It writes no text: a mix is a selection over several texts, in which `copies` says how often a trainer sees a row. So
nothing is stored twice, and every row is still known by its id, its source and the input that it came by.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from distillkit.artifact import Row
from distillkit.errors import StageError
from distillkit.reader import View
from distillkit.stages.base import SELECTION, TRACES, Job, Stage, Wire
from distillkit.stages.selection import decided, draw, finish, selection_schema
from distillkit.values import values_of

if TYPE_CHECKING:
    import pyarrow as pa

ALL = "all"
Part = Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | Literal["all"]


def _named(value: Any) -> Any:
    return dict.fromkeys(value, ALL) if isinstance(value, list | tuple) else value


class Mix(Stage):
    """Makes a selection over several inputs; a row that its share has no room for is rejected as over_share.

    A row that two inputs hold counts for the first of them.
    """

    MAKES: ClassVar[str] = SELECTION
    DRAWS: ClassVar[bool] = True

    kind: Literal["mix"] = "mix"
    inputs: Annotated[
        dict[str, Part],
        BeforeValidator(_named, json_schema_input_type=dict[str, Part] | list[str]),
        Field(min_length=1),
        Wire((TRACES, SELECTION), named=True),
    ]
    """Stage -> its share of the mix (0.7), its number of rows (5000), or `all`; a list of stages takes all of each.
    Shares are of the whole and add up to 1."""
    size: int | None = Field(None, ge=1)
    """Rows of the whole, where shares are given; left out: as many as the scarcest input allows."""
    max_copies: int = Field(1, ge=1)
    """How often a row may stand in the mix where its input has fewer rows than its part asks for."""

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        shares = [part for part in self.inputs.values() if isinstance(part, float)]
        if shares and len(shares) < len(self.inputs):
            raise ValueError(
                "inputs: give shares (0.7) to all or to none; a number of rows is a whole number"
            )
        if shares and abs(sum(shares) - 1) > 1e-6:
            raise ValueError(
                f"inputs: the shares add up to {sum(shares):g}; they are of the whole, so make it 1"
            )
        if self.size is not None and not shares:
            raise ValueError(
                "size: says how many rows the shares are of; with numbers of rows it is their sum"
            )
        return self

    def run(self, job: Job) -> None:
        views = {end.stage: View.of(job.store, end) for end in job.artifacts("inputs")}
        shards = _units(views, self.name)
        there: dict[str, list[str]] = {name: [] for name in views}
        for shard in shards:
            for id, (name, units) in shard.items():
                there[name] += [f"{id}#{n}" for n in range(units)]
        sizes = self.sizes({name: len(units) for name, units in there.items()})
        copies: Counter[str] = Counter()
        for name, each in there.items():
            copies.update(unit.rpartition("#")[0] for unit in choose(each, sizes[name], job.seed))
        for number, shard in enumerate(shards):
            self._write(job, number, {id: name for id, (name, _) in shard.items()}, copies)
            job.progress(number + 1, len(shards), unit="shards")
        finish(job, list(views.values()), self.name)

    def sizes(self, there: Mapping[str, int]) -> dict[str, int]:
        """Rows to take of each input, given how many each has.

        Raises:
            StageError: an input has too few, even with copies.
        """
        found = self._asked(there)
        for name, asked in found.items():
            if asked > there[name] * self.max_copies:
                enough = f", or give max_copies: {-(-asked // there[name])}" if there[name] else ""
                raise StageError(
                    f"stages.{self.name}: {asked:,} rows are asked of {name}, which has {there[name]:,}; "
                    f"ask for fewer{enough}"
                )
        return found

    def rows(self, there: Mapping[str, int]) -> int | None:
        """Rows that a trainer sees in all; None where the rows of an input that it asks are not known."""
        if self.size is not None:
            return self.size
        known = all(name in there or isinstance(part, int) for name, part in self.inputs.items())
        return sum(self._asked(there).values()) if known else None

    def limited(self, rows: int) -> Self:
        everything = {name: part if isinstance(part, float) else ALL for name, part in self.inputs.items()}
        return self.model_copy(update={"inputs": everything, "size": None})

    def _asked(self, there: Mapping[str, int]) -> dict[str, int]:
        shares = {name: part for name, part in self.inputs.items() if isinstance(part, float)}
        if not shares:
            return {name: there[name] if part == ALL else int(part) for name, part in self.inputs.items()}
        most = {name: n * self.max_copies for name, n in there.items()}
        size = self.size or int(min(most[name] / share for name, share in shares.items()))
        ends = [round(size * sum(list(shares.values())[:n])) for n in range(len(shares) + 1)]
        asked = {name: end - start for name, (start, end) in zip(shares, pairwise(ends), strict=True)}
        return asked if self.size else {name: min(n, most[name]) for name, n in asked.items()}

    def _write(self, job: Job, number: int, inputs: Mapping[str, str], copies: Mapping[str, int]) -> None:
        rows: list[Row] = []
        counts: dict[str, Counter[str]] = {"rejected": Counter(), "rows": Counter(), "copies": Counter()}
        for id, name in inputs.items():
            n = copies.get(id, 0)
            rows.append(decided(id, [] if n else ["over_share"], n) | {"input": name})
            counts["rejected"].update([] if n else ["over_share"])
            counts["rows"][name] += n > 0
            counts["copies"][name] += n
        plain = {group: dict(each) for group, each in counts.items()}
        job.out.write(number, rows, schema(), counts=plain)


def schema() -> "pa.Schema":
    """A selection, and by which input a row came."""
    import pyarrow as pa

    return selection_schema().append(pa.field("input", pa.string()))


def choose(units: Sequence[str], size: int, seed: int) -> list[str]:
    """So many of the units: all of them as often as they go in, and a draw for what is left."""
    if not units:
        return []
    times, rest = divmod(size, len(units))
    drawn = nsmallest(rest, units, key=lambda unit: draw("mix", seed, unit))
    return [*(unit for unit in units for _ in range(times)), *drawn]


def _units(views: Mapping[str, View], name: str) -> list[dict[str, tuple[str, int]]]:
    """By shard: id -> (the first input that has the row, its copies there).

    Raises:
        StageError: the inputs were sharded differently.
    """
    counts = {each: view.shards for each, view in views.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{each} has {n} shards" for each, n in counts.items())
        raise StageError(f"stages.{name}: {found}; run all with one `shards:`")
    shards: list[dict[str, tuple[str, int]]] = [{} for _ in range(max(counts.values()))]
    for each, view in views.items():
        for number, shard in enumerate(shards):
            values = values_of(view, number, [])
            for id, copies in zip(values["id"], values["copies"], strict=True):
                shard.setdefault(id, (each, copies))
    return shards
