"""A real server on loopback that goes wrong in every way there is: nothing is lost, nothing asked twice."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import astuple
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_S
from pydantic import ValidationError

from distillkit.engines.base import Listed, Parameters, Request
from distillkit.engines.endpoint import EndpointEngine
from distillkit.engines.endpoint.answer import BadAnswer, read
from distillkit.engines.endpoint.batch import chunks
from distillkit.engines.endpoint.server import wait_s
from distillkit.errors import EngineError, MissingError, RecipeError
from distillkit.spec import digest, identity
from distillkit.text import split_think

_spec = importlib.util.spec_from_file_location("faultserver", Path(__file__).parents[2] / "faultserver.py")
faultserver = importlib.util.module_from_spec(_spec)
sys.modules["faultserver"] = faultserver
_spec.loader.exec_module(faultserver)
Fault, FaultServer, dice, script = (
    faultserver.Fault,
    faultserver.FaultServer,
    faultserver.dice,
    faultserver.script,
)

PARAMETERS = Parameters(max_tokens=64)
KEY = "sk-very-secret-0123456789"


def asks(count, samples=1, first=0):
    """Requests of `count` problems."""
    return [
        Request(
            digest([number, index])[:32],
            "",
            1000 * number + index,
            f"problem {number}",
            index,
            [{"role": "user", "content": f"How much is {number}?"}],
        )
        for number in range(first, first + count)
        for index in range(samples)
    ]


def engine(server, **more):
    usual = {"base_urls": [server.url], "served_model": "teacher", "timeout_s": 5, "patience_s": 20}
    return EndpointEngine(**(usual | more))


def complete(engine, requests, parameters=PARAMETERS):
    """Every completion by its key; fails where one comes twice."""
    with engine.open(None, None) as session:
        found = list(session.generate(Listed(requests), parameters))
    assert len({request.key for request, _ in found}) == len(found)
    return {request.key: completion for request, completion in found}


def one(engine, parameters=PARAMETERS):
    [completion] = complete(engine, asks(1), parameters).values()
    return completion


# What an answer becomes


def test_a_row_has_the_reasoning_in_its_text_whatever_form_it_came_in():
    texts = []
    for style in ("reasoning_content", "reasoning", "inline"):
        with FaultServer(style=style) as server:
            texts.append(one(engine(server)).text)
    assert texts[0] == texts[1] == texts[2]
    reasoning, response = split_think(texts[0])
    assert reasoning.startswith("Let me think") and response.startswith("The answer is")


def test_a_row_tells_tokens_finish_seed_and_who_served_it():
    with FaultServer() as server:
        row = one(engine(server))
        [call] = server.calls
    assert (row.finish_reason, row.prompt_tokens, row.completion_tokens) == ("stop", 11, 22)
    assert row.telemetry["seed_sent"] is True and row.telemetry["served"] == "teacher"
    assert row.telemetry["host"] in server.url and row.telemetry["latency_s"] >= 0
    assert call.body["seed"] == 0 and call.body["max_tokens"] == 64


def test_a_seed_that_is_not_sent_is_told():
    with FaultServer() as server:
        row = one(engine(server, seed="omit"))
        assert "seed" not in server.calls[0].body
    assert row.telemetry["seed_sent"] is False


def test_extra_body_is_passed_through_and_null_takes_a_parameter_out():
    body = {"reasoning_effort": "high", "temperature": None}
    with FaultServer() as server:
        one(engine(server, extra_body=body))
        sent = server.calls[0].body
    assert sent["reasoning_effort"] == "high" and "temperature" not in sent
    assert "top_k" not in sent  # of no use to OpenAI, which refuses what it does not know


def test_what_speed_is_is_no_identity_and_what_is_asked_is():
    with FaultServer() as server:
        plain = engine(server)
    fields = {
        "concurrency": 3,
        "timeout_s": 9,
        "tries": 2,
        "max_cost": 1,
        "prices": {"input": 1, "output": 1},
    }
    other = EndpointEngine(base_urls=["http://elsewhere:1/v1"], served_model="teacher", **fields)
    assert identity(plain) == identity(other)
    for more in ({"api": "completions"}, {"seed": "omit"}, {"extra_body": {"reasoning_effort": "low"}}):
        assert identity(engine(server, **more)) != identity(plain)


CASES = {
    "length": (
        {"finish_reason": "length", "message": {"content": "", "reasoning_content": "So"}},
        "<think>\nSo",
    ),
    "both": ({"message": {"content": "x", "reasoning": "y"}}, "<think>\ny\n</think>\n\nx"),
    "thought only": ({"message": {"content": None, "reasoning": "y"}}, "<think>\ny\n</think>\n\n"),
    "template opened": ({"message": {"content": "y</think>x"}}, "y</think>x"),
    "stop text": ({"text": "<answer>7", "stop_reason": "</answer>"}, "<answer>7</answer>"),
    "stop text left in": ({"text": "<answer>7</answer>", "stop_reason": "</answer>"}, "<answer>7</answer>"),
    "stop token": ({"text": "7", "stop_reason": 151643}, "7"),
}


@pytest.mark.parametrize(("choice", "text"), CASES.values(), ids=CASES.keys())
def test_texts(choice, text):
    answer = read({"choices": [{"finish_reason": "stop"} | choice]})
    assert answer.completion.text == text
    assert answer.completion.finish_reason == choice.get("finish_reason", "stop")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "message", "content", "text", "usage", "finish_reason", "error", "code"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_a_completion_or_no_answer(data):
    try:
        completion = read(data).completion
    except BadAnswer as bad:
        assert str(bad)
    else:
        assert completion.finish_reason in ("stop", "length", "unknown", "error")
        assert (completion.finish_reason == "error") == bool(completion.error)


@pytest.mark.parametrize("reason", ["content_filter", "tool_calls"])
def test_what_the_provider_or_the_model_broke_off_is_a_row_with_its_reason(reason):
    choice = {"finish_reason": reason, "message": {"content": "half", "reasoning": "so"}}
    with FaultServer(script(Fault(change={"choices": [choice]}))) as server:
        row = one(engine(server))
        assert len(server.calls) == 1  # it was paid for: asked once
    assert (row.text, row.finish_reason) == ("", "error") and reason in row.error
    assert "retry" not in row.telemetry


def test_a_truncated_answer_is_never_asked_again():
    choice = {"finish_reason": "length", "message": {"content": "", "reasoning": "so"}}
    with FaultServer(script(Fault(change={"choices": [choice]}))) as server:
        row = one(engine(server))
        assert len(server.calls) == 1
    assert (row.finish_reason, row.text) == ("length", "<think>\nso")


# Prices


def test_prices_give_the_cost_of_every_row():
    usage = {
        "prompt_tokens": 1000,
        "completion_tokens": 2000,
        "prompt_tokens_details": {"cached_tokens": 400},
    }
    with FaultServer(script(Fault(change={"usage": usage}))) as server:
        row = one(engine(server, prices={"input": 1, "output": 3, "cached_input": 0.5}))
    assert row.telemetry["cost"] == pytest.approx((600 * 1 + 400 * 0.5 + 2000 * 3) / 1e6)


def test_the_cost_of_a_completion_can_be_asked_before():
    fields = {"base_urls": ["http://a/v1"], "served_model": "m"}
    whole = EndpointEngine(**fields, prices={"input": 0.55, "output": 2.19})
    assert whole.cost(10**6, 10**6) == pytest.approx(2.74)
    assert whole.model_copy(update={"batch": True}).cost(10**6, 10**6) == pytest.approx(1.37)
    assert EndpointEngine(**fields).cost(1, 1) is None


# What goes wrong and passes


TROUBLES = {
    "429": Fault(429),
    "429 with milliseconds": Fault(429, {"retry-after-ms": "20"}),
    "429 with seconds": Fault(429, {"Retry-After": "0.02"}),
    "429 with a date": Fault(429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "503": Fault(503),
    "500": Fault(500),
    "dropped in the middle": Fault(drop=True),
    "malformed JSON": Fault(body=b'{"choices": [{"mess'),
    "no JSON at all": Fault(body=b"<html>", headers={"Content-Type": "text/html"}),
    "JSON without an end": Fault(body=b"[" * 100_000),
    "no HTTP": Fault(headers={"Content-Length": "many"}, body=b"{}"),
    "what it says is not what it sends": Fault(headers={"Content-Encoding": "gzip"}, body=b"{}"),
    "missing choices": Fault(body=b'{"choices": []}'),
    "an error as an answer": Fault(body=b'{"error": {"message": "overloaded", "code": 502}}'),
    "an empty answer": Fault(change={"choices": [{"finish_reason": "stop", "message": {"content": ""}}]}),
    "broken off by the server": Fault(change={"choices": [{"finish_reason": "error", "message": {}}]}),
}


@pytest.mark.parametrize("fault", TROUBLES.values(), ids=TROUBLES.keys())
def test_trouble_that_passes_is_asked_again(fault):
    with FaultServer(script(fault)) as server:
        row = one(engine(server))
        assert len(server.calls) == 2 and max(server.answered().values()) == 1
    assert row.finish_reason == "stop" and row.telemetry["tries"] == 2


def test_a_hung_connection_meets_its_deadline():
    with FaultServer(script(Fault(hang=True))) as server:
        row = one(engine(server, timeout_s=0.5))
        assert len(server.calls) == 2
    assert row.finish_reason == "stop"


def test_a_router_that_has_lost_its_model_for_a_moment_is_asked_again():
    lost = script(None, Fault(404))
    with FaultServer(lost) as server:
        rows = complete(engine(server, concurrency=1), asks(4))
        assert len(server.calls) == 5
    assert {row.finish_reason for row in rows.values()} == {"stop"}


@pytest.mark.parametrize("fault", ["500", "missing choices", "dropped in the middle"])
def test_trouble_that_does_not_pass_is_a_row_with_its_reason_that_a_later_run_asks_again(fault):
    with FaultServer(lambda call: TROUBLES[fault] if call.body["seed"] == 0 else None) as server:
        rows = complete(engine(server, tries=3), asks(3))
    lost = rows[asks(1)[0].key]
    assert (lost.text, lost.finish_reason) == ("", "error") and "(3 tries)" in lost.error
    assert lost.telemetry["retry"] is True
    assert Counter(row.finish_reason for row in rows.values()) == {"stop": 2, "error": 1}


def test_a_request_that_is_refused_is_a_row_and_is_not_asked_again():
    long = Fault(400, body=json.dumps({"error": {"message": "maximum context length is 64"}}).encode())
    with FaultServer(lambda call: long if call.body["seed"] == 0 else None) as server:
        rows = complete(engine(server), asks(5))
        assert len(server.calls) == 5
    assert rows[asks(1)[0].key].error == "400: maximum context length is 64"


def test_another_server_is_preferred_for_the_next_try():
    with FaultServer(lambda call: Fault(500)) as bad, FaultServer() as good:
        both = engine(bad, base_urls=[bad.url, good.url])
        rows = complete(both, asks(20))
    assert {row.finish_reason for row in rows.values()} == {"stop"}
    assert max(row.telemetry["tries"] for row in rows.values()) == 2


def test_requests_are_balanced_by_what_is_in_flight():
    with (
        FaultServer(lambda call: Fault(delay_s=0.2)) as slow,
        FaultServer(lambda call: Fault(delay_s=0.01)) as fast,
    ):
        complete(engine(slow, base_urls=[slow.url, fast.url], concurrency=4), asks(80))
        assert len(fast.calls) > 2 * len(slow.calls) > 0
        assert slow.most_flying <= 4 and fast.most_flying <= 4


def test_a_server_that_takes_no_more_than_eight_is_soon_asked_no_more():
    with FaultServer() as server:
        server.plan = lambda call: Fault(429) if server.flying > 8 else Fault(delay_s=0.02)
        rows = complete(engine(server, concurrency=64), asks(400))
        refused = [not call.answered for call in server.calls]
    assert Counter(row.finish_reason for row in rows.values()) == {"stop": 400}
    assert sum(refused[len(refused) // 2 :]) < 0.3 * len(refused) / 2  # the second half has learned


def test_a_server_that_was_not_there_at_the_start_is_used_once_it_is():
    with FaultServer() as server:
        rows = complete(engine(server, base_urls=["http://127.0.0.1:9/v1", server.url]), asks(20))
    assert {row.finish_reason for row in rows.values()} == {"stop"}


def test_a_storm_loses_nothing_and_asks_nothing_twice():
    rates = [
        (0.05, Fault(429)),
        (0.05, Fault(429, {"retry-after-ms": "20"})),
        (0.03, Fault(500)),
        (0.02, Fault(drop=True)),
        (0.01, Fault(hang=True)),
    ]
    with FaultServer(dice(7, rates, (0.001, 0.02))) as server:
        rows = complete(engine(server, timeout_s=8, concurrency=64), asks(300))
        answered = server.answered()
        assert len(server.calls) > 300
    assert Counter(row.finish_reason for row in rows.values()) == {"stop": 300}
    assert len(answered) == 300 and set(answered.values()) == {1}


# What ends a run, at once and in one line


def mistake(kind, engine, count=20):
    with pytest.raises(kind) as caught:
        complete(engine, asks(count))
    text = str(caught.value)
    assert "\n" not in text and KEY not in text and "sk-" not in text
    return text


def test_a_refused_key_ends_it_before_anything_is_asked(monkeypatch):
    monkeypatch.setenv("TEACHER", KEY)
    with FaultServer(api_key="another") as server:
        text = mistake(MissingError, engine(server, api_key_env="TEACHER"))
        assert server.paths == ["GET /v1/models"]
    assert "refuses the key (401)" in text and "export TEACHER" in text


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_for_completions_ends_it_too(status, monkeypatch):
    monkeypatch.setenv("TEACHER", KEY)
    echo = Fault(status, body=json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}).encode())
    with FaultServer(lambda call: echo) as server:
        mistake(MissingError, engine(server, api_key_env="TEACHER", concurrency=2))
        assert len(server.calls) <= 4  # those in flight, none again


def test_the_key_is_sent_and_in_no_reason(monkeypatch):
    monkeypatch.setenv("TEACHER", KEY)
    echo = Fault(400, body=json.dumps({"error": {"message": f"bad request with {KEY}"}}).encode())
    with FaultServer(script(echo), api_key=KEY) as server:
        row = one(engine(server, api_key_env="TEACHER"))
    assert row.error == "400: bad request with <key>"


def test_a_key_that_the_environment_lacks_is_said_before_the_run(monkeypatch):
    monkeypatch.delenv("TEACHER", raising=False)
    with pytest.raises(MissingError, match="export TEACHER"):
        EndpointEngine(base_urls=["http://a/v1"], served_model="m", api_key_env="TEACHER").check()


def test_a_server_that_is_not_there_ends_it():
    text = mistake(MissingError, EndpointEngine(base_urls=["http://127.0.0.1:9/v1"], served_model="m"))
    assert "127.0.0.1:9" in text and "base_urls" in text


def test_a_model_that_is_not_there_ends_it_with_those_that_are():
    with FaultServer() as server:
        text = mistake(RecipeError, engine(server, served_model="teecher"))
    assert "teecher" in text and "it serves: teacher" in text


def test_a_wrong_path_ends_it():
    with FaultServer() as server:
        text = mistake(RecipeError, engine(server, base_urls=[server.url.removesuffix("/v1") + "/v2"]))
    assert "/v1" in text


@pytest.mark.parametrize("style", ["hidden", "none"])
def test_a_provider_that_keeps_the_reasoning_back_is_refused_at_the_first_answers(style):
    with FaultServer(style=style) as server:
        text = mistake(RecipeError, engine(server, concurrency=4), count=500)
        assert len(server.calls) < 50
        assert "require_reasoning: false" in text
        rows = complete(engine(server, require_reasoning=False), asks(3))
    assert {row.finish_reason for row in rows.values()} == {"stop"}


def test_one_answer_without_reasoning_among_others_is_a_row():
    bare = Fault(change={"choices": [{"finish_reason": "stop", "message": {"content": "4"}}]})
    with FaultServer(lambda call: bare if call.body["seed"] < 2000 else None) as server:
        rows = complete(engine(server), asks(12))
    assert sum("<think>" not in row.text for row in rows.values()) == 2


def test_the_same_refusal_of_all_first_problems_ends_it():
    refuse = Fault(400, body=b'{"error": {"message": "unknown parameter: seed"}}')
    with FaultServer(lambda call: refuse) as server:
        text = mistake(RecipeError, engine(server, concurrency=4), count=500)
        assert len(server.calls) < 50
    assert "unknown parameter: seed" in text


def test_many_samples_of_one_refused_problem_end_nothing():
    long = Fault(400, body=b'{"error": {"message": "too long"}}')
    with FaultServer(lambda call: long if call.body["seed"] < 1000 else None) as server:
        rows = complete(engine(server), asks(3, samples=8))
    assert Counter(row.finish_reason for row in rows.values()) == {"error": 8, "stop": 16}


@pytest.mark.parametrize("fault", [Fault(402), Fault(429, body=b'{"error": {"code": "insufficient_quota"}}')])
def test_an_account_without_credit_ends_it(fault):
    with FaultServer(lambda call: fault) as server:
        assert "credit" in mistake(EngineError, engine(server))


def test_a_server_that_wants_to_be_left_alone_for_a_day_ends_it():
    with FaultServer(lambda call: Fault(429, {"Retry-After": "86400"})) as server:
        assert "86,400 s" in mistake(EngineError, engine(server))


def test_servers_that_are_gone_for_too_long_end_it():
    with FaultServer(lambda call: Fault(500)) as server:
        text = mistake(EngineError, engine(server, patience_s=1, timeout_s=1, tries=100))
    assert "no server has answered" in text


@pytest.mark.parametrize("fault", ["malformed JSON", "no JSON at all", "missing choices", "an empty answer"])
def test_a_server_that_never_gives_a_completion_ends_it_before_all_is_paid_for(fault):
    with FaultServer(lambda call: TROUBLES[fault]) as server:
        text = mistake(EngineError, engine(server, concurrency=4), count=500)
        assert len(server.calls) < 20
    assert "never with a completion" in text and "base_urls" in text


def test_garbled_answers_before_the_first_good_one_end_nothing():
    slow_and_good = Fault(delay_s=3)
    with FaultServer(
        lambda call: slow_and_good if call.body["seed"] == 0 else TROUBLES["malformed JSON"]
    ) as server:
        rows = complete(engine(server, tries=1, concurrency=16), asks(8))
    assert Counter(row.finish_reason for row in rows.values()) == {"stop": 1, "error": 7}


BAD = {
    "no URL": {"base_urls": []},
    "a URL without a scheme": {"base_urls": ["api.deepseek.com/v1"]},
    "a key in the URL": {"base_urls": ["https://me:secret@api.deepseek.com/v1"]},
    "a key in place of its name": {"api_key_env": KEY},
    "the stage's parameter": {"extra_body": {"temperature": 0.3}},
    "more than one sample": {"extra_body": {"n": 4}},
    "a limit without prices": {"max_cost": 10},
    "a batch at two servers": {"base_urls": ["http://a/v1", "http://b/v1"], "batch": True},
}


@pytest.mark.parametrize("fields", BAD.values(), ids=BAD.keys())
def test_declarations_that_cannot_be_meant(fields):
    with pytest.raises(ValidationError):
        EndpointEngine(**({"base_urls": ["http://a/v1"], "served_model": "m"} | fields))


# How long to wait


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WAITS = [
    ({"retry-after": "7"}, 7),
    ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
    ({"retry-after": "Fri, 02 Jan 2026 03:04:35 GMT"}, 30),
    ({"retry-after": "Fri, 02 Jan 2026 03:00:00 GMT"}, 0),
    ({"retry-after": "soon"}, None),
    ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
    ({"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "20s"}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS)
def test_how_long_a_refusal_asks_to_wait(headers, seconds):
    found = wait_s(headers, NOW)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.text(max_size=20), st.text("0123456789.hms", max_size=10))
def test_headers_that_cannot_be_read_are_none(after, reset):
    headers = {
        "retry-after": after,
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": reset,
    }
    found = wait_s(headers, NOW)
    assert found is None or found >= 0


# The batch API


def batched(server, **more):
    return engine(server, batch=True, poll_s=0.02, **more)


def posts(server, what):
    return server.paths.count(f"POST /v1/{what}")


def test_a_batch_gives_the_same_rows_at_half_the_price():
    prices = {"prices": {"input": 1, "output": 1}}
    with FaultServer() as server:
        live = complete(engine(server, **prices), asks(30))
        batch = complete(batched(server, **prices), asks(30))
        assert posts(server, "batches") == 1
    assert {key: row.text for key, row in live.items()} == {key: row.text for key, row in batch.items()}
    pairs = [(batch[key].telemetry["cost"], row.telemetry["cost"]) for key, row in live.items()]
    assert all(half == pytest.approx(whole / 2) for half, whole in pairs)


def test_a_line_that_fails_in_a_batch_is_a_row_with_its_reason():
    bad = Fault(500)
    with FaultServer(lambda call: bad if call.body["seed"] == 0 else None) as server:
        rows = complete(batched(server), asks(5))
    lost = rows[asks(1)[0].key]
    assert lost.error.startswith("500") and lost.telemetry["retry"]
    assert Counter(row.finish_reason for row in rows.values()) == {"stop": 4, "error": 1}


CHILD = """
import json, sys
from distillkit.engines.base import Listed, Parameters, Request
from distillkit.engines.endpoint import EndpointEngine
engine, requests = json.loads(sys.argv[1])
with EndpointEngine(**engine).open(None, None) as session:
    list(session.generate(Listed([Request(*each) for each in requests]), Parameters(max_tokens=64)))
