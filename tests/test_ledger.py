import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patience import PATIENCE_S

from distillkit import ledger as module
from distillkit.engines.base import Completion
from distillkit.errors import MissingError, StageError
from distillkit.ledger import FORMAT, Ledger, key_of

ANY_TEXT = st.text(st.characters(codec=None), max_size=40)


def key(name):
    return hashlib.blake2b(str(name).encode(), digest_size=16).hexdigest()


A, B, C, D = map(key, "abcd")


def no_wait(owner):
    raise AssertionError(f"waited for {owner}")


def completion(text="hello", **other):
    return Completion(text, "stop", prompt_tokens=3, completion_tokens=2, telemetry={"engine": "x"}, **other)


def recorded(path):
    """Keys in the order of the file."""
    return [line["key"] for line in map(json.loads, path.read_bytes().splitlines()) if "key" in line]


def written(path, *texts):
    """A closed ledger of the keys of 0, 1, ..."""
    with Ledger.alone(path, no_wait) as ledger:
        for number, text in enumerate(texts):
            ledger.add(key(number), completion(text))
    return path


def is_read_whole(path, monkeypatch):
    """Whether opening it reads all its lines."""
    read = []
    monkeypatch.setattr(module, "key_of", lambda line: read.append(line) or key_of(line))
    with Ledger.alone(path, no_wait):
        pass
    monkeypatch.undo()
    return len(read) >= len(recorded(path)) > 1


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8).map(key), ANY_TEXT, max_size=6), st.booleans())
def test_what_goes_in_comes_out_again(tmp_path_factory, texts, indexed):
    path = tmp_path_factory.mktemp("ledger") / "l.jsonl"
    with Ledger.alone(path, no_wait) as ledger:
        for each, text in texts.items():
            ledger.add(each, completion(text, error="e"))
        assert {each: ledger[each].text for each in texts} == texts
        assert ledger.added == len(texts) == len(ledger)
    if not indexed:
        path.with_suffix(".index").unlink(missing_ok=True)
    with Ledger.alone(path, no_wait) as again:
        assert {k: again[k] for k in texts} == {k: completion(text, error="e") for k, text in texts.items()}
        assert (key("another" * 2) in again, len(again)) == (False, len(texts))
        with pytest.raises(KeyError):
            again[key("another" * 2)]
    assert json.loads(path.read_bytes().splitlines()[0]) == {"ledger": FORMAT}


def test_what_is_there_already_stays_as_it_is(tmp_path):
    path = written(tmp_path / "l.jsonl", "first")
    with Ledger.alone(path, no_wait) as ledger:
        ledger.add(key(0), completion("second"))
        assert (ledger[key(0)].text, ledger.added) == ("first", 0)
    assert recorded(path) == [key(0)]


@settings(deadline=None)
@given(st.lists(ANY_TEXT, min_size=4, max_size=4), st.data())
def test_a_torn_tail_is_cut_and_nothing_else_is_lost(tmp_path_factory, texts, data):
    """Cut at any byte, with the index of all lines, of the first two, or none."""
    path = tmp_path_factory.mktemp("ledger") / "l.jsonl"
    index = path.with_suffix(".index")
    written(path, *texts[:2])
    early = index.read_bytes()
    written(path, *texts)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)) | st.integers(len(whole) - 90, len(whole)))
    path.write_bytes(whole[:at])
    kept = max(0, whole[:at].count(b"\n") - 1)
    index.write_bytes(data.draw(st.sampled_from([index.read_bytes(), early, b""])))
    with Ledger.alone(path, no_wait) as again:
        assert [key(i) in again for i in range(4)] == [i < kept for i in range(4)]
        for i in range(kept, 4):
            again.add(key(i), completion(f"anew {i}"))
    with Ledger.alone(path, no_wait) as again:
        found = [again[key(i)].text for i in range(4)]
        assert found == texts[:kept] + [f"anew {i}" for i in range(kept, 4)]
    assert path.read_bytes().startswith(whole[: whole[:at].rfind(b"\n") + 1])
    assert recorded(path) == [key(i) for i in range(4)]


@pytest.mark.parametrize("indexed", ["whole", "none"])
def test_every_byte_of_the_last_line_may_be_the_last(tmp_path, indexed):
    whole = written(tmp_path / "whole.jsonl", "one", "two").read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    for at in range(last, len(whole)):
        path = tmp_path / "l.jsonl"
        path.write_bytes(whole[:at])
        if indexed == "whole":
            path.with_suffix(".index").write_bytes((tmp_path / "whole.index").read_bytes())
        with Ledger.alone(path, no_wait) as ledger:
            assert (key(0) in ledger, key(1) in ledger) == (True, False)
        assert path.read_bytes() == whole[:last]
        path.unlink()
        path.with_suffix(".index").unlink(missing_ok=True)


