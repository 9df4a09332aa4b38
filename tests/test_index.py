import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillkit.index import HEAD, RECORD_BYTES, Index, append_records, load_records, records_of

KEYS = st.integers(0, 2**128 - 1) | st.integers(0, 3).map(lambda low: (7 << 64) + low)
PLACES = st.tuples(st.integers(0, 2**60), st.integers(0, 2**32 - 1))


class Small(Index):
    """Sorts in after every third key, so that small tests see both halves."""

    RECENT = 3


@given(st.lists(st.tuples(KEYS, PLACES), max_size=40), st.lists(KEYS, max_size=5))
def test_it_is_a_dict_whose_first_value_stays(pairs, others):
    index, expected = Small(), {}
    for key, place in pairs:
        assert index.add(key, place) == (key not in expected)
        expected.setdefault(key, place)
    assert {key: index.find(key) for key in expected} == expected
    assert [index.find(key) for key in others] == [expected.get(key) for key in others]
    assert len(index) == sum(length > 0 for _, length in expected.values())


@given(st.lists(st.tuples(KEYS, PLACES), max_size=40, unique_by=lambda pair: pair[0]))
def test_records_give_the_same_index(pairs):
    index = Index(records_of(pairs))
    assert [index.find(key) for key, _ in pairs] == [place for _, place in pairs]


def test_a_million_keys_take_32_bytes_each():
    index = Index(records_of([(key << 64, (key, 1)) for key in range(10_000)]))
    assert index._sorted.nbytes == 10_000 * RECORD_BYTES


def in_order(n):
    return [(key**9, (key * 10, 10)) for key in range(1, n + 1)]


def test_what_is_appended_is_loaded(tmp_path: Path) -> None:
    file = tmp_path / "l.index"
    assert len(load_records(file)) == 0
    append_records(file, in_order(7)[:3])
    append_records(file, in_order(7)[3:])
    assert (load_records(file) == records_of(in_order(7))).all()


@settings(deadline=None)
@given(st.data())
def test_records_behind_damage_are_cut_off(tmp_path_factory, data):
    file = tmp_path_factory.mktemp("index") / "l.index"
    append_records(file, in_order(6))
    whole = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(whole)
    left = max(0, at // RECORD_BYTES - 1)
    assert (load_records(file) == records_of(in_order(6))[:left]).all()
    append_records(file, in_order(6)[left:])
    assert (load_records(file) == records_of(in_order(6))).all()


@pytest.mark.parametrize("cut", range(3 * RECORD_BYTES))
def test_a_torn_file_is_cut_to_whole_records(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "l.index"
    append_records(file, in_order(2))
    os.truncate(file, cut)
    left = max(0, cut // RECORD_BYTES - 1)
    assert len(load_records(file)) == left
    append_records(file, in_order(2)[left:])
    assert (load_records(file) == records_of(in_order(2))).all()


def test_places_that_do_not_ascend_are_damage(tmp_path: Path) -> None:
    file = tmp_path / "l.index"
    append_records(file, [(1, (0, 10)), (2, (10, 10)), (3, (10, 10)), (4, (20, 10))])
    assert len(load_records(file)) == 2


def test_another_format_is_as_good_as_none(tmp_path: Path) -> None:
    file = tmp_path / "l.index"
    append_records(file, in_order(2))
    file.write_bytes(HEAD.replace(b"1", b"2") + file.read_bytes()[RECORD_BYTES:])
    assert len(load_records(file)) == 0
