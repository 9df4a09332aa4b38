"""A folder becomes a version on the Hub: blobs first, then one commit, then a tag that never moves.

Every request may fail and every answer may get lost: the commit carries a digest of what it holds, so that it is
found again instead of made twice, and the version is compared with the folder before it is tagged.
Source: the failure behaviour of huggingface_hub 1.33 to 2.4, measured.
"""

import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.hub.client import TRIES, api, errors, patiently, rest
from distillkit.hub.commit import digest_of, earlier_commit, is_stale, message_of, operation, post
from distillkit.hub.failure import explained_push, short
from distillkit.hub.target import (
    Standing,
    Target,
    admit,
    check_card,
    look,
    refuse_foreign,
    tag_taken,
    tagged_commit,
)
from distillkit.hub.tree import (
    Difference,
    Digests,
    LocalFile,
    RemoteFile,
    difference,
    remote_files,
    sealed_files,
)

Progress = Callable[[int, int], None]
"""Gets (bytes of the version that are safe on the Hub, bytes in all; 0 while that is unknown)."""
ROUNDS = 30
"""Times that a commit is built anew because others committed in between."""
UPLOAD_TRIES = 3
"""The client tries each request of an upload six times itself."""
JITTER_S = 1.0


@dataclass(frozen=True)
class Change:
    """A file that a push adds, changes, deletes or leaves."""

    path: str
    bytes: int


@dataclass(frozen=True)
class Preview:
    """What a push would do."""

    added: list[Change]
    changed: list[Change]
    deleted: list[Change]
    unchanged: list[Change]
    message: str
    """The whole commit message, trailer included."""
    creates: bool
    """The repository does not exist yet."""
    done: bool
    """The version is there already: its tag, or without a tag main, holds exactly this folder."""


@dataclass(frozen=True)
class Pushed:
    """A version that is on the Hub, verified."""

    commit: str
    """40 hex digits"""
    tag: str | None
    url: str
    """Page of the version."""


def push(folder: Path, target: Target, message: str, progress: Progress | None = None) -> Pushed:
    """Make a folder the next version of a repository: main holds exactly its files, and the tag names the commit.

    Safe to repeat after any failure or kill: what the Hub has is not sent again (at most the one file that was on
    its way), and a version that is there is success. Where others push at the same time each push is its own
    commit, the last one is main, and the tags keep all.

    message: the first line is the commit's title; a trailer `distillkit-push: <digest>` is added.

    Raises:
        RecipeError: the tag exists with other content, the other type or visibility, files that no push made.
        MissingError: no token, no permission, no space, or the Hub cannot be reached; what was sent is safe.
        StageError: the folder was edited since it was sealed, or the Hub holds something else than was sent.
    """
    with Upload(target, progress) as upload:
        return upload.finish(folder, message)


def preview(folder: Path, target: Target, message: str) -> Preview:
    """What `push` would do; touches nothing, here or there. Raises as `push`."""
    local = sealed_files(folder)
    check_card(local)
    with explained_push(target.ref):
        standing = admit(target)
        tagged = tagged_commit(target) if standing and target.tag else None
        remote: dict[str, RemoteFile] = {}
        if standing:
            remote = remote_files(target.at(tagged or standing.head))
        found = difference(local, remote)
        if tagged and not found.is_none:
            raise tag_taken(target, tagged)
        if standing:
            refuse_foreign(target, standing.head, found.deleted)
    changes = {
        field: [Change(name, (local if name in local else remote)[name].bytes) for name in names]
        for field, names in vars(found).items()
    }
    return Preview(
        **changes,
        message="\n\n".join(message_of(message, digest_of(target, local))),
        creates=standing is None,
        done=standing is not None and found.is_none,
    )


