"""check --deep: what a training would meet in its first minute."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from distillkit.check import Finding
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.inspection import inspect
from distillkit.recipe import Recipe
from distillkit.toy import BASE

PROBLEMS = {"name": "problems", "kind": "problems", "toy": "chain", "limit": 8}
TRACES = {"name": "traces", "kind": "sample", "model": "toy:base", "n": 1, "max_tokens": 8}
SFT = {"name": "student", "kind": "sft", "model": "toy:base", "learning_rate": 1e-3, "max_length": 96}
GRPO = {
    "name": "zero",
    "kind": "grpo",
    "model": "toy:base",
    "learning_rate": 1e-3,
    "steps": 1,
    "max_completion_length": 48,
}


def looked(*stages: dict[str, Any], folder: Path = Path()) -> Finding:
    body = {
        "name": "deep",
        "engine": {"kind": "transformers"},
        "verifiers": {"chain": {"kind": "exact"}},
        "stages": [PROBLEMS, TRACES, *stages],
    }
    recipe = Recipe.model_validate(body)
    finding = Finding(recipe.name)
    inspect(recipe, folder / "deep.yaml", finding)
    return finding


def base(folder: Path, template: str | None) -> str:
    """A copy of the toy base with another template, or none."""
    shutil.copytree(BASE, folder / "base")
    file = folder / "base" / "chat_template.jinja"
    file.unlink() if template is None else file.write_text(template, "utf-8")
    return str(folder / "base")


def test_sound_trainings_pass() -> None:
    finding = looked(SFT, GRPO | {"model": "student"})
    assert (finding.warnings, finding.unseen) == ([], [])


def test_rows_longer_than_the_positions_are_a_doubt_until_rope_makes_room() -> None:
    [warning] = looked(SFT | {"max_length": 1024}).warnings
    assert "stages.student.max_length: 1,024, but toy:base has 512 positions" in warning
    longer = SFT | {"max_length": 1024, "rope": {"theta": 300000, "max_position_embeddings": 1024}}
    assert looked(longer).warnings == []
    after = looked(longer, SFT | {"name": "second", "model": "student", "max_length": 1024})
    assert after.warnings == []  # it starts from positions that the first one made


def test_a_completion_that_leaves_no_prompt_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"stages\.zero\.max_completion_length: 512, but toy:base has 512"):
        looked(GRPO | {"max_completion_length": 512})


TOY = (BASE / "chat_template.jinja").read_text("utf-8")


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        (None, MissingError, "has no chat template"),
        (TOY.replace("' <|end|>'", "' <|user|>'"), StageError, r"write trainer: {eos_token: '<\|user\|>'}"),
        (
            TOY.replace("message.content + ' <|end|>'", "message.content.split('</think>')[-1] + ' <|end|>'"),
            RecipeError,
            r"stages\.student\.template: the chat template deletes the reasoning",
        ),
        (
            TOY.replace("message.content + ' <|end|>'", "'<think>' + message.content + ' <|end|>'"),
            RecipeError,
            "opens <think> twice",
        ),
    ],
    ids=["none", "end", "strips", "doubles"],
)
def test_a_template_that_would_ruin_the_training_is_refused(
    tmp_path: Path, template: str | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        looked(SFT | {"model": base(tmp_path, template)})


def test_the_template_of_an_earlier_stage_is_what_the_next_one_meets(tmp_path: Path) -> None:
    folder = base(tmp_path, None)
    first = SFT | {"model": folder, "template": "none"}
    assert looked(first, SFT | {"name": "second", "model": "student"}).unseen == []


def test_what_is_not_on_this_machine_is_said() -> None:
    finding = looked(SFT | {"model": "nobody/nothing@v1", "trainer": {"optim": "paged_adamw_8bit"}})
    [line] = finding.unseen
    assert "stages.student: nobody/nothing@v1 is not on this machine" in line
    assert line.endswith("hf download nobody/nothing")


def test_a_missing_gpu_is_a_doubt_only() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    finding = looked(SFT | {"lora": {"rank": 8}, "quantization": "4bit"})
    assert any("quantization: 4bit needs a GPU" in line for line in finding.warnings)
