"""A repository of the Hub at a revision, and how it is written: `org/name` or `org/name@revision`."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from distillkit.errors import RecipeError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFERENCE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True)
class HubRef:
    """A repository at a revision: a branch, a tag, `refs/...`, or a commit of 40 hex digits."""

    kind: str
    """"dataset" or "model"."""
    repository: str
    """`org/name`"""
    revision: str = "main"

    @property
    def commit(self) -> str | None:
        """The commit, or None where the revision is a name that may move."""
        return self.revision if _COMMIT.fullmatch(self.revision) else None

    @property
    def page(self) -> str:
        """Address of the repository's page."""
        from huggingface_hub import constants

        folder = "datasets/" if self.kind == "dataset" else ""
        return f"{constants.ENDPOINT}/{folder}{self.repository}"

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


def parse_reference(text: str, kind: str) -> HubRef:
    """The reference in `org/name` (branch main) or `org/name@revision`.

    Raises:
        RecipeError: it has another form.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise RecipeError(f"{text!r}: not a {kind} on the Hub; write org/name or org/name@revision")
    return HubRef(kind, found["repository"], found["revision"] or "main")


def dataset_at(text: str, commit_of: Callable[[str, str], str]) -> str:
    """A dataset's `org/name[@revision]` as `org/name@commit`; `commit_of("dataset", text)` gives 40 hex digits.

    Raises what `parse_reference` and `commit_of` do.
    """
    return str(replace(parse_reference(text, "dataset"), revision=commit_of("dataset", text)))
