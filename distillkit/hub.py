"""What is read from the Hugging Face Hub: one commit of a dataset or a model, never a moving branch.

A reference is resolved to its commit once (the lock file keeps it) and everything is read at that commit, so
that a run means the same next year. Only data and safetensors are fetched: no code of a repository runs,
nothing is unpickled. Whatever goes wrong is said in one line without the token.
"""

import errno
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillkit.errors import DistillkitError, MissingError, RecipeError, StageError

TIMEOUT_S = 30.0
"""Wall seconds that one answer about a repository may take; downloads have HF_HUB_DOWNLOAD_TIMEOUT."""
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
"""Weights, index, configs, tokenizer, chat template: no pickled weights, no code."""
_READ_ROWS = 1000
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


def resolve(ref: HubRef) -> str:
    """Commit (40 hex digits) that a reference means now; asks the Hub unless it is a commit already.

    Raises:
        RecipeError: the repository has no such revision.
        MissingError: no such repository, no access to it, or the Hub cannot be asked.
    """
    if ref.commit is not None:
        return ref.commit
    with _explained(ref):
        from huggingface_hub import HfApi

        info = HfApi().repo_info(ref.repository, repo_type=ref.kind, revision=ref.revision, timeout=TIMEOUT_S)
    return str(info.sha)


def dataset_rows(
    ref: HubRef,
    config: str | None = None,
    split: str = "train",
    choose: Callable[[list[str]], list[str]] = list,
) -> Iterator[dict[str, Any]]:
    """Rows of a dataset at a commit, in file order; images and the like stay undecoded.

    choose: gets the names of all columns and returns those to read.

    Raises:
        RecipeError: no such config or split (the message names those that exist), or no commit.
        MissingError: no such repository, no access, or offline and this commit is not in the local cache.
        StageError: its files cannot be read.
    """
    commit = _commit_of(ref)
    with _explained(ref):
        import datasets
        from huggingface_hub.utils import disable_progress_bars

        datasets.disable_progress_bars()
        disable_progress_bars()
        datasets.logging.set_verbosity(logging.CRITICAL)  # what goes wrong is said once, by us
        _require_access(ref)
        try:
            # hf://, for a plain org/name would be read from a local folder that happens to be called so
            path = f"hf://datasets/{ref.repository}"
            builder = datasets.load_dataset_builder(path, config, revision=commit)
        except (ValueError, RuntimeError) as error:
            raise _unfit(ref, error) from None
        if builder.hash != commit:  # unreachable, `datasets` takes whatever commit it cached last
            raise _not_cached(ref)
        try:
            builder.download_and_prepare()
        except datasets.exceptions.DatasetsError as error:
            raise _explain(ref, error) from None
        if split not in builder.info.splits:
            raise RecipeError(f"{ref}: no split {split!r}; there are {', '.join(builder.info.splits)}")
        dataset = builder.as_dataset(split=split)
        columns = choose(dataset.column_names)
        for table in dataset.select_columns(columns).with_format("arrow").iter(_READ_ROWS):
            yield from table.to_pylist()


def _require_access(ref: HubRef) -> None:
    """Ask for the card of a dataset, because `datasets` does not pass on why it could not."""
    from huggingface_hub import errors, hf_hub_download

    with suppress(errors.EntryNotFoundError):  # no card, or the Hub is out of reach: what follows tells
        hf_hub_download(ref.repository, "README.md", repo_type=ref.kind, revision=ref.revision)


def model_folder(ref: HubRef) -> Path:
    """Local folder with the weights, configs and tokenizer of a model at a commit; fetched once, then cached.

    Raises:
        RecipeError: no commit.
        MissingError: no such repository, no access, no safetensors in it, or offline and not cached.
    """
    commit = _commit_of(ref)
    with _explained(ref):
        from huggingface_hub import snapshot_download

        path = snapshot_download(
            ref.repository,
            revision=commit,
            allow_patterns=list(MODEL_FILES),
            ignore_patterns=["*/*"],  # other formats and copies lie in sub-folders
        )
    folder = Path(path)
    if not list(folder.glob("*.safetensors")):
        raise MissingError(
            f"{ref}: no safetensors weights at its top level, and pickled ones are never loaded; "
            "convert them (save_pretrained) or name another model"
        )
    if missing := [name for name in _indexed(folder) if not (folder / name).exists()]:
        raise MissingError(f"{ref}: only part of it is here ({missing[0]} is missing); run again online")
    return folder


