from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.errors import MissingError
from distillkit.spec import EXECUTION, SourceFile, Strict, canonical, digest, identity, seed_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class Inner(Strict):
    depth: int = 1
    workers: Annotated[int, EXECUTION] = 8


class Outer(Strict):
    inner: Inner = Inner()
    grader: SourceFile | None = None
    threads: Annotated[int | None, EXECUTION] = None


@given(JSON)
def test_digest_depends_on_the_value_alone(value: object) -> None:
    assert digest(value) == digest(value)
    assert len(digest(value)) == 64


@given(st.dictionaries(st.text(), st.integers(), min_size=2, max_size=6))
def test_digest_ignores_the_order_of_keys(value: dict[str, int]) -> None:
    assert canonical(value) == canonical(dict(reversed(value.items())))


def test_execution_fields_are_no_identity_at_any_depth() -> None:
    plain = identity(Outer())
    assert plain == identity(Outer(inner=Inner(workers=2), threads=4))
    assert plain != identity(Outer(inner=Inner(depth=2)))


def test_the_version_of_a_class_is_identity() -> None:
    class Later(Outer):
        VERSION = 2

    assert identity(Later()) != identity(Outer())


def test_a_source_file_is_its_bytes_not_its_name(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text("x")
    two.write_text("x")
    assert identity(Outer(grader=str(one))) == identity(Outer(grader=str(two)))
    two.write_text("y")
    assert identity(Outer(grader=str(one))) != identity(Outer(grader=str(two)))
    with pytest.raises(MissingError, match=r"three\.py: cannot be read"):
        identity(Outer(grader=str(tmp_path / "three.py")))


@pytest.mark.parametrize("value", [{1: 2}, {"a"}, float("nan"), float("inf"), object(), print, b"x"])
def test_identity_raises_on_what_has_no_stable_name(value: object) -> None:
    with pytest.raises(TypeError):
        identity(value)


def test_seed_of_is_a_seed() -> None:
    assert seed_of(1, "a") == seed_of(1, "a") != seed_of(2, "a")
    assert 0 <= seed_of("x") < 2**31
