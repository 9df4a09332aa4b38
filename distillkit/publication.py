"""What a published folder says about itself: where its rows or weights came from, and what was thrown out.

Everything is read from the manifests that lie behind them, so that a card cannot claim what no stage did.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from distillkit.artifact import Artifact
from distillkit.edition import MAIN, shelves
from distillkit.rule import rule_text
from distillkit.show import funnel
from distillkit.spec import digest
from distillkit.store import Store

DATA = ("input", "inputs")
"""Wires along which rows flow."""
MODEL = ("model",)
"""Wires along which weights flow."""
SAMPLING = ("n", "temperature", "top_p", "max_tokens")
"""Keys of a sample stage that a card tells."""


def lineage(store: Store, artifact: Artifact, wires: Sequence[str] | None = None) -> list[Artifact]:
    """The artifact and everything that it was made from, sources first, each once; `wires` narrows the way."""
    found: dict[str, Artifact] = {}

    def visit(each: Artifact) -> None:
        for wire, ends in each.manifest.inputs.items():
            for end in ends:
                if end.get("artifact") and (wires is None or wire in wires) and end["artifact"] not in found:
                    visit(store.open(end["artifact"], end["name"]))
        found[each.path.name] = each

    visit(artifact)
    return list(found.values())


def row_funnel(store: Store, artifact: Artifact) -> list[dict[str, Any]]:
    """Funnel entries of what made and dropped an artifact's rows, in order."""
    steps = [a for a in lineage(store, artifact, DATA) if a.type in ("problems", "traces", "selection")]
    return funnel(steps)


def teachers(store: Store, artifacts: Iterable[Artifact]) -> list[dict[str, Any]]:
    """Models that completions were sampled from: [{name, revision, stage, sampling, trainings}].

    revision: Hub commit, else empty; trainings: how the recipe itself made it, empty for a foreign one.
    """
    found = []
    for artifact in artifacts:
        declared = artifact.manifest.declared
        for end in _models(artifact) if artifact.type == "traces" else []:
            sampled = {key: declared[key] for key in SAMPLING if declared.get(key) is not None}
            own = store.open(end["artifact"], end["name"]) if end.get("artifact") else None
            found.append(
                {
                    "name": public(end["name"]),
                    "revision": end.get("revision", ""),
                    "stage": artifact.stage,
                    "sampling": sampled,
                    "trainings": trainings(lineage(store, own, MODEL)) if own else [],
                }
            )
    return found


