"""The toy base, as every engine gets it."""

import pytest

from distillkit.artifact import Model
from distillkit.engines.base import Request, load_tokenizer
from distillkit.toy import BASE
from distillkit.toy.problems import generate


@pytest.fixture(scope="session")
def model() -> Model:
    return Model("toy:base", str(BASE), "content")


@pytest.fixture(scope="session")
def tokenizer(model):
    return load_tokenizer(model)


@pytest.fixture(scope="session")
def requests(tokenizer) -> list[Request]:
    """24 problems of 3 to 8 terms, 8 samples of each."""
    return [
        Request(f"{problem.id}/{index}", prompt, 1000 * number + index, problem.id, index, problem.messages)
        for number, problem in enumerate(generate(24, seed=1, split="train"))
        for prompt in [
            tokenizer.apply_chat_template(problem.messages, tokenize=False, add_generation_prompt=True)
        ]
        for index in range(8)
    ]
