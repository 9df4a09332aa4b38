import json
from typing import Any

import pytest

from distillkit.artifact import Manifest
from distillkit.engines.transformers import TransformersEngine
from distillkit.errors import RecipeError, StageError
from distillkit.sampling import Sampling
from distillkit.scoring import (
    Estimate,
    Group,
    Judged,
    Leading,
    Scoring,
    ballot,
    ballots_of,
    bands,
    best,
    by_problem,
    cons_at,
    count_judged,
    curve,
    cut,
    cut_votes,
    difference,
    differences,
    largest_k,
    leading,
    metrics,
    outcome,
    over_sets,
    pass_at,
    reach,
    realised_gamma,
    settings,
    tally,
)
from distillkit.store import Writer
from distillkit.text import split_think
from distillkit.trace import Trace
from distillkit.verifiers import Exact, Majority, Math, RewardModel

VERIFIERS = {"chain": Exact()}


def traces(problem: str, gold: Any, *completions: str, domain: str = "chain", **fields: Any) -> list[Trace]:
    """One finished trace per completion."""
    made = []
    for index, completion in enumerate(completions):
        reasoning, response = split_think(completion)
        made.append(
            Trace(
                problem,
                [{"role": "user", "content": "2 + 5"}],
                completion,
                reasoning,
                response,
                **{
                    "reference": gold,
                    "domain": domain,
                    "language": "en",
                    "finish_reason": "stop",
                    "completion_tokens": len(completion.split()),
                    "origin": "o" * 12,
                    "index": index,
                    **fields,
                },
            )
        )
    return made


def answers(problem: str, gold: str, *given: str | None) -> list[Judged]:
    """Judged completions that answer so; None gives no answer."""
    texts = [f"<answer> {each} </answer>" if each else "no idea" for each in given]
    return Scoring().judge(traces(problem, gold, *texts), VERIFIERS)


def counted(problem: str, right: int, of: int) -> list[Judged]:
    return answers(problem, "7", *["7"] * right, *["8"] * (of - right))


def test_every_completion_is_judged_and_measured_in_order() -> None:
    given = traces(
        "p",
        "7",
        "<think> 2 + 5 = 7 so then </think> <answer> 7 </answer>",
        "<think> so 2 + 5 = 8 然后 wait </think> <answer> 8 </answer>",
        "<think> so then </think> none",
        "<think> so then </think> <answer> 7 </answer>",
    )
    given[3] = traces("p", "7", *[each.completion for each in given], finish_reason="length")[3]
    judged = Scoring().judge(given, VERIFIERS)
    assert [each.id for each in judged] == [each.id for each in given]
    assert [each.reason for each in judged] == ["correct", "wrong", "no_answer", "truncated"]
    assert [each.score for each in judged] == [1.0, 0.0, 0.0, 0.0]
    assert [each.answer for each in judged] == ["7", "8", None, None]
    assert [each.mixed for each in judged] == [False, True, False, False]
    assert [each.reflections for each in judged] == [0, 1, 0, 0]
    assert judged[1].language_share == 0.5  # so, wait / so, wait, 然, 后


def test_equal_completions_are_graded_once_but_not_across_problems_or_endings() -> None:
    seen: list[str] = []

    class Counting(Exact):
        def judge(self, answered: Any) -> Any:
            seen.extend(trace.problem_id for trace, _ in answered)
            return super().judge(answered)

    text = "<answer> 7 </answer>"
    given = [*traces("a", "7", text, text, text), *traces("b", "9", text)]
    given += traces("a", "7", text, finish_reason="length", origin="cut")
    judged = Scoring().judge(given, {"chain": Counting()})
    assert sorted(seen) == ["a", "b"]
    assert [each.reason for each in judged] == ["correct", "correct", "correct", "wrong", "truncated"]


def test_every_domain_has_its_verifier() -> None:
    half = traces("a", "0.5", r"\boxed{\frac{1}{2}}", domain="math")
    same = traces("b", "0.5", r"\boxed{\frac{1}{2}}")
    with Math() as math:
        judged = Scoring().judge([*half, *same], {"math": math, "chain": Exact()})
    assert [each.reason for each in judged] == ["correct", "wrong"]


