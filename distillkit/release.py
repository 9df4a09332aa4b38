"""`push` and `pull`: what a store holds goes to the Hub as a version, and a version comes back as a folder.

A push ends whole or not at all; a pull is pinned to a commit, digested again, and fetches only what is not here.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from distillkit.artifact import MANIFEST, Artifact
from distillkit.delivery import Delivery, require_words_only, tagged_version
from distillkit.edition import DATASET, MAIN, MODEL, Edition, Shelf, version_digest
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.hub.pull import Fetched, fetch, remote_manifest
from distillkit.hub.push import Preview, Pushed, preview
from distillkit.hub.reference import HubRef, parse_reference
from distillkit.hub.target import Target, check_push
from distillkit.run_folder import find_artifact, find_run
from distillkit.spec import digest, identity
from distillkit.stages.base import PUBLICATION, SELECTION, TRACES, WEIGHTS, Input, Job
from distillkit.stages.publish import RECIPE, Publish, kind_of
from distillkit.store import Store

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Parcel:
    """A sealed folder and where it goes."""

    edition: Edition
    target: Target
    message: str


def pack(
    store: Path,
    what: str,
    repository: str,
    tag: str | None,
    *,
    public: bool = False,
    replace: bool = False,
    message: str | None = None,
) -> Parcel:
    """What a push will send; a stage that is not published under this name and version is laid out anew.

    what: a published folder, `RECIPE[/N]/STAGE` of the store's runs, or an artifact of the store.

    Raises:
        RecipeError: a tag that is no semantic version, a folder whose card has another name or version, or an
            artifact that cannot be published.
        MissingError: there is no such thing.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise RecipeError(f"{repository}: no repository on the Hub; write owner/name")
    version = tag.removeprefix("v") if tag else None
    visibility = "public" if public else "private"
    edition = _edition(store, what, Target("", repository, visibility, replace=replace), version)
    if (edition.name, edition.version) != (repository, version or edition.version):
        raise RecipeError(
            f"{edition.path}: its card speaks of {edition.name} {edition.version}; push it as that "
            f"({edition.name} --tag v{edition.version}), or name the stage that it is of"
        )
    target = Target(edition.kind, repository, visibility, f"v{edition.version}", replace)
    return Parcel(edition, target, message or f"{edition.name} {edition.version}")


def _edition(store: Path, what: str, target: Target, version: str | None) -> Edition:
    folder, repository = Path(what), target.repository
    if folder.is_dir() and folder.resolve().parent != (store / "artifacts").resolve():
        return Edition.open(folder)
    artifact = find_artifact(Store(store), what)
    recipe = _recipe_of(store, artifact, what)
    if artifact.type == PUBLICATION:
        edition = Edition.open(artifact.path / artifact.manifest.summary["folder"])
        if (edition.name, edition.version) == (repository, version or edition.version):
            return edition
        recipe = (edition.path / RECIPE).read_text("utf-8") if (edition.path / RECIPE).exists() else recipe
    return _laid_out(Store(store), artifact, target, version, recipe)


def _recipe_of(store: Path, artifact: Artifact, what: str) -> str:
    """The recipe of the run that is named; empty where an artifact is named by its folder."""
    if Path(what).name == artifact.path.name:
        return ""
    recipe = find_run(store, what.rpartition("/")[0] or None) / "recipe.yaml"
    return recipe.read_text("utf-8") if recipe.exists() else ""


def _laid_out(store: Store, artifact: Artifact, target: Target, version: str | None, recipe: str) -> Edition:
    """An artifact as the folder of a repository and version, kept on the store's shelf."""
    if artifact.type not in (PUBLICATION, SELECTION, TRACES, WEIGHTS):
        raise RecipeError(
            f"{artifact.stage}: {artifact.type} cannot be published; name traces, a selection or weights"
        )
    if version is None:
        raise RecipeError(f"{artifact.stage}: give its version, e.g. --tag v1.0.0")
    declared: dict[str, Any] = {"name": artifact.stage}
    inputs = {"input": [Input(artifact.stage, artifact.type, artifact.content, artifact.path.name)]}
    if artifact.type == PUBLICATION:
        declared = artifact.manifest.declared
        inputs = {slot: [_input(end) for end in ends] for slot, ends in artifact.manifest.inputs.items()}
    places = {"hub": None, "repository": target.repository, "version": version}
    try:
        stage = Publish(**{**declared, **places})
    except ValueError:
        raise RecipeError(f"--tag {version}: write a tag such as v1.2.0") from None
    contents = {slot: [each.content for each in ends] for slot, ends in inputs.items()}
    with store.building("push", digest([identity(stage), contents, recipe]), lambda _: None) as out:
        job = Job(store, out, inputs, recipe=recipe)
        [source] = job.artifacts("input")
        shelf = Shelf.of(store.root, kind_of(source), target.repository)
        target = replace(target, kind=kind_of(source))
        check_push(target)  # before hours of writing, say
        tree = stage.lay_out(job, source, Delivery(shelf, stage.tag, job.warn, target)).path
        edition = shelf.add(tree)  # no ref moves before it is on the Hub
        shutil.rmtree(out.path)
    return edition


