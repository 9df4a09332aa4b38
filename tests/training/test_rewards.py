import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from patience import PATIENCE_S
from pydantic import TypeAdapter, ValidationError

from distillkit.errors import StageError
from distillkit.measures.reflection import Reflection
from distillkit.toy.problems import generate
from distillkit.trace import Problem, Trace
from distillkit.training.rewards import (
    COLUMNS,
    METRICS,
    AnyReward,
    Circumstance,
    Function,
    Length,
    PythonReward,
    Reward,
    Rewards,
    Rollouts,
    dataset_row,
    functions_of,
    named,
)
from distillkit.training.rewards.description import reflections
from distillkit.verifiers import AnyVerifier, Exact, Math

END = 4
WORKED = "<think> 1 + 2 = 3 so 3 + 1 = 4 </think> <answer> 4 </answer>"
MIXED = "<think> 1 + 2 = 3 所以 3 + 1 = 4 so 4 + 0 = 4 </think> <answer> 4 </answer>"
LOST = WORKED.replace("<answer> 4", "<answer> 5")
TURNS = [
    "so wait",
    "-wait",
    "let me",
    "check again, but",
    "\n",
    "think",
    "re-",
    "let me check",
    "\u7b49\u7b49",
    "again wait-",
]


def rewards(given: Any) -> list[Reward]:
    return TypeAdapter(Rewards).validate_python(given)


class Group:
    """A batch as GRPOTrainer hands it to its reward functions."""

    def __init__(
        self,
        problem: Problem,
        *texts: str,
        lengths: list[int] | None = None,
        limit: int = 64,
        rate: float | None = None,
    ) -> None:
        row = dataset_row(problem, rate)
        lengths = lengths or [9] * len(texts)
        self.metrics: dict[str, float] = {}
        self.limit = limit
        self.batch: dict[str, Any] = {
            "prompts": [row["prompt"]] * len(texts),
            "completions": [[{"role": "assistant", "content": text}] for text in texts],
            "completion_ids": [[1] * (n - 1) + [END if n < limit else 1] for n in lengths],
            **{name: [value] * len(texts) for name, value in row.items() if name != "prompt"},
            "log_metric": self.metrics.__setitem__,
            "log_extra": None,
            "trainer_state": None,
        }

    def add(self, other: "Group") -> "Group":
        """With the completions of another group behind its own."""
        for name, values in other.batch.items():
            if isinstance(values, list):
                self.batch[name] = self.batch[name] + values
        return self

    def scores(self, given: Any, *, prefilled: bool = False, **verifiers: Any) -> list[list[float | None]]:
        """Of each reward, called as TRL calls it."""
        declared = named(rewards(given))
        gates = [each for each in declared.values() if each.kind == "format" and each.gate]
        circumstance = Circumstance(
            prefilled=prefilled,
            max_completion_length=self.limit,
            end_ids=frozenset({END}),
            verifiers=verifiers or {"chain": Exact()},
            gate=lambda domain: any(each.applies(domain) for each in gates),
        )
        return [called(each, self.batch) for each in functions_of(declared, Rollouts(circumstance))]


def called(function: Function, batch: dict[str, Any]) -> list[float | None]:
    found = function(**batch)
    return asyncio.run(found) if inspect.iscoroutine(found) else found


def problem(**fields: Any) -> Problem:
    needed = {"messages": [{"role": "user", "content": "1 + 2 + 1"}], "reference": "4", "domain": "chain"}
    return Problem(**{**needed, "language": "en", **fields})


