"""How an edition reaches its two places: the store's shelf first, then the Hub, whose copy is one commit and a tag.

Where the tag exists already, only words may be new (scores that came later, say): then they go to `main` alone and the
tag stays where it is.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from distillkit.edition import MAIN, Edition, Shelf, moved, payload_digest, version_digest
from distillkit.errors import RecipeError, StageError
from distillkit.hub.failure import explained_push
from distillkit.hub.pull import remote_manifest
from distillkit.hub.push import Progress, Pushed, Upload, push
from distillkit.hub.target import Target, check_push, look

Manifest = dict[str, Any]
Entry = dict[str, str]
"""One entry of a changelog: {version, text}."""


@dataclass
class Delivery:
    """An edition on its way."""

    shelf: Shelf
    tag: str
    warn: Callable[[str], None]
    target: Target | None = None
    progress: Progress | None = None
    tagged: Manifest | None = None
    """Manifest of the version that has the tag on the Hub already."""
    upload: Upload | None = None

    @classmethod
    @contextmanager
    def open(
        cls,
        shelf: Shelf,
        tag: str,
        warn: Callable[[str], None],
        target: Target | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Self]:
        """Open the way; without a target it ends in the store."""
        with ExitStack() as stack:
            tagged = tagged_version(target) if target else None
            way = cls(shelf, tag, warn, target, progress, tagged)
            if target is not None and tagged is None:  # else words at most are left to send
                way.upload = stack.enter_context(Upload(target, progress))
            yield way

    def add(self, file: Path) -> None:
        """Send a finished file while the next one is made."""
        if self.upload is not None:
            self.upload.add(file)

    def changelog(self, version: str, text: str | None) -> list[Entry]:
        """The entries of earlier versions and that of this one (kept where `text` is None), the newest first."""
        told = [{"version": version, "text": text}] if text else []
        earlier = [
            each for each in self._latest().get("changelog", []) if _order(each["version"]) <= _order(version)
        ]
        return told + [each for each in earlier if each["version"] != version or not told]

    def _latest(self) -> Manifest:
        """Manifest of the latest version, on the Hub where it has one; empty where there is none."""
        if self.target is not None and (found := manifest_of(self.target)) is not None:
            return found
        edition = self.shelf.find(MAIN)
        return edition.manifest if edition else {}

    def deliver(self, edition: Edition, message: str = "") -> Pushed | None:
        """Keep the edition in the store, push it, and move the refs; what it came to on the Hub, if it went there.

        Raises:
            RecipeError: the tag stands for other rows or weights.
            MissingError, StageError: as `hub.push`.
        """
        kept = self.shelf.add(edition.path)
        if self.target is None:
            self.shelf.advance(kept)
            self._tag_if_free(kept)
            return None
        message = message or f"{edition.name} {edition.version}"
        pushed = self.upload.finish(edition.path, message) if self.upload else self._words(edition, message)
        if pushed is not None:
            where = {"commit": pushed.commit, "url": pushed.url}
            self.shelf.advance(kept, **where)
            self.shelf.tag(self.tag, kept, **where)
        return pushed

    def _tag_if_free(self, edition: Edition) -> None:
        try:
            self.shelf.tag(self.tag, edition)
        except StageError as error:  # nobody else has seen it: a draft may go on under its version
            self.warn(str(error))

    def _words(self, edition: Edition, message: str) -> Pushed | None:
        """Push an edition whose tag exists; None where `main` has gone on to other rows or weights."""
        assert self.target is not None and self.tagged is not None
        target = self.target
        if version_digest(self.tagged) == edition.digest:
            return push(edition.path, target, message, self.progress)
        require_words_only(self.tagged, edition, target)
        latest = manifest_of(target)
        if latest is None or payload_digest(latest) != edition.payload:
            self.warn(f"{target.repository}: main has gone on from {target.tag}; its card stays as it is")
            return None
        return push(edition.path, replace(target, tag=None), message, self.progress)


def require_words_only(tagged: Manifest, edition: Edition, target: Target) -> None:
    """Raises RecipeError where a tagged version holds other rows or weights than an edition."""
    if payload_digest(tagged) != edition.payload:
        raise RecipeError(moved(target.repository, str(target.tag)))


def tagged_version(target: Target) -> Manifest | None:
    """Manifest of the version that has a target's tag; None where the tag is free. Refuses what `check_push` does."""
    found: list[Manifest] = []

    def note(manifest: Manifest) -> bool:
        if isinstance(manifest.get("files"), dict):
            found.append(_sealed(manifest))
        return bool(found)

    check_push(target, note)
    return found[0] if found else None


def manifest_of(target: Target) -> Manifest | None:
    """Manifest of a repository's main; None where there is no such repository, or no push made it.

    Raises MissingError where the Hub cannot be asked.
    """
    with explained_push(target.ref):
        if look(target) is None:
            return None
    try:
        return _sealed(remote_manifest(target.ref))
    except RecipeError:
        return None


def _sealed(manifest: Manifest) -> Manifest:
    """A manifest as it was sealed, without what reading it added."""
    return {key: value for key, value in manifest.items() if key != "commit"}


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
