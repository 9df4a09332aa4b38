"""What came out of a run, as plain data; the JSON keys are stable."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from distillkit.artifact import MANIFEST, Artifact
from distillkit.comparison import differences
from distillkit.rule import ablation
from distillkit.run_folder import RECORD, RunRecord, load_record
from distillkit.show.number import finite
from distillkit.show.training import cost_of, trainings_of
from distillkit.store import Store

Described = dict[str, Any]
Score = dict[str, Any]
"""{value, low, high, n, samples}: n problems; low and high are None where there is no interval."""

FUNNEL_TYPES = ("problems", "traces", "labels", "selection", "pairs", "publication")
"""Artifact types that keep or drop rows."""


def describe(run: Path, store: Path) -> Described:
    """Everything of a run that is shown; a run that died half-way has what it got to.

    Keys: run {recipe, number, status, error, missing: stages whose artifact was removed}; funnel, sampling, scores,
    gamma, differences, settings, screening, warnings and timings as the functions below give them, trainings and cost
    as show.training does; evaluations, budget_curves and probes: the summaries of such stages, each with its `stage`;
    and, where the run had several seeds, seeds {seed: the same again}, with the differences over all of them. A number
    that is none (NaN) is null.

    Raises:
        MissingError: no run there.
        StageError: a corrupt artifact.
    """
    record = load_record(run)
    artifacts, missing = load_artifacts(record, Store(store))
    described: Described = {
        "run": {
            "recipe": record.recipe,
            "number": record.number,
            "status": record.status,
            "error": record.error,
            "missing": missing,
        },
        "funnel": funnel(artifacts),
        "sampling": sampling_of(artifacts),
        "scores": scores_of(artifacts),
        "gamma": gamma_of(artifacts),
        "differences": [each for one in _of_kind(artifacts, "evaluate") for each in differences([one])],
        "settings": settings_of(artifacts),
        "screening": screening_of(artifacts),
        "evaluations": summaries_of(artifacts, "evaluate"),
        "budget_curves": summaries_of(artifacts, "budget_curve"),
        "probes": summaries_of(artifacts, "probe"),
        "trainings": trainings_of(artifacts),
        "warnings": warnings_of(artifacts),
        "cost": cost_of(artifacts),
        "timings": timings(record),
    }
    if record.seeds:
        below = {str(seed): run / "seeds" / str(seed) for seed in record.seeds}
        present = {seed: path for seed, path in below.items() if (path / RECORD).exists()}
        described["seeds"] = {seed: describe(path, store) for seed, path in present.items()}
        described["differences"] = _over_seeds(list(present.values()), Store(store))
    cleaned: Described = finite(described)
    return cleaned


def _over_seeds(runs: Sequence[Path], store: Store) -> list[dict[str, Any]]:
    """Differences between models over the runs of several seeds, stage by stage."""
    by_stage: dict[str, list[Artifact]] = {}
    for run in runs:
        artifacts, _ = load_artifacts(load_record(run), store)
        for artifact in _of_kind(artifacts, "evaluate"):
            by_stage.setdefault(artifact.stage, []).append(artifact)
    return [each for evaluations in by_stage.values() for each in differences(evaluations)]


def load_artifacts(record: RunRecord, store: Store) -> tuple[list[Artifact], list[str]]:
    """The artifacts of a run in the recipe's order, and the stages whose artifact has left the store."""
    found, missing = [], []
    for stage in record.stages:
        if (store.artifacts / stage["artifact"] / MANIFEST).exists():
            found.append(store.open(stage["artifact"], stage["name"]))
        else:
            missing.append(stage["name"])
    return found, missing


