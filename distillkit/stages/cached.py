"""Where a store keeps what was made of a shard of text, so that no run makes it again.

No stage itself. Found by what decides it; and where rows were added, the one that was made last for this shard of a
text of this name gives what did not change.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from distillkit.durable import shared
from distillkit.reader import View
from distillkit.spec import digest


@dataclass(frozen=True)
class Cached:
    """The place of one shard's; several processes may fill it at once."""

    folder: Path
    maker: list[Any]
    """JSON of what it is made by: kind, identity, library."""
    view: View
    shard: int

    @cached_property
    def file(self) -> Path:
        """Its Parquet file, there or not."""
        key = digest([*self.maker, self.view.content(self.shard)])
        return self.folder / key[:2] / f"{key}.parquet"

    def last(self) -> Path | None:
        """The file that was noted last, which may be gone; None where none was."""
        note = self._note
        return self.folder / note.read_text("utf-8") if note.exists() else None

    def note(self) -> None:
        """Remember its file as the last."""
        with shared(self._note) as note:
            note.write_text(str(self.file.relative_to(self.folder)), "utf-8")

    @property
    def _note(self) -> Path:
        names = [text.stage for text in self.view.texts]
        return self.folder / "last" / digest([*self.maker, names, self.view.shards, self.shard])
