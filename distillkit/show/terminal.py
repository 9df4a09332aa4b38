"""Single traces for a terminal: marks in colour and in braces, nothing of the text that a terminal would obey."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from distillkit.show.piece import LEAK, REFLECTION, Piece, excerpts, pieces, visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

AROUND = 120
"""Characters of context on each side of a mark."""
PLACES = 6
"""Marked places that are shown of a rejected trace."""
ENDS = 400
"""Characters of the beginning and of the end, where nothing is marked."""
STYLES = {REFLECTION: "cyan", LEAK: "bold magenta"}
FOREIGN = "bold yellow"


def render_rejected(found: Mapping[str, Any]) -> "RenderableType":
    """Rejected traces, each with its reasons and the places that speak against it."""
    from rich.console import Group
    from rich.text import Text

    counts = (
        ", ".join(f"{n:,} in {stage}" for stage, n in found["counts"].items()) or "never the first reason"
    )
    parts: list[RenderableType] = [Text(f"rejected as {found['reason']}: {counts}", style="bold")]
    for told in found["traces"]:
        parts += [Text(), *_head(told), *_excerpt(told)]
    return Group(*parts)


def render_one(told: Mapping[str, Any]) -> "RenderableType":
    """One trace whole."""
    from rich.console import Group
    from rich.text import Text

    marks = [tuple(mark) for mark in told["marks"]]
    body = [Text(f"{told['part']}:", style="bold"), styled(pieces(told["text"], marks))]
    if told["part"] == "reasoning":
        body += [Text("response:", style="bold"), Text(visible(told["response"]))]
    labels = [Text(f"{name}: {_value(value)}") for name, value in told["labels"].items() if value is not None]
    return Group(*_head(told, whole=True), *body, Text("labels:", style="bold"), *labels)


def _head(told: Mapping[str, Any], *, whole: bool = False) -> "Iterator[Text]":
    """What is known of a trace, before its text."""
    from rich.text import Text

    yield Text(visible(told["id"]), style="bold")
    for fate in told["fates"]:
        others = [each for each in fate["reasons"] if each != fate["reason"]]
        also = f"; also {', '.join(others)}" if others else ""
        said = "kept" if fate["kept"] else f"rejected as {fate['reason']}{also}"
        yield Text(visible(f"  {fate['stage']}: {said}"), style="green" if fate["kept"] else "red")
        for rule in fate["rules"]:
            yield Text(visible(f"    {rule['rule']}: it is {_value(rule['value'])}"))
    for name, verdicts in told["labels"].items():
        if name.endswith(".verdicts") and isinstance(verdicts, dict):
            yield from (_verdict(name.removesuffix(".verdicts"), *item) for item in verdicts.items())
    yield Text.assemble(("  reference: ", "bold"), _value(told["reference"]))
    if told["kept_of_cluster"]:
        yield Text(
            visible(f"  duplicate in cluster {told['cluster']}, of which {told['kept_of_cluster']} was kept")
        )
    if told["leak"]:
        yield from _leak(told, told["leak"])
    prompt = told["prompt"] if whole or len(told["prompt"]) <= ENDS else f"{told['prompt'][:ENDS]} ..."
    yield Text.assemble(("  prompt: ", "bold"), visible(prompt))


def _verdict(stage: str, name: str, verdict: Mapping[str, Any]) -> "Text":
    """What a verifier said, the answer that it read, and what else it kept."""
    from rich.text import Text

    parts = [str(verdict.get("reason"))]
    parts += [f"answer {_value(verdict['answer'])}"] if verdict.get("answer") is not None else []
    parts += [_value(verdict["detail"])] if verdict.get("detail") else []
    return Text(visible(f"  {stage}, {name}: {'; '.join(parts)}"))


def _leak(told: Mapping[str, Any], leak: Mapping[str, Any]) -> "Iterator[Text]":
    """The benchmark row and where it stands in the trace."""
    from rich.text import Text

    shared = f"{leak['words']:.0f} words in a row, {leak['share']:.0%} of it"
    yield Text(visible(f"  leaked from {leak['benchmark']}, row {leak['row']}: {shared}"))
    yield Text(visible(f"    n-gram: {leak['ngram']}"))
    text = told["prompt"] if leak["part"] == "prompt" else told["completion"]
    for place in excerpts(text, [(leak["start"], leak["end"], LEAK)], AROUND, 1):
        yield Text.assemble(f"    {leak['part']}: ", styled(place))


def _excerpt(told: Mapping[str, Any]) -> "Iterator[Text]":
    """The foreign segments of a rejected trace with their surroundings; without any, how it begins and ends."""
    from rich.text import Text

    text = told["text"]
    marks = [(start, end, mark) for start, end, mark in told["marks"] if mark != REFLECTION]
    for place in excerpts(text, marks, AROUND, PLACES):
        yield Text.assemble(("  ... ", "dim"), styled(place), (" ...", "dim"))
    if len(marks) > PLACES:
        yield Text(f"  ({len(marks):,} foreign segments in all)", style="dim")
    if not marks and len(text) > 2 * ENDS:
        yield Text.assemble(("  begins: ", "bold"), visible(text[:ENDS]))
        yield Text.assemble(("  ends:   ", "bold"), visible(text[-ENDS:]))
    elif not marks:
        yield Text.assemble((f"  {told['part']}: ", "bold"), visible(text))


def styled(found: Iterable[Piece]) -> "Text":
    """Pieces as rich text; a mark also stands in braces, for where there is no colour."""
    from rich.text import Text

    made = Text()
    for mark, text in found:
        shown = visible(text)
        made.append(f"{{{mark}: {shown}}}" if mark else shown, STYLES.get(mark, FOREIGN) if mark else "")
    return made


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(text if len(text) <= ENDS else f"{text[:ENDS]} ...")
