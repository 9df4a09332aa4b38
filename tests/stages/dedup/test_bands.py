from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.stages.dedup import bands
from distillkit.stages.dedup.arrays import load_array, save_array
from distillkit.stages.dedup.bands import Bucket, Corpus, contest, in_bands, spread
from distillkit.stages.dedup.signature import PERMUTATIONS

KEYS = st.lists(st.integers(0, 5), max_size=40)


@given(KEYS)
def test_rows_with_equal_keys_meet_once(keys: list[int]) -> None:
    found = [
        (int(a), int(b))
        for one, other in bands._neighbours(np.array(keys, np.uint64), np.zeros(len(keys), bool))
        for a, b in zip(one, other, strict=True)
    ]
    pairs = [pair for pair in combinations(range(len(keys)), 2) if keys[pair[0]] == keys[pair[1]]]
    assert sorted(found) == pairs


@given(KEYS, st.data())
def test_rows_that_are_done_need_not_meet_and_all_others_do(keys: list[int], data: st.DataObject) -> None:
    done = np.array([data.draw(st.booleans()) for _ in keys], bool)
    found = {
        (int(a), int(b))
        for one, other in bands._neighbours(np.array(keys, np.uint64), done)
        for a, b in zip(one, other, strict=True)
    }
    pairs = combinations(range(len(keys)), 2)
    assert found == {(a, b) for a, b in pairs if keys[a] == keys[b] and not (done[a] and done[b])}


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """300 texts; 0 to 99 are like 100 to 199 one by one, and those of salt 1 like nothing."""
    rng = np.random.default_rng(3)
    base = rng.integers(0, 2**32, (100, PERMUTATIONS), np.uint32)
    copies = np.where(rng.random(base.shape) < 0.1, rng.integers(0, 2**32, base.shape, np.uint32), base)
    corpus = Corpus(tmp_path, 0.8)
    save_array(corpus.signatures, np.concatenate([base, copies, base]))
    save_array(corpus.salts, np.repeat(np.array([0, 1], np.uint64), [200, 100]))
    return corpus


@pytest.mark.parametrize("few", [0, 10_000])
def test_contested_texts_share_a_bucket_with_their_candidates(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(bands, "FEW", few)
    monkeypatch.setattr(bands, "BUCKET", 30)
    tasks = in_bands(corpus, 300)
    assert len(tasks) == (corpus.bands if few == 0 else 1)
    for task in tasks:
        contest(task)
    buckets = spread(corpus, tasks, 300)
    found = [set(load_array(bucket.texts).tolist()) for bucket in buckets]
    assert set().union(*found) == set(range(200))
    assert sum(map(len, found)) == 200
    assert len(found) > 5
    assert all({row % 100 for row in rows} == {row for row in rows if row < 100} for rows in found)


def test_nothing_contested_makes_no_bucket(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, 0.8)
    save_array(corpus.signatures, np.arange(3 * PERMUTATIONS, dtype=np.uint32).reshape(3, -1))
    save_array(corpus.salts, np.zeros(3, np.uint64))
    tasks = in_bands(corpus, 3)
    contest(tasks[0])
    assert spread(corpus, tasks, 3) == []
    assert not Bucket(corpus, 0).texts.exists()


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, array: object, **_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(Exception, match="no disk space left"):
        save_array(tmp_path / "a.npy", np.zeros(3))
    assert list(tmp_path.iterdir()) == []