def test_a_mapping_is_short_for_a_list() -> None:
    short, long = (
        rewards({"accuracy": 1.0, "format": 0.1}),
        rewards([{"kind": "accuracy"}, {"kind": "format", "weight": 0.1}]),
    )
    assert short == long
    assert [each.weight for each in short] == [1.0, 0.1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"language": 1.0}, "'language' is no reward that a weight alone makes"),
        ({"acuracy": 1.0}, "did you mean accuracy"),
        ({"reward_model": 1.0}, "write a list of rewards"),
        ([], "at least 1 item"),
        ([{"kind": "accuracy", "weight": float("nan")}], "finite"),
        ([{"kind": "format", "domains": []}], "at least 1 item"),
        ([{"kind": "length", "min_right": 2.0}], "must not lie above"),
        ([{"kind": "repetition", "max_penalty": 1.0}], "less than or equal to 0"),
    ],
)
def test_wrong_rewards_are_refused(given: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        rewards(given)


def test_every_reward_has_a_name_of_its_own() -> None:
    declared = rewards(
        [
            {"kind": "accuracy", "domains": ["math"]},
            {"kind": "accuracy", "domains": ["code"]},
            {"kind": "reward_model", "model": "org/helpful@main", "domains": ["chat"]},
            {"kind": "reward_model", "model": "toy:base"},
            {"kind": "reward_model", "model": "./helpful"},
        ]
    )
    assert list(named(declared)) == ["accuracy", "accuracy_2", "helpful", "toy_base", "helpful_2"]


def test_accuracy_is_the_verifiers_score_of_the_final_answer() -> None:
    wrong = "<think> <answer> 4 </answer> </think> <answer> 5 </answer>"
    [scores] = Group(problem(), WORKED, wrong, "<answer> 4 </answer>", "4").scores({"accuracy": 1})
    assert scores == [1.0, 0.0, 1.0, 0.0]


def test_a_gold_that_cannot_be_judged_is_no_opinion() -> None:
    group = Group(problem(reference=None, domain="math"), r"\boxed{4}")
    assert group.scores({"accuracy": 1, "length": 1}, math=Exact()) == [[None], [None]]
    assert Group(problem(domain="code"), WORKED).scores({"accuracy": 1}) == [[None]]


def test_each_domain_has_its_verifier() -> None:
    group = Group(problem(reference="1/2", domain="math"), r"\boxed{0.5}", r"\boxed{2}")
    with Math(workers=1) as verifier:
        assert group.scores({"accuracy": 1}, chain=Exact(), math=verifier) == [[1.0, 0.0]]


def test_a_completion_that_was_cut_off_has_no_right_answer() -> None:
    group = Group(problem(), WORKED, WORKED, lengths=[64, 63])
    assert group.scores({"accuracy": 1}) == [[0.0, 1.0]]
    assert group.metrics["truncated"] == 0.5


def test_an_end_token_at_the_very_limit_is_an_end() -> None:
    group = Group(problem(), WORKED, lengths=[64])
    group.batch["completion_ids"][0][-1] = END
    assert group.scores({"accuracy": 1}) == [[1.0]]


def test_a_stop_text_at_the_very_limit_is_an_end() -> None:
    group = Group(problem(), WORKED, LOST[:-3], lengths=[64, 64])
    circumstance = Circumstance(
        prefilled=False,
        max_completion_length=64,
        end_ids=frozenset({END}),
        stop=("</answer>",),
        verifiers={"chain": Exact()},
    )
    [accuracy] = functions_of(named(rewards({"accuracy": 1})), Rollouts(circumstance))
    assert called(accuracy, group.batch) == [1.0, 0.0]
    assert group.metrics["truncated"] == 0.5


def test_format_knows_a_prefilled_tag() -> None:
    bare = WORKED.removeprefix("<think>")
    given = {"format": 1}
    assert Group(problem(), WORKED, bare, "<answer> 4 </answer>").scores(given) == [[1.0, 0.0, 0.0]]
    assert Group(problem(), WORKED, bare).scores(given, prefilled=True) == [[0.0, 1.0]]


def test_a_gate_lets_accuracy_and_length_count_in_the_right_form_only() -> None:
    given = [{"kind": "accuracy"}, {"kind": "format", "gate": True}, {"kind": "length", "max_length": 18}]
    bare = "<answer> 4 </answer>"
    accuracy, form, length = Group(problem(), WORKED, bare, LOST).scores(given)
    assert accuracy == [1.0, 0.0, 0.0]
    assert form == [1.0, 0.0, 1.0]
    assert length == pytest.approx([0.75, -0.75, -0.75])
    elsewhere = [{"kind": "accuracy"}, {"kind": "format", "gate": True, "domains": ["math"]}]
    assert Group(problem(), WORKED, bare).scores(elsewhere) == [[1.0, 1.0], [None, None]]


def test_language_is_the_share_of_target_words_in_the_reasoning() -> None:
    given = {"language_consistency": 1}
    [scores] = Group(problem(), WORKED, MIXED, "<answer> 4 </answer>").scores(given)
    assert scores[0] == 1.0
    assert scores[1] == pytest.approx(1 / 3, abs=1e-3)  # one English word, two Chinese characters
    assert scores[2] == 0.0
    [chinese] = Group(problem(language="zh"), MIXED).scores(given)
    assert chinese[0] == pytest.approx(2 / 3, abs=1e-3)


def test_overlong_falls_over_the_last_fifth() -> None:
    group = Group(problem(), *[WORKED] * 4, lengths=[10, 80, 90, 100], limit=100)
    [scores] = group.scores({"overlong": 1})
    assert scores == [0.0, 0.0, -0.5, -1.0]
    [wider] = group.scores([{"kind": "overlong", "buffer": 40}])
    assert wider == [0.0, -0.5, -0.75, -1.0]


def test_repetition_reads_tokens() -> None:
    group = Group(problem(), WORKED, WORKED, lengths=[2, 11])
    group.batch["completion_ids"][1] = [5] * 10 + [END]
    [scores] = group.scores([{"kind": "repetition", "ngram_size": 2, "max_penalty": -2.0}])
    assert scores == [0.0, pytest.approx(-2 * 0.8)]  # 2 of 10 pairs are different


@pytest.mark.parametrize("length", [1, 25, 50, 99, 100, 200, 1000])
def test_length_is_the_cosine_of_trl_and_does_not_come_back(length: int) -> None:
    from trl.rewards import get_cosine_scaled_reward

    theirs = get_cosine_scaled_reward(max_len=100)
    for right in (True, False):
        completion = [[{"role": "assistant", "content": r"\boxed{3}"}]]
        [expected] = theirs(completion, ["3" if right else "4"], [[1] * length])
        assert Length().at(right, length / 100) == pytest.approx(expected)


def test_a_reward_is_for_its_domains_only() -> None:
    group = Group(problem(), WORKED).add(Group(problem(domain="chat", reference=None), "hello"))
    given = [{"kind": "accuracy", "domains": ["chain"]}, {"kind": "overlong", "domains": ["chat"]}]
    assert group.scores(given) == [[1.0, None], [None, 0.0]]


def test_a_completion_is_judged_once_however_many_rewards_ask() -> None:
    asked: list[int] = []

    class Counting(Exact):
        def judge(self, answered: Any) -> Any:
            asked.append(len(answered))
            return super().judge(answered)

    Group(problem(), WORKED, LOST).scores({"accuracy": 1, "length": 1}, chain=Counting())
    assert asked == [2]


def test_equal_completions_of_a_problem_are_judged_once() -> None:
    asked: list[str] = []

    class Counting(Exact):
        def judge(self, answered: Any) -> Any:
            asked.extend(answer for _, answer in answered)
            return super().judge(answered)

    other = problem(messages=[{"role": "user", "content": "2 + 3"}], reference="5")
    group = Group(problem(), WORKED, LOST, WORKED, WORKED, lengths=[9, 9, 9, 64])
    group.add(Group(other, WORKED, LOST, LOST))
    given = {"accuracy": 1, "format": 1, "language_consistency": 1}
    accuracy, form, language = group.scores(given, chain=Counting())
    assert accuracy == [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0]  # the fourth was cut off
    assert form == language == [1.0] * 7
    assert asked == ["4", "5", "4", "5"]


def test_where_traces_vote_each_of_the_equal_ones_has_a_vote() -> None:
    verifier = TypeAdapter(AnyVerifier).validate_python({"kind": "majority", "of": {"kind": "exact"}})
    group = Group(problem(reference=None), LOST, WORKED, WORKED, LOST, LOST)
    assert group.scores({"accuracy": 1}, chain=verifier) == [[1.0, 0.0, 0.0, 1.0, 1.0]]


@example(["so I think", "again it is 4", "go over the", "steps"])
@given(
    st.lists(
        st.text(st.sampled_from("ab.-, \n\u6240\u91cd")) | st.sampled_from(TURNS), min_size=1, max_size=6
    )
)
def test_reflections_of_many_texts_are_those_of_each(texts: list[str]) -> None:
    traces = [Trace("p", [], text, "", text) for text in texts]
    assert reflections(traces) == sum(Reflection().measure(trace)["count"] for trace in traces)


def test_rewards_that_wait_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=PATIENCE_S)

    class Meeting(Exact):
        def judge(self, answered: Any) -> Any:
            both.wait()  # broken where the other one comes only afterwards
            return super().judge(answered)

    group = Group(problem(), WORKED).add(Group(problem(domain="math"), WORKED))
    given = [{"kind": "accuracy", "domains": ["chain"]}, {"kind": "accuracy", "domains": ["math"]}]
    one, two = (
        functions_of(
            named(rewards([each])),
            Rollouts(
                Circumstance(
                    prefilled=False,
                    max_completion_length=64,
                    end_ids=frozenset({END}),
                    verifiers={domain: Meeting()},
                )
            ),
        )[0]
        for each, domain in zip(given, ("chain", "math"), strict=True)
    )

    async def together() -> Any:
        return await asyncio.gather(one(**group.batch), two(**group.batch))

    assert asyncio.run(together()) == [[1.0, None], [None, 1.0]]


