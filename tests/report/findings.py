"""What evaluate, screen, budget_curve, probe and the trainers write into a summary, with every key that a page draws.

Hostile names and texts among them. Loaded by its path: tests are no package.
"""

from typing import Any

TRAP = "<img src=x onerror='window.hacked = 77'>"
MODELS = ("toy:base", f"student{TRAP}")


def estimate(value: float | None, n: int = 40) -> dict[str, Any]:
    """A score with an interval of 0.1 around it."""
    if value is None:
        return {"value": None, "low": None, "high": None, "n": 0, "samples": 0}
    return {"value": value, "low": max(0.0, value - 0.05), "high": value + 0.05, "n": n, "samples": 4 * n}


def evaluation() -> dict[str, Any]:
    """Summary of an evaluation of two models with sweeps."""
    base, student = MODELS
    where = [{"model": model, "benchmark": "heldout"} for model in MODELS]
    signed = {"value": 0.4, "low": -0.1, "high": 0.6, "n": 40, "samples": 160}
    metrics = ("pass@1", "cons@4", "truncated", "no_answer")
    return {
        "scores": {
            model: {
                **{metric: estimate(value) for metric in ("pass@1", "pass@2", "pass@4", "cons@4")},
                "mean_right_tokens": estimate(12.0),
                "mean_wrong_tokens": estimate(30.0),
                "mean_tokens": estimate(None),
            }
            for model, value in ((base, 0.3), (student, 0.8))
        },
        "gamma": [],
        "settings": {"n": {"heldout": 4}, "temperature": 1.0, "max_tokens": 64, "engine": {"kind": "replay"}},
        "reach": [
            where[1]
            | {"base": base, "k": 4, "before": estimate(0.5), "after": estimate(0.9), "difference": signed}
            | {"gained": 3, "lost": 1, "problems": 40, "above": True}
        ],
        "curves": [
            each
            | {"k": [1, 2, 4]}
            | {name: [estimate(0.2), estimate(0.3), estimate(0.5)] for name in ("pass", "cons")}
            for each in where
        ],
        "votes": [
            each | {"problems": 40, "right": 20, "wrong": 10, "tied": 5, "silent": 5, "answers": 2.5}
            for each in where
        ],
        "bands": [
            each
            | {"base": base, "band": band, "problems": 20, "pass@1": estimate(0.5), "tokens": estimate(20.0)}
            | {"right_tokens": estimate(15.0), "wrong_tokens": None, "truncated": estimate(0.0)}
            for each in where
            for band in ("never", "hard")
        ],
        "complexity": {
            "field": "extra.terms",
            "trained": [2, 4],
            "rows": [
                each | {"at": at, "problems": 10, "pass@1": estimate(1 / at), "tokens": estimate(10.0 * at)}
                for each in where
                for at in (2, 4, 8)
            ],
        },
        "sweeps": {
            "temperature": [
                each | {"temperature": t, "n": 4, "scores": {metric: estimate(0.5) for metric in metrics}}
                for each in where
                for t in (0.0, 0.7, 1.0)
            ],
            "max_tokens": [
                each
                | {"max_tokens": cap, "scores": {"pass@1": estimate(0.5), "truncated": estimate(16 / cap)}}
                for each in where
                for cap in (16, 32, 64)
            ],
        },
        "best": {"model": student, "metric": "pass@1", "value": 0.8, "runner_up": base, "difference": signed}
        | {"clear": True},
        "cost": [
            each | {"completions": 160, "tokens": 3200, "active": 335000, "operations": 2.1e9, "money": None}
            for each in where
        ],
    }


def budget_curve() -> dict[str, Any]:
    """Summary of a budget curve with a front and one knee."""
    points = [
        {"budget": b, "accuracy": estimate(a), "mean_tokens": b + 4.0, "cost": 1e6 * (b + 4), "forced": 0.5}
        | {"no_answer": 0.0, "front": b == 8}
        for b, a in ((0, 0.1), (8, 0.6), (16, 0.7))
    ]
    uncut = {"accuracy": estimate(0.7), "mean_tokens": 31.0, "cost": 3.1e7}
    return {
        "curves": {
            MODELS[0]: {"active_parameters": 335000, "points": points, "uncut": uncut, "knee": None},
            MODELS[1]: {"points": points, "uncut": uncut, "knee": {"budget": 16, "accuracy": 0.7}},
        },
        "front": [{"model": MODELS[1], "budget": 8, "cost": 1.2e7, "accuracy": 0.6}],
        "knee_gain": 0.02,
        "settings": {},
    }


def probe() -> dict[str, Any]:
    """Summary of a probe stage with all four probes."""
    variants = ("unperturbed", "paraphrase", "number", "step")
    moved = {name: estimate(value) for name, value in zip(variants, (0.02, 0.05, 0.95, 0.9), strict=True)}
    example = {"edit": "number", "trace": "p/o/0", "before": f"3 + 4 = 7 {TRAP}", "after": "3 + 4 = 9"}
    example |= {"answer": TRAP, "new_answer": "9", "implied": None}
    pattern = {"name": "several_answers", "text": f"several answers {TRAP}", "rate": estimate(0.1)}
    return {
        "probes": {
            "faithfulness": {
                model: {"traces": 40, "skipped": {"no_step": 2}, "moved": moved, "examples": [example]}
                | {
                    "followed": {"number": estimate(0.9)},
                    "unanswered": {},
                    "excess": {"number": estimate(0.9)},
                }
                for model in MODELS
            },
            "early_answer": {
                MODELS[0]: {
                    "traces": 40,
                    "curve": [{"share": s, "agrees": estimate(s), "right": None} for s in (0.0, 0.5, 1.0)],
                    "fixed_from": estimate(0.8),
                    "fixed_at_start": estimate(0.1),
                }
            },
            "gaming": {
                MODELS[0]: {
                    "patterns": [pattern | {"rewarded": 3, "count": 5, "traces": ["p/o/0"]}],
                    "constant_answer": {"answer": TRAP, "rate": estimate(0.2), "expected": 0.1},
                }
            },
            "collapse": {
                MODELS[0]: {
                    "groups": 10,
                    "group_size": 8,
                    **{name: estimate(0.5) for name in ("diversity", "strategies", "answers")},
                    "top": [{"skeleton": f"# + # {TRAP}", "share": 0.4, "trace": "p/o/0"}],
                    "training": [{"step": s, "strategies": 1 / s, "distinct": 1.0} for s in (1, 2, 4)],
                }
            },
        },
        "warnings": [{"name": "unfaithful", "text": f"student: its answer does not follow {TRAP}"}],
        "settings": {},
    }


def matrix() -> list[dict[str, Any]]:
    """Rows of a template x base matrix."""
    names = ("answered", "formatted", "pass@1", "reflection", "mixed_language", "truncated", "mean_tokens")
    return [
        {"model": "toy:base", "template": template, "prompts": 40} | {name: estimate(0.5) for name in names}
        for template in ("r1", "none", TRAP)
    ]


ON_THE_WAY = [
    {"step": step, "problems": 8, "samples": 32, "pass@1": step / 20, "cons@4": step / 15, "mean_tokens": 9.0}
    | {"mixed_language": 0.3, "forgetting/loss": 0.4}
    for step in (0, 6, 12)
]
"""Lines of an eval.jsonl."""
