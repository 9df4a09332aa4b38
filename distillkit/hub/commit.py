"""One commit that makes a repository the folder, recognisable by a digest of what it holds.

The digest stands in a trailer of the commit's message, so that a commit whose answer was lost is found, not repeated.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from distillkit.hub.client import api, patiently
from distillkit.hub.target import Target
from distillkit.hub.tree import Difference, LocalFile
from distillkit.spec import canonical

TRAILER = "distillkit-push"
"""Names the line of a commit's message that tells what was pushed."""
STALE = (409, 412)
"""Somebody else has committed."""


def digest_of(target: Target, local: Mapping[str, LocalFile]) -> str:
    """Digest of what a push makes: the files, where they go, and under which tag."""
    files = {name: file.sha256 for name, file in local.items()}
    return hashlib.sha256(canonical([target.kind, target.repository, target.tag, files])).hexdigest()


def message_of(message: str, digest: str) -> tuple[str, str]:
    """Title and description of the commit, the trailer last."""
    title, _, more = message.strip().partition("\n")
    return title, "\n\n".join(filter(None, [more.strip(), f"{TRAILER}: {digest}"]))


def earlier_commit(target: Target, digest: str, since: str | None = None) -> str | None:
    """The commit of an earlier try whose answer, or whose process, was lost; only those after `since` count."""
    log = patiently(lambda: api().list_repo_commits(target.repository, repo_type=target.kind))
    line = f"{TRAILER}: {digest}"
    for each in log:  # newest first
        if each.commit_id == since:
            return None
        if line in f"{each.title}\n{each.message}".splitlines():
            return str(each.commit_id)
    return None


def post(
    target: Target, local: Mapping[str, LocalFile], found: Difference, head: str, message: tuple[str, str]
) -> str:
    """Commit on top of `head`, once; raises what the client raises, STALE where main is not `head` any more."""
    from huggingface_hub import CommitOperationDelete

    operations = [
        *(operation(name, local[name]) for name in (*found.added, *found.changed)),
        *(CommitOperationDelete(name, is_folder=False) for name in found.deleted),
    ]
    info = api().create_commit(
        target.repository,
        operations,
        commit_message=message[0],
        commit_description=message[1],
        repo_type=target.kind,
        parent_commit=head,
        num_threads=1,
    )
    return str(info.oid)


def operation(name: str, file: LocalFile) -> Any:
    """The client's addition of a file."""
    from huggingface_hub import CommitOperationAdd

    addition = CommitOperationAdd(name, file.path)
    addition.upload_info.sha256 = bytes.fromhex(
        file.sha256
    )  # known already: the client need not read it again
    return addition


def is_stale(error: BaseException) -> bool:
    """Whether a commit was refused because others have committed."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError) and error.response.status_code in STALE
