"""Chains: right answers, splits that never meet, honest limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.errors import RecipeError
from distillkit.toy.problems import answer, generate, split_of

CHAIN = st.tuples(
    st.integers(0, 9), st.lists(st.tuples(st.sampled_from("+-"), st.integers(0, 9)), min_size=1, max_size=11)
).map(lambda parts: " ".join([str(parts[0]), *(f"{sign} {digit}" for sign, digit in parts[1])]))


@given(CHAIN)
def test_answer_is_the_sum_modulo_10(chain: str) -> None:
    assert answer(chain) == eval(chain) % 10  # a chain of digits, + and -: Python reads it as we do


def test_worked_example() -> None:
    assert answer("8 + 2 - 2 + 8 - 5") == 1


def test_problems_carry_what_a_trace_needs() -> None:
    for problem in generate(60, seed=1, split="heldout"):
        chain = problem.prompt
        assert problem.messages == [{"role": "user", "content": chain}]
        assert problem.reference == str(answer(chain))
        assert problem.extra == {"terms": len(chain.split()) // 2 + 1}
        assert (problem.domain, problem.source, problem.language) == ("chain", "toy", "en")
        assert problem.split == split_of(chain) == "heldout"


def test_equal_arguments_give_equal_problems_and_another_seed_others() -> None:
    assert generate(100, 5, "train") == generate(100, 5, "train")
    assert generate(100, 5, "train") != generate(100, 6, "train")


def test_no_problem_twice_and_lengths_evenly_spread() -> None:
    problems = generate(600, 2, "train")
    assert len({p.id for p in problems}) == 600
    counts = [sum(p.extra["terms"] == length for p in problems) for length in range(3, 9)]
    assert counts == [100] * 6
    assert len({p.extra["terms"] for p in problems[:30]}) > 3, "in random order"


def test_splits_never_meet_even_where_all_chains_are_taken() -> None:
    train = {p.prompt for p in generate(150, 1, "train", (2, 2))}
    with pytest.raises(RecipeError, match=r"only \d+ heldout chains of 2 to 2 terms exist") as caught:
        generate(200, 2, "heldout", (2, 2))
    existing = int(str(caught.value).split("only ")[1].split()[0])
    heldout = {p.prompt for p in generate(existing, 2, "heldout", (2, 2))}
    assert len(heldout) == existing
    assert not train & heldout
    assert len(generate(200 - existing, 3, "train", (2, 2))) + existing == 200, (
        "together they are all there are"
    )


def test_longer_chains_fill_what_the_short_ones_lack() -> None:
    problems = generate(1_000, 4, "train", (2, 4))
    counts = {length: sum(p.extra["terms"] == length for p in problems) for length in (2, 3, 4)}
    assert counts[2] < 200 < counts[3]
    assert sum(counts.values()) == len({p.id for p in problems}) == 1_000


@pytest.mark.parametrize("terms", [(1, 3), (5, 4), (3, 13)])
def test_terms_out_of_range(terms: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="range within 2 to 12"):
        generate(10, 1, "train", terms)
