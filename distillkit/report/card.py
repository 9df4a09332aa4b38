"""Cards of published folders: YAML header and Markdown, rendered from facts that were read from manifests."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from distillkit import __version__
from distillkit.artifact import Artifact
from distillkit.comparison import differences
from distillkit.grid import Grid, grid_markdown
from distillkit.licence import header_of
from distillkit.report import template
from distillkit.show import (
    funnel_grid,
    gamma_of,
    opinions,
    score_grid,
    scores_of,
    settings_of,
    summaries_of,
)
from distillkit.show.piece import visible

SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)
"""The Hub's size categories, by the rows that they end below."""
EXAMPLE_CHARACTERS = 2000


@dataclass(frozen=True)
class Title:
    """What a publication is called."""

    repository: str
    version: str
    licence: str | None

    @property
    def short(self) -> str:
        """The name without its owner."""
        return self.repository.rpartition("/")[2]


COLUMNS = {
    "id": "problem, origin (who sampled it, and how) and number of the sample, with `/` between them",
    "problem_id": "hash of the prompt and its reference",
    "messages": "the conversation; its last message is the completion as it was sampled, `<think>` included",
    "reference": "what the answer was judged against, as JSON",
    "domain": "which verifier judged it",
    "source": "where the problem came from",
    "language": "language of the prompt, where its source names one",
    "finish_reason": "stop: the model ended by itself; length: it was cut",
    "prompt_tokens": "tokens of the rendered prompt",
    "completion_tokens": "tokens of the completion",
    "seed": "seed of the sample",
    "index": "number of the sample among those of its problem",
    "model": "who sampled it",
    "template": "how the prompt was rendered",
    "sampling": "sampling parameters, as JSON",
    "extra": "further columns of the problem's source, as JSON",
    "verdicts": "score, reason and answer by domain, as JSON",
    "score": "1 correct, 0 not, in between partial credit; null: could not be judged",
    "reason": "why it has this score",
    "answer": "the final answer that was read",
    "problem_n": "traces of the same problem and origin before any was dropped",
    "problem_pass_rate": "share of those that are right",
    "measures": "what was measured of the text, as JSON by measure",
    "cluster": "the near duplicates that it belongs to: the smallest id among them",
    "duplicate": "whether it is not the first of its cluster",
    "copies": "how often a trainer sees the row in the mix that was published",
    "similarity": "likeness to the first of its cluster (Jaccard)",
    "leak": "the benchmark row that it shares too much with, as JSON",
    "leak_weak": "a benchmark row that it shares a little with, which proves nothing, as JSON",
    "reject_stage": "the stage that dropped it",
    "reject_reason": "the first rule that it failed",
}
"""Column -> its meaning, in the words of the card; a stage's name in front of it is not part of the key."""


def front_matter(header: Mapping[str, Any]) -> str:
    """The YAML between the dashes; what is empty is left out, so a licence that nobody declared is not invented."""
    told = {key: value for key, value in header.items() if value}
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True)


def dataset_card(title: Title, facts: Mapping[str, Any], recipe: str, scores: Sequence[Artifact]) -> str:
    """The card of a dataset.

    facts: those of its manifest, and `example`: {prompt, completion}; recipe: its YAML; scores: the evaluation to show,
    if any.
    """
    example = facts["example"]
    return _render(
        "dataset_card.md.j2",
        title=title,
        header=_dataset_header(title, facts),
        facts=facts,
        glance=_glance(facts),
        origin=_origin(facts),
        funnel=untitled(funnel_grid(facts["funnel"])),
        conditions=_conditions(facts),
        leaks=_leaks(facts),
        columns=_column_table(facts["columns"]),
        example={name: fenced(example[name]) for name in ("prompt", "completion")},
        scores=_scores(scores),
        changes=_changes(facts),
        recipe=fenced(recipe, "yaml", cut=None) if recipe else "",
    )


def model_card(title: Title, facts: Mapping[str, Any], recipe: str, scores: Sequence[Artifact]) -> str:
    """The card of a model; facts: those of its manifest."""
    return _render(
        "model_card.md.j2",
        title=title,
        header=_model_header(title, facts),
        facts=facts,
        serve=_serve(title, facts),
        trained=_trainings(facts),
        origin=_origin(facts),
        funnel=untitled(funnel_grid(facts["funnel"])) if facts["funnel"] else "",
        scores=_scores(scores),
        sampled=_sampled(scores),
        changes=_changes(facts),
        recipe=fenced(recipe, "yaml", cut=None) if recipe else "",
    )


