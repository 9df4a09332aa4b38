"""Tiles, predictions and warnings from plain described runs."""

from typing import Any

import pytest

from distillkit.report.headline import Prediction, benchmarks, over_seeds, predictions, tiles, warnings
from distillkit.report.material import Material


def score(
    value: float | None, low: float | None = None, high: float | None = None, n: int = 200
) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n, "samples": n}


def prediction(measured: dict[str, Any] | None) -> Prediction:
    return Prediction("screening", "base", "zero", 0.6, 0.8, measured=measured)


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (score(0.7, 0.65, 0.75), "as predicted"),
        (score(0.82, 0.79, 0.85), "as predicted"),
        (score(0.9, 0.85, 0.95), "above prediction"),
        (score(0.5, 0.45, 0.59), "below prediction"),
        (score(0.9), "above prediction"),
        (None, "not measured"),
    ],
)
def test_a_prediction_holds_where_the_intervals_meet(measured: dict[str, Any] | None, verdict: str) -> None:
    assert prediction(measured).verdict == verdict


def test_seeds_are_pooled_by_their_mean_and_range() -> None:
    first = {"zero": {"pass@1": score(0.5, 0.4, 0.6), "cons@2": score(0.6)}}
    second = {"zero": {"pass@1": score(0.7, 0.6, 0.8)}, "student": {"pass@1": score(None)}}
    found = over_seeds([first, second])
    assert found["zero"]["pass@1"] == score(0.6, 0.5, 0.7)
    assert found["zero"]["cons@2"] == score(0.6, 0.6, 0.6)
    assert "student" not in found


def test_benchmarks_are_what_stands_before_a_metric() -> None:
    assert benchmarks({"a": {"pass@1": score(1)}}) == [""]
    scores = {"a": {"aime24/pass@1": score(1), "math500/pass@1": score(1)}, "b": {"aime24/cons@2": score(1)}}
    assert benchmarks(scores) == ["aime24/", "math500/"]


def altered(world: Any, **described: Any) -> Material:
    found = Material.of(world.run, world.store)
    return Material(found.run, found.store, found.record, found.described | described, found.artifacts)


def test_models_have_roles_and_several_benchmarks_are_told(world: Any) -> None:
    scores = {
        "toy:base": {
            "aime/pass@1": score(0.1, 0.05, 0.2),
            "math/pass@1": score(0.3),
            "aime/mean_tokens": score(9.2),
        },
        "zero": {"aime/pass@1": score(0.4), "aime/mixed_language": score(0.125)},
        "student": {"aime/pass@1": score(None)},
    }
    base, zero = tiles(altered(world, scores=scores))
    assert (base.model, base.role, base.number, base.what) == (
        "toy:base",
        "base model",
        "0.100",
        "aime/pass@1 [0.050, 0.200]",
    )
    assert base.lines == ["0.300 math/pass@1", "9 tokens long"]
    assert (zero.role, zero.what, zero.lines) == ("after RL", "aime/pass@1", ["12.5 % mix languages"])
    assert base.colour != zero.colour


def test_a_prediction_is_for_what_rl_made_of_the_screened_weights(world: Any) -> None:
    scores = {"toy:base": {"pass@1": score(0.7)}, "zero": {"pass@1": score(0.9, 0.88, 0.92)}}
    gamma = {"model": "zero", "base": "toy:base", "benchmark": "heldout", "k": 2, **score(0.8, 0.7, 0.9)}
    [found] = predictions(altered(world, scores=scores, gamma=[gamma]))
    assert (found.screening, found.base, found.model) == ("screening", "toy:base", "zero")
    assert found.gamma == "0.800 [0.700, 0.900]"
    assert [name for name, *_ in found.entries] == [
        "predicted with gamma 0.6",
        "predicted with gamma 0.7",
        "predicted with gamma 0.9",
        "measured: zero",
    ]
    assert found.low <= min(value for _, value, *_ in found.entries[:3])
    assert found.high >= max(value for _, value, *_ in found.entries[:3])


def test_warnings_are_in_words(world: Any) -> None:
    scores = {
        "zero": {
            "aime/pass@1": score(0.5, n=30),
            "aime/truncated": score(0.25),
            "math/truncated": score(0.01),
        },
        "student": {"pass@1": score(0.5), "truncated": score(0.04)},
    }
    screening = [{"stage": "screening", "go": False, "reasons": ["the gap is small", "few prompts"]}]
    found = warnings(altered(world, scores=scores, screening=screening))
    assert found == [
        "screening: no-go for RL: the gap is small; few prompts",
        "zero: 25 % of its answers on aime were cut, so it scores too low",
        "student: 4 % of its answers were cut, so it scores too low",
    ]
