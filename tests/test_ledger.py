import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.engines.base import Completion
from distillkit.errors import MissingError
from distillkit.ledger import Ledger

ANY_TEXT = st.text(st.characters(codec=None), max_size=40)


def no_wait(owner):
    raise AssertionError(f"waited for {owner}")


def completion(text="hello", **other):
    return Completion(text, "stop", prompt_tokens=3, completion_tokens=2, telemetry={"engine": "x"}, **other)


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=8), ANY_TEXT, max_size=6))
def test_what_goes_in_comes_out_again(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("ledger") / "l.jsonl"
    with Ledger.alone(path, no_wait) as ledger:
        for key, text in texts.items():
            ledger.add(key, completion(text))
        assert {key: ledger[key].text for key in texts} == texts
        assert ledger.added == len(texts)
    with Ledger.alone(path, no_wait) as again:
        assert {key: again[key] for key in texts} == {key: completion(text) for key, text in texts.items()}
        assert "another" * 2 not in again


@settings(deadline=None)
@given(st.data())
def test_a_torn_tail_is_cut_and_nothing_else_is_lost(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("ledger") / "l.jsonl"
    with Ledger.alone(path, no_wait) as ledger:
        for key in "abcd":
            ledger.add(key, completion(data.draw(ANY_TEXT)))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:at])
    kept = whole[:at].count(b"\n")
    with Ledger.alone(path, no_wait) as again:
        assert [key in again for key in "abcd"] == [i < kept for i in range(4)]
        for key in "abcd"[kept:]:
            again.add(key, completion("anew"))
        assert [again[key].text for key in "abcd"[kept:]] == ["anew"] * (4 - kept)
    assert path.read_bytes().startswith(b"".join(whole.splitlines(keepends=True)[:kept]) or b"")
    assert all(json.loads(line)["key"] for line in path.read_bytes().splitlines())


def test_a_line_that_cannot_be_read_is_as_good_as_not_there(tmp_path):
    path = tmp_path / "l.jsonl"
    with Ledger.alone(path, no_wait) as ledger:
        ledger.add("a", completion("first"))
    path.write_bytes(path.read_bytes() + b'\0\0\0\n[]\n7\n{"key": "c"}\n')
    with Ledger.alone(path, no_wait) as ledger:
        assert ("a" in ledger, "c" in ledger) == (True, False)
        ledger.add("b", completion("second"))
    with Ledger.alone(path, no_wait) as ledger:
        assert (ledger["a"].text, ledger["b"].text) == ("first", "second")


def test_a_draw_remembers_what_it_found_missing(tmp_path):
    path = tmp_path / "l.jsonl"
    with Ledger.alone(path, no_wait) as ledger:
        ledger.add("a", completion())
        assert ledger.begin("one", "abc") == {"b", "c"}
        ledger.add("b", completion())
        assert ledger.begin("one", "abc") == {"b", "c"}
        assert ledger.begin("two", "abcd") == {"c", "d"}
    with Ledger.alone(path, no_wait) as ledger:
        assert ledger.begin("one", "abc") == {"b", "c"}
        assert ledger.begin("two", "abcd") == {"c", "d"}


def test_one_process_at_a_time_and_the_other_is_told(tmp_path):
    path = tmp_path / "l.jsonl"
    told, seen = threading.Event(), []

    def wait(owner):
        seen.append(owner)
        told.set()

    def other():
        with Ledger.alone(path, wait) as ledger:
            seen.append("a" in ledger)

    with Ledger.alone(path, no_wait) as ledger:
        thread = threading.Thread(target=other)
        thread.start()
        assert told.wait(30)
        ledger.add("a", completion())
    thread.join(30)
    assert seen == [f"process {os.getpid()}", True]


CHILD = """
import sys
from pathlib import Path
from distillkit.engines.base import Completion
from distillkit.ledger import Ledger
with Ledger.alone(Path(sys.argv[1]), print) as ledger:
    for i in range(10**6):
        if str(i) not in ledger:
            ledger.add(str(i), Completion(str(i) * 50, "stop"))
            print(i, flush=True)
"""


def test_sigkill_loses_nothing_that_was_finished_and_repeats_nothing(tmp_path):
    path = tmp_path / "l.jsonl"
    finished: set[str] = set()
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        try:
            finished |= {child.stdout.readline().strip() for _ in range(200)}
        finally:
            child.send_signal(signal.SIGKILL)
            finished |= {line.strip() for line in child.stdout.read().splitlines()[:-1]}
            child.wait(30)
    with Ledger.alone(path, no_wait) as ledger:
        assert len(finished) >= 800
        assert all(ledger[key].text == key * 50 for key in finished)
    keys = [json.loads(line)["key"] for line in path.read_bytes().splitlines()]
    assert len(keys) == len(set(keys))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_clear_line(tmp_path):
    ledger = Ledger(tmp_path / "l.jsonl")
    with Path("/dev/full").open("ab", buffering=0) as full:
        ledger._file = full
        with pytest.raises(MissingError, match="no disk space left"):
            ledger.add("a", completion())