def test_values_are_means_over_problems() -> None:
    groups = by_problem([*counted("a", 3, 4), *counted("b", 1, 4)])
    found = metrics(groups, [2], VERIFIERS)
    assert found["pass@1"].value == 0.5
    assert (found["pass@1"].n, found["pass@1"].samples) == (2, 8)
    assert found["pass@2"].value == 0.75  # (1 + 1/2) / 2
    assert found["pass@1"].low is not None
    assert found["pass@1"].low < 0.5 < (found["pass@1"].high or 0)


def test_lengths_are_told_apart() -> None:
    long = "<think> a b c d </think> <answer> 7 </answer>"  # 9 tokens
    short = "<answer> 8 </answer>"  # 3
    cut = traces("p", "7", "<think> a", finish_reason="length", index=9)  # 2
    given = [*traces("p", "7", long, long, short), *cut]
    found = metrics(by_problem(Scoring().judge(given, VERIFIERS)), [], VERIFIERS)
    assert found["mean_tokens"].value == 5.75
    assert found["mean_terminated_tokens"].value == 7.0
    assert found["mean_right_tokens"].value == 9.0
    assert found["mean_wrong_tokens"].value == 2.5
    assert found["truncated"].value == 0.25
    assert found["no_answer"].value == 0.0


def test_a_metric_without_anything_to_count_is_absent() -> None:
    uncounted = traces("p", "7", "<answer> 7 </answer>", completion_tokens=None)
    found = metrics(by_problem(Scoring().judge(uncounted, VERIFIERS)), [4], VERIFIERS)
    assert found["pass@1"].value == 1.0
    assert not {"mean_tokens", "mean_wrong_tokens", "pass@4", "cons@4"} & set(found)


def test_majority_vote_as_in_the_worked_example() -> None:
    sevens = answers("p", "7", "7", "7", "7", "7", "10", "6", "14", None)
    fourteens = answers("p", "7", "7", "14", "14", "14", "14", "14", "6", None)
    assert cons_at([ballot(sevens, Exact())], 8).value == 1.0
    assert cons_at([ballot(fourteens, Exact())], 8).value == 0.0


def test_votes_are_counted_by_the_verifiers_equality() -> None:
    given = traces("p", "0.5", *[f"<answer> {each} </answer>" for each in ("0.5", "0.50", "3", "3", "0.500")])
    loose, strict = Exact(tolerance=0.0), Exact()
    assert cons_at([ballot(Scoring().judge(given, {"chain": loose}), loose)], 5).value == 1.0
    assert cons_at([ballot(Scoring().judge(given, {"chain": strict}), strict)], 5).value == 0.0


def test_without_equality_there_is_no_vote() -> None:
    class Mute(Exact):
        votes = False

    groups = by_problem(counted("p", 2, 4))
    assert "cons@2" in metrics(groups, [2], VERIFIERS)
    assert "cons@2" not in metrics(groups, [2], {"chain": Mute()})
    assert "cons@2" not in metrics(groups, [2], VERIFIERS, votes=False)


def test_unjudged_completions_count_in_no_rate_but_are_counted(tmp_path: Any) -> None:
    bad = Scoring().judge(traces("b", {"no": "answer"}, "<answer> 7 </answer>"), VERIFIERS)
    judged = [*counted("a", 3, 4), *bad]
    groups = by_problem(judged)
    found = metrics(groups, [2], VERIFIERS)
    assert (found["pass@1"].value, found["pass@1"].n, found["pass@1"].samples) == (0.75, 1, 4)
    assert pass_at(groups, 2).n == 1
    assert outcome(groups[1]) == {"n": 0, "correct": 0, "pass_rate": None}
    out = Writer(tmp_path / "work")
    count_judged(out, judged)
    assert (out.rows_in, out.rows_kept) == (5, 4)
    assert out.counts == {"unjudged": {"unparseable_gold": 1}}


def test_too_many_unjudged_are_refused() -> None:
    manifest = Manifest(
        "s", "evaluate", "scores", "r", "c", counts={"unjudged": {"unparseable_gold": 6}}, rows_in=100
    )
    Scoring(max_unjudged=0.06).check_unjudged("s", manifest)
    with pytest.raises(StageError, match=r"s: 6 of 100 completions have no score \(unparseable_gold 6\)"):
        Scoring().check_unjudged("s", manifest)