def test_a_line_that_cannot_be_read_is_as_good_as_not_there(tmp_path):
    path = written(tmp_path / "l.jsonl", "first")
    body = b'"key":"' + C.encode() + b'","text":"no checksum"}\n'
    path.write_bytes(path.read_bytes() + b'\0\0\0\n[]\n7\n{"crc":"00000000",' + body + b"{" + body)
    with Ledger.alone(path, no_wait) as ledger:
        assert (key(0) in ledger, C in ledger) == (True, False)
        ledger.add(B, completion("second"))
    with Ledger.alone(path, no_wait) as ledger:
        assert (ledger[key(0)].text, ledger[B].text) == ("first", "second")


@settings(deadline=None)
@given(st.data())
def test_a_rotten_bit_is_never_read_as_good(tmp_path_factory, data):
    """Without an index its line is not there; with one it is told, and gone when the ledger is opened again."""
    path = written(tmp_path_factory.mktemp("ledger") / "l.jsonl", "one", "two", "three")
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(whole.index(b"\n") + 1, len(whole) - 2))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(whole)
    if data.draw(st.booleans()):
        path.with_suffix(".index").unlink()
    for _ in range(2):
        with Ledger.alone(path, no_wait) as ledger:
            found = {}
            for i, text in enumerate(["one", "two", "three"]):
                try:
                    found[text] = ledger[key(i)].text
                except KeyError:
                    continue
                except StageError as error:
                    assert "is damaged; run again" in str(error)
    assert all(text == name for name, text in found.items())
    assert 1 <= len(found) < 3
    with Ledger.alone(path, no_wait) as ledger:
        for i, text in enumerate(["one", "two", "three"]):
            ledger.add(key(i), completion(text))
    with Ledger.alone(path, no_wait) as ledger:
        assert [ledger[key(i)].text for i in range(3)] == ["one", "two", "three"]


def test_with_its_index_only_the_tail_is_read(tmp_path, monkeypatch):
    path = written(tmp_path / "l.jsonl", "one", "two", "three")
    assert not is_read_whole(path, monkeypatch)
    with path.open("ab") as file:
        other = written(tmp_path / "other.jsonl", "one", "two", "three", "four").read_bytes()
        file.write(other.splitlines(keepends=True)[-1])
    assert not is_read_whole(path, monkeypatch)
    with Ledger.alone(path, no_wait) as ledger:
        assert [ledger[key(i)].text for i in range(4)] == ["one", "two", "three", "four"]


@pytest.mark.parametrize(
    "harm", ["missing", "empty", "not one", "of other lines", "ahead", "of another format"]
)
def test_an_index_that_is_no_good_is_made_again(tmp_path, monkeypatch, harm):
    path = written(tmp_path / "l.jsonl", "one", "two", "three")
    index = path.with_suffix(".index")
    good = index.read_bytes()
    if harm == "missing":
        index.unlink()
    elif harm == "of other lines":
        index.write_bytes(written(tmp_path / "o.jsonl", "x" * 9, "y").with_suffix(".index").read_bytes())
    elif harm == "ahead":
        index.write_bytes(written(tmp_path / "o.jsonl", *"123456789").with_suffix(".index").read_bytes())
    else:
        index.write_bytes({"empty": b"", "not one": b"x" * 999, "of another format": b"D" + good[1:]}[harm])
    assert is_read_whole(path, monkeypatch)
    assert index.read_bytes() == good
    assert not is_read_whole(path, monkeypatch)
    with Ledger.alone(path, no_wait) as ledger:
        assert [ledger[key(i)].text for i in range(3)] == ["one", "two", "three"]


def test_many_lines_are_indexed_in_parts(tmp_path, monkeypatch):
    path = written(tmp_path / "l.jsonl", *map(str, range(50)))
    good = path.with_suffix(".index").read_bytes()
    path.with_suffix(".index").unlink()
    monkeypatch.setattr(module, "SAVE_AT", 7)
    with Ledger.alone(path, no_wait) as ledger:
        assert [ledger[key(i)].text for i in range(50)] == [str(i) for i in range(50)]
    assert path.with_suffix(".index").read_bytes() == good


def test_a_later_format_is_refused(tmp_path):
    path = tmp_path / "l.jsonl"
    path.write_text(f'{{"ledger": {FORMAT + 1}}}\n')
    with pytest.raises(StageError, match="written by a later version"), Ledger.alone(path, no_wait):
        pass


