"""A reward model on the toy world's pairs: it learns what is liked, is tested on what it never saw, and is loadable."""

import json
import shutil
from array import array
from pathlib import Path
from typing import Any

import pytest

from distillkit.artifact import Artifact, Manifest, Model, weights_content
from distillkit.check import check
from distillkit.errors import RecipeError, StageError
from distillkit.recipe import load
from distillkit.spec import digest, identity
from distillkit.stages.base import Input, Job, write_shards
from distillkit.stages.preferences import Preferences
from distillkit.stages.reward_model import RewardModelStage, examined
from distillkit.store import Store
from distillkit.toy import PACKAGED
from distillkit.toy.chat import pairs as toy_pairs
from distillkit.trace import Pair, Trace, pair_of, pair_schema, to_row
from distillkit.training.comparison import Compared, Comparisons, leads_of
from distillkit.training.rewards.classifier import Classifier
from distillkit.verifiers.reward_model import RewardModel
from distillkit.wiring import resolve

SHARDS = 2
BASE = PACKAGED["toy:world"]


def polite(**fields: Any) -> RewardModelStage:
    needed = {"model": "toy:world", "learning_rate": 2e-3, "epochs": 2, "batch": 16}
    return RewardModelStage(
        name="polite", **{**needed, "max_length": 64, "heldout": 0.2, "save_steps": 5, **fields}
    )


def sealed(store: Store, pairs: list[Pair]) -> Input:
    request = digest([pair.id for pair in pairs])
    with store.building("preferences", request, print) as out:
        write_shards(Job(store, out, {}, shards=SHARDS), [to_row(pair) for pair in pairs], pair_schema())
        made = store.seal(out, Manifest("likes", "preferences", "pairs", request, ""))
    return Input("likes", "pairs", made.content, artifact=made.path.name)


def run(
    store: Store,
    stage: RewardModelStage,
    likes: Input,
    name: str,
    scratch: Path | None = None,
    keep: Path | None = None,
) -> tuple[Artifact, list[str]]:
    """The artifact and the warnings; `scratch`: what an interrupted run left, `keep`: where to save what this one leaves."""
    told: list[str] = []
    with store.building("reward_model", digest(name), print) as out:
        if scratch is not None:
            shutil.copytree(scratch, out.scratch, dirs_exist_ok=True)
        model = Input("toy:world", "weights", weights_content(BASE), path=str(BASE))
        stage.run(
            Job(store, out, {"input": [likes], "model": [model]}, seed=1, shards=SHARDS, warn=told.append)
        )
        if keep is not None:
            shutil.copytree(out.scratch, keep)
        return store.seal(out, Manifest(stage.name, "reward_model", "weights", digest(name), "")), told


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("rm") / "store")


@pytest.fixture(scope="module")
def likes(store: Store) -> Input:
    with store.building("preferences", "p" * 16, print) as out:
        Preferences(name="likes", toy="harmless", limit=160).run(Job(store, out, {}, shards=SHARDS))
        made = store.seal(out, Manifest("likes", "preferences", "pairs", "p" * 16, ""))
    return Input("likes", "pairs", made.content, artifact=made.path.name)


@pytest.fixture(scope="module")
def made(store: Store, likes: Input, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Path]:
    """An undisturbed training, and what its work folder held."""
    keep = tmp_path_factory.mktemp("kept") / "scratch"
    return run(store, polite(), likes, "undisturbed", keep=keep)[0], keep


def test_it_learns_what_it_was_never_shown(made: tuple[Artifact, Path]) -> None:
    summary = made[0].manifest.summary
    accuracy = summary["heldout"]["accuracy"]
    assert accuracy["n"] == summary["heldout"]["pairs"] == 32
    assert 0.5 < accuracy["low"] <= accuracy["value"] <= accuracy["high"] <= 1
    assert accuracy["value"] >= 0.9
    assert (summary["on"], summary["pairs"], summary["steps"]) == ("completion", 128, 16)
    curves = json.loads((made[0].path / "curves.json").read_text("utf-8"))
    assert {"loss", "accuracy", "margin", "mean_reward"} < set(curves)
    assert curves["step"] == list(range(1, 17))
    assert curves["loss"][-1] < 0.5 * curves["loss"][0]


