import json
import platform
from typing import ClassVar

import pytest
from scripted import TOY, Script, ScriptedEngine, ScriptedSampling, problems

from distillkit.engines.base import Completion, EngineDied
from distillkit.errors import EngineError, MissingError, RecipeError, StageError
from distillkit.sampling import Continuation, Plan, Until

ASKED = problems(6)


def echo(request, parameters):
    return Completion(f" said {request.index}", "stop", 3, 4)


def ledger_lines(tmp_path):
    [path] = (tmp_path / "completions").glob("*.jsonl")
    return [line for each in path.read_bytes().splitlines() if "key" in (line := json.loads(each))]


def test_engine_latency_and_host_stand_beside_every_trace(perform):
    def answer(request, parameters):
        return Completion("a", "stop", telemetry={"engine": "e 1", "latency_s": 0.5})

    found = perform(Script(answer), ASKED, 2)
    assert {tuple(sorted(trace.telemetry.items())) for trace in found.traces.values()} == {
        (("engine", "e 1"), ("host", platform.node()), ("latency_s", 0.5))
    }

    def elsewhere(request, parameters):
        return Completion("a", "stop", telemetry={"host": "node7"})

    found = perform(Script(elsewhere), problems(8)[6:], 1)
    assert {trace.telemetry["host"] for trace in found.traces.values()} == {"node7"}


class Cut:
    """Completions that are cut at max_tokens, until so many parts are out."""

    def __init__(self, parts: int) -> None:
        self.parts = parts

    def __call__(self, request, parameters):
        said = request.prompt.count("part")
        return Completion(
            f" part{request.index}", "length" if said + 1 < self.parts else "stop", 3, parameters.max_tokens
        )


def test_a_truncated_completion_goes_on_from_its_own_text_once(perform, tmp_path):
    more = Continuation(max_tokens=25)
    found = perform(Script(Cut(2)), ASKED, 3, continued=more)
    assert len(found.traces) == 18 and len(found.script.asked) == 36
    for (_, index), trace in found.traces.items():
        assert trace.completion == f" part{index} part{index}"
        assert (trace.finish_reason, trace.completion_tokens, trace.prompt_tokens) == ("stop", 35, 3)
        assert trace.sampling["continue_truncated"] == {"max_tokens": 25}
        assert trace.sampling["continued"]["at"] == len(f" part{index}")
        assert trace.sampling["continued"]["seed"] != trace.seed
    seconds = [request for request in found.script.asked if "part" in request.prompt]
    assert len({request.key for request in found.script.asked}) == 36
    assert {request.prompt for request in seconds} == {f"q{q} part{i}" for q in range(6) for i in range(3)}
    assert len(ledger_lines(tmp_path)) == 36
    again = perform(Script(Cut(2)), ASKED, 3, continued=more)
    assert again.script.opened == 0 and again.traces == found.traces


def test_what_is_cut_twice_stays_cut_and_what_is_cut_without_a_continuation_is_not_asked_again(perform):
    plain = perform(Script(Cut(9)), ASKED, 2)
    assert {trace.finish_reason for trace in plain.traces.values()} == {"length"}
    assert perform(Script(Cut(9)), ASKED, 2).script.asked == []
    found = perform(Script(Cut(9)), ASKED, 2, continued=Continuation(max_tokens=5))
    assert len(found.script.asked) == 12  # the first halves were there
    assert {trace.finish_reason for trace in found.traces.values()} == {"length"}
    assert {trace.completion_tokens for trace in found.traces.values()} == {15}
    assert not {t.id for t in plain.traces.values()} & {t.id for t in found.traces.values()}


