"""How long a page takes, how much memory, and how fast it answers a key, by the traces in the run.

    python scripts/bench_report.py                     # 5,000 and 50,000 traces of about 8,000 characters
    python scripts/bench_report.py --traces 2000 --characters 2000

The run is sealed directly (traces, verdicts, measures, a selection, an evaluation of two models): what is timed is the
page. Each size is written in a process of its own, first with no figure in the store, then again. With Chromium and
Playwright there, every interaction is timed from its event to the second frame behind it.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from distillkit.artifact import Artifact, Manifest, Row, shard_of
from distillkit.run_folder import RunFolder, RunRecord
from distillkit.scoring import verdict_schema
from distillkit.store import Store
from distillkit.trace import Trace, to_row, trace_schema

SHARDS = 16
PER_PROBLEM = 4
WORDS = [f"word{n}" for n in range(3000)] + [r"$\frac{1}{2} x^2$", r"\(a_1 + b\)", "所以", "wait", "\n"]
KEYS = ("w", "wo", "word1", "word12", "word123", "frac", "zzz", "")


def main() -> None:
    """Parse the command line, or be the child that writes one page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--traces", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--characters", type=int, default=8_000)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _write_page(given.child)
        return
    rows = [_measured(n, given.characters) for n in given.traces]
    print(f"\n{given.characters:,} characters each, {SHARDS} shards, {PER_PROBLEM} traces per problem")
    print(
        "| traces | text, MB | first page, s | again, s | CPU of it, s | peak memory, MB | page, MB "
        "| slowest interaction, ms |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def _measured(n: int, characters: int) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        run = _make_run(store, n, characters)
        text_mb = sum(file.stat().st_size for file in store.root.rglob("*.parquet")) / 1e6
        first, again = (_child(run) for _ in range(2))
        page = run / "report.html"
        slowest = _slowest_ms(page)
        return [
            f"{n:,}",
            f"{text_mb:,.0f}",
            f"{first['seconds']:.1f}",
            f"{again['seconds']:.1f}",
            f"{again['cpu_s']:.1f}",
            f"{max(first['memory_mb'], again['memory_mb']):,.0f}",
            f"{page.stat().st_size / 1e6:.2f}",
            slowest,
        ]


def _child(run: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", str(run)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def _write_page(run: Path) -> None:
    started = time.perf_counter()
    from distillkit.report.page import write_report

    write_report(run, Store(run.parents[2]))
    status = Path("/proc/self/status").read_text("utf-8")  # ru_maxrss would count the parent before exec
    memory_mb = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "cpu_s": time.process_time(), "memory_mb": memory_mb}))


TIMED = """async ([id, value, event]) => {
    const control = document.getElementById(id);
    const frame = () => new Promise(done => requestAnimationFrame(done));
    await frame();
    const started = performance.now();
    if (event === 'click') control.click();
    else { control.value = value; control.dispatchEvent(new Event(event)); }
    await frame();
    document.body.offsetHeight;
    return performance.now() - started;
}"""