def funnel(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """[{stage, kind, rows_in, rows_kept, rejected: {reason: n}}] of the stages that keep or drop rows.

    Where there are some: verdicts {reason: n}, judges {domain: kind}, copies {input of a mix, or all: rows that a
    trainer sees}, ablation (the funnel of a filter without each of its rules, as `without_each` gives it).
    """
    return [
        {
            "stage": artifact.stage,
            "kind": artifact.manifest.kind,
            "rows_in": artifact.manifest.rows_in,
            "rows_kept": artifact.manifest.rows_kept,
            "rejected": dict(Counter(artifact.manifest.rejected).most_common()),
        }
        | ({"verdicts": verdicts} if (verdicts := _verdicts(artifact)) else {})
        | ({"judges": judges} if (judges := artifact.manifest.summary.get("judges")) else {})
        | ({"copies": copies} if (copies := _copies(artifact)) else {})
        | ({"ablation": found} if (found := ablation(artifact)) else {})
        for artifact in artifacts
        if artifact.type in FUNNEL_TYPES
    ]


def _copies(artifact: Artifact) -> dict[str, int]:
    """Rows that a trainer sees by input of a mix, of a selection behind it in all; none where each row is seen once."""
    copies = artifact.manifest.counts.get("copies", {})
    mixed = artifact.manifest.kind == "mix" or sum(copies.values()) > artifact.manifest.rows_kept
    return copies if mixed else {}


def _verdicts(artifact: Artifact) -> dict[str, int]:
    """Reason -> verdicts of a stage that judges, the most frequent first; none of any other."""
    counted = artifact.manifest.counts.get("reason", {}) if artifact.manifest.kind == "verify" else {}
    return dict(Counter(counted).most_common())


def sampling_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """[{stage, traces, tokens, asked, right, stopped, cost}] of the sample stages; None where there was none of it."""
    return [
        {
            "stage": artifact.stage,
            "traces": artifact.manifest.summary.get("traces", 0),
            "tokens": artifact.manifest.summary.get("completion_tokens", 0),
            "cost": artifact.manifest.telemetry.get("cost"),
            **{key: artifact.manifest.summary.get(key) for key in ("asked", "right", "stopped")},
        }
        for artifact in _of_kind(artifacts, "sample")
    ]


def scores_of(artifacts: Sequence[Artifact]) -> dict[str, dict[str, Score]]:
    """model -> metric -> score of every evaluate stage; with several, a metric is `<stage>/<metric>`."""
    evaluations = _of_kind(artifacts, "evaluate")
    found: dict[str, dict[str, Score]] = {}
    for artifact in evaluations:
        prefix = f"{artifact.stage}/" if len(evaluations) > 1 else ""
        for model in artifact.manifest.inputs["models"]:
            metrics = artifact.manifest.summary.get("scores", {}).get(model["name"], {})
            ordered = {
                prefix + name: metrics[name] for name in sorted(metrics, key=partial(_rank, _sets(artifact)))
            }
            found.setdefault(model["name"], {}).update(ordered)
    return found


METRICS = (
    "pass@",
    "cons@",
    "gap",
    "truncated",
    "no_answer",
    "mean_tokens",
    "mean_terminated_tokens",
    "mean_right_tokens",
    "mean_wrong_tokens",
    "mixed_language",
    "language_share",
    "reflection",
)
"""The order that metrics are shown in: a manifest keeps none."""


def _sets(artifact: Artifact) -> list[str]:
    """Names of the problems that an evaluation scores on, as the recipe orders them."""
    inputs = artifact.manifest.inputs
    return [end["name"] for slot in ("problems", "benchmarks") for end in inputs.get(slot, [])]


def _rank(sets: Sequence[str], metric: str) -> tuple[int, str, int, int, str]:
    benchmark, _, name = metric.rpartition("/")
    head, at, k = name.partition("@")
    at_set = sets.index(benchmark) if benchmark in sets else len(sets)
    place = METRICS.index(head + at) if head + at in METRICS else len(METRICS)
    return at_set, benchmark, place, int(k) if k.isdigit() else 0, name


def gamma_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Gamma as realised, [{stage, model, base, benchmark, k, value, low, high, n, samples}]."""
    return [
        {"stage": artifact.stage, **gamma}
        for artifact in _of_kind(artifacts, "evaluate")
        for gamma in artifact.manifest.summary.get("gamma", [])
    ]


def settings_of(artifacts: Sequence[Artifact]) -> dict[str, dict[str, Any]]:
    """stage -> what its scores depend on besides the models: n, temperature, max_tokens, engine, versions ..."""
    found = [*_of_kind(artifacts, "evaluate"), *_of_kind(artifacts, "screen")]
    return {artifact.stage: _settings(artifact) for artifact in found}


def _settings(artifact: Artifact) -> dict[str, Any]:
    """Those of its summary, and the library versions of the run that made it."""
    versions = artifact.manifest.telemetry.get("versions")
    found: dict[str, Any] = artifact.manifest.summary.get("settings") or {}
    return found | ({"versions": versions} if versions else {})


def screening_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """Summaries of the screen stages, [{stage, model, rl_cost, k, scores, predicted, bands, signal, go, ...}]."""
    found = []
    for artifact in _of_kind(artifacts, "screen"):
        model = artifact.manifest.inputs["model"][0]
        head = {
            "stage": artifact.stage,
            "model": model["name"],
            "rl_cost": artifact.manifest.telemetry.get("rl_cost"),
        }
        found.append(head | artifact.manifest.summary | {"settings": _settings(artifact)})
    return found


def summaries_of(artifacts: Sequence[Artifact], kind: str) -> list[dict[str, Any]]:
    """What stages of a kind found, [{stage, throughput, ...summary}], with the models in the order of the recipe.

    throughput: what was sampled in the run that made it, [{model, benchmark, tokens_per_s, ...}]; empty where not told.
    """
    return [
        {
            "stage": artifact.stage,
            "throughput": artifact.manifest.telemetry.get("throughput") or [],
            **_in_order(artifact.manifest.summary, _models(artifact)),
            "settings": _settings(artifact),
        }
        for artifact in _of_kind(artifacts, kind)
    ]


def _models(artifact: Artifact) -> list[str]:
    return [end["name"] for end in artifact.manifest.inputs.get("models", [])]


def _in_order(value: Any, models: Sequence[str]) -> Any:
    """The same JSON where keys that are models come in their order: a manifest sorts them by name."""
    if not isinstance(value, dict):
        return value
    first = [name for name in models if name in value]
    return {name: _in_order(value[name], models) for name in [*first, *(n for n in value if n not in first)]}


def warnings_of(artifacts: Sequence[Artifact]) -> list[dict[str, Any]]:
    """What stages warn of in words, with the remedy: [{stage, name, text}]."""
    return [
        {"stage": artifact.stage, "name": each.get("name", ""), "text": each.get("text", "")}
        for artifact in artifacts
        for each in artifact.manifest.summary.get("warnings") or []
    ]


def _of_kind(artifacts: Sequence[Artifact], kind: str) -> list[Artifact]:
    return [artifact for artifact in artifacts if artifact.manifest.kind == kind]


def timings(record: RunRecord) -> list[dict[str, Any]]:
    """[{stage, kind, seconds, cached}]; cached: taken from the store."""
    return [
        {"stage": each["name"], "kind": each["kind"], "seconds": each["seconds"], "cached": each["cached"]}
        for each in record.stages
    ]
