from typing import Any

import pytest
from transformers import AutoConfig

from distillkit.errors import RecipeError
from distillkit.toy import BASE
from distillkit.training.adapter import Lora, Rope


@pytest.mark.parametrize(
    ("rope", "parameters", "positions"),
    [
        ({"theta": 300000}, {"rope_theta": 300000, "rope_type": "default"}, 512),
        ({"max_position_embeddings": 4096}, {"rope_theta": 10000, "rope_type": "default"}, 4096),
        (
            {"type": "yarn", "factor": 4},
            {
                "rope_theta": 10000,
                "rope_type": "yarn",
                "factor": 4,
                "original_max_position_embeddings": 512,
            },
            2048,
        ),
        (
            {"type": "linear", "factor": 2, "theta": 5000, "max_position_embeddings": 700},
            {
                "rope_theta": 5000,
                "rope_type": "linear",
                "factor": 2,
                "original_max_position_embeddings": 512,
            },
            700,
        ),
    ],
)
def test_positions_as_a_recipe_writes_them(rope: dict[str, Any], parameters: Any, positions: int) -> None:
    declared = Rope(**rope)
    assert declared.objection() is None
    found = declared.overrides(AutoConfig.from_pretrained(BASE), "student")
    assert found == {"rope_parameters": parameters, "max_position_embeddings": positions}


def test_a_stretch_of_the_base_gives_way_to_the_one_that_is_declared() -> None:
    config = AutoConfig.from_pretrained(
        BASE, rope_parameters={"rope_type": "linear", "rope_theta": 10000, "factor": 8}
    )
    found = Rope(type="default").overrides(config, "student")["rope_parameters"]
    assert found == {"rope_type": "default", "rope_theta": 10000}


def test_layers_with_positions_of_several_kinds_are_refused() -> None:
    from transformers import Gemma3TextConfig

    with pytest.raises(
        RecipeError, match=r"stages\.student\.rope: gemma3_text has no rotary positions of one kind"
    ):
        Rope(theta=1e6).overrides(Gemma3TextConfig(), "student")


def test_a_lora_as_peft_takes_it() -> None:
    made = Lora(rank=8, alpha=16, dropout=0.1, targets=["q_proj", "v_proj"]).config()
    assert (made.r, made.lora_alpha, made.lora_dropout, made.task_type) == (8, 16, 0.1, "CAUSAL_LM")
    assert set(made.target_modules) == {"q_proj", "v_proj"}
    assert Lora().config("SEQ_CLS").task_type == "SEQ_CLS"
