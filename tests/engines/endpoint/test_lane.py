"""The window of a lane and its rest, event by event; the queue in front of the lanes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.engines.endpoint.lane import FAILURES, LONGEST_REST_S, Lane, Lanes, pause_s
from distillkit.engines.endpoint.server import Server


def lane(ceiling=64):
    return Lane(Server("http://a/v1", None, "key"), ceiling)


def test_a_burst_of_refusals_is_one_piece_of_news():
    one = lane()
    for _ in range(50):
        one.refuse(now=10, sent=5, wait_s=None)
    assert one.window == pytest.approx(0.7 * 64)
    one.refuse(now=12, sent=11, wait_s=None)
    assert one.window == pytest.approx(0.7**2 * 64)


def test_a_window_full_of_answers_widens_it_by_a_part_of_the_ceiling():
    one = lane()
    one.window = 16
    for _ in range(16):
        one.answer()
    assert 17.8 < one.window < 18.1  # 64 / 32
    for _ in range(2000):
        one.answer()
    assert one.window == 64


def test_a_refusal_that_asks_to_wait_rests_the_lane_for_all():
    one = lane()
    one.refuse(now=10, sent=9, wait_s=3)
    one.refuse(now=10, sent=9, wait_s=1)
    assert not one.has_room(12.9) and one.has_room(13.1)


def test_after_failures_in_a_row_it_rests_and_is_tried_with_one():
    one = lane()
    for _ in range(FAILURES - 1):
        one.fail(now=10, sent=9)
    assert one.has_room(10)
    one.fail(now=10, sent=9)
    assert not one.has_room(10) and one.has_room(11.01)
    one.flying = 1
    assert not one.has_room(11.01)
    for _ in range(20):
        one.fail(now=11, sent=9)  # sent before it rested: nothing new
    assert one.rests_until <= 11
    one.fail(now=12, sent=11.5)
    assert one.rests_until >= 13  # twice as long
    one.answer()
    one.flying = 30
    assert one.has_room(one.rests_until)


def test_an_answer_in_between_starts_the_count_again():
    one = lane()
    for _ in range(10):
        for _ in range(FAILURES - 1):
            one.fail(now=10, sent=9)
        one.answer()
    assert one.has_room(10)


@given(st.lists(st.tuples(st.sampled_from("arf"), st.floats(0, 5), st.floats(0, 5)), max_size=80))
def test_whatever_happens_a_lane_opens_again_and_keeps_its_bounds(events):
    one, now = lane(8), 0.0
    for what, elapsed, age in events:
        now += elapsed
        if what == "a":
            one.answer()
        elif what == "r":
            one.refuse(now, now - age, None)
        else:
            one.fail(now, now - age)
        assert 1 <= one.window <= 8
        assert one.rests_until <= now + LONGEST_REST_S
    assert one.has_room(now + LONGEST_REST_S)


@given(st.integers(1, 200))
def test_pauses_are_bounded(attempt):
    assert 0 <= pause_s(attempt) <= 30


def test_the_emptiest_lane_is_taken_and_one_to_avoid_only_for_want_of_another():
    async def run():
        first, second = lane(2), lane(2)
        lanes = Lanes([first, second])
        assert await lanes.enter(avoid=first) is second
        assert await lanes.enter(avoid=None) is first
        assert await lanes.enter(avoid=first) is second
        assert await lanes.enter(avoid=second) is first  # the other one is full
        waiting = asyncio.ensure_future(lanes.enter(avoid=first))
        await asyncio.sleep(0)
        assert not waiting.done()
        lanes.leave(first)
        assert await waiting is first

    asyncio.run(run())


def test_who_gives_up_waiting_leaves_its_place():
    async def run():
        one = lane(1)
        lanes = Lanes([one])
        await lanes.enter(None)
        gone, next_ = (asyncio.ensure_future(lanes.enter(None)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        lanes.leave(one)
        assert await next_ is one and one.flying == 1
        late = asyncio.ensure_future(lanes.enter(None))
        await asyncio.sleep(0)
        lanes.leave(one)
        late.cancel()  # it has its place already, and has not seen it
        await asyncio.gather(late, return_exceptions=True)
        assert one.flying == 0

    asyncio.run(run())


def test_a_rest_ends_by_itself():
    async def run():
        one = lane()
        lanes = Lanes([one])
        now = asyncio.get_running_loop().time()
        one.refuse(now, now, wait_s=0.05)
        assert await asyncio.wait_for(lanes.enter(None), 5) is one

    asyncio.run(run())