def test_a_draw_remembers_what_it_found_missing(tmp_path):
    path = tmp_path / "l.jsonl"
    with Ledger.alone(path, no_wait) as ledger:
        ledger.add(A, completion())
        assert ledger.begin("one", [A, B, C]) == {B, C}
        ledger.add(B, completion())
        assert ledger.begin("one", [A, B, C]) == {B, C}
        assert ledger.begin("two", [A, B, C, D]) == {C, D}
    for _ in range(3):
        with Ledger.alone(path, no_wait) as ledger:
            assert ledger.begin("one", [A, B, C]) == {B, C}
            assert ledger.begin("two", [A, B, C, D]) == {C, D}
            assert len(ledger) == 2
        path.with_suffix(".index").unlink(missing_ok=True)
    assert path.read_bytes().count(b'"draw"') == 2


def test_one_process_at_a_time_and_the_other_is_told(tmp_path):
    path = tmp_path / "l.jsonl"
    told, seen = threading.Event(), []

    def wait(owner):
        seen.append(owner)
        told.set()

    def other():
        with Ledger.alone(path, wait) as ledger:
            seen.append(A in ledger)

    with Ledger.alone(path, no_wait) as ledger:
        thread = threading.Thread(target=other)
        thread.start()
        assert told.wait(30)
        ledger.add(A, completion())
    thread.join(30)
    assert seen == [f"process {os.getpid()}", True]


CHILD = """
import hashlib, sys
from pathlib import Path
from distillkit.engines.base import Completion
from distillkit.ledger import Ledger
key = lambda i: hashlib.blake2b(str(i).encode(), digest_size=16).hexdigest()
with Ledger.alone(Path(sys.argv[1]), lambda owner: print(owner, file=sys.stderr)) as ledger:
    for i in range(int(sys.argv[2]), int(sys.argv[3])):
        if key(i) not in ledger:
            ledger.add(key(i), Completion(str(i) * 50, "stop"))
            print(i, flush=True)
"""


def child(path, start, end):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(start), str(end)], stdout=subprocess.PIPE, text=True
    )


def test_sigkill_loses_nothing_that_was_finished_and_repeats_nothing(tmp_path):
    path = tmp_path / "l.jsonl"
    finished: set[str] = set()
    for _ in range(4):
        process = child(path, 0, 10**6)
        try:
            finished |= {process.stdout.readline().strip() for _ in range(200)}
        finally:
            process.send_signal(signal.SIGKILL)
            finished |= {line.strip() for line in process.stdout.read().splitlines()[:-1]}
            process.wait(30)
    with Ledger.alone(path, no_wait) as ledger:
        assert len(finished) >= 800
        assert all(ledger[key(each)].text == each * 50 for each in finished)
        assert len(ledger) >= len(finished)
    assert len(recorded(path)) == len(set(recorded(path)))


def test_two_processes_write_one_after_the_other(tmp_path):
    path = tmp_path / "l.jsonl"
    processes = [child(path, 0, 300), child(path, 200, 500)]
    printed = [process.communicate(timeout=PATIENCE_S)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(map(int, printed[0] + printed[1])) == list(range(500))
    assert sorted(recorded(path)) == sorted(map(key, range(500)))


def test_the_disk_is_told_once_a_second_without_being_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SYNC_S", 0.01)
    path = tmp_path / "l.jsonl"
    with Ledger.alone(path, no_wait) as ledger:
        for name in range(3):
            ledger.add(key(name), completion())
            deadline = time.monotonic() + PATIENCE_S
            while not path.with_suffix(".index").exists() or ledger._unsaved:
                assert time.monotonic() < deadline
                time.sleep(0.005)
    assert path.with_suffix(".index").stat().st_size == 4 * 32


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_line(tmp_path):
    ledger = Ledger(tmp_path / "l.jsonl")
    with Path("/dev/full").open("ab", buffering=0) as full:
        ledger._file = full
        with pytest.raises(MissingError, match="no disk space left"):
            ledger.add(A, completion())


def test_a_sync_that_fails_stops_the_next_completion(tmp_path, monkeypatch):
    path = tmp_path / "l.jsonl"
    ledger = Ledger(path)
    ledger.add(A, completion())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(MissingError, match="no disk space left"):
        ledger.sync()
    monkeypatch.undo()
    with pytest.raises(MissingError, match="no disk space left"):
        ledger.add(B, completion())
    with pytest.raises(MissingError):
        ledger.close()
    with Ledger.alone(path, no_wait) as again:
        assert (A in again, B in again) == (True, False)