def test_every_batch_is_described_once() -> None:
    group = Group(problem(), WORKED, MIXED, "<answer> 4 </answer>", "<think> wait 4 </think> 4", rate=0.3)
    group.scores({"accuracy": 1, "format": 1, "language_consistency": 1})
    assert {name: group.metrics[name] for name in METRICS} == {
        "mixed_language": 0.25,
        "reflections": 0.25,
        "reasoned": 0.75,
        "truncated": 0.0,
        "answer_in_reasoning": 0.0,
        "distinct": 1.0,
        "strategies": 1.0,
    }
    assert group.metrics["unjudged"] == group.metrics["format_only"] == 0.0
    assert group.metrics["right_length"] == group.metrics["right_length_hard"] == 9.0


def test_lengths_of_right_and_wrong_are_told_apart_and_by_band() -> None:
    group = Group(problem(), WORKED, LOST, LOST, lengths=[10, 20, 30], rate=0.02)
    group.add(Group(problem(messages=[{"role": "user", "content": "4"}]), WORKED, lengths=[40], rate=1.0))
    group.scores({"accuracy": 1})
    found = {name: value for name, value in group.metrics.items() if "length" in name}
    assert found == {
        "right_length": 25,
        "wrong_length": 25,
        "right_length_rare": 10,
        "wrong_length_rare": 25,
        "right_length_sure": 40,
    }
    assert group.metrics["format_only"] == 0.5


