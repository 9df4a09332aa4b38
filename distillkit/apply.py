"""`distillkit apply`: one row stage on a file, without a recipe.

The rows become a text artifact of a throw-away store, label columns that are already there one label
artifact beside it, and the stage runs as it would in a recipe.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from distillkit.artifact import Artifact, Manifest, Row, Store
from distillkit.errors import MissingError, RecipeError
from distillkit.recipe import parse_value
from distillkit.spec import digest
from distillkit.stages import AnyStage
from distillkit.stages.base import LABELS, SELECTION, TRACES, Input, Job, write_shards
from distillkit.text import split_think
from distillkit.trace import JSON_COLUMNS, Trace, problem_id, to_row, trace_schema
from distillkit.verifiers import AnyVerifier

APPLICABLE = ("verify", "measure", "dedup", "filter", "select")
NEEDED = ("prompt", "completion")
LABEL_COLUMNS = (
    "score", "reason", "answer", "verdicts", "problem_n", "problem_pass_rate",
    "measures", "cluster", "duplicate", "similarity", "leak",
)  # fmt: skip
SHARDS = 4


@dataclass
class _File:
    """The rows of a file, and the trace in each that has one."""

    rows: list[Row]
    traces: dict[int, Trace]
    refused: dict[int, str]
    """Row number -> why it cannot be a trace, or was dropped by an earlier step."""


def apply(
    kind: str,
    source: Path,
    target: Path,
    sets: Sequence[str] = (),
    domain: str = "math",
    *,
    trust: bool = False,
) -> dict[str, int]:
    """Run a row stage over a jsonl or parquet file; returns {"rows", "labelled" or "kept", "refused"}.

    The output has one row per input row, in order, with the labels added (`kept` and `reject_reason` for
    filter and select). A row without a prompt or completion is there too, with a reason; filter and select
    leave what an earlier step dropped as it is.

    Raises:
        RecipeError: an unknown kind, key, ending or missing column.
        MissingError: no such file.
    """
    if target.suffix not in (".jsonl", ".parquet"):
        raise RecipeError(f"{target}: the output ends in .jsonl or .parquet")
    stage, verifiers = _declared(kind, sets, domain)
    phrases = [*stage.foreign(), *(phrase for v in verifiers.values() for phrase in v.foreign())]
    if phrases and not trust:
        raise RecipeError(
            f"apply {kind}: runs code of its author ({'; '.join(phrases)}); add --trust if you trust it"
        )
    stage.check(Path.cwd())
    selects = stage.MAKES == SELECTION
    file = _read(source, domain, selects=selects)
    with tempfile.TemporaryDirectory(prefix="distillkit-") as folder:
        labels = _run(stage, verifiers, file, Store(Path(folder)))
    return _write(target, file, labels, selects=selects)


def _declared(kind: str, sets: Sequence[str], domain: str) -> tuple[AnyStage, dict[str, AnyVerifier]]:
    if kind not in APPLICABLE:
        raise RecipeError(f"apply {kind}: no row stage of that kind; there are {', '.join(APPLICABLE)}")
    fields: dict[str, Any] = {"kind": kind, "name": "applied"}
    judges: dict[str, Any] = {domain: {"kind": "math" if domain == "math" else "exact"}}
    for assignment in sets:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise RecipeError(f"--set {assignment}: write KEY=VALUE")
        root, *keys = key.split(".")
        here = judges if root == "verifiers" else fields
        *path, last = keys if root == "verifiers" else [root, *keys]
        for each in path:
            here = here.setdefault(each, {})
        here[last] = parse_value(text)
    try:
        stage: AnyStage = TypeAdapter(AnyStage).validate_python(fields)
        return stage, TypeAdapter(dict[str, AnyVerifier]).validate_python(judges)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(
            f"apply {kind}: {'.'.join(map(str, first['loc'][1:]))}: {first['msg'].lower()}"
        ) from None


def read_rows(path: Path) -> tuple[list[Row], dict[int, str]]:
    """Rows of a jsonl or parquet file; a line that is no JSON object is an empty row with a reason."""
    if not path.exists():
        raise MissingError(f"{path}: no such file; give a .jsonl or .parquet file")
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(path).to_pylist(), {}
        except pa.ArrowInvalid as error:
            raise RecipeError(f"{path}: not a Parquet file ({str(error).splitlines()[0]})") from None
    if path.suffix != ".jsonl":
        raise RecipeError(f"{path}: the input ends in .jsonl or .parquet")
    rows: list[Row] = []
    refused: dict[int, str] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in filter(str.strip, file):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                refused[len(rows)] = "unreadable"
            rows.append(row if isinstance(row, dict) else {})
    return rows, refused


def _read(path: Path, domain: str, *, selects: bool) -> _File:
    rows, refused = read_rows(path)
    if len(refused) == len(rows):
        raise RecipeError(f"{path}: no rows that could be read")
    known = {column for row in rows for column in row}
    missing = [
        column
        for column in NEEDED
        if column not in known and not (column == "prompt" and "messages" in known)
    ]
    if missing:
        raise RecipeError(f"{path}: no column {', '.join(missing)}; there are {', '.join(sorted(known))}")
    traces = {}
    for index, row in enumerate(rows):
        if selects and row.get("kept") is False:
            refused[index] = row.get("reject_reason") or "dropped_before"
        elif index not in refused and not _complete(row):
            refused[index] = row.get("reject_reason") or "incomplete"
        elif index not in refused:
            traces[index] = _trace(row, index, domain)
    return _File(rows, traces, refused)


def _complete(row: Row) -> bool:
    return isinstance(row.get("completion"), str) and bool(
        row.get("messages") or isinstance(row.get("prompt"), str)
    )


def _trace(row: Row, index: int, domain: str) -> Trace:
    reasoning, response = split_think(row["completion"])
    messages = row.get("messages") or [{"role": "user", "content": row["prompt"]}]

    optional = {
        name: row[name]
        for name in ("source", "language", "finish_reason", "prompt_tokens", "completion_tokens", "model")
        if row.get(name) is not None
    }
    return Trace(
        problem_id=problem_id(messages, row.get("reference")),
        messages=messages,
        completion=row["completion"],
        reasoning=reasoning,
        response=response,
        reference=row.get("reference"),
        domain=row.get("domain") or domain,
        index=index,
        origin="file",
        **optional,
    )


def _run(stage: AnyStage, verifiers: dict[str, AnyVerifier], file: _File, store: Store) -> dict[int, Row]:
    """Labels by row number."""
    text = _sealed(store, "traces", TRACES, [to_row(trace) for trace in file.traces.values()], trace_schema())
    inputs = {"input": [_input(text)], "labels": []}
    present = _present_labels(file)
    if present is not None:
        inputs["labels"] = [_input(_sealed(store, "file", LABELS, *present))]
    with store.building(stage.kind, digest("applied"), lambda _: None) as writer:
        job = Job(store, writer, inputs, shards=SHARDS, verifiers=verifiers)
        stage.run(job)
        draft = Manifest(stage.name, stage.kind, stage.MAKES, digest("applied"), "", inputs={})
        made = store.seal(writer, draft)
    found = {row.pop("id"): row for row in made.rows()}
    return {index: found[trace.id] for index, trace in file.traces.items() if trace.id in found}


def _present_labels(file: _File) -> tuple[list[Row], Any] | None:
    """Label columns of the file as rows of one label artifact."""
    import pyarrow as pa

    columns = [name for name in LABEL_COLUMNS if any(name in file.rows[index] for index in file.traces)]
    if not columns:
        return None
    rows = [
        {"id": trace.id}
        | {
            name: json.dumps(value) if name in JSON_COLUMNS and not isinstance(value, str | None) else value
            for name in columns
            for value in [file.rows[index].get(name)]
        }
        for index, trace in file.traces.items()
    ]
    return rows, pa.Table.from_pylist(rows).schema


def _sealed(store: Store, kind: str, type_: str, rows: list[Row], schema: Any) -> Artifact:
    request = digest([kind, "applied"])
    with store.building(kind, request, lambda _: None) as writer:
        write_shards(Job(store, writer, {}, shards=SHARDS), rows, schema)
        return store.seal(writer, Manifest(kind, kind, type_, request, ""))


def _input(artifact: Artifact) -> Input:
    return Input(artifact.stage, artifact.type, artifact.content, artifact=artifact.path.name)


def _write(target: Path, file: _File, labels: dict[int, Row], *, selects: bool) -> dict[str, int]:
    rows = []
    for index, row in enumerate(file.rows):
        added = {
            k: json.loads(v) if k in JSON_COLUMNS and isinstance(v, str) else v
            for k, v in labels.get(index, {}).items()
        }
        if selects:
            added["reject_reason"] = added.pop("reason", None)
            added.setdefault("kept", False)
        if index in file.refused:
            added = ({"kept": False} if selects else {}) | {"reject_reason": file.refused[index]}
        rows.append(row | added)
    if target.suffix == ".jsonl":
        with target.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(dict.fromkeys(name for row in rows for name in row))
        pq.write_table(
            pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]), target
        )
    if selects:
        return {
            "rows": len(rows),
            "kept": sum(1 for row in rows if row["kept"]),
            "refused": len(file.refused),
        }
    return {"rows": len(rows), "labelled": len(labels), "refused": len(file.refused)}