def test_a_continuation_that_has_no_room_leaves_the_first_text(perform):
    def answer(request, parameters):
        if "part" in request.prompt:
            return Completion("", "error", error="prompt of 9 tokens fills the context of 9")
        return Completion(" part", "length", 3, 10)

    found = perform(Script(answer), ASKED, 1, continued=Continuation(max_tokens=5))
    assert {(t.completion, t.finish_reason, t.completion_tokens) for t in found.traces.values()} == {
        (" part", "length", 10)
    }
    assert all("continued" not in t.sampling and "error" not in t.extra for t in found.traces.values())


def test_a_continued_sample_is_judged_when_it_is_whole(perform):
    def answer(request, parameters):
        if "<answer>" in request.prompt:
            return Completion("</answer>", "stop", 3, 1)
        return Completion(f"<answer>{request.index % 3}", "length", 3, 10)

    found = perform(
        Script(answer),
        ASKED,
        8,
        continued=Continuation(max_tokens=5),
        until=Until(correct=2, give_up_after=3),
    )
    assert {(each.n, each.correct, each.stopped) for each in found.found.outcomes.values()} == {
        (5, 2, "enough")
    }
    assert len(found.script.asked) == 6 * 5 * 2


def test_an_engine_that_died_is_started_again_and_nothing_finished_is_asked_twice(perform, tmp_path):
    deaths = [4, 9]

    def die(finished):
        if deaths and finished == deaths[0]:
            deaths.pop(0)
            raise EngineDied("toy:base: the engine process died")

    found = perform(Script(echo, before=die), ASKED, 4)
    assert found.script.opened == 3
    assert len(found.traces) == 24 == len(ledger_lines(tmp_path))
    assert [text.split(";")[1].split(",")[0].strip() for text in found.warned] == [
        "it is started again (1 of 2)",
        "it is started again (2 of 2)",
    ]
    repeated = len(found.script.asked) - 24
    assert 0 < repeated <= 2 * found.script.window


def test_an_engine_that_keeps_dying_says_how_much_is_safe(perform, tmp_path):
    def die(finished):
        if finished >= 7:
            raise EngineDied("toy:base: the engine process died")

    script = Script(echo, before=die)
    with pytest.raises(
        EngineError, match=r"died; it was started 3 times; 7 completions of this run are safe"
    ) as caught:
        perform(script, ASKED, 4)
    assert type(caught.value) is EngineError
    assert script.opened == 3 and len(ledger_lines(tmp_path)) == 7


@pytest.mark.parametrize("error", [EngineError("out of memory"), MissingError("no GPU"), RecipeError("no")])
def test_what_a_restart_cannot_mend_is_raised_at_once(perform, error):
    def fail(finished):
        raise error

    script = Script(echo, before=fail)
    with pytest.raises(type(error), match=str(error)):
        perform(script, ASKED, 4)
    assert script.opened == 1


def test_continuations_that_were_out_when_the_engine_died_go_on(perform):
    deaths = [14]

    def die(finished):
        if deaths and finished == deaths[0]:
            deaths.pop()
            raise EngineDied("died")

    found = perform(Script(Cut(2), before=die), ASKED, 2, continued=Continuation(max_tokens=25))
    assert {trace.completion_tokens for trace in found.traces.values()} == {35}
    assert found.script.opened == 2


def test_a_failure_that_may_pass_is_a_row_now_and_asked_again_later(perform, tmp_path):
    def flaky(request, parameters):
        if request.index == 1:
            return Completion("", "error", error="503 Service Unavailable", telemetry={"retry": True})
        return echo(request, parameters)

    found = perform(Script(flaky), ASKED, 3)
    assert len(found.found.failed) == 6 and len(ledger_lines(tmp_path)) == 12
    reasons = {trace.extra.get("error") for (_, index), trace in found.traces.items() if index == 1}
    assert reasons == {"503 Service Unavailable"}
    again = perform(Script(echo), ASKED, 3)
    assert {request.index for request in again.script.asked} == {1} and len(again.script.asked) == 6
    assert {trace.finish_reason for trace in again.traces.values()} == {"stop"}


def paid(request, parameters):
    return Completion("a", "stop", 3, 4, telemetry={"cost": 0.25})