def test_gamma_is_the_share_of_the_gap() -> None:
    base = by_problem(
        [
            each
            for p, right in zip("abcdefgh", (1, 2, 1, 0, 3, 1, 2, 1), strict=True)
            for each in counted(p, right, 8)
        ]
    )
    trained = by_problem([each for p in "abcdefgh" for each in counted(p, 6, 8)])
    found = realised_gamma(base, trained, 4)
    reach, first = pass_at(base, 4).value, pass_at(base, 1).value
    assert reach is not None and first is not None and found.value is not None
    assert found.value == pytest.approx((0.75 - first) / (reach - first), abs=1e-6)
    assert found.low is not None and found.high is not None
    assert found.low < found.value < found.high
    assert found.n == 8


def test_gamma_stands_on_shared_problems_only() -> None:
    base = by_problem([*counted("a", 2, 8), *counted("b", 4, 8)])
    trained = by_problem([*counted("b", 6, 8), *counted("z", 0, 8)])
    assert realised_gamma(base, trained, 4).n == 1
    assert realised_gamma(base, by_problem(counted("z", 1, 8)), 4).value is None


def test_gamma_of_no_gap_has_no_value() -> None:
    solved = by_problem([*counted("a", 8, 8), *counted("b", 8, 8)])
    assert realised_gamma(solved, solved, 4).value is None


@pytest.mark.parametrize(("n", "k"), [(1, None), (3, None), (4, 2), (31, 8), (32, 16), (64, 32), (100, 32)])
def test_the_largest_k_leaves_twice_as_many_samples(n: int, k: int | None) -> None:
    assert largest_k(n) == k


def test_settings_say_what_a_score_depends_on() -> None:
    found = settings(Sampling(max_tokens=64, temperature=0.6, template="r1", engine=TransformersEngine()))
    assert (found["max_tokens"], found["temperature"], found["template"]) == (64, 0.6, "r1")
    assert found["stop"] == ["</answer>"]
    assert found["engine"]["kind"] == "transformers"
    assert json.loads(json.dumps(found)) == found


def test_settings_say_where_a_models_opinion_decides() -> None:
    sampling = Sampling(max_tokens=64, engine=TransformersEngine())
    verifiers = {"chain": Exact(), "chat": RewardModel(model="org/name")}
    assert "learned" not in settings(sampling, verifiers, {"chain"})
    found = settings(sampling, verifiers, {"chain", "chat"})
    assert (found["learned"], found["judges"]) == (True, {"chat": "reward_model"})


def test_failed_completions_count_in_no_number() -> None:
    given = traces("p", "7", "<answer>7</answer>", "<answer>8</answer>")
    failed = traces("p", "7", "", "", finish_reason="error")
    for index, each in enumerate(failed):
        object.__setattr__(each, "id", f"failed{index}")
    every = metrics(by_problem(Scoring().judge([*given, *failed], VERIFIERS)), [], VERIFIERS)
    assert every == metrics(by_problem(Scoring().judge(given, VERIFIERS)), [], VERIFIERS)
    assert every["pass@1"].value == 0.5


def test_a_models_own_majority_scores_no_model() -> None:
    with pytest.raises(
        RecipeError, match=r"verifiers\.chain: majority labels traces by what most of them answer"
    ):
        Scoring().judge(traces("p", None, "<answer>7</answer>"), {"chain": Majority(of=Exact())})


def test_a_difference_is_paired_over_the_problems_that_both_have() -> None:
    before = [counted("a", 1, 4), counted("b", 2, 4), counted("only here", 4, 4)]
    after = [counted("b", 3, 4), counted("a", 2, 4), counted("only there", 0, 4)]
    found = difference(before, after)
    assert (found.value, found.n, found.samples, found.error) == (0.25, 2, 16, 0.0)
    assert difference(before, after, k=2).value == pytest.approx((5 / 6 - 1 / 2 + 1 - 5 / 6) / 2, abs=1e-6)
    assert difference(before, [counted("c", 1, 4)]).value is None
    assert difference(before, after, k=5).n == 0  # K beyond the samples
    rows = differences({"base": before, "sft": after, "rl": after})
    assert [(row["model"], row["base"], row["value"]) for row in rows] == [
        ("sft", "base", 0.25), ("rl", "base", 0.25), ("rl", "sft", 0.0),
    ]  # fmt: skip


