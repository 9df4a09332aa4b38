"""`report.html`: one self-contained page of a run, readable from disk, on a phone and without a network.

Traces are hostile input. What comes from the data goes through autoescaping, or through JSON that cannot close its
element into text nodes; and the page's policy runs one script only, by its hash, so that markup which slipped in all
the same would stay dead.
"""

import base64
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from distillkit import __version__
from distillkit.artifact import Artifact
from distillkit.durable import write_text
from distillkit.report import template
from distillkit.report.chapter import sections
from distillkit.report.headline import predictions, tiles, warnings
from distillkit.report.material import Material
from distillkit.report.section import Section
from distillkit.report.traces import browsed
from distillkit.show import cost_grid
from distillkit.show.piece import visible
from distillkit.store import Store


def write_report(run: Path, store: Store) -> Path:
    """Write `report.html` of a run from what is in the store, and of each seed below it; returns its path.

    A run that died half-way has a page too, which says what is missing.

    Raises:
        MissingError: no run there, or no disk space.
        StageError: a corrupt artifact.
    """
    material = Material.of(run, store)
    for below in material.seeds.values():
        write_text(below.run / "report.html", page(below))
    path = run / "report.html"
    write_text(path, page(material))
    return path


def page(material: Material) -> str:
    """The page as text."""
    script = template.source("page.js")
    traces = browsed(material)
    chapters = sections(material)
    text = template.load("page.html.j2", autoescape=True).render(
        run=material.described["run"],
        started=_utc(material.started),
        warnings=[visible(line) for line in warnings(material)],
        tiles=tiles(material),
        predictions=predictions(material),
        sections=chapters,
        contents=_contents(chapters),
        traces=traces,
        traces_json=script_json(traces),
        stages=_stages(material),
        seeded=bool(material.seeds),
        cost=cost_grid(material.described["cost"]),
        sources=_sources(material),
        versions=_versions(material.artifacts),
        recipe=visible(material.recipe),
        traceback=visible(material.traceback),
        style=template.source("page.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        distillkit=__version__,
    )
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate has no bytes


def script_json(value: Any) -> str:
    """JSON for a `<script type="application/json">`: no `<`, `>` or `&` can leave it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _contents(chapters: list[Section]) -> dict[str, str]:
    """Title up to its colon -> anchor, of the first chapter with such a title."""
    found: dict[str, str] = {}
    for chapter in chapters:
        found.setdefault(chapter.title.partition(":")[0], chapter.name)
    return found


def _utc(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _stages(material: Material) -> list[dict[str, Any]]:
    """The stages of the recipe in its order: [{name, kind, artifact, rows, seconds, cached, content}].

    One that the run did not reach has no artifact; one whose artifact has left the store no content. With several
    seeds the seconds are those of all.
    """
    made = {artifact.stage: artifact for artifact in material.artifacts}
    ran = {stage["name"]: stage for stage in material.record.stages}
    for below in material.seeds.values():
        for stage in below.record.stages:
            seconds = stage["seconds"] + ran.get(stage["name"], {"seconds": 0.0})["seconds"]
            ran[stage["name"]] = stage | {"artifact": "one per seed", "seconds": seconds, "cached": False}
    kinds = {stage["name"]: stage["kind"] for stage in [*material.declared, *ran.values()]}
    found = []
    for name, kind in kinds.items():
        stage = {
            "artifact": None,
            "seconds": 0.0,
            "cached": False,
            **ran.get(name, {}),
            "name": name,
            "kind": kind,
        }
        artifact = made.get(name)
        facts = (artifact.manifest.rows_kept, artifact.content[:12]) if artifact else (0, "")
        found.append(stage | dict(zip(("rows", "content"), facts, strict=True)))
    return found


def _sources(material: Material) -> list[tuple[str, str]]:
    """What came from outside at which commit, and the commit of the folder that the run was started in."""
    found: dict[str, str] = {}
    for artifact in material.artifacts:
        for ends in artifact.manifest.inputs.values():
            found |= {str(end["name"]): str(end["revision"]) for end in ends if end.get("revision")}
        hub = artifact.manifest.declared.get("hub")
        if artifact.type in ("problems", "traces") and isinstance(hub, str) and "@" in hub:
            name, _, commit = hub.partition("@")
            found[name] = commit
        if artifact.manifest.telemetry.get("git"):
            found["git"] = str(artifact.manifest.telemetry["git"])
    return list(found.items())


def _versions(artifacts: list[Artifact]) -> dict[str, str]:
    found: dict[str, str] = {}
    for artifact in artifacts:
        found |= artifact.manifest.telemetry.get("versions", {})
    return found