def test_answers_inside_the_reasoning_and_repeated_ones_are_counted() -> None:
    hidden = r"<think> so \boxed{4} </think> done"
    group = Group(problem(), hidden, hidden, WORKED, WORKED.replace("1 + 2 = 3", "1 + 3 = 4"))
    group.scores({"format": 1})
    assert group.metrics["answer_in_reasoning"] == 0.5
    assert (group.metrics["distinct"], group.metrics["strategies"]) == (0.75, 0.5)


def test_a_new_batch_is_read_anew() -> None:
    rollouts = Rollouts(
        Circumstance(
            prefilled=False, max_completion_length=64, end_ids=frozenset({END}), verifiers={"chain": Exact()}
        )
    )
    [reward] = functions_of(named(rewards({"accuracy": 1})), rollouts)
    assert reward.__name__ == "accuracy"
    assert called(reward, Group(problem(), WORKED).batch) == [1.0]
    assert called(reward, Group(problem(), "<answer> 1 </answer>").batch) == [0.0]


def test_rows_hold_what_the_rewards_read() -> None:
    [each] = generate(1, 0, "train")
    row = dataset_row(each, 0.25)
    assert row["prompt"] == each.messages
    assert row["reference"] == f'"{each.reference}"'
    assert row["rate"] == 0.25
    assert set(row) == {"prompt", "rate", *COLUMNS}