def test_reach_tells_new_problems_from_those_that_are_only_surer() -> None:
    surer = [counted("a", 1, 8), counted("b", 1, 8)], [counted("a", 8, 8), counted("b", 0, 8)]
    found = reach(*surer, 4)
    assert found is not None and (found["gained"], found["lost"], found["problems"]) == (0, 1, 2)
    assert found["before"]["value"] == pytest.approx(1 / 2) and found["after"]["value"] == 0.5
    assert found["above"] is False
    never = [counted(f"p{i}", 0, 8) for i in range(20)]
    found = reach(never, [counted(f"p{i}", 4 + i % 2, 8) for i in range(20)], 4)
    assert found is not None and found["gained"] == 20 and found["above"] is True
    assert reach(never, never, 9) is None


def test_bands_are_those_of_the_base() -> None:
    base = [counted("never", 0, 4), counted("even", 2, 4), counted("even too", 3, 4), counted("sure", 4, 4)]
    model = [counted("never", 1, 4), counted("even", 4, 4), counted("even too", 2, 4), counted("new", 4, 4)]
    rows = bands(base, model)
    assert [(row["band"], row["problems"], row["pass@1"]["value"]) for row in rows] == [
        ("never", 1, 0.25), ("even", 2, 0.75),
    ]  # fmt: skip
    assert rows[0]["right_tokens"]["samples"] == 1 and rows[0]["wrong_tokens"]["samples"] == 3
    assert bands(model, [counted("even", 4, 4)])[0]["wrong_tokens"] is None


def test_the_best_model_leads_the_mean_over_benchmarks() -> None:
    low, high = [counted("a", 1, 4)], [counted("a", 3, 4)]
    found = best({"one": [low, high], "two": [high, high]})
    assert found is not None and (found["model"], found["value"], found["runner_up"]) == ("two", 0.75, "one")
    assert (found["difference"]["value"], found["clear"], found["benchmarks"]) == (0.25, False, 2)
    many = (
        [counted(f"p{i}", 3 + i % 2, 4) for i in range(12)],
        [counted(f"p{i}", i % 2, 4) for i in range(12)],
    )
    found = best({"bad": [many[1]], "good": [many[0]]})
    assert found is not None and found["clear"] is True and found["difference"]["value"] == 0.75
    assert best({"one": [low], "same": [low]})["model"] == "one"  # type: ignore[index]
    assert best({"alone": [low]}) is None
    assert best({"one": [low], "none": [[]]}) is None


def test_the_mean_over_benchmarks_weighs_them_equally() -> None:
    small = Estimate(0.5, 0.3, 0.8, 30, 120, 0.09)
    large = Estimate(0.7, 0.66, 0.73, 500, 2000, 0.02)
    found = over_sets([small, large])
    assert (found.value, found.n, found.samples) == (0.6, 530, 2120)
    assert found.error == pytest.approx((0.09**2 + 0.02**2) ** 0.5 / 2, abs=1e-6)
    assert found.low == pytest.approx(0.6 - (0.2**2 + 0.04**2) ** 0.5 / 2, abs=1e-6)
    assert found.high == pytest.approx(0.6 + (0.3**2 + 0.03**2) ** 0.5 / 2, abs=1e-6)
    assert over_sets([small]) is small
    assert over_sets([small, Estimate(None, None, None, 3, 0)]) == Estimate(None, None, None, 33, 120)
    assert over_sets([]) == Estimate(None, None, None, 0, 0)
    assert over_sets([small, large._replace(error=None)]).error is None
    assert Estimate.read({**small.as_json(), "model": "m"}) == small
    assert small.negated().negated() == small and small.negated().low == -0.8


