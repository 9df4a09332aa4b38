from pathlib import Path

import pytest

from distillkit.events import Events, read_events


def test_what_is_told_is_kept_and_heard(tmp_path: Path) -> None:
    heard: list[dict] = []
    events = Events(tmp_path / "run" / "events.jsonl", heard.append)
    events.tell("stage_started", stage="own", of=3)
    found, offset = read_events(events.path)
    assert found == heard and found[0]["stage"] == "own"
    assert read_events(events.path, offset) == ([], offset)


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "one"}\n{"event": "tw')
    assert [event["event"] for event in read_events(path)[0]] == ["one"]
    Events(path).tell("three")
    assert [event["event"] for event in read_events(path)[0]] == ["one", "three"]


def test_no_file_is_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none.jsonl") == ([], 0)


def test_no_secret_is_kept_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secretvalue123")
    heard: list[dict] = []
    events = Events(tmp_path / "events.jsonl", heard.append)
    events.tell("warning", text="refused: hf_secretvalue123")
    assert "hf_secretvalue123" not in events.path.read_text() + str(heard)
    assert heard[0]["text"] == "refused: <HF_TOKEN>"