@pytest.mark.parametrize(
    "text",
    [
        WORKED + " and more",
        WORKED + "\n" + WORKED,
        "<think> a </think>\n<answer> 4 </answer>\n\nUser: next",
        "<think> a </think> <answer> 4 </answer> <answer> 5 </answer>",
        "<think> a <think> b </think> </think> <answer> 4 </answer>",
        "so <think> a </think> <answer> 4 </answer>",
        "<think> </think> <answer> 4 </answer>",
    ],
)
def test_a_form_with_junk_is_no_form(text: str) -> None:
    """A regular expression with `$` and MULTILINE lets junk behind `</answer>` pass, and a second block."""
    assert Group(problem(), text).scores({"format": 1}) == [[0.0]]


def test_the_last_box_outside_the_reasoning_decides() -> None:
    """Where boxes are merged, or read out of the reasoning, the first is scored wrong and the second right."""
    corrected = r"<think> \boxed{3} no </think> first \boxed{3}, rather \boxed{4}"
    hidden = r"<think> so \boxed{4} </think> that is all"
    spoken = r"<think> so \boxed{5} </think> it is \boxed{4}"
    group = Group(problem(domain="math"), corrected, hidden, spoken)
    with Math(workers=1) as verifier:
        assert group.scores({"accuracy": 1}, math=verifier) == [[1.0, 0.0, 1.0]]
    assert group.metrics["answer_in_reasoning"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("gold", "right"), [("B", "B"), ("yes", "yes"), ("1,000", "1,000")])
def test_short_golds_are_not_skipped(gold: str, right: str) -> None:
    group = Group(problem(reference=gold), rf"\boxed{{{right}}}", r"\boxed{no}")
    assert group.scores({"accuracy": 1}) == [[1.0, 0.0]]


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """A reward of the user's own, and its file's text set before."""

    def make(text: str) -> dict[str, Any]:
        file = tmp_path / "brevity.py"
        file.write_text(text, "utf-8")
        return {"kind": "python", "file": str(file), "function": "reward", "workers": 1}

    return make


def test_a_reward_of_the_users_own(own: Any) -> None:
    text = "def reward(row):\n    return None if row['answer'] == '' else 3 - len(row['response'].split()) * True\n"
    given = own(text)
    group = Group(problem(), WORKED, "<answer> 4 </answer> so there", "no answer")
    assert group.scores([given]) == [[0.0, -2.0, None]]
    [reward] = rewards([given])
    assert isinstance(reward, PythonReward)
    assert list(named([reward])) == ["brevity"]
    assert reward.foreign() == [f"reward runs reward() of {reward.file}"]
    reward.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def reward(row):\n    raise KeyError('tests')\n", r"KeyError: 'tests' \(brevity.py:2\)"),
        ("def reward(row):\n    return float('nan')\n", "returned nan; return a finite number"),
        ("def reward(row):\n    return 'good'\n", "returned str; return a number, a bool or None"),
    ],
)
def test_a_reward_that_raises_is_one_line(own: Any, text: str, message: str) -> None:
    state = type("State", (), {"global_step": 6})()
    group = Group(problem(), WORKED)
    group.batch["trainer_state"] = state
    with pytest.raises(
        StageError, match=rf"brevity\.py: reward\(\) failed at step 7 on completion 0 .*{message}"
    ):
        group.scores([own(text)])


def test_a_reward_that_never_ends_has_no_opinion(own: Any) -> None:
    given = own("def reward(row):\n    while row['answer'] == '5':\n        pass\n    return 1\n")
    assert Group(problem(), WORKED, LOST).scores([{**given, "cpu_s": 0.3}]) == [[1.0, None]]


def test_kinds_are_told_apart_by_their_kind() -> None:
    assert TypeAdapter(AnyReward).validate_python({"kind": "overlong", "buffer": 3}).buffer == 3
    with pytest.raises(ValidationError, match="kind"):
        TypeAdapter(AnyReward).validate_python({"kind": "tag_count"})