def test_the_best_over_benchmarks_has_an_interval_that_is_paired() -> None:
    """Half of the problems of each benchmark are hard for both; where one model leads by one problem in ten it is clear."""

    def scored(right: int) -> list[list[Group]]:
        sizes = {"one": 20, "two": 60}
        return [
            [counted(f"{name}{at}", 4 if at % 10 < right else 0, 4) for at in range(size)]
            for name, size in sizes.items()
        ]

    found = best({"a": scored(5), "b": scored(6), "c": scored(2)})
    assert found is not None
    assert (found["model"], found["value"], found["runner_up"]) == ("b", 0.6, "a")
    assert found["low"] < 0.5 and found["high"] > 0.7  # alone neither could be told from the other
    assert found["difference"]["value"] == pytest.approx(0.1) and found["clear"] is True
    assert found["difference"]["error"] < found["error"]
    same = best({"a": scored(5), "b": scored(5)})
    assert same is not None and (same["model"], same["clear"]) == ("a", False)
    assert same["difference"]["low"] < 0 < same["difference"]["high"]


def test_a_cap_cuts_text_score_and_vote() -> None:
    group = answers("p", "7", "7", "8", None)
    for each, tokens in zip(group, (3, 9, 9), strict=True):
        object.__setattr__(each, "tokens", tokens)
    short = cut(group, 5)
    assert [(each.score, each.reason, each.tokens) for each in short] == [
        (1.0, "correct", 3), (0.0, "truncated", 5), (0.0, "truncated", 5),
    ]  # fmt: skip
    whole = ballot(group, Exact())
    assert cut_votes(group, whole, 5) == ballot(short, Exact())
    assert cut_votes(group, whole, 9) == whole
    object.__setattr__(group[0], "tokens", None)
    assert cut(group, 5)[0] == group[0]


def test_a_cut_sample_counts_even_where_its_gold_could_not_be_judged() -> None:
    group = answers("p", "7", "7", "7")
    object.__setattr__(group[1], "score", None)
    object.__setattr__(group[0], "tokens", 3)
    object.__setattr__(group[1], "tokens", 9)
    assert [each.score for each in cut(group, 5)] == [1.0, 0.0]
    assert cut_votes(group, ballot(group, Exact()), 5).clusters == [0, None]


def test_the_curve_of_votes_and_the_condition_behind_it() -> None:
    groups = [answers("a", "7", *["7"] * 5, *["8"] * 3), answers("b", "7", *["7"] * 2, *["8"] * 6)]
    votes = ballots_of(groups, VERIFIERS)
    found = curve(groups, 8, votes)
    assert found is not None and found["k"] == [1, 2, 4]
    for k, passed, voted in zip(found["k"], found["pass"], found["cons"], strict=True):
        assert passed == pass_at(groups, k).as_json()
        assert voted == cons_at([votes["a"], votes["b"]], k).as_json()
    one, two = (cons_at([votes[name]], 1).value for name in "ab")
    assert cons_at([votes["a"]], 4).value > one and cons_at([votes["b"]], 4).value < two
    leads = [leading(each) for each in votes.values()]
    assert leads == [Leading(5 / 8, 3 / 8, 2), Leading(2 / 8, 6 / 8, 2)]
    quiet = leading(ballot(answers("c", "7", None, None), Exact()))
    assert tally([each for each in [*leads, quiet] if each]) == {
        "problems": 3, "right": 1, "wrong": 1, "tied": 0, "silent": 1, "answers": 2.0,
    }  # fmt: skip
    assert curve(groups, 3, votes) is None and curve(groups, 64, votes) is None
    assert curve(groups, 8, {})["cons"] is None  # type: ignore[index]


def test_a_mean_has_its_standard_error() -> None:
    found = pass_at([counted("a", 0, 4), counted("b", 2, 4), counted("c", 4, 4)], 1)
    assert found.error == pytest.approx(0.5 / 3**0.5, abs=1e-6)
    assert pass_at([counted("a", 1, 4)], 1).error is None


def test_form_is_judged_whether_the_prompt_opened_the_reasoning_or_not() -> None:
    given = traces(
        "p",
        "7",
        "<think> so </think> <answer> 7 </answer>",
        "7",
        "<think> so",
        "so </think> a <answer>7</answer>",
    )
    opened = traces("p", "7", "so </think> <answer> 7 </answer>")[0]
    object.__setattr__(opened, "reasoning", "so")
    object.__setattr__(opened, "id", "opened")
    assert [each.formatted for each in Scoring().judge([*given, opened], VERIFIERS)] == [
        True,
        False,
        False,
        False,
        True,
    ]