def _render(name: str, **parts: Any) -> str:
    text = template.load(name, autoescape=False).render(version_of_distillkit=__version__, **parts)
    return re.sub(r"\n{3,}", "\n\n", text)


def _dataset_header(title: Title, facts: Mapping[str, Any]) -> str:
    configs: list[dict[str, Any]] = [
        {"config_name": "default", "default": True, "data_files": _files("data")}
    ]
    if facts["rejected"]:
        configs.append({"config_name": "rejected", "data_files": _files("rejected")})
    return front_matter(
        {
            "pretty_name": title.short,
            **header_of(title.licence),
            "language": list(facts["languages"]),
            "task_categories": ["text-generation"],
            "size_categories": [next((label for bound, label in SIZES if facts["rows"] < bound), "n>100M")],
            "library_name": "distillkit",
            "tags": ["distillkit", "reasoning", "synthetic"],
            "configs": configs,
        }
    )


def _files(folder: str) -> list[dict[str, str]]:
    return [{"split": "train", "path": f"{folder}/train-*.parquet"}]


def _model_header(title: Title, facts: Mapping[str, Any]) -> str:
    first = next(iter(facts["trainings"]), {"base": "", "revision": "", "kind": ""})
    kinds = dict.fromkeys(step["kind"] for step in facts["trainings"])
    sources = [each["repository"] for each in facts["sources"] if "repository" in each]
    return front_matter(
        {
            "library_name": "transformers",
            "pipeline_tag": "text-generation",
            **header_of(title.licence),
            "base_model": first["base"].partition("@")[0] if first["revision"] else None,
            "datasets": list(dict.fromkeys([*(each["name"] for each in facts["datasets"]), *sources])),
            "tags": ["distillkit", "reasoning", *kinds],
        }
    )


def _glance(facts: Mapping[str, Any]) -> str:
    lengths = facts["lengths"]
    tokens = f"{facts['tokens']:,}" if facts["tokens"] else "not counted"
    length = ""
    if lengths:
        length = (
            f"half up to {lengths['median']:,}, 95 % up to {lengths['p95']:,}, longest {lengths['longest']:,}"
        )
    rows: list[tuple[str, Any]] = [
        ("traces", facts["rows"]),
        ("problems", f"{facts['problems']:,} ({facts['rows'] / facts['problems']:.1f} traces each)"),
        ("tokens of the completions", tokens),
        *([(f"{facts['length_unit']} of a completion", length)] if lengths else []),
        ("domains", ", ".join(f"{domain} {n:,}" for domain, n in facts["domains"].items())),
    ]
    if facts["models"]:
        rows.append(("sampled by", ", ".join(f"{name} {n:,}" for name, n in facts["models"].items())))
    if facts["languages"]:
        shares = (f"{name} {n:,} ({n / facts['rows']:.1%})" for name, n in facts["languages"].items())
        rows.append(("language", ", ".join(shares)))
    if facts["mixed_language"] is not None:
        share = facts["mixed_language"] / facts["rows"]
        rows.append(("mix languages", f"{facts['mixed_language']:,} ({share:.1%})"))
    return table(["at a glance", ""], rows, left=2)


def _origin(facts: Mapping[str, Any]) -> str:
    lines = []
    for teacher in facts["teachers"]:
        commit = f" at `{teacher['revision']}`" if teacher["revision"] else ""
        made = "".join(f", {_named(step)} trained by {step['kind']}" for step in teacher["trainings"][:1])
        made += "".join(f", then by {step['kind']}" for step in teacher["trainings"][1:])
        sampling = ", ".join(f"{name} {value:g}" for name, value in teacher["sampling"].items())
        told = "; ".join(filter(None, [sampling, teacher["stage"] and f"stage `{teacher['stage']}`"]))
        told = told or "as the rows name it"
        lines.append(f"- Teacher: `{_cell(teacher['name'])}`{commit}{made} ({told}). {_licence(teacher)}")
    for source in facts["sources"]:
        what = source["kind"].capitalize()
        lines.append(
            f"- {what}: {_cell(source['source'])}, {source['rows']:,} of them (stage `{source['stage']}`). "
            f"{_licence(source)}"
        )
    if facts.get("judges"):
        lines.append(f"- {opinions(facts['judges'])}")
    return "\n".join(lines)


