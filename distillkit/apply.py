"""`distillkit apply`: one row stage on a file, without a recipe.

The rows become a text artifact of a throw-away store, label columns that are already there one label
artifact beside it, and the stage runs as it would in a recipe.
"""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillkit.artifact import Artifact, Manifest, Row
from distillkit.document import Place, assign
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.lock import Lock
from distillkit.recipe import validated
from distillkit.runner import external_benchmark
from distillkit.spec import canonical, digest
from distillkit.stages import AnyStage
from distillkit.stages.base import LABELS, SELECTION, TRACES, Input, Job, write_shards
from distillkit.stages.decontaminate import Decontaminate
from distillkit.store import Store
from distillkit.text import split_think
from distillkit.trace import JSON_COLUMNS, Message, Trace, problem_id, to_row, trace_schema
from distillkit.verifiers import AnyVerifier
from distillkit.wiring import check_benchmark

APPLICABLE = ("verify", "measure", "dedup", "decontaminate", "filter", "select")
NEEDED = ("prompt", "completion")
LABEL_COLUMNS = (
    "score", "reason", "answer", "verdicts", "problem_n", "problem_pass_rate",
    "measures", "cluster", "duplicate", "similarity", "leak", "leak_weak",
)  # fmt: skip
TEXTS, COUNTS = ("source", "language", "finish_reason", "model"), ("prompt_tokens", "completion_tokens")
"""Further columns that a stage may read, where they hold text and whole numbers."""
GIVEN = ("kind", "name", "input", "labels")
"""Keys of a stage that the command line gives."""
SHARDS = 4


@dataclass
class _File:
    """The rows of a file, and the trace in each that has one."""

    rows: list[Row]
    traces: dict[int, Trace]
    refused: dict[int, str]
    """Row number -> why it cannot be a trace."""
    dropped: dict[int, str]
    """Row number -> why an earlier step dropped it."""


def apply(
    kind: str,
    source: Path,
    target: Path,
    sets: Sequence[str] = (),
    domain: str = "math",
    *,
    trust: bool = False,
) -> dict[str, int]:
    """Run a row stage over a jsonl or parquet file; returns {"rows", "labelled" or "kept", "refused": n}.

    The output has one row per input row, in order, with the labels added (`kept` and `reject_reason` for
    filter and select). A row without a prompt or completion is there too, with a reason; filter and select
    leave what an earlier step dropped as it is ("dropped before" counts those).

    Raises:
        RecipeError: an unknown kind, key, ending or missing column.
        MissingError: no such file, or no folder for the output.
        StageError: no row that can be read.
    """
    if target.suffix not in (".jsonl", ".parquet"):
        raise RecipeError(f"{target}: the output ends in .jsonl or .parquet")
    if not target.parent.is_dir():
        raise MissingError(f"{target}: no such folder; make it or give another place with -o")
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
    judges = {domain: {"kind": "math" if domain == "math" else "exact"}}
    data = {"name": "apply", "verifiers": judges, "stages": [{"name": kind, "kind": kind}]}
    sources: dict[Place, str] = {(): f"apply {kind}"}
    for assignment in sets:
        root = assignment.partition("=")[0].split(".")[0]
        if root in GIVEN:
            raise RecipeError(f"--set {assignment}: {root} is given by the command itself; leave it out")
        place = assign(data, assignment, () if root == "verifiers" else ("stages", kind))
        sources[place] = f"--set {assignment}"
    recipe = validated(data, sources)
    return recipe.stage(kind), recipe.verifiers


def read_rows(path: Path) -> tuple[list[Row], dict[int, str]]:
    """Rows of a jsonl or parquet file; a line that is no JSON object is an empty row with a reason."""
    if path.suffix not in (".jsonl", ".parquet"):
        raise RecipeError(f"{path}: the input ends in .jsonl or .parquet")
    if not path.is_file():
        raise MissingError(f"{path}: no such file; give a .jsonl or .parquet file")
    return (_parquet_rows(path), {}) if path.suffix == ".parquet" else _jsonl_rows(path)


def _parquet_rows(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StageError(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]})") from None
    return rows


def _jsonl_rows(path: Path) -> tuple[list[Row], dict[int, str]]:
    rows: list[Row] = []
    refused: dict[int, str] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in filter(str.strip, file):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                refused[len(rows)] = "unreadable"
            rows.append(row if isinstance(row, dict) else {})
    return rows, refused


def _read(path: Path, domain: str, *, selects: bool) -> _File:
    rows, refused = read_rows(path)
    if len(refused) == len(rows):
        raise StageError(f"{path}: no rows that could be read; give one JSON object per line")
    known = {column for row in rows for column in row}
    missing = [
        column
        for column in NEEDED
        if column not in known and not (column == "prompt" and "messages" in known)
    ]
    if missing:
        hint = "; a traces stage reads whole conversations (preset: messages)" if "messages" in known else ""
        raise RecipeError(
            f"{path}: no column {', '.join(missing)}; there are {', '.join(sorted(known))}{hint}"
        )
    traces, dropped = dict[int, Trace](), dict[int, str]()
    for index, row in enumerate(rows):
        if selects and row.get("kept") is False:
            dropped[index] = row.get("reject_reason") or "dropped_before"
        elif index not in refused:
            found = _trace(row, index, domain)
            if isinstance(found, Trace):
                traces[index] = found
            else:
                refused[index] = row.get("reject_reason") or found
    return _File(rows, traces, refused, dropped)


