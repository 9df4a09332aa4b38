"""Rules of a filter as data: presets, rules in words, and what the funnel would be without each of them.

DeepSeek-R1 "filtered out chain-of-thought with mixed languages, long paragraphs, and code blocks" and published no
thresholds (arXiv:2501.12948v2, supplement B.3.3): every number of the presets is ours.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any, Literal

from distillkit.artifact import Artifact, Counts
from distillkit.errors import RecipeError
from distillkit.measures.readability import R1_READABLE

Preset = Literal["r1_readable", "light"]

PRESETS: dict[str, list[dict[str, Any]]] = {
    "r1_readable": [
        {"field": "measures.language.share", "min": 0.98, "reason": "mixed_language"},
        *R1_READABLE,
    ],
    "light": [
        {"field": "measures.language.share", "min": 0.9, "reason": "mixed_language"},
        {"field": "measures.readability.longest_paragraph_words", "max": 1000, "reason": "long_paragraph"},
        {"field": "measures.readability.garble", "max": 0.01, "reason": "garbled"},
        {"field": "measures.repetition.tail_loop", "max": 200, "reason": "loop"},
    ],
}
"""Name -> rules. `light` drops only what no reader and no trainer wants: code, markdown and lists stay."""

JUDGED = frozenset({"score", "verdicts"})
"""Labels of a verifier: a null there means that it could not judge."""
TESTS = (("is", "is"), ("is_not", "is not"), ("in", "is one of"), ("not_in", "is none of"))


def expanded(rules: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Declared rules, those of presets in their place."""
    return [dict(each) for rule in rules for each in PRESETS.get(rule.get("preset") or "", [rule])]


def verdicts(rule: Mapping[str, Any], values: Iterable[Any]) -> list[str | None]:
    """For each value of a rule's field the reason to drop its row, None where it passes.

    Raises:
        RecipeError: min or max is asked of a value that is no number.
    """
    wanted, refused = (
        (*rule.get(one, ()), *rule.get(many, ())) for one, many in (("is", "in"), ("is_not", "not_in"))
    )
    reason = rule["reason"]
    if wanted:
        return [None if value in wanted else reason for value in values]
    if refused:
        return [reason if value in refused else None for value in values]
    low, high = (end if rule.get(key) is None else rule[key] for key, end in (("min", -inf), ("max", inf)))
    null = "unjudged" if JUDGED & set(rule["field"].split(".")[:2]) else "unmeasured"
    found: list[str | None] = []
    for value in values:
        if value is None or value != value:
            found.append(null)
        elif isinstance(value, int | float):
            found.append(None if low <= value <= high else reason)
        else:
            raise RecipeError(f"field {rule['field']}: min and max need a number; there is {value!r:.80}")
    return found


def rule_text(rule: Mapping[str, Any]) -> str:
    """A declared rule in words: `score at least 1`."""
    if rule.get("preset"):
        return f"preset {rule['preset']}"
    parts = [
        f"{word} {rule[key]:g}"
        for key, word in (("min", "at least"), ("max", "at most"))
        if rule.get(key) is not None
    ]
    for key, word in TESTS:
        if rule.get(key):
            values = ("null" if each is None else str(each) for each in rule[key])
            parts.append(f"{word} {' or '.join(values)}")
    return f"{rule['field']} {' and '.join(parts)}"


def ablation(artifact: Artifact) -> list[dict[str, Any]]:
    """The funnel without each rule of a filter that counted it: [{rule, rows_kept, rejected: {reason: n}}]."""
    manifest = artifact.manifest
    return without_each(manifest.counts, manifest.rows_kept)


def without_each(counts: Counts, kept: int) -> list[dict[str, Any]]:
    """The same from counts: `freed` {`<n>. <rule>`: rows that it alone drops}, `dropped: <n>. <rule>` and `moved: ...`
    {reason: rows that it is the first to drop, and what would drop them next}."""
    found = []
    for key in sorted(counts.get("freed", {}), key=lambda key: int(key.partition(".")[0])):
        left = Counter(counts.get("rejected", {}))
        left.subtract(counts.get(f"dropped: {key}", {}))
        left.update(counts.get(f"moved: {key}", {}))
        found.append(
            {
                "rule": key.partition(". ")[2],
                "rows_kept": kept + counts["freed"][key],
                "rejected": dict((+left).most_common()),
            }
        )
    return found