def test_what_is_saved_is_a_classifier_and_nothing_is_pickled(made: tuple[Artifact, Path]) -> None:
    folder = made[0].path / "model"
    assert {path.suffix for path in folder.iterdir()} == {".json", ".jinja", ".safetensors"}
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["Qwen3ForSequenceClassification"]
    assert len(config.get("id2label", {0: ""})) == 1


def test_what_is_saved_rates_as_it_was_tested(
    made: tuple[Artifact, Path], store: Store, likes: Input
) -> None:
    tested = made[0].manifest.summary["heldout"]["lead"]
    assert lead_of(made[0], store, likes) == pytest.approx(tested, abs=1e-3)


@pytest.mark.slow
def test_the_verifier_judges_by_it(made: tuple[Artifact, Path]) -> None:
    folder = str(made[0].path / "model")
    told = toy_pairs(60, 9, "heldout", "harmless")
    traces = [
        Trace(f"{number:016x}", each.problem.messages, text, "", text, index=index, origin="x")
        for number, each in enumerate(told)
        for index, text in enumerate((each.chosen, each.rejected))
    ]
    with RewardModel(model=folder, show="completion").pinned(lambda kind, name: "") as verifier:
        scores = [verdict.score for verdict in verifier.grade_all(traces)]
    right = sum(good > bad for good, bad in zip(scores[::2], scores[1::2], strict=True))
    assert right >= 0.9 * len(told)


def test_a_training_that_was_cut_off_ends_as_if_it_was_not(
    made: tuple[Artifact, Path], store: Store, likes: Input, tmp_path: Path
) -> None:
    artifact, kept = made
    cut = tmp_path / "cut"
    shutil.copytree(kept, cut, ignore=shutil.ignore_patterns("checkpoint-16"))
    assert [path.name for path in cut.glob("checkpoint-*")] == ["checkpoint-15"]
    again, _ = run(store, polite(), likes, "again", scratch=cut)
    assert again.content == artifact.content


def test_pairs_that_cannot_be_used_are_counted(store: Store, likes: Input) -> None:
    pairs = [
        Pair([{"role": "user", "content": f"name a green stone {'now ' * n}"}], "jade", "nothing")
        for n in range(6)
    ]
    more = [
        Pair(pairs[0].messages, "jade " * 99, "nothing"),
        Pair(pairs[0].messages, "<think> a </think>", "nothing"),
    ]
    artifact, told = run(
        store, polite(on="response", epochs=1, batch=2), sealed(store, [*pairs, *more]), "counted"
    )
    assert artifact.manifest.rejected == {"too_long": 1, "no_response": 1}
    assert (artifact.manifest.rows_in, artifact.manifest.rows_kept) == (8, 6)
    assert artifact.manifest.summary["heldout"]["accuracy"]["n"] == 1
    assert len(told) == len(artifact.manifest.summary["warnings"]) == 1  # one prompt proves nothing


def test_no_pair_left_is_said_in_words(store: Store) -> None:
    likes = sealed(store, [Pair([{"role": "user", "content": "name a stone"}], "<think> a", "<think> b")])
    with pytest.raises(StageError, match=r"none of 1 pairs can be used \(1 no_response\)"):
        run(store, polite(on="response"), likes, "none")


