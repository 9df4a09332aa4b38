"""What a published folder says about itself: lineage, funnel, languages, card.

Everything is read from the manifests that lie behind the rows, so that a card cannot claim what no stage did.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from distillkit import __version__
from distillkit.artifact import Artifact, Row, Store
from distillkit.show import funnel

SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (1e7, "1M<n<10M"))


def lineage(store: Store, artifact: Artifact) -> list[Artifact]:
    """The artifact and everything that it was made from, sources first, each once."""
    found: dict[str, Artifact] = {}

    def visit(each: Artifact) -> None:
        if each.path.name in found:
            return
        for ends in each.manifest.inputs.values():
            for end in ends:
                if end.get("artifact"):
                    visit(store.open(end["artifact"], end["name"]))
        found[each.path.name] = each

    visit(artifact)
    return list(found.values())


def row_lineage(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """Those of a lineage that a funnel is made of: what kept or dropped rows."""
    return [a for a in artifacts if a.type in ("problems", "traces", "selection")]


def teachers(artifacts: Iterable[Artifact]) -> list[dict[str, str]]:
    """Models that completions were sampled from: [{name, revision, sampling}]."""
    found = []
    for artifact in artifacts:
        if artifact.type != "traces":
            continue
        for end in artifact.manifest.inputs.get("model", []):
            found.append({"name": end["name"], "revision": end.get("revision", ""), "stage": artifact.stage})
    return found


def sources(artifacts: Iterable[Artifact]) -> list[str]:
    """Where the problems came from, as their stages declare it."""
    found = []
    for artifact in artifacts:
        if artifact.type == "problems":
            declared = artifact.manifest.declared
            origin = next(
                (f"{key}: {declared[key]}" for key in ("hub", "file", "toy", "python") if declared.get(key)),
                "",
            )
            found.append(origin or artifact.stage)
    return found


def front_matter(name: str, rows: int, languages: list[str], licence: str | None) -> str:
    """YAML header of a dataset card; a licence that nobody declared is left out, never invented."""
    size = next((label for bound, label in SIZES if rows < bound), "n>10M")
    header: dict[str, Any] = {
        "pretty_name": name,
        "language": languages,
        "task_categories": ["text-generation"],
        "size_categories": [size],
        "library_name": "distillkit",
        "tags": ["distillkit", "reasoning", "synthetic"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
                "default": True,
            }
        ],
    }
    if licence:
        header["license"] = licence
    return yaml.safe_dump(header, sort_keys=False, allow_unicode=True)


def render_card(template: str, **facts: Any) -> str:
    """A card from its Jinja2 template in report/templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "report" / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    return environment.get_template(template).render(version_of_distillkit=__version__, **facts)


def funnel_rows(artifacts: list[Artifact]) -> list[dict[str, Any]]:
    """Funnel entries of a lineage, in its order."""
    return funnel(row_lineage(artifacts))


class Portrait:
    """Running statistics of the rows of a dataset, gathered while they are written."""

    def __init__(self) -> None:
        self.rows = 0
        self.problems: set[str] = set()
        self.tokens: list[int] = []
        self.domains: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()

    def add(self, row: Row) -> None:
        """Count one published row."""
        self.rows += 1
        self.problems.add(row["problem_id"])
        self.tokens.append(row["completion_tokens"] or 0)
        self.domains[row["domain"]] += 1
        measures = row.get("measures") or {}
        measures = json.loads(measures) if isinstance(measures, str) else measures
        language = measures.get("language", {}).get("target") or row.get("language")
        if language:
            self.languages[language] += 1
