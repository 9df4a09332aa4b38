import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from distillkit.shingles import jaccard
from distillkit.stages.dedup.prefix import Prefixes

Shingles = NDArray[np.uint64]

SPREAD = np.uint64(0x9E3779B97F4A7C15)


def texts_of(sets: list[set[int]]) -> list[Shingles]:
    return [np.unique(np.array(sorted(each), np.uint64) * SPREAD) for each in sets]


def prefixes(texts: list[Shingles], threshold: float) -> Prefixes:
    return Prefixes(lambda row: texts[row], np.array([len(text) for text in texts], np.int64), threshold)


@given(
    st.lists(st.sets(st.integers(0, 12), min_size=1), min_size=2, max_size=12),
    st.sampled_from([0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95]),
)
def test_no_pair_at_the_threshold_is_missed(sets: list[set[int]], threshold: float) -> None:
    texts = texts_of(sets)
    index = prefixes(texts, threshold)
    for row, text in enumerate(texts):
        alike = {other for other, each in enumerate(texts) if jaccard(text, each) >= threshold}
        assert alike <= set(index.sharing(row).tolist())


@pytest.mark.parametrize("threshold", [0.7, 0.8])
def test_boilerplate_proposes_nothing(threshold: float) -> None:
    """Texts that share 60 % of their shingles with all others, and nothing else with any."""
    rng = random.Random(7)
    common = set(range(60))
    texts = texts_of([common | set(rng.sample(range(1000 + 50 * i, 1050 + 50 * i), 40)) for i in range(200)])
    assert jaccard(texts[0], texts[1]) == pytest.approx(60 / 140)
    index = prefixes(texts, threshold)
    assert [index.sharing(row).tolist() for row in range(200)] == [[row] for row in range(200)]
