import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from distillkit.artifact import Artifact, Manifest, content_of, shard_of
from distillkit.errors import StageError
from distillkit.spec import digest
from distillkit.store import Store

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64()), ("telemetry", pa.string())])


ROWS = [{"id": f"p{i}/o/0", "n": i, "telemetry": "x"} for i in range(20)]


def seal(store: Store, rows: list[dict], request: str = "a", **summary: object) -> Artifact:
    with store.building("sample", digest(request), print) as writer:
        writer.summary = summary
        for shard in range(2):
            writer.write(shard, [row for row in rows if shard_of(row["id"], 2) == shard], SCHEMA)
        return store.seal(writer, Manifest("own", "sample", "traces", digest(request), ""))


def test_what_was_sealed_is_found_and_read_back(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made = seal(store, ROWS)
    found = store.find("sample", digest("a"))
    assert found is not None and found.content == made.content
    assert sorted(found.rows(), key=lambda row: row["n"]) == ROWS
    assert found.manifest.rows_kept == 20
    assert store.find("sample", digest("b")) is None


def test_content_knows_every_value(tmp_path: Path) -> None:
    changed = [*ROWS[:-1], {**ROWS[-1], "n": 99}]
    assert content_of(changed) != content_of(ROWS)
    assert seal(Store(tmp_path), ROWS).content != seal(Store(tmp_path), ROWS, "b", score=1).content


def test_equal_rows_are_equal_bytes(tmp_path: Path) -> None:
    one, two = seal(Store(tmp_path / "1"), ROWS), seal(Store(tmp_path / "2"), ROWS[::-1])
    assert [s.digest for s in one.manifest.tables["rows"]] == [s.digest for s in two.manifest.tables["rows"]]


def test_two_rows_with_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="two rows have the id p0/o/0"):
        seal(Store(tmp_path), [ROWS[0], ROWS[0]])


def test_unsealed_work_is_no_artifact_and_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.building("sample", digest("a"), print) as writer:
        writer.write(0, [row for row in ROWS if shard_of(row["id"], 2) == 0], SCHEMA)
    assert store.find("sample", digest("a")) is None
    with store.building("sample", digest("a"), print) as writer:
        assert writer.has(0) and not writer.has(1)


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest"])
def test_a_corrupt_artifact_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    made = seal(store, ROWS)
    file = made.path / made.manifest.tables["rows"][0].file
    body = file.read_bytes()
    if damage == "truncate":
        file.write_bytes(body[:-1])
    elif damage == "flip":
        file.write_bytes(body[:40] + bytes([body[40] ^ 1]) + body[41:])
    elif damage == "remove":
        file.unlink()
    else:
        (made.path / "manifest.json").write_text("{")
    with pytest.raises(StageError, match="corrupt; remove it") as caught:
        found = store.find("sample", digest("a"))
        assert found is not None
        list(found.rows())
    assert "\n" not in str(caught.value)


def test_counts_survive_a_resume(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for shard in range(2):
        with store.building("filter", digest("a"), print) as writer:
            if not writer.has(shard):
                writer.write(shard, [], SCHEMA, counts={"rejected": {"wrong": shard + 1}})
    with store.building("filter", digest("a"), print) as writer:
        made = store.seal(writer, Manifest("kept", "filter", "selection", digest("a"), ""))
    assert made.manifest.rejected == {"wrong": 3}


def test_a_second_builder_waits_and_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    heard: list[str] = []

    def second() -> None:
        with store.building("sample", digest("a"), heard.append):
            heard.append("in")

    with store.building("sample", digest("a"), print):
        thread = threading.Thread(target=second)
        thread.start()
        while not heard:
            pass
        assert heard == [f"process {os.getpid()}"]
    thread.join(10)
    assert heard[-1] == "in"


KILLED = """
import sys, time
from pathlib import Path
from distillkit.store import Store
from distillkit.spec import digest
with Store(Path(sys.argv[1])).building("sample", digest("a"), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    heard: list[str] = []
    with Store(tmp_path).building("sample", digest("a"), heard.append):
        assert heard == []