def _slowest_ms(page: Path) -> str:
    """The slowest of some keys, filters and clicks; a dash without a browser."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "-"
    import shutil

    path = shutil.which("chromium")
    if path is None:
        return "-"
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.goto(page.as_uri())
        actions = [["search", key, "input"] for key in KEYS]
        actions += [["reason", "wrong (stage kept)", "change"], ["reason", "", "change"]]
        actions += [["more", "", "click"]] * 3
        times = [(tab.evaluate(TIMED, action), action) for action in actions]
        browser.close()
    slowest, action = max(times)
    print(f"  {', '.join(f'{took:.0f}' for took, _ in times)} ms", file=sys.stderr)
    return f"{slowest:.0f} ({action[0]} {action[1]})".replace(" )", ")")


def _make_run(store: Store, n: int, characters: int) -> Path:
    chance = random.Random(17)
    pieces = [_text(chance, characters // 8) for _ in range(2_000)]
    traces = _sealed(
        store, "sample", "traces", {"rows": (_traces(n, pieces, chance, "student"), trace_schema())}, {}
    )
    ids = [row["id"] for row in traces.rows(columns=["id"])]
    import pyarrow as pa

    labels = pa.schema([("id", pa.string()), ("score", pa.float64()), ("reason", pa.string())])
    selection = pa.schema([("id", pa.string()), ("kept", pa.bool_()), ("reason", pa.string())])
    measures = pa.schema([("id", pa.string()), ("measures", pa.string())])
    source = {"input": [_end(traces)]}
    judged = _sealed(store, "verify", "labels", {"rows": (_verdicts(ids), labels)}, source)
    measured = _sealed(store, "measure", "labels", {"rows": (_measures(ids), measures)}, source)
    kept = _sealed(
        store,
        "filter",
        "selection",
        {"rows": (_fates(ids), selection)},
        source | {"labels": [_end(judged), _end(measured)]},
    )
    models = {"models": [{"name": name, "type": "weights", "content": name} for name in ("base", "student")]}
    half = max(PER_PROBLEM, n // 10)
    answers = [row for name in ("base", "student") for row in _traces(half, pieces, chance, name)]
    verdicts = [
        {"id": row["id"], "model": row["model"], "benchmark": "heldout", "score": 1.0, "reason": "correct"}
        for row in answers
    ]
    tables: dict[str, Any] = {
        "completions": (answers, trace_schema()),
        "verdicts": (verdicts, verdict_schema("model", "benchmark")),
    }
    scores = _sealed(store, "evaluate", "scores", tables, models)
    folder = RunFolder(store.root / "runs" / "big" / "1", RunRecord("big", 1, "done"))
    folder.path.mkdir(parents=True)
    for artifact, name in zip(
        (traces, judged, measured, kept, scores),
        ("traces", "judged", "measured", "kept", "scores"),
        strict=True,
    ):
        folder.add(name, artifact.manifest.kind, artifact, cached=False, seconds=1.0)
    folder.save()
    return folder.path


def _text(chance: random.Random, characters: int) -> str:
    words: list[str] = []
    while sum(map(len, words)) + len(words) < characters:
        words += chance.choices(WORDS, k=20)
    return " ".join(words)[:characters]


def _traces(n: int, pieces: list[str], chance: random.Random, model: str) -> Iterator[Row]:
    for at in range(n):
        thought = " ".join(chance.choices(pieces, k=8))
        yield to_row(
            Trace(
                problem_id=f"{at // PER_PROBLEM:016x}",
                messages=[{"role": "user", "content": f"Problem {at // PER_PROBLEM}: what is $x^2$?"}],
                completion=f"<think>{thought}</think>{at}",
                reasoning=thought,
                response=str(at),
                index=at % PER_PROBLEM,
                origin=f"{model:o<12}",
                model=model,
                completion_tokens=1000 + at % 700,
                reference=str(at),
            )
        )


def _verdicts(ids: list[str]) -> Iterator[Row]:
    for at, id in enumerate(ids):
        right = at % 3 > 0
        yield {"id": id, "score": float(right), "reason": "correct" if right else "wrong"}


def _measures(ids: list[str]) -> Iterator[Row]:
    foreign = [{"start": 5, "end": 10, "language": "zh"}]
    language = {"share": 0.9, "mixed": True, "foreign": foreign}
    for id in ids:
        yield {"id": id, "measures": json.dumps({"language": language, "reflection": {"positions": [20]}})}


def _fates(ids: list[str]) -> Iterator[Row]:
    for at, id in enumerate(ids):
        why = None if at % 3 else ("wrong", "mixed_language", "truncated")[at // 3 % 3]
        yield {"id": id, "kept": why is None, "reason": why}


def _sealed(
    store: Store, kind: str, type: str, tables: dict[str, tuple[Iterable[Row], Any]], inputs: dict[str, Any]
) -> Artifact:
    """An artifact of these tables, under its kind's name as the stage."""
    name = {"sample": "traces", "verify": "judged", "measure": "measured", "filter": "kept"}.get(
        kind, "scores"
    )
    with store.building(kind, kind.ljust(16, "0"), print) as out:
        for table, (rows, schema) in tables.items():
            buckets: dict[int, list[Row]] = {shard: [] for shard in range(SHARDS)}
            for row in rows:
                buckets[shard_of(row["id"], SHARDS)].append(row)
            for shard, held in buckets.items():
                out.write(shard, held, schema, table)
        artifact = store.seal(out, Manifest(name, kind, type, kind.ljust(16, "0"), "", inputs=inputs))
    artifact.stage = name
    return artifact


def _end(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.stage,
        "type": artifact.type,
        "content": artifact.content,
        "artifact": artifact.path.name,
    }


if __name__ == "__main__":
    main()
