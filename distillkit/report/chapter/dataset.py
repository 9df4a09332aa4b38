"""A portrait of the traces that are left: length, difficulty, language, domain, source and model.

Read by column, so that no text is in memory.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from distillkit.grid import Grid
from distillkit.reader import View
from distillkit.report import plots
from distillkit.report.material import Figure, Material
from distillkit.report.section import Section, present
from distillkit.show.piece import visible
from distillkit.stats import BANDS, band
from distillkit.values import values_of

SHARES = {"domain": "domain", "source": "source", "model": "sampled by", "language": "language"}
"""Column -> what it is called."""
MOST = 8
"""Names of a column that are told; the rest is summed up."""


def sections(material: Material) -> Iterator[Section]:
    """One chapter on the last selection of traces, or on the last traces."""
    artifacts = [a for a in material.artifacts if a.type in ("selection", "traces")]
    views = [View.of(material.store, artifact) for artifact in artifacts[-1:]]
    if not views or not views[0].count or views[0].texts[0].type != "traces":
        return
    found = _gathered(views[0])
    rows = [
        [words, visible(name), f"{n:,}", f"{n / found['rows']:.1%}"]
        for column, words in SHARES.items()
        for name, n in _top(found["counts"][column]).items()
    ]
    yield Section(
        "portrait",
        f"What the dataset is like: {artifacts[-1].stage}",
        f"{found['rows']:,} traces of {found['problems']:,} problems"
        + (f", {sum(found['tokens']):,} tokens" if found["tokens"] else "")
        + (f"; {found['mixed']:.1%} mix languages." if found["mixed"] is not None else "."),
        present(_lengths(material, found), _difficulty(material, found)),
        Grid("the dataset", ["", "", "traces", "share"], rows, left=2),
    )


def _gathered(view: View) -> dict[str, Any]:
    """Counts over all rows of the view."""
    names = ["problem_id", "completion_tokens", *SHARES]
    rated = "problem_pass_rate" in view.fields
    measured = "measures" in view.fields
    names += ["problem_pass_rate"] if rated else []
    names += ["measures.language.mixed", "measures.language.target"] if measured else []
    counts: dict[str, Counter[str]] = {column: Counter() for column in SHARES}
    tokens: list[int] = []
    rates: dict[str, float | None] = {}
    mixed = told = rows = 0
    for shard in range(view.shards):
        values = values_of(view, shard, names)
        rows += len(values["id"])
        tokens += [n for n in values["completion_tokens"] if n is not None]
        rates |= zip(values["problem_id"], values.get("problem_pass_rate", values["problem_id"]), strict=True)
        if measured:
            targets = zip(values["measures.language.target"], values["language"], strict=True)
            values["language"] = [target or language for target, language in targets]
            told += sum(each is not None for each in values["measures.language.mixed"])
            mixed += sum(bool(each) for each in values["measures.language.mixed"])
        for column in SHARES:
            counts[column].update(str(value) for value in values[column] if value)
    return {
        "rows": rows,
        "problems": len(rates),
        "tokens": tokens,
        "rates": [rate for rate in rates.values() if rate is not None] if rated else [],
        "mixed": mixed / told if told else None,
        "counts": counts,
    }


def _top(counts: Counter[str]) -> dict[str, int]:
    """The most frequent names, and all others as one."""
    found = dict(counts.most_common(MOST))
    rest = counts.total() - sum(found.values())
    return found | ({f"{len(counts) - MOST:,} others": rest} if rest else {})


def _lengths(material: Material, found: Mapping[str, Any]) -> Figure | None:
    if not found["tokens"]:
        return None
    groups = {"kept": found["tokens"]}
    return material.figure(
        "Length of the dataset", "share of traces by tokens", plots.length_histogram, groups
    )


def _difficulty(material: Material, found: Mapping[str, Any]) -> Figure | None:
    if not found["rates"]:
        return None
    counted = Counter(band(rate) for rate in found["rates"])
    note = "problems by pass rate: never 0, rare below 0.05, hard below 0.5, even below 0.95, sure above"
    return material.figure("Difficulty", note, plots.bars, {name: counted[name] for name in BANDS})