class Upload:
    """A push whose large files are sent one by one while they are made; use it in a `with` statement.

    A file is sent in the background while the caller makes the next one. Leaving the `with` without `finish`
    leaves nothing that a reader of the repository could see.
    """

    def __init__(self, target: Target, progress: Progress | None = None) -> None:
        self.target = target
        self.progress = progress or (lambda done, total: None)
        self._digests = Digests()
        self._safe: dict[str, int] = {}
        """sha256 of the files that are on the Hub -> bytes."""
        self._total = 0
        self._sending: Future[None] | None = None
        # One at a time, so that a kill costs one file; the hub's own client sends the parts of a file in parallel.
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        with explained_push(self.target.ref):
            self._standing = admit(self.target) or self._create()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _create(self) -> Standing:
        target = self.target

        def ask() -> None:
            api().create_repo(
                target.repository, repo_type=target.kind, visibility=target.visibility, exist_ok=True
            )

        patiently(ask)
        standing = look(target)
        if standing is None:
            raise MissingError(f"{target.repository}: the Hub made it, but does not show it; run again")
        if standing.private != (target.visibility == "private"):
            raise RecipeError(
                f"{target.repository}: the Hub made it {'private' if standing.private else 'public'}, not "
                f"{target.visibility}; nothing was sent; see {target.ref.page}/settings"
            )
        return standing

    def add(self, path: Path) -> None:
        """Send a finished file in the background; waits while another one is on its way.

        The file must stay at `path` until `settle` or the next `add`; what it is called in the repository is told
        by the folder that `finish` gets. Raises as `push`, for an earlier file too.
        """
        self.settle()
        self._sending = self._pool.submit(self._send, path.name, path)

    def settle(self) -> None:
        """Wait until every file that was added is on the Hub. Raises as `push`."""
        if self._sending is not None:
            sending, self._sending = self._sending, None
            with explained_push(self.target.ref):
                sending.result()

    def finish(self, folder: Path, message: str) -> Pushed:
        """Send what is left, commit, verify, tag. Raises as `push`."""
        self.settle()
        local = sealed_files(folder, self._digests)
        check_card(local)
        self._total = sum(file.bytes for file in local.values())
        with explained_push(self.target.ref):
            commit = self._version(local, message)
        page = self.target.ref.page
        return Pushed(commit, self.target.tag, f"{page}/tree/{self.target.tag or commit}")

    def _version(self, local: Mapping[str, LocalFile], message: str) -> str:
        """The commit that holds the files, tagged; made where it is not there yet."""
        target = self.target
        digest = digest_of(target, local)
        if target.tag:
            tagged = tagged_commit(target)
            if tagged is not None:
                if not self._difference(local, tagged).is_none:
                    raise tag_taken(target, tagged)
                return tagged
        commit = earlier_commit(target, digest) if target.tag else None
        commit = commit or self._commit(local, message, digest)
        self._verify(local, commit)
        if target.tag:
            self._tag(local, commit, message)
        return commit

    def _difference(self, local: Mapping[str, LocalFile], commit: str) -> Difference:
        return difference(local, remote_files(self.target.at(commit)))

    def _commit(self, local: Mapping[str, LocalFile], message: str, digest: str) -> str:
        """One commit that makes main the folder; every try starts from main as it is then."""
        failures, first = 0, ""
        for attempt in range(ROUNDS):
            if attempt and (made := earlier_commit(self.target, digest, first)) is not None:
                return made
            head = (look(self.target) or self._standing).head
            first = first or head
            found = self._difference(local, head)
            if found.is_none:
                return head
            refuse_foreign(self.target, head, found.deleted)
            for name in (*found.added, *found.changed):
                self._send(name, local[name].path)
            try:
                return post(self.target, local, found, head, message_of(message, digest))
            except errors() as error:
                if is_stale(error):
                    time.sleep(random.uniform(0, JITTER_S * min(attempt + 1, 4)))
                    continue
                failures += 1
                if failures == TRIES:
                    raise
                rest(error, failures)
        raise MissingError(
            f"{self.target.repository}: others commit all the time ({ROUNDS} tries); run again; what was sent is safe"
        )

    def _send(self, name: str, path: Path) -> None:
        """Put one file on the Hub, where it is invisible until a commit names it; small ones travel with the commit."""
        file = self._digests.of(path)
        if file.sha256 not in self._safe:
            patiently(lambda: self._upload(name, file), UPLOAD_TRIES)
            self._safe[file.sha256] = file.bytes
        self.progress(sum(self._safe.values()), self._total)

    def _upload(self, name: str, file: LocalFile) -> None:
        try:
            api().preupload_lfs_files(
                self.target.repository,
                [operation(name, file)],
                repo_type=self.target.kind,
                num_threads=1,
            )
        except RuntimeError as error:
            # It hides what went wrong behind it, or comes from the library of the Hub's other storage.
            raise error.__cause__ or ConnectionError(short(error)) from None

    def _verify(self, local: Mapping[str, LocalFile], commit: str) -> None:
        """Raises StageError where the version on the Hub is not the folder."""
        found = self._difference(local, commit)
        for names, what in (
            (found.added, "lacks"),
            (found.changed, "has another"),
            (found.deleted, "also has"),
        ):
            if names:
                raise StageError(
                    f"{self.target.repository}@{commit[:12]}: {what} {names[0]}; this is not what was pushed, and "
                    "it was not tagged; run again"
                )

    def _tag(self, local: Mapping[str, LocalFile], commit: str, message: str) -> None:
        """Name the commit; a tag that others made meanwhile is right where it names the same content."""
        from huggingface_hub.errors import HfHubHTTPError

        target = self.target

        def ask() -> None:
            api().create_tag(
                target.repository,
                tag=str(target.tag),
                tag_message=message.partition("\n")[0],
                revision=commit,
                repo_type=target.kind,
            )

        try:
            patiently(ask)
        except HfHubHTTPError as error:
            if error.response.status_code != 409:
                raise
            tagged = tagged_commit(target)
            if tagged is None or (tagged != commit and not self._difference(local, tagged).is_none):
                raise tag_taken(target, tagged or commit) from None
