"""Rewards by opinion: a classifier in this process, a judge over real HTTP."""

import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from distillkit.artifact import Model
from distillkit.errors import MissingError
from distillkit.recipe import load
from distillkit.spec import identity
from distillkit.toy import BASE
from distillkit.trace import Problem
from distillkit.training.rewards import (
    Circumstance,
    JudgeReward,
    RewardModel,
    Rewards,
    Rollouts,
    functions_of,
    named,
)
from distillkit.training.rewards.batch import Batch
from distillkit.training.rewards.classifier import Classifier
from distillkit.wiring import resolve

_spec = importlib.util.spec_from_file_location("faultserver", Path(__file__).parents[1] / "faultserver.py")
assert _spec is not None and _spec.loader is not None
faultserver = importlib.util.module_from_spec(_spec)
sys.modules.setdefault("faultserver", faultserver)
_spec.loader.exec_module(faultserver)

PROBLEM = Problem(messages=[{"role": "user", "content": "1 + 2"}], domain="chat")
TEXTS = ["<think> 1 + 2 = 3 </think> <answer> 3 </answer>", "<answer> 4 </answer>", "<think> so 7 </think> 9"]


def batch(texts: Sequence[str] = TEXTS, **fields: Any) -> Batch:
    circumstance = Circumstance(prefilled=False, max_completion_length=64, end_ids=frozenset({4}), **fields)
    row = {"id": "p", "reference": "null", "domain": "chat", "source": "", "language": "en"}
    many, ids = len(texts), [[1, 4]] * len(texts)
    columns = {name: [value] * many for name, value in row.items()}
    traces = circumstance.traces([PROBLEM.messages] * many, texts, ids, columns)
    return Batch(traces, ids, [None] * many, circumstance, 1, lambda name, value: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random reward model with the toy's tokenizer."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    found = tmp_path_factory.mktemp("rm") / "helpful"
    AutoModelForSequenceClassification.from_pretrained(BASE, num_labels=1).save_pretrained(found)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(found)
    return found


def alone(classifier: Classifier, text: str) -> float:
    """The output for one text as TRL computes it."""
    import torch
    from trl.data_utils import apply_chat_template

    rows = {"messages": [*PROBLEM.messages, {"role": "assistant", "content": text}]}
    told = apply_chat_template(rows, classifier.tokenizer)["text"]
    inputs = classifier.tokenizer(text=[told], return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        return float(classifier.model(**inputs).logits[0, 0])


def test_a_reward_model_pays_what_trl_would_on_the_part_that_it_is_shown(folder: Path) -> None:
    classifier = Classifier.load(Model("helpful", str(folder), ""))
    models = {"helpful": classifier}
    whole = RewardModel(model="helpful").score(batch(models=models), [0, 2])
    assert whole == pytest.approx([alone(classifier, TEXTS[0]), alone(classifier, TEXTS[2])], abs=1e-4)
    part = RewardModel(model="helpful", on="response").score(batch(models=models), [0, 1, 2])
    shown = ["<answer> 3 </answer>", "<answer> 4 </answer>", "9"]
    assert part == pytest.approx([alone(classifier, text) for text in shown], abs=1e-4)
    pressed = RewardModel(model="helpful", on="response", squash="sigmoid").score(batch(models=models), [0])
    assert pressed[0] is not None and part[0] is not None
    assert 0 < pressed[0] < 1
    assert (pressed[0] > 0.5) == (part[0] > 0)


SILENT = ["<think> 1 + 2 = 3 and on and on", "<think> so </think>", " "]


@pytest.mark.parametrize("weight", [1.0, -1.0])
def test_no_answer_never_pays_better_than_the_worst_answer(folder: Path, weight: float) -> None:
    models = {"helpful": Classifier.load(Model("helpful", str(folder), ""))}
    asked = batch([*TEXTS, *SILENT, TEXTS[0]], models=models)
    raw, pressed = (
        RewardModel(model="helpful", on="response", squash=squash, weight=weight).score(asked, range(7))
        for squash in ("none", "sigmoid")
    )
    for found in (raw, pressed):
        paid = [weight * each for each in found if each is not None]
        assert len(paid) == 7
        assert paid[0] == paid[6]
        assert max(paid[3:6]) == min(paid[3:6]) < min(*paid[:3], paid[6])
    assert min(weight * each for each in raw[:3]) - weight * raw[3] == pytest.approx(1.0)
    assert pressed[3] == (0.0 if weight > 0 else 1.0)
    whole = RewardModel(model="helpful", on="completion").score(asked, range(7))
    assert whole[3] == pytest.approx(alone(models["helpful"], SILENT[0]), abs=1e-4)  # a text like any other
    assert whole[5] == pytest.approx(min(whole) or 0)
    assert whole[5] < min(whole[:5])


def test_no_answer_is_compared_with_those_to_its_own_problem(folder: Path) -> None:
    """Where nobody answered all pay the same, and nothing is learned from it."""
    classifier = Classifier.load(Model("helpful", str(folder), ""))
    one = batch([TEXTS[0], SILENT[0]], models={"helpful": classifier})
    rows = [*one.traces, *(replace(trace, problem_id="q") for trace in batch(SILENT).traces)]
    both = Batch(rows, [[1, 4]] * 5, [None] * 5, one.circumstance, 1, lambda name, value: None)
    found = RewardModel(model="helpful", on="response").score(both, range(5))
    assert found == pytest.approx([found[0], found[0] - 1, -1.0, -1.0, -1.0])  # type: ignore[operator]


def test_a_conversation_that_is_too_long_for_it_has_no_opinion(folder: Path) -> None:
    classifier = Classifier.load(Model("helpful", str(folder), ""))
    long = [{"role": "user", "content": "1 + " * 600}]
    assert classifier.scores([long, PROBLEM.messages])[0] is None
    assert classifier.scores([long, PROBLEM.messages])[1] is not None


def test_weights_that_are_no_reward_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no sequence classifier"):
        Classifier.load(Model("base", str(BASE), ""))
    with pytest.raises(MissingError, match="no model in"):
        Classifier.load(Model("none", str(tmp_path), ""))


def test_a_judges_marks_are_paid_and_an_outage_is_no_opinion() -> None:
    asked: list[str] = []

    def plan(call: Any) -> Any:
        asked.append(call.body["messages"][-1]["content"])
        if "<answer> 4 </answer>" in call.body["messages"][-1]["content"]:
            return faultserver.Fault(400)
        marked = json.dumps(
            {"why": "kind", "mark": 7 if "<answer> 3" in call.body["messages"][-1]["content"] else 0}
        )
        message = {"role": "assistant", "content": marked}
        return faultserver.Fault(
            change={"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
        )

    with faultserver.FaultServer(style="none") as server:
        server.plan = plan
        engine = {"kind": "endpoint", "base_urls": [server.url], "served_model": "teacher", "tries": 1}
        declared = {
            "kind": "judge",
            "engine": engine,
            "rubric": "Is it kind?",
            "scale": 10,
            "n": 1,
            "weight": 0.5,
        }
        [reward] = TypeAdapter(Rewards).validate_python([declared])
        assert isinstance(reward, JudgeReward)
        assert (reward.weight, reward.learned, reward.waits) == (0.5, True, True)
        assert reward.score(batch([*TEXTS, *SILENT]), range(6)) == [0.7, None, 0.0, 0.0, 0.0, 0.0]
        assert len(asked) == 3  # what says nothing is not shown
        reward.close()
    [function] = functions_of(named([reward]), Rollouts(batch().circumstance))
    assert function.__name__ == "judge"


RECIPE = """\
name: mixed
verifiers: {chain: {kind: exact}}
stages:
  - {name: problems, kind: problems, toy: chain, limit: 10}
  - {name: heldout, kind: problems, toy: chain, limit: 5, split: heldout}
  - {name: likes, kind: preferences, toy: helpful, limit: 10}
  - {name: helpful, kind: reward_model, model: toy:world, input: likes, learning_rate: 1.0e-3, max_length: 64}
  - {name: writer, kind: grpo, model: toy:base, input: problems, learning_rate: 1.0e-3, max_completion_length: 32, steps: 1}
  - name: final
    kind: grpo
    model: toy:base
    learning_rate: 1.0e-3
    steps: 2
    max_completion_length: 32
    evaluate: {problems: HELDOUT, every: 1}
    rewards:
      - {kind: accuracy, domains: [chain]}
      - {kind: reward_model, model: MODEL, domains: [chat]}
"""


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[Any]:
    def made(model: str, heldout: str = "heldout") -> dict[str, list[str]]:
        text = RECIPE.replace("MODEL", model).replace("HELDOUT", heldout)
        file = tmp_path / "mixed.yaml"
        file.write_text(text, "utf-8")
        return next(step.wires for step in resolve(load(file)) if step.name == "final")

    return made


def test_the_models_and_problems_inside_are_wires(wires: Any) -> None:
    found = wires("helpful")
    assert (found["rewards"], found["evaluate"], found["input"]) == (["helpful"], ["heldout"], ["problems"])
    assert wires("org/helpful@main")["rewards"] == ["org/helpful@main"]


@pytest.mark.parametrize(
    ("model", "heldout", "message"),
    [
        ("helpfull", "heldout", "stages.final.rewards: 'helpfull' is neither an earlier stage, nor org/name"),
        ("problems", "heldout", "stages.final.rewards: problems makes problems, needed is weights"),
        ("writer", "heldout", "stages.final.rewards: writer is a grpo stage, whose weights write text"),
        ("helpful", "held", "stages.final.evaluate: no stage 'held'; did you mean heldout?"),
    ],
)
def test_a_wrong_name_inside_is_refused(wires: Any, model: str, heldout: str, message: str) -> None:
    from distillkit.errors import RecipeError

    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        wires(model, heldout)


def test_the_name_of_a_reward_model_is_no_identity() -> None:
    one, two = RewardModel(model="helpful"), RewardModel(model="org/helpful@main")
    assert identity(one) == identity(two) != identity(RewardModel(model="helpful", on="response"))
