"""What holds for every measure."""

import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from distillkit.measures import AnyMeasure, Measure
from distillkit.measures.language import Language
from distillkit.measures.python import Python
from distillkit.spec import canonical, identity
from distillkit.trace import Trace

KINDS: tuple[type[Measure], ...] = tuple(
    kind
    for kind in get_args(get_args(AnyMeasure)[0])
    if kind is not Python  # it needs a file: test_python
)


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text())
@settings(max_examples=100, deadline=None)
def test_labels_are_json_with_exactly_the_declared_keys(kind: type[Measure], text: str) -> None:
    trace = Trace("p", [], completion=text, reasoning="", response=text)
    [labels] = kind.model_validate({}).measure_all([trace])
    assert labels.keys() == kind.KEYS.keys()
    canonical(labels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recipe_names_it_by_kind(kind: type[Measure]) -> None:
    name = kind.model_fields["kind"].default
    measure = TypeAdapter(AnyMeasure).validate_python({"kind": name})
    assert isinstance(measure, kind)
    assert identity(measure)["kind"] == name


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(AnyMeasure).validate_python({"kind": "length", "unit": "tokens"})


ODD = {
    "nothing": "",
    "lone surrogates": "\ud800 a\udfff",
    "zero width": "a\u200bb\ufeff\u2060c" * 50,
    "right to left": "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 so it is 7 \u202c" * 50,
    "one word": "a" * 200_000,
    "backslashes": "\\" * 200_000,
    "blank lines": "\n" * 100_000,
    "open boxes": "\\boxed{" * 30_000,
    "thinking": "<think>" * 30_000,
    "Chinese loop": "\u7b49\u7b49\uff0c" * 30_000,
    "list": "- a\n" * 50_000,
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Language])
@pytest.mark.parametrize("name", ODD)
def test_odd_text_is_measured(kind: type[Measure], name: str) -> None:
    """Each is linear in the text: any square of these lengths would hold up the suite."""
    text = ODD[name]
    labels = kind.model_validate({}).measure(Trace("p", [], completion=text, reasoning="", response=text))
    assert labels.keys() == kind.KEYS.keys()
    assert json.loads(canonical(labels).decode("utf-8", "replace")) == labels


def test_measures_of_one_trace_do_not_depend_on_their_order() -> None:
    texts = ["Wait, \\boxed{3}? No, the answer is 4.", "# \u7b49\u7b49", "- a\n- b\n\nc d e f"]
    traces = [Trace(f"p{i}", [], f"<think>{t}</think>4", t, "4") for i, t in enumerate(texts)]
    measures = [kind.model_validate({}) for kind in KINDS]
    by_trace = [[measure.measure(trace) for measure in measures] for trace in traces]
    by_measure = [[measure.measure(trace) for trace in reversed(traces)] for measure in reversed(measures)]
    assert by_trace == [
        list(row) for row in zip(*(reversed(each) for each in reversed(by_measure)), strict=True)
    ]
