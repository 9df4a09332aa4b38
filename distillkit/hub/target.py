"""Where a push goes, and whether it may: everything that the Hub can refuse is asked before anything is spent."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from distillkit.errors import MissingError, RecipeError
from distillkit.hub.client import api, patiently
from distillkit.hub.failure import explained_push, is_offline
from distillkit.hub.reference import HubRef
from distillkit.hub.tree import MANIFEST, LocalFile, listed_files, manifest_at, remote_files

Manifest = dict[str, Any]
"""A repository's manifest.json."""
CARD = "README.md"
OTHER = {"dataset": "model", "model": "dataset"}


@dataclass(frozen=True)
class Target:
    """A repository to push to."""

    kind: str
    """"dataset" or "model"."""
    repository: str
    """`owner/name`"""
    visibility: str = "private"
    """"private" or "public". A new repository is made so; one that is the other is refused, never flipped."""
    tag: str | None = None
    """Made once, on the commit of this push, e.g. v1.0.0; None: main only."""
    replace: bool = False
    """Whether files that no push put there may be deleted; else a repository with such files is refused."""

    @property
    def ref(self) -> HubRef:
        """Its main branch."""
        return HubRef(self.kind, self.repository)

    def at(self, revision: str) -> HubRef:
        """The repository at a revision."""
        return replace(self.ref, revision=revision)


@dataclass(frozen=True)
class Standing:
    """A repository as it is now."""

    head: str
    """Commit of main."""
    private: bool


def check_push(target: Target, is_ours: Callable[[Manifest], bool] | None = None) -> None:
    """Refuse a push that could not end well: offline, no token, a read-only token, someone else's namespace, the
    other type, the other visibility, a tag that exists, files there that no push made. Changes nothing.

    is_ours: gets the manifest of the version that has the tag already, and says whether it may be what this run
    would push again (after a kill between the tag and the end, say); left out, an existing tag is refused. The
    push itself compares the files anyway.

    Raises:
        MissingError: what the machine or the account lacks.
        RecipeError: what the recipe must change.
    """
    with explained_push(target.ref):
        standing = admit(target)
        if standing is None:
            return
        if target.tag and (tagged := tagged_commit(target)) is not None:
            manifest = manifest_at(target.at(tagged))
            if manifest is None or is_ours is None or not is_ours(manifest):
                raise tag_taken(target, tagged)
        refuse_foreign(target, standing.head, remote_files(target.at(standing.head)))


def admit(target: Target) -> Standing | None:
    """The repository as it is, None where it is to be made; refuses what the account may not do."""
    if is_offline():
        raise MissingError(f"{target.repository}: offline (HF_HUB_OFFLINE); a push needs the Hub: unset it")
    _require_authority(target)
    standing = look(target)
    if standing is None:
        if look(replace(target, kind=OTHER[target.kind])) is not None:
            other = OTHER[target.kind]
            raise RecipeError(
                f"{target.repository}: exists as a {other}, not a {target.kind}; choose another name"
            )
        return None
    if standing.private != (target.visibility == "private"):
        is_now, flag = ("private", "without") if standing.private else ("public", "with")
        raise RecipeError(
            f"{target.repository}: is {is_now} on the Hub; say visibility: {is_now} (push: {flag} --public) if that is "
            f"meant, or change it at {target.ref.page}/settings"
        )
    patiently(lambda: api().auth_check(target.repository, repo_type=target.kind, write=True))
    return standing


def look(target: Target) -> Standing | None:
    """The repository now; None where there is none (or none that the account may see)."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = patiently(lambda: api().repo_info(target.repository, repo_type=target.kind))
    except GatedRepoError:
        raise
    except RepositoryNotFoundError:
        return None
    return Standing(str(info.sha), bool(info.private))


def _require_authority(target: Target) -> None:
    """Raises for no token, a token that may not write, a namespace that is not the account's."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise MissingError(
            f"{target.repository}: no token; set HF_TOKEN to one that may write (hf.co/settings/tokens)"
        )
    try:
        account = patiently(lambda: api().whoami(cache=True))
    except HfHubHTTPError as error:
        if error.response.status_code != 401:
            raise
        raise MissingError(
            f"{target.repository}: the Hub does not know your HF_TOKEN; make one that may write (hf.co/settings/tokens)"
        ) from None
    owner = target.repository.partition("/")[0]
    roles = {each["name"]: each.get("roleInOrg") for each in account.get("orgs", [])} | {
        account["name"]: "admin"
    }
    if owner not in roles or roles[owner] == "read":
        mine = ", ".join(sorted(name for name, role in roles.items() if role != "read"))
        raise RecipeError(
            f"{target.repository}: your HF_TOKEN's account may not write in {owner}; it may in {mine}"
        )
    token = account.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and not _grants(token, target)):
        raise MissingError(
            f"{target.repository}: your HF_TOKEN may only read; make one that may write (hf.co/settings/tokens)"
        )


def _grants(token: dict[str, Any], target: Target) -> bool:
    """Whether a fine-grained token may write to a repository, by what it says of itself."""
    scopes: Iterable[dict[str, Any]] = token.get("fineGrained", {}).get("scoped", [])
    names = (target.repository, target.repository.partition("/")[0])
    return any(
        scope.get("entity", {}).get("name", "").removeprefix("datasets/") in names
        and "repo.write" in scope.get("permissions", [])
        for scope in scopes
    )


def tagged_commit(target: Target) -> str | None:
    """The commit that the tag names, or None."""
    from huggingface_hub.errors import RevisionNotFoundError

    tag = target.tag
    refs = patiently(lambda: api().list_repo_refs(target.repository, repo_type=target.kind))
    if tag not in {each.name for each in refs.tags}:
        return None
    try:
        info = patiently(lambda: api().repo_info(target.repository, repo_type=target.kind, revision=tag))
    except RevisionNotFoundError:
        return None
    return str(info.sha)


def check_card(local: Mapping[str, LocalFile]) -> None:
    """Raises RecipeError for a card whose header is no YAML mapping: the Hub would say so after all is sent."""
    if CARD not in local:
        return
    lines = local[CARD].path.read_text("utf-8").splitlines()
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return
    try:
        header = yaml.safe_load("\n".join(lines[1 : lines.index("---", 1)]))
    except yaml.YAMLError as error:
        why = f"YAML parsing error: {' '.join(str(error).split())}"
    else:
        if isinstance(header, dict):
            return
        why = "it must be a mapping"
    raise RecipeError(f"{local[CARD].path}: the card's header is not valid ({why})")


def tag_taken(target: Target, commit: str) -> RecipeError:
    """The error for a tag that names another version."""
    return RecipeError(
        f"{target.repository}: tag {target.tag} exists ({commit[:12]}) with other content, and a tag never moves; "
        "raise the version"
    )


def refuse_foreign(target: Target, head: str, there: Iterable[str]) -> None:
    """Raises RecipeError where a repository holds files that no push put there."""
    if target.replace:
        return
    strangers = sorted(set(there) - {CARD, MANIFEST})
    if strangers:
        strangers = sorted(set(strangers) - listed_files(manifest_at(target.at(head))).keys())
    if strangers:
        more = f" and {len(strangers) - 1:,} more" if len(strangers) > 1 else ""
        raise RecipeError(
            f"{target.repository}: holds files that no push of distillkit made ({strangers[0]}{more}); push to another "
            "repository, or say replace: true (push: --replace) to let this version delete them"
        )