"""


def test_a_killed_run_finds_its_batch_again_and_does_not_pay_twice():
    with FaultServer() as server:
        server.batch_ready.clear()
        told = json.dumps([batched(server).model_dump(), [astuple(request) for request in asks(10)]])
        child = subprocess.Popen([sys.executable, "-c", CHILD, told])
        until = time.monotonic() + PATIENCE_S
        while not server.batches and time.monotonic() < until:
            time.sleep(0.02)
        child.kill()
        assert child.wait() == -signal.SIGKILL and len(server.batches) == 1
        server.batch_ready.set()
        rows = complete(batched(server), asks(14))  # with four more
        assert len(rows) == 14 and len(server.batches) == 2
        answered = server.answered()
        assert set(answered.values()) == {1}
        assert complete(batched(server), asks(14)).keys() == rows.keys()  # all have ended by now
        assert server.answered() == answered


def test_other_parameters_are_another_batch():
    with FaultServer() as server:
        complete(batched(server), asks(3))
        complete(batched(server), asks(3), Parameters(max_tokens=65))
        assert posts(server, "batches") == 2


def test_a_limit_of_money_hands_in_no_more_than_surely_stays_below_it():
    prices = {"prices": {"input": 0, "output": 1e6 / 32}}  # by batch one unit of money per completion at most
    with FaultServer() as server:
        complete(batched(server, max_cost=4, **prices), asks(10))
        sizes = [len(server.files[batch["input_file_id"]].splitlines()) for batch in server.batches.values()]
    assert sizes == [4, 4, 2]


def test_a_server_without_batches_says_so():
    with FaultServer() as server:
        server.__class__ = type("NoBatches", (FaultServer,), {"_batch": _no_batch})
        text = mistake(RecipeError, batched(server))
    assert "batch: false" in text


async def _no_batch(self, method, path, query, content, writer):
    return await faultserver._send(writer, 404, {"error": {"message": "not here"}})


@given(st.lists(st.integers(1, 60_000_000), max_size=12))
def test_batches_are_whole_and_small_enough(sizes):
    class Sized(bytes):
        size = 0

        def __len__(self):
            return self.size

    lines = {}
    for number, size in enumerate(sizes):
        lines[str(number)] = Sized()
        lines[str(number)].size = size
    found = list(chunks(lines))
    assert [key for chunk in found for key in chunk] == list(lines)
    assert all(sum(map(len, chunk.values())) <= 100_000_000 or len(chunk) == 1 for chunk in found)