def _licence(each: Mapping[str, Any]) -> str:
    return f"Its licence: {_cell(each['licence'])}." if each["licence"] else "Its licence is not known."


def _leaks(facts: Mapping[str, Any]) -> str:
    rows = [
        (f"`{each['stage']}`", name, each["on"], each["rows"], each["found"].get(name, 0))
        for each in facts["decontamination"]
        for name in dict.fromkeys([*each["against"], *each["found"]])
    ]
    return (
        table(["stage", "benchmark", "looked in", "rows searched", "rows that overlap"], rows, left=3)
        if rows
        else ""
    )


def _changes(facts: Mapping[str, Any]) -> str:
    """The changelog, the newest first."""
    return "\n".join(
        f"- **{each['version']}** " + visible(each["text"]).strip().replace("\n", "\n  ")
        for each in facts["changelog"]
    )


def _conditions(facts: Mapping[str, Any]) -> str:
    rows = [(f"`{each['stage']}`", each["condition"], each["reason"]) for each in facts["conditions"]]
    return table(["stage", "condition", "else dropped as"], rows, left=3) if rows else ""


def _serve(title: Title, facts: Mapping[str, Any]) -> dict[str, Any]:
    """How the model is served, as its last training says: {command, parser, stops}; empty where it says nothing."""
    last = facts["trainings"][-1]["summary"] if facts["trainings"] else {}
    serve: dict[str, Any] = last.get("serve") or {}
    if not serve:
        return {}
    command = re.sub(r"(?<![\w/-])MODEL(?![\w/-])", title.repository, serve["command"])
    return {**serve, "command": fenced(command, "sh", cut=None)}


def _trainings(facts: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{step['stage']}`",
            step["kind"],
            _named(step),
            step["licence"],
            step["rows"],
            step["summary"].get("steps"),
        )
        for step in facts["trainings"]
    ]
    return table(["stage", "trained by", "from", "its licence", "rows", "steps"], rows, left=4)


def _named(step: Mapping[str, Any]) -> str:
    return f"`{step['base']}`" + (f" at `{step['revision']}`" if step["revision"] else "")


def _scores(evaluations: Sequence[Artifact]) -> str:
    if not evaluations:
        return ""
    described = {
        "scores": scores_of(evaluations),
        "settings": settings_of(evaluations),
        "gamma": gamma_of(evaluations),
        "differences": differences(evaluations),
        "screening": [],
        "evaluations": summaries_of(evaluations, "evaluate"),
    }
    grid = score_grid(described)
    return f"{grid.title.capitalize()}:\n\n{untitled(grid)}"


def _sampled(evaluations: Sequence[Artifact]) -> str:
    """How the scores were sampled, in words; empty without any."""
    settings = next(iter(settings_of(evaluations).values()), None)
    if settings is None:
        return ""
    return (
        f"temperature {settings['temperature']:g}, top_p {settings['top_p']:g}, "
        f"at most {settings['max_tokens']:,} tokens"
    )


def _column_table(columns: Mapping[str, str]) -> str:
    rows = [
        (f"`{name}`", COLUMNS.get(name.rpartition(".")[2], ""), f"`{stage}`" if stage else "the text")
        for name, stage in columns.items()
    ]
    return table(["column", "meaning", "from"], rows, left=3)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], left: int) -> str:
    """A Markdown table; its first `left` columns are words, the others numbers."""
    cells = [[_cell(value) for value in row] for row in rows]
    return untitled(Grid("", list(header), cells, left=left))


def untitled(grid: Grid) -> str:
    """A grid as Markdown below a heading that says what it is."""
    return grid_markdown(grid).removeprefix(f"**{grid.title}**").strip()


def _cell(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "" if value is None else " ".join(visible(str(value)).split())


def fenced(text: str, language: str = "text", cut: int | None = EXAMPLE_CHARACTERS) -> str:
    """A text as a code block that it cannot close."""
    shown = visible(text[:cut]) + (" ..." if len(text) > len(text[:cut]) else "")
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{shown.rstrip() if cut is None else shown}\n{fence}"