def _trace(row: Row, index: int, domain: str) -> Trace | str:
    """The trace in a row, or the reason why there is none."""
    messages, completion, reference = _messages(row), row.get("completion"), row.get("reference")
    if messages is None or not isinstance(completion, str):
        return "incomplete"
    texts = {name: row[name] for name in TEXTS if isinstance(row.get(name), str)}
    counts = {name: row[name] for name in COUNTS if type(row.get(name)) is int and 0 <= row[name] < 2**31}
    try:
        canonical([messages, completion, reference, texts]).decode()  # what no file can hold
    except (ValueError, TypeError, RecursionError):
        return "unreadable"
    reasoning, response = split_think(completion)
    return Trace(
        problem_id=problem_id(messages, reference),
        messages=messages,
        completion=completion,
        reasoning=reasoning,
        response=response,
        reference=reference,
        domain=str(row.get("domain") or domain),
        index=index,
        origin="file",
        **texts,
        **counts,
    )


def _messages(row: Row) -> list[Message] | None:
    """The messages of a row, or its prompt as one; None where it has neither."""
    given = row.get("messages") or row.get("prompt")
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    found = []
    for each in given if isinstance(given, list) else []:
        match each:
            case {"role": str(role), "content": str(content)}:
                found.append({"role": role, "content": content})
            case _:
                return None
    return found or None


def _run(stage: AnyStage, verifiers: dict[str, AnyVerifier], file: _File, store: Store) -> dict[int, Row]:
    """Labels by row number."""
    text = _sealed(store, "traces", TRACES, [to_row(trace) for trace in file.traces.values()], trace_schema())
    inputs = {"input": [_input(text)], "labels": []}
    if isinstance(stage, Decontaminate):
        inputs["against"] = _benchmarks(stage)
    present = _present_labels(file)
    if present is not None:
        inputs["labels"] = [_input(_sealed(store, "file", LABELS, *present))]
    with store.building(stage.kind, digest("applied"), lambda _: None) as writer:
        job = Job(store, writer, inputs, shards=SHARDS, verifiers=verifiers)
        try:
            stage.run(job)
        except StageError:
            if not all(writer.has(shard) for shard in range(SHARDS)):
                raise  # else nothing is left, which the rows say one by one
        draft = Manifest(stage.name, stage.kind, stage.MAKES, digest("applied"), "", inputs={})
        made = store.seal(writer, draft)
    found = {row.pop("id"): row for row in made.rows()}
    return {index: found[trace.id] for index, trace in file.traces.items() if trace.id in found}


def _benchmarks(stage: Decontaminate) -> list[Input]:
    """The built-in benchmarks that it names, as the Hub has them now."""
    names = [each for each in stage.against if isinstance(each, str)]
    for name in names:
        check_benchmark(name, "apply decontaminate: against")
    return [external_benchmark(name, Lock(None)) for name in names]


def _present_labels(file: _File) -> tuple[list[Row], Any] | None:
    """Label columns of the file as rows of one label artifact."""
    import pyarrow as pa

    columns = [name for name in LABEL_COLUMNS if any(name in file.rows[index] for index in file.traces)]
    if not columns:
        return None
    rows = [
        {"id": trace.id} | {name: _as_text(name, file.rows[index].get(name)) for name in columns}
        for index, trace in file.traces.items()
    ]
    try:
        return rows, pa.Table.from_pylist(rows).schema
    except pa.ArrowException as error:
        raise RecipeError(f"label columns ({', '.join(columns)}): not of one type each ({error})") from None


def _as_text(name: str, value: Any) -> Any:
    """The value as an artifact holds it: JSON columns as text."""
    return json.dumps(value) if name in JSON_COLUMNS and not isinstance(value, str | None) else value


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
            added["reject_reasons"] = added.pop("reasons", [])
            added.pop("copies", None)
            added.setdefault("kept", False)
        reason = file.refused.get(index) or file.dropped.get(index)
        if reason is not None:
            added = ({"kept": False} if selects else {}) | {"reject_reason": reason}
        rows.append(row | added)
    _write_rows(rows, target)
    came = {"kept": sum(1 for row in rows if row["kept"])} if selects else {"labelled": len(labels)}
    before = {"dropped before": len(file.dropped)} if file.dropped else {}
    return {"rows": len(rows), **came, **before, "refused": len(file.refused)}


def _write_rows(rows: list[Row], target: Path) -> None:
    """Write the whole file or none; raises MissingError where it cannot be written."""
    temporary = target.with_name(f"{target.name}.part")
    try:
        _write_jsonl(rows, temporary) if target.suffix == ".jsonl" else _write_parquet(rows, temporary)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise MissingError(
            f"{target}: cannot be written ({error.strerror}); give another place with -o"
        ) from None


def _write_jsonl(rows: list[Row], path: Path) -> None:
    """One JSON object per line; a lone surrogate is written as its escape, NaN as null."""
    with path.open("w", encoding="utf-8", errors="backslashreplace") as out:
        for row in rows:
            out.write(json.dumps(_finite(row), ensure_ascii=False, default=str) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_parquet(rows: list[Row], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    pq.write_table(pa.table({name: _column([row.get(name) for row in rows]) for name in names}), path)


def _column(values: list[Any]) -> Any:
    """An Arrow array of the values; text, and JSON of what is no text, where Parquet has no one type for them."""
    import pyarrow as pa

    try:
        found = pa.array(values)
        if "struct<>" not in str(found.type):
            return found
    except (pa.ArrowException, UnicodeError, OverflowError):
        pass
    texts = [each if isinstance(each, str | None) else json.dumps(each, default=str) for each in values]
    return pa.array([each and each.encode("utf-8", "backslashreplace").decode() for each in texts])
