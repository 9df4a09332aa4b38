"""How long we wait, and for what."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillkit.hub import client
from distillkit.hub.failure import causes


def test_the_forms_in_which_the_hub_asks_to_wait() -> None:
    assert client.asked_rest({"ratelimit": '"api";r=0;t=55'}) == 55
    assert client.asked_rest({"RateLimit": '"api";r=3;t=55', "Retry-After": "7"}) == 7
    assert client.asked_rest({"Retry-After": " 120 "}) == 120
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 50 < (client.asked_rest({"Retry-After": later}) or 0) <= 60
    assert client.asked_rest({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert client.asked_rest({}) is None
    assert client.asked_rest({"Retry-After": "soon"}) is None


@given(st.text())
def test_whatever_it_says(text: str) -> None:
    rest = client.asked_rest({"Retry-After": text, "ratelimit": text})
    assert rest is None or rest >= 0


def test_pauses_grow_to_a_limit() -> None:
    pauses = [client.rest_of(ConnectionError(), attempt) or 0 for attempt in range(20)]
    assert all(0.5 <= pause / min(client.LONGEST_WAIT_S, 2.0**n) <= 1 for n, pause in enumerate(pauses))


def test_what_will_not_pass_is_not_repeated() -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        client.patiently(fail)
    assert calls == [1]


def test_an_error_that_is_its_own_cause_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    assert list(causes(first)) == [first, second]