def named_teachers(models: Iterable[str], known: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Teachers that only rows name, as `teachers` has them: those of bought traces."""
    names = {teacher["name"].partition("@")[0] for teacher in known}
    return [
        {"name": model, "revision": "", "stage": "", "sampling": {}, "trainings": []}
        for model in models
        if model.partition("@")[0] not in names
    ]


def _models(artifact: Artifact) -> list[dict[str, str]]:
    """The model that an artifact was sampled from: its input, or what an endpoint served."""
    served = (artifact.manifest.declared.get("engine") or {}).get("served_model")
    return artifact.manifest.inputs.get("model") or ([{"name": served}] if served else [])


SOURCES = ("hub", "file", "toy", "python")
"""Keys by which a stage says where its rows come from."""


def sources(artifacts: Iterable[Artifact]) -> list[dict[str, Any]]:
    """Where problems and bought traces came from, as their stages declare it: [{stage, kind, source, rows, ...}].

    repository, revision: of one on the Hub.
    """
    found = []
    for artifact in artifacts:
        if artifact.manifest.kind in ("problems", "traces"):
            declared = artifact.manifest.declared
            named = [f"{key}: {_name(declared[key])}" for key in SOURCES if declared.get(key)]
            repository, _, revision = str(declared.get("hub") or "").partition("@")
            told = {
                "stage": artifact.stage,
                "kind": artifact.manifest.kind,
                "source": ", ".join(named) or artifact.stage,
                "rows": artifact.manifest.rows_kept,
            }
            found.append(told | ({"repository": repository, "revision": revision} if repository else {}))
    return found


def _name(declared: Any) -> str:
    """What a source goes by: of a function its file, of several files their names."""
    if isinstance(declared, list):
        return ", ".join(map(_name, declared))
    return public(declared["file"] if isinstance(declared, dict) else str(declared))


def public(name: str) -> str:
    """A name without the folders of the author's machine."""
    return name.rpartition("/")[2] if name.startswith(("/", ".", "~")) else name


def public_recipe(recipe: str) -> str:
    """A resolved recipe as its author had it: files named as if they lay beside it, no word of where it ran."""
    declared = {key: value for key, value in yaml.safe_load(recipe).items() if key != "execution"}
    return yaml.safe_dump(_without_folders(declared), sort_keys=False, allow_unicode=True)


def _without_folders(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_folders(each) for each in value]
    if isinstance(value, dict):
        return {
            key: _named_beside(each) if key in FILES else _without_folders(each)
            for key, each in value.items()
        }
    return value


FILES = ("file", "files", "rubric_file")
"""Keys of a recipe that name files of its author."""


def _named_beside(value: Any) -> Any:
    return (
        [public(each) for each in value]
        if isinstance(value, list)
        else public(value)
        if isinstance(value, str)
        else value
    )


def made_by(recipe: str, stage: str) -> str | None:
    """Digest of all in a recipe that may decide what a stage makes: of two machines, of a run and the run before it.

    What stands behind the stage does not count (a training and its scores, say); None where it has no such stage.
    """
    declared = yaml.safe_load(public_recipe(recipe)) if recipe else {}
    names = [each["name"] for each in declared.get("stages", [])]
    if stage not in names:
        return None
    kept = {key: value for key, value in declared.items() if key not in ("name", "budget")}
    return digest(kept | {"stages": declared["stages"][: names.index(stage) + 1]})


def judged(artifacts: Iterable[Artifact]) -> dict[str, Any]:
    """{judges: {domain: kind of verifier}} where verdicts behind the artifacts are a model's opinion, else {}."""
    found = {d: kind for each in artifacts for d, kind in each.manifest.summary.get("judges", {}).items()}
    return {"learned": True, "judges": found} if found else {}


def rows_of(trained: Artifact) -> list[dict[str, str]]:
    """The inputs of a training that are rows of this store."""
    ends = [end for wire in DATA for end in trained.manifest.inputs.get(wire, [])]
    return [end for end in ends if end.get("artifact")]


def published_as(store: Path, artifacts: Iterable[Artifact]) -> list[dict[str, str]]:
    """Where artifacts are on the Hub, as this store pushed them: [{name, revision: commit, tag}]."""
    contents = {artifact.content for artifact in artifacts}
    return [
        {"name": shelf.repository, "revision": line["commit"], "tag": line["ref"]}
        for shelf in shelves(store)
        for line in shelf.log()
        if line["content"] in contents and line.get("commit") and line["ref"] != MAIN
    ]


def trainings(artifacts: Iterable[Artifact]) -> list[dict[str, Any]]:
    """How weights were trained, step by step: [{stage, kind, base, revision, rows, summary}]."""
    return [
        {
            "stage": artifact.stage,
            "kind": artifact.manifest.kind,
            "base": public(base["name"]),
            "revision": base.get("revision", ""),
            "rows": artifact.manifest.rows_kept,
            "summary": artifact.manifest.summary,
        }
        for artifact in artifacts
        if artifact.type == "weights"
        for base in artifact.manifest.inputs.get("model", [])
    ]


def conditions(artifacts: Iterable[Artifact]) -> list[dict[str, str]]:
    """What a row had to be to stay, as the selections declare it: [{stage, condition, reason}]."""
    found = []
    for artifact in artifacts:
        declared = artifact.manifest.declared
        for rule in declared.get("rules", []):
            found.append(
                {
                    "stage": artifact.stage,
                    "condition": rule_text(rule),
                    "reason": rule.get("reason") or "several",
                }
            )
        for key, words, reason in PICKS if artifact.manifest.kind == "select" else ():
            if declared.get(key):
                found.append(
                    {"stage": artifact.stage, "condition": words.format(declared[key]), "reason": reason}
                )
    return found


def decontamination(artifacts: Iterable[Artifact]) -> list[dict[str, Any]]:
    """What was looked for in the rows and found: [{stage, against, on, rows, found}] of every search for leaks.

    on: prompt, completion or both; found: benchmark -> rows that share too much with it, kept or not.
    """
    return [
        {
            "stage": artifact.stage,
            "against": [_benchmark(each) for each in artifact.manifest.declared["against"]],
            "on": artifact.manifest.declared["on"],
            "rows": artifact.manifest.rows_in,
            "found": artifact.manifest.counts.get("leaks", {}),
        }
        for artifact in artifacts
        if artifact.manifest.kind == "decontaminate"
    ]


def _benchmark(named: Any) -> str:
    return Path(named["file"]).name if isinstance(named, dict) else str(named)


PICKS = (
    ("max_tokens", "at most {:,} tokens", "too_long"),
    ("pass_rate", "share of the problem's traces that are right within {0[0]:g} to {0[1]:g}", "pass_rate"),
    ("unique", "one per cluster of near duplicates", "duplicate"),
    ("per_problem", "at most {} per problem", "over_per_problem"),
    ("balance", "no {0[by]} outweighs the others", "over_quota"),
    ("limit", "at most {:,} in all, drawn at random", "over_limit"),
    ("total_tokens", "at most {:,} tokens in all, drawn at random", "over_tokens"),
)
"""(key of a select stage, what it asks, reason of those that it drops)."""