@pytest.mark.slow
def test_an_adapter_is_merged_into_a_whole_model(store: Store, likes: Input) -> None:
    stage = polite(lora={"rank": 8, "alpha": 32}, epochs=1, learning_rate=5e-3)
    artifact, _ = run(store, stage, likes, "lora")
    folder = artifact.path / "model"
    assert not (folder / "adapter_config.json").exists()
    assert json.loads((folder / "config.json").read_text("utf-8"))["architectures"] == [
        "Qwen3ForSequenceClassification"
    ]
    assert lead_of(artifact, store, likes) == pytest.approx(
        artifact.manifest.summary["heldout"]["lead"], abs=1e-3
    )


def lead_of(artifact: Artifact, store: Store, likes: Input) -> float:
    """How far apart the saved model rates the pairs that its training held out."""
    judge = Classifier.load(Model("polite", str(artifact.path / "model"), ""))
    pairs = [pair_of(row) for row in store.open(likes.artifact).rows()]
    _, heldout = Comparisons.of(pairs, judge.tokenizer, "completion", 64).parted(0.2, seed=1)
    leads = leads_of(judge.model, judge.tokenizer, heldout)
    return sum(leads) / len(leads)


def even(count: int, leads: list[float], lengths: tuple[int, int] = (3, 3)) -> dict[str, Any]:
    pairs = [
        Compared(str(number), [], array("i", [0] * lengths[0]), array("i", [0] * lengths[1]), None)
        for number in range(count)
    ]
    return examined(pairs, leads)


def test_what_may_be_chance_or_length_is_warned_of() -> None:
    assert even(0, []) == {"heldout": None, "warnings": []}
    assert "chance" in even(40, [1.0, -1.0] * 20)["warnings"][0]["text"]
    assert even(40, [1.0] * 36 + [-1.0] * 4)["warnings"] == []
    assert "length" in even(40, [1.0] * 36 + [-1.0] * 4, (4, 3))["warnings"][0]["text"]
    assert "shorter" in even(40, [1.0] * 36 + [-1.0] * 4, (3, 4))["warnings"][0]["text"]
    assert even(4, [0.0] * 4)["heldout"]["accuracy"]["value"] == 0.5


RECIPE = """
name: r
engine: {kind: transformers}
verifiers: {chain: {kind: exact}}
stages:
  - {name: heldout, kind: problems, toy: chain, limit: 4, split: heldout}
  - {name: likes, kind: preferences, toy: helpful, limit: 20}
  - {name: helpful, kind: reward_model, model: toy:world, learning_rate: 1.0e-3, max_length: 64}
  - {name: scores, kind: evaluate, models: [helpful], max_tokens: 8}
"""


def test_a_reward_model_is_refused_where_text_is_wanted(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(RECIPE)
    with pytest.raises(RecipeError, match="helpful is a reward model: it rates text and writes none"):
        resolve(load(recipe))


def test_a_reward_model_that_is_shown_something_else_is_warned_of(tmp_path: Path) -> None:
    paid = (
        "{name: zero, kind: grpo, model: toy:world, learning_rate: 1.0e-4, steps: 1, max_completion_length: 8"
    )
    reward = "rewards: [{kind: reward_model, model: helpful, on: %s}]}"
    text = RECIPE.replace("split: heldout}", "domain: chat}").partition("  - {name: scores")[0]
    recipe = tmp_path / "r.yaml"
    for on, count in (("completion", 0), ("response", 1)):
        recipe.write_text(f"{text}  - {paid}, {reward % on}\n")
        warned = [line for line in check(load(recipe), tmp_path).warnings if "learnt to rate" in line]
        assert len(warned) == count


def test_what_it_learns_from_decides_what_is_made_and_names_do_not() -> None:
    assert identity(polite()) == identity(polite(input="others", save_steps=7))
    assert identity(polite()) != identity(polite(on="response"))
    with pytest.raises(RecipeError, match="unknown key"):
        polite(trainer={"beta": 0.1}).check(Path())
    with pytest.raises(RecipeError, match="write max_length: beside trainer"):
        polite(trainer={"max_length": 12}).check(Path())
    assert polite().limited(8).batch == 8