def _indexed(folder: Path) -> list[str]:
    """Weight files that the index names; none where the weights are one file."""
    index = folder / "model.safetensors.index.json"
    return sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values())) if index.exists() else []


def _commit_of(ref: HubRef) -> str:
    if ref.commit is None:
        raise RecipeError(
            f"{ref}: read at a commit only; a run takes it from the recipe's lock, elsewhere write "
            f"{ref.repository}@<40 hex digits>"
        )
    return ref.commit


@contextmanager
def _explained(ref: HubRef) -> Iterator[None]:
    """Turns what the Hub's libraries raise into one clear line."""
    from huggingface_hub.utils import httpx  # httpx2 from huggingface_hub 2 on

    try:
        yield
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise _explain(ref, error) from None


def _explain(ref: HubRef, error: BaseException) -> DistillkitError:
    """The error to show, by the first thing in the chain of causes that says what is wrong."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    if isinstance(error, errors.HFValidationError):
        return RecipeError(f"{ref}: {_short(error)}")
    causes = list(_chain(error))
    for cause in causes:
        if isinstance(cause, errors.GatedRepoError):
            return MissingError(f"{ref}: gated; accept its terms at {ref.page}, then {_token_advice()}")
        if isinstance(cause, errors.RepositoryNotFoundError):
            return MissingError(
                f"{ref}: no such {ref.kind}, or a private one; check the name, or {_token_advice()}"
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            return RecipeError(
                f"{ref}: no revision {ref.revision!r}; see the branches and tags at {ref.page}"
            )
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return MissingError(
                f"{ref}: no disk space for the Hub's cache; free some or set HF_HOME to another disk"
            )
    if _is_offline():
        return _not_cached(ref)
    for cause in causes:
        if isinstance(cause, errors.HfHubHTTPError) and not isinstance(cause, errors.EntryNotFoundError):
            status = cause.response.status_code
            return MissingError(f"{ref}: the Hub answered {status}; {_advice(status)}")
        if isinstance(cause, httpx.TransportError):
            reason = type(cause).__name__
            return MissingError(
                f"{ref}: the Hub cannot be reached ({reason}); check the network and HF_ENDPOINT"
            )
    return StageError(f"{ref}: its files cannot be read ({type(error).__name__}: {_short(error)})")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, what caused that: `datasets` wraps the errors that matter."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _unfit(ref: HubRef, error: Exception) -> DistillkitError:
    """For a dataset that is there, but not with this config, or not as plain data."""
    if _is_offline():
        return _not_cached(ref)
    if "scripts are no longer supported" in str(error):
        rather = f"{ref.repository}@refs/convert/parquet"
        return RecipeError(f"{ref}: its rows come from a program, which is never run; try {rather}")
    return RecipeError(f"{ref}: {_short(error)}")


def _not_cached(ref: HubRef) -> MissingError:
    why = "offline (HF_HUB_OFFLINE)" if _is_offline() else "the Hub cannot be reached"
    return MissingError(f"{ref}: {why}, and it is not in the local cache; run once online")


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _token_advice() -> str:
    from huggingface_hub import get_token

    return "set HF_TOKEN" if get_token() is None else "see that the account of your HF_TOKEN may read it"


def _advice(status: int) -> str:
    if status in (401, 403):
        return _token_advice()
    return "wait and run again" if status == 429 or status >= 500 else "see whether HF_ENDPOINT is right"


def _short(error: BaseException) -> str:
    """The first two lines of its text, in one."""
    return " ".join(str(error).split("\n")[:2])