def _input(end: Mapping[str, str]) -> Input:
    return Input(end["name"], end["type"], end["content"], end.get("artifact", ""))


def push(store: Path, parcel: Parcel, warn: Warn) -> Pushed | None:
    """Send a parcel; None where its tag exists and `main` has gone on.

    Raises what `Delivery.deliver` raises.
    """
    edition, target = parcel.edition, parcel.target
    shelf = Shelf.of(store, edition.kind, edition.name)
    with Delivery.open(shelf, f"v{edition.version}", warn, target) as way:
        return way.deliver(edition, parcel.message)


def look(parcel: Parcel) -> Preview:
    """What `push` would do; sends nothing."""
    tagged = tagged_version(parcel.target)
    target = parcel.target
    if tagged is not None and version_digest(tagged) != parcel.edition.digest:
        require_words_only(tagged, parcel.edition, target)
        target = replace(target, tag=None)
    return preview(parcel.edition.path, target, parcel.message)


def render(found: Preview) -> RenderableType:
    """The file diff, its bytes, and the commit message."""
    table = Table("", "file", "bytes", box=None)
    for sign, changes in (("+", found.added), ("~", found.changed), ("-", found.deleted)):
        for change in changes:
            table.add_row(sign, change.path, f"{change.bytes:,}")
    sent = sum(change.bytes for change in [*found.added, *found.changed])
    lines = [
        f"{len(found.added)} to add, {len(found.changed)} to change, {len(found.deleted)} to delete, "
        f"{len(found.unchanged)} unchanged; {sent:,} bytes to send at most",
        *(["the repository would be made"] if found.creates else []),
        *(["this version is there already: nothing to do"] if found.done else []),
        "",
        found.message,
    ]
    return Group(*([table] if table.row_count else []), *lines)


def pull(
    store: Path, reference: str, kind: str | None, output: Path | None, warn: Warn
) -> tuple[Edition, Fetched]:
    """A version of the Hub as a folder: in the store, or in `output`, where only what changed is fetched.

    kind: "dataset" or "model"; left out, whichever there is, a dataset first.

    Raises:
        RecipeError: no such revision, no push made it, or `output` holds something else.
        MissingError: no such repository, no access, or the Hub cannot be reached.
        StageError: `output` was edited since it was sealed; the text names the file.
    """
    ref, manifest = _found(reference, kind)
    shelf = Shelf.of(store, ref.kind, ref.repository)
    known = [edition.path for edition in shelf.editions()]
    pinned = replace(ref, revision=str(manifest.pop("commit")))
    if output is None:
        return _into_store(shelf, ref, pinned, manifest, warn)
    if not output.exists():
        fetched = fetch(pinned, output, known)
        return Edition.open(output), fetched
    before = _own(output)
    if before.digest == version_digest(manifest):
        return before, Fetched(pinned.revision, manifest, 0, before.bytes)
    incoming = output.with_name(f".{output.name}.incoming")
    if incoming.exists():  # a pull that was cut behind its last file
        shutil.rmtree(incoming)
    fetched = fetch(pinned, incoming, [output, *known])
    shutil.rmtree(output)
    incoming.rename(output)
    return Edition.open(output), fetched


def _found(reference: str, kind: str | None) -> tuple[HubRef, dict[str, Any]]:
    """The repository that is meant, and its manifest."""
    if kind is not None:
        ref = parse_reference(reference, kind)
        return ref, remote_manifest(ref)
    try:
        return _found(reference, DATASET)
    except MissingError as missing:
        try:
            return _found(reference, MODEL)
        except MissingError:
            raise missing from None


def _into_store(
    shelf: Shelf, ref: HubRef, pinned: HubRef, manifest: dict[str, Any], warn: Warn
) -> tuple[Edition, Fetched]:
    edition = shelf.find(version_digest(manifest))
    if edition is not None:
        edition.verify()
        fetched = Fetched(pinned.revision, manifest, 0, edition.bytes)
    else:
        incoming = shelf.root / "incoming" / pinned.revision
        shutil.rmtree(incoming, ignore_errors=True)  # of a pull that was cut behind its last file
        incoming.parent.mkdir(parents=True, exist_ok=True)
        fetched = fetch(pinned, incoming, [each.path for each in shelf.editions()])
        edition = shelf.add(incoming)
        shutil.rmtree(incoming)
    where = {"commit": pinned.revision, "url": f"{ref.page}/tree/{pinned.revision}"}
    if ref.revision == MAIN:
        shelf.advance(edition, **where)
    elif ref.commit is None:
        try:
            shelf.tag(ref.revision, edition, **where)
        except StageError as error:  # a draft of the same name was tagged here
            warn(str(error))
    return edition, fetched


def _own(output: Path) -> Edition:
    """The version in a folder that a pull may replace."""
    if not (output / MANIFEST).exists():
        raise RecipeError(f"{output}: exists and is no published folder; give a new folder")
    edition = Edition.open(output)
    edition.verify()
    return edition
