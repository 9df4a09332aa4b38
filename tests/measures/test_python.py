from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distillkit.errors import MissingError, RecipeError
from distillkit.measures.python import MAX_LABEL_CHARS, Python, checked
from distillkit.spec import identity
from distillkit.trace import Trace

SOURCE = """
def measure(row):
    if "crash" in row["text"]:
        raise KeyError("no such thing")
    if "spin" in row["text"]:
        while True: pass
    if "bad" in row["text"]:
        return {"words": 1}
    if "nan" in row["text"]:
        return {"words": float("nan"), "tags": []}
    return {"words": len(row["text"].split()), "tags": [row["prompt"], row["reference"]]}
"""


def trace(text: str) -> Trace:
    return Trace(text[:8] or "p", [{"role": "user", "content": "q"}], text, "", text, reference="7")


@pytest.fixture
def own(tmp_path: Path) -> Python:
    file = tmp_path / "my.py"
    file.write_text(SOURCE)
    return Python(file=str(file), name="mine", keys=("words", "tags"), cpu_s=0.5)


def test_rows_that_fail_get_nulls_and_the_others_their_labels(own: Python) -> None:
    texts = ["one two", "crash", "spin", "bad", "nan", "lone \ud800 surrogate", ""]
    labels = own.measure_all([trace(text) for text in texts])
    own.close()
    nothing = {"words": None, "tags": None}
    assert labels[0] == {"words": 2, "tags": ["q", "7"]}
    assert labels[1:5] == [nothing] * 4
    assert [each["words"] for each in labels[5:]] == [3, 0]


def test_a_trial_says_what_is_wrong(own: Python) -> None:
    assert own.probe(trace("one"))["words"] == 1
    with pytest.raises(RecipeError, match=r"my\.py: measure\(\) failed on .*KeyError"):
        own.probe(trace("crash"))
    with pytest.raises(RecipeError, match="returned the keys words; declared are words, tags"):
        own.probe(trace("bad"))
    own.close()


def test_the_files_bytes_are_identity_and_its_place_is_not(own: Python, tmp_path: Path) -> None:
    copy = tmp_path / "copy.py"
    copy.write_text(SOURCE)
    same = own.model_copy(update={"file": str(copy), "workers": 3})
    assert identity(same) == identity(own)
    copy.write_text(SOURCE + "\n")
    assert identity(same) != identity(own)


def test_what_can_be_refused_without_running_it(own: Python, tmp_path: Path) -> None:
    own.check()
    assert own.foreign() == [f"runs measure() of {own.file}"]
    with pytest.raises(MissingError, match="no such file"):
        own.model_copy(update={"file": str(tmp_path / "gone.py")}).check()
    with pytest.raises(RecipeError, match="defines no function 'grade'"):
        own.model_copy(update={"function": "grade"}).check()
    with pytest.raises(RecipeError, match="not Python"):
        (tmp_path / "bad.py").write_text("def measure(:")
        own.model_copy(update={"file": str(tmp_path / "bad.py")}).check()


@pytest.mark.parametrize(
    "change", [{"keys": []}, {"keys": ["a.b"]}, {"name": "Mine"}, {"cpu_s": 0}, {"workers": 0}]
)
def test_bad_declarations(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Python.model_validate({"file": "my.py", "keys": ["a"], **change})


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned NoneType; return a dict"),
        ({"a": 1, "b": 2}, "returned the keys a, b"),
        ({"a": {1, 2}}, "returned set as a"),
        ({"a": [float("inf")]}, "returned inf as a"),
        ({"a": {1: 2}}, "returned dict as a"),
        ({"a": "x" * (MAX_LABEL_CHARS + 1)}, "labels of one row may have"),
        ({"a": b"x"}, "returned bytes as a"),
    ],
)
def test_returned_values_that_are_no_labels(returned: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        checked(returned, ["a"])


def test_any_json_is_a_label() -> None:
    labels = {"a": [None, True, 1, 0.5, "x", {"k": [1]}]}
    assert checked(labels, ["a"]) == labels
