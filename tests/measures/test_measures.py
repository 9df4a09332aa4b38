"""What holds for every measure."""

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from distillkit.measures import AnyMeasure, Measure
from distillkit.spec import canonical, identity
from distillkit.trace import Trace

KINDS: tuple[type[Measure], ...] = get_args(get_args(AnyMeasure)[0])


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