def test_max_cost_stops_cleanly_and_counts_what_was_paid_before(perform, tmp_path):
    engine = ScriptedEngine(cap=2.0)
    script = Script(paid, window=3)
    with pytest.raises(StageError, match=r"max_cost reached: 2\.\d\d spent of 2.00; \d+ of 24 completions"):
        perform(script, ASKED, 4, engine=engine)
    safe = len(ledger_lines(tmp_path))
    assert 8 <= safe < 8 + script.window
    assert safe == len(script.asked)  # what was out has come in
    again = Script(paid, window=3)
    with pytest.raises(StageError, match="max_cost reached"):
        perform(again, ASKED, 4, engine=engine)
    assert again.opened == 0 and again.asked == []
    raised = ScriptedEngine(cap=100.0)
    with pytest.raises(StageError, match="max_cost"):
        perform(Script(paid), ASKED, 4, engine=ScriptedEngine(cap=3.0))
    found = perform(Script(paid), ASKED, 4, engine=raised.model_copy(update={"cap": 3.0 + 100}))
    assert found.told[-1][2]["cost"] == pytest.approx(6.0)
    assert len(found.traces) == 24


def test_an_engine_that_leaves_requests_unanswered_is_told(perform, monkeypatch):
    from scripted import Scripted

    monkeypatch.setattr(Scripted, "generate", lambda self, feed, parameters: iter([feed.take()][:0]))
    with pytest.raises(EngineError, match="the engine left 6 requests unanswered"):
        perform(Script(echo), ASKED, 1)


class Priced(ScriptedEngine):
    @property
    def priced(self):
        return True


def test_what_problems_that_are_done_with_had_cost_counts_towards_max_cost(perform, tmp_path):
    def right(request, parameters):
        return Completion("<answer>1</answer>", "stop", 3, 4, telemetry={"cost": 0.25})

    def killed(finished):
        if finished == 3:
            raise KeyboardInterrupt

    facts = {"engine": ScriptedEngine(cap=1.25), "until": Until(correct=1), "notes": tmp_path / "notes"}
    with pytest.raises(KeyboardInterrupt):
        perform(Script(right, window=1, before=killed), ASKED, 4, **facts)
    again = Script(right, window=1)
    with pytest.raises(StageError, match=r"max_cost reached: 1\.25 spent of 1\.25; 5 of \d+ completions"):
        perform(again, ASKED, 4, **facts)
    assert len(again.asked) == 2 and len(ledger_lines(tmp_path)) == 5


def test_what_was_paid_before_is_told_where_the_engine_has_prices(perform):
    perform(Script(paid), ASKED, 4, engine=Priced())
    again = perform(Script(paid), ASKED, 4, engine=Priced())
    assert again.told[-1][2]["cost"] == pytest.approx(6.0)
    assert again.script.opened == 0


class Chat(ScriptedEngine):
    needs_model: ClassVar[bool] = False
    continues: ClassVar[bool] = False

    @property
    def model_name(self):
        return "deepseek-reasoner"


def test_an_engine_that_serves_its_own_model_names_it(tmp_path):
    plan = Plan.of(ScriptedSampling(engine=Chat(), max_tokens=4), None, ASKED, 2, 0)
    assert plan.model == "deepseek-reasoner"
    with pytest.raises(RecipeError, match="no model; engine scripted needs one: write model: org/name"):
        Plan.of(ScriptedSampling(max_tokens=4), None, ASKED, 2, 0)
    with pytest.raises(RecipeError, match=r"continue_truncated: engine scripted takes messages"):
        Plan.of(
            ScriptedSampling(engine=Chat(), max_tokens=4),
            None,
            ASKED,
            2,
            0,
            continued=Continuation(max_tokens=1),
        )
    assert Plan.of(ScriptedSampling(max_tokens=4), TOY, ASKED, 2, 0).model == "toy:base"
