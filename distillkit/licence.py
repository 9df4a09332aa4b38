"""Licences of what rows and weights were made from: read or declared, never invented.

A repository's own card states its licence at the very commit that was used; the recipe may add those of files and of
models behind an endpoint, and must choose where they differ.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from distillkit.errors import DistillkitError, RecipeError
from distillkit.hub.failure import explained
from distillkit.hub.reference import HubRef

OURS = "apache-2.0"
"""Of the problems and weights that come with this package."""
PACKAGED = "toy:"
IDENTIFIERS = frozenset(
    """
    apache-2.0 mit openrail openrail++ bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0
    bigcode-openrail-m afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr
    mpl-2.0 odc-by odbl openmdw-1.0 osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma unknown other
    """.split()
)
"""What the Hub takes in a card's header; anything else is named beside `other`.
Source: huggingface.co/docs/hub/repositories-licenses."""
_HEADER = re.compile(r"\A---\s*\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)


def add_licences(
    facts: Mapping[str, list[dict[str, Any]]], declared: Mapping[str, str], *, online: bool
) -> None:
    """Give every teacher, source and training of `facts` its `licence`; None where nobody states one.

    declared: name in the card -> licence, which counts before all; online: whether the Hub may be asked for a card
    that is not here.
    """
    for source in facts.get("sources", []):
        name = source.get("repository") or source["source"].partition(": ")[2] or source["source"]
        found = declared.get(name) or _ours(source["source"])
        source["licence"] = found or _stated(
            "dataset", source.get("repository"), source.get("revision"), online
        )
    for teacher in facts.get("teachers", []):
        add_licences({"trainings": teacher["trainings"]}, declared, online=online)
        found = declared.get(teacher["name"]) or _ours(teacher["name"])
        of_base = teacher["trainings"][0]["licence"] if teacher["trainings"] else None
        teacher["licence"] = found or of_base or _of_model(teacher["name"], teacher["revision"], online)
    for step in facts.get("trainings", []):
        found = declared.get(step["base"]) or _ours(step["base"])
        step["licence"] = found or _of_model(step["base"], step["revision"], online)


def chosen(declared: str | None, facts: Mapping[str, Any]) -> str | None:
    """The licence of the result: the declared one, else that of everything behind it where all agree.

    None where any of them is not known. Raises RecipeError where they differ and none was declared.
    """
    if declared is not None:
        return declared
    behind = dict(_behind(facts))
    known = {licence for licence in behind.values() if licence}
    if len(known) > 1:
        named = "; ".join(f"{name}: {licence}" for name, licence in sorted(behind.items()) if licence)
        raise RecipeError(f"licences differ ({named}); read them and declare `license:`")
    return known.pop() if known and all(behind.values()) else None


def _behind(facts: Mapping[str, Any]) -> Iterable[tuple[str, str | None]]:
    for teacher in facts.get("teachers", []):
        yield teacher["name"], teacher["licence"]
    for source in facts.get("sources", []):
        yield source["source"], source["licence"]
    for step in facts.get("trainings", [])[:1]:  # later ones start from it
        yield step["base"], step["licence"]


def _ours(name: str) -> str | None:
    return OURS if name.startswith(PACKAGED) else None


def _of_model(name: str, revision: str, online: bool) -> str | None:
    return _stated("model", name.partition("@")[0], revision, online)


def _stated(kind: str, repository: str | None, revision: str | None, online: bool) -> str | None:
    """The licence in a repository's card at a commit; None where it cannot be read or states none."""
    if not repository or not revision or "/" not in repository:
        return None
    ref = HubRef(kind, repository, revision)
    try:
        with explained(ref):
            from huggingface_hub import hf_hub_download

            path = hf_hub_download(
                repository, "README.md", repo_type=kind, revision=revision, local_files_only=not online
            )
    except DistillkitError:
        return None
    return licence_in(Path(path).read_text("utf-8", "replace"))


def licence_in(card: str) -> str | None:
    """The licence that a card's header states; the name of one that is none of the Hub's."""
    found = _HEADER.match(card)
    try:
        header = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    if not isinstance(header, dict):
        return None
    licence = header.get("license_name") or header.get("license")
    if isinstance(licence, list):
        licence = " and ".join(map(str, licence))
    return str(licence) if licence else None


def header_of(licence: str | None) -> dict[str, str | None]:
    """The keys of a card's header that state a licence."""
    if licence is None or licence.lower() in IDENTIFIERS:
        return {"license": licence and licence.lower()}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.-]+", "-", licence.lower()).strip("-")}
