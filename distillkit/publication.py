"""What a published folder says about itself: where its rows or weights came from, and what was thrown out.

Everything is read from the manifests that lie behind them, so that a card cannot claim what no stage did.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from distillkit.artifact import Artifact, Row
from distillkit.reader import look_up
from distillkit.show import funnel
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


def _models(artifact: Artifact) -> list[dict[str, str]]:
    """The model that an artifact was sampled from: its input, or what an endpoint served."""
    served = (artifact.manifest.declared.get("engine") or {}).get("served_model")
    return artifact.manifest.inputs.get("model") or ([{"name": served}] if served else [])


def sources(artifacts: Iterable[Artifact]) -> list[dict[str, Any]]:
    """Where the problems came from, as their stages declare it: [{stage, source, rows}]."""
    found = []
    for artifact in artifacts:
        if artifact.type == "problems":
            declared = artifact.manifest.declared
            named = [
                f"{key}: {_name(declared[key])}"
                for key in ("hub", "file", "toy", "python")
                if declared.get(key)
            ]
            rows = artifact.manifest.rows_kept
            found.append(
                {"stage": artifact.stage, "source": ", ".join(named) or artifact.stage, "rows": rows}
            )
    return found


def _name(declared: Any) -> str:
    """What a source goes by: of a function its file."""
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


def judged(artifacts: Iterable[Artifact]) -> dict[str, Any]:
    """{judges: {domain: kind of verifier}} where verdicts behind the artifacts are a model's opinion, else {}."""
    found = {d: kind for each in artifacts for d, kind in each.manifest.summary.get("judges", {}).items()}
    return {"learned": True, "judges": found} if found else {}


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
                {"stage": artifact.stage, "condition": _test(rule), "reason": rule.get("reason") or "several"}
            )
        for key, words, reason in PICKS if artifact.manifest.kind == "select" else ():
            if declared.get(key):
                found.append(
                    {"stage": artifact.stage, "condition": words.format(declared[key]), "reason": reason}
                )
    return found


PICKS = (
    ("pass_rate", "share of the problem's traces that are right within {0[0]:g} to {0[1]:g}", "pass_rate"),
    ("unique", "one per cluster of near duplicates", "duplicate"),
    ("per_problem", "at most {} per problem", "over_per_problem"),
    ("limit", "at most {:,} in all, drawn at random", "over_limit"),
)
"""(key of a select stage, what it asks, reason of those that it drops)."""


def _test(rule: dict[str, Any]) -> str:
    if rule.get("preset"):
        return f"preset {rule['preset']}"
    parts = [
        f"{word} {rule[key]:g}"
        for key, word in (("min", "at least"), ("max", "at most"))
        if rule.get(key) is not None
    ]
    for key, word in (("is", "is"), ("is_not", "is not")):
        if rule.get(key):
            parts.append(f"{word} {' or '.join('null' if each is None else str(each) for each in rule[key])}")
    return f"{rule['field']} {' and '.join(parts)}"


@dataclass
class Portrait:
    """Running statistics of the rows of a dataset, gathered while they are written."""

    rows: int = 0
    problems: set[str] = field(default_factory=set)
    tokens: list[int] = field(default_factory=list)
    domains: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    """Language that the reasoning is meant to be in -> rows."""
    mixed: int = 0
    """Rows with words of two or more languages."""
    measured: int = 0
    """Rows whose languages were measured."""
    rejected: int = 0
    """Rejected rows that go along."""

    def add(self, row: Row) -> None:
        """Count one row of the view, labels joined."""
        self.rows += 1
        self.problems.add(row["problem_id"])
        if row["completion_tokens"] is not None:
            self.tokens.append(row["completion_tokens"])
        self.domains[row["domain"]] += 1
        language = look_up(row, "measures.language") or {}
        self.measured += bool(language)
        self.mixed += bool(language.get("mixed"))
        target = language.get("target") or row["language"]
        if target and target != "und":
            self.languages[target] += 1

    def facts(self) -> dict[str, Any]:
        """The statistics as JSON, equal for equal rows in any order."""
        return {
            "rows": self.rows,
            "problems": len(self.problems),
            "tokens": sum(self.tokens),
            "domains": dict(sorted(self.domains.items())),
            "languages": dict(sorted(self.languages.items())),
            "mixed_language": self.mixed if self.measured else None,
            "lengths": self._lengths(),
            "rejected": self.rejected,
        }

    def _lengths(self) -> dict[str, int] | None:
        """Tokens that half and 95 % of the completions do not exceed; None where none was counted."""
        ordered = sorted(self.tokens)
        if not ordered:
            return None
        at = {"median": 0.5, "p95": 0.95, "longest": 1.0}
        return {name: ordered[max(0, math.ceil(share * len(ordered)) - 1)] for name, share in at.items()}
