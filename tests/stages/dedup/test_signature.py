import random
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from distillkit.errors import MissingError
from distillkit.shingles import jaccard, shingles
from distillkit.stages.dedup import signature
from distillkit.stages.dedup.signature import PERMUTATIONS, RECALL, Library, band_rows, require, signatures

LIBRARIES: list[Any] = [
    "rensa",
    pytest.param("datasketch", marks=pytest.mark.skipif(not find_spec("datasketch"), reason="no datasketch")),
]


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_bands_keep_the_declared_recall(threshold: float) -> None:
    rows = band_rows(threshold)
    assert 1 - (1 - threshold**rows) ** (PERMUTATIONS // rows) >= RECALL


@pytest.mark.parametrize("library", LIBRARIES)
def test_equal_values_estimate_the_similarity(library: Library) -> None:
    rng = random.Random(3)
    pairs = []
    for _ in range(60):
        words = [f"w{rng.randrange(3000)}" for _ in range(300)]
        changed = [f"w{rng.randrange(3000)}" if rng.random() < 0.04 else word for word in words]
        pairs.append((shingles(" ".join(words)), shingles(" ".join(changed))))
    one, other = (signatures([pair[side] for pair in pairs], library) for side in (0, 1))
    off = (one == other).mean(axis=1) - [jaccard(*pair) for pair in pairs]
    assert abs(off.mean()) < 0.02
    assert off.std() < 0.06


@pytest.mark.parametrize("library", LIBRARIES)
def test_order_repeats_and_company_do_not_count(library: Library) -> None:
    text = shingles("one two three four five six seven eight nine ten")
    alone = signatures([text], library)
    assert (
        signatures([np.arange(9, dtype=np.uint64), np.repeat(text[::-1], 3)], library)[1] == alone[0]
    ).all()
    assert signatures([], library).shape == (0, PERMUTATIONS)


def test_a_long_text_is_the_least_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasketch")
    text = np.arange(1, 500, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    whole = signatures([text], "datasketch")
    monkeypatch.setattr(signature, "_VALUES", 64)
    assert (signatures([text], "datasketch") == whole).all()


def test_a_library_that_signs_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    signature._require_algorithm.cache_clear()
    monkeypatch.setattr(signature, "SEED", 18)
    with pytest.raises(MissingError, match=r"release of rensa signs texts otherwise.*pip install"):
        signatures([], "rensa")
    monkeypatch.undo()
    signatures([], "rensa")


def test_an_absent_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature, "find_spec", lambda name: None)
    with pytest.raises(
        MissingError, match=r"datasketch is not installed; pip install 'distillkit\[datasketch\]'"
    ):
        require("datasketch")
