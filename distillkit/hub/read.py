"""What is read from the Hub: one commit of a dataset or a model, never a moving branch.

A reference is resolved to its commit once (the lock file keeps it) and everything is read at that commit, so
that a run means the same next year. Only data and safetensors are fetched: no code of a repository runs,
nothing is unpickled.
"""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from distillkit.errors import DistillkitError, MissingError, RecipeError
from distillkit.hub.client import api, patiently
from distillkit.hub.failure import explain, explained, is_offline, not_cached, short
from distillkit.hub.reference import HubRef

TIMEOUT_S = 30.0
"""Wall seconds that one answer about a repository may take; downloads have HF_HUB_DOWNLOAD_TIMEOUT."""
MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
"""Weights, index, configs, tokenizer, chat template: no pickled weights, no code."""
_READ_ROWS = 1000


def resolve(ref: HubRef) -> str:
    """Commit (40 hex digits) that a reference means now; asks the Hub unless it is a commit already.

    Raises:
        RecipeError: the repository has no such revision.
        MissingError: no such repository, no access to it (gated ones tell everybody their commit, so access is asked
            for), or the Hub cannot be asked.
    """
    if ref.commit is not None:
        return ref.commit
    with explained(ref):
        from huggingface_hub import HfApi

        info = HfApi().repo_info(ref.repository, repo_type=ref.kind, revision=ref.revision, timeout=TIMEOUT_S)
    if info.gated:
        check_readable(ref)
    return str(info.sha)


def check_readable(ref: HubRef) -> None:
    """See that the account may read the files of a repository, before a run needs them; fetches nothing.

    Raises:
        MissingError: gated (the message names the page to accept at), private, missing, or out of reach.
    """
    with explained(ref):
        patiently(lambda: api().auth_check(ref.repository, repo_type=ref.kind))


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
    with explained(ref):
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
            raise not_cached(ref)
        try:
            builder.download_and_prepare()
        except datasets.exceptions.DatasetsError as error:
            raise explain(ref, error) from None
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
    with explained(ref):
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


def _unfit(ref: HubRef, error: Exception) -> DistillkitError:
    """For a dataset that is there, but not with this config, or not as plain data."""
    if is_offline():
        return not_cached(ref)
    if "scripts are no longer supported" in str(error):
        rather = f"{ref.repository}@refs/convert/parquet"
        return RecipeError(f"{ref}: its rows come from a program, which is never run; try {rather}")
    return RecipeError(f"{ref}: {short(error)}")
