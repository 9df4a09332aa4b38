from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.measures.answers import MAX_PLACES, plain, stated


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (
            r"So the answer is 42. Wait, the answer is therefore $\boxed{43}$. **Final Answer**: 7",
            ["42", "43", "7"],
        ),
        (r"\boxed{\frac{1}{2}} then \fbox{3}", [r"\frac{1}{2}", "3"]),
        ("<answer>12</answer> and more", ["12"]),
        ("Answer: (B)", ["b"]),
        ("\u7b54\u6848\u662f 5\u3002", ["5"]),
        ("so it is\n#### 1,200\n", ["1,200"]),
        ("#### 4. Solve it", []),
        ("The answer is wrong, and the answer is not clear.", []),
        ("Put the final answer in \\boxed{}.", []),
        (r"\boxed{never closed", []),
        ("the answer was x^2 + 1, because", ["x^2+1"]),
        ("unboxed and swordboxed{4}", []),
    ],
)
def test_answers_in_order(text: str, values: list[str]) -> None:
    assert [each.value for each in stated(text)] == values


def test_offsets_are_those_of_the_text() -> None:
    text = r"First \boxed{3}, then the answer is 4."
    assert [text[each.start : each.end] for each in stated(text)] == [r"\boxed{3}", "nswer is 4"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("$42$.", "42"),
        (r"\dfrac{1}{2}", r"\frac{1}{2}"),
        (r"\text{Yes}", "yes"),
        (r"\left( 1, 2 \right)", "(1,2)"),
    ],
)
def test_dress_does_not_tell_answers_apart(one: str, other: str) -> None:
    assert plain(one) == plain(other)


def test_values_that_differ_stay_apart() -> None:
    assert len({plain(value) for value in ("1/2", "0.5", "-0.5", "x", "x^2")}) == 5


@given(st.text("\\boxed{}nswer: is12# \n"))
def test_spans_do_not_overlap(text: str) -> None:
    found = stated(text)
    assert all(a.end <= b.start for a, b in pairwise(found))
    assert all(0 <= each.start < each.end <= len(text) and each.value for each in found)


def test_a_loop_of_boxes_is_looked_at_in_part() -> None:
    assert len(stated(r"\boxed{1} " * (MAX_PLACES + 5))) == MAX_PLACES
