"""A sequence classifier as the judge: one number per conversation, from a model trained to like what people like.

Learned, so it can be gamed. It lives in a worker process of its own, so that its memory is free again after `close`;
its weights are safetensors only, and no code of a repository is ever run.
"""

import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import weights_content
from distillkit.errors import MissingError, RecipeError
from distillkit.pool import Failure, StartError, close_shared, shared
from distillkit.spec import EXECUTION, digest
from distillkit.trace import Message, Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier, reason_of
from distillkit.verifiers.grader import CAUSES

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
NO_LIMIT_GIB = 2.0**20
"""Address space says nothing where CUDA reserves hundreds of GiB of it."""
DIGITS = 4
"""Decimals of a score: below them it depends on what a conversation was batched with."""


class RewardModel(Verifier):
    """Scores by a classifier: {kind: reward_model, model: org/name, threshold: 0.5}."""

    votes: ClassVar[bool] = False
    learned: ClassVar[bool] = True

    kind: Literal["reward_model"] = "reward_model"
    model: Annotated[str, EXECUTION]
    """A sequence classifier: org/name[@rev] on the Hub, or ./path. Its content is identity, its name is not."""
    content: str | None = None
    """Digest of its weights; filled in when a run starts."""
    label: Annotated[int, Field(ge=0)] = 0
    """Which output is the score; of a model with one output there is only 0."""
    squash: Literal["sigmoid", "none"] = "sigmoid"
    """How one output becomes a score in [0, 1]: sigmoid, or cut off at 0 and 1. Several outputs: their softmax."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """The output is divided by it before the sigmoid, for models whose rewards span tens."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """From this score on it is correct (1.0), below wrong (0.0); left out: the score itself is the verdict's."""
    show: Literal["response", "completion"] = "response"
    """What of a trace is judged: what follows `</think>`, or all of it."""
    max_length: Annotated[int | None, Field(ge=1)] = None
    """Most tokens of a conversation; a longer one is not judged. Left out: the model's own."""
    batch: Annotated[int, Field(ge=1), EXECUTION] = 16
    """Conversations at a time."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; auto: as they were saved."""
    cpu_s: Annotated[float, Field(gt=0), EXECUTION] = 1200.0
    """CPU seconds that a batch may take, the loading of the weights included."""

    @model_validator(mode="after")
    def _check_model(self) -> Self:
        if not (self.is_folder or HUB_NAME.fullmatch(self.model)):
            raise ValueError(f"model: {self.model!r} is neither org/name on the Hub nor ./path")
        return self

    @property
    def is_folder(self) -> bool:
        """Whether `model` is a folder of this machine."""
        return self.model.startswith((".", "/", "~"))

    def answer(self, trace: Trace) -> str | None:
        """The declared or boxed answer, else all that is judged."""
        return super().answer(trace) or self._shown(trace).strip() or None

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        rows = [
            [*trace.messages, {"role": "assistant", "content": self._shown(trace)}] for trace, _ in answered
        ]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][-1]["content"]))  # so padding is short
        batches = [order[at : at + self.batch] for at in range(0, len(order), self.batch)]
        found: dict[int, Any] = {}
        for batch, result in zip(
            batches, self._score([[rows[row] for row in batch] for batch in batches]), strict=True
        ):
            found |= zip(batch, [result] * len(batch) if isinstance(result, Failure) else result, strict=True)
        return [self._verdict(found[row], answer) for row, (_, answer) in enumerate(answered)]

    def check_references(self, references: Sequence[Any]) -> list[str | None]:
        """It reads none."""
        return [None for _ in references]

    def check(self) -> list[str]:
        if self.is_folder and not (self._folder / "config.json").exists():
            raise MissingError(
                f"reward_model: {self.model}: no model there (no config.json); give the folder of a saved model"
            )
        return []

    def pinned(self, commit_of: Callable[[str, str], str]) -> Self:
        """With the content of its weights; a Hub model at its commit."""
        if self.is_folder:
            self.check()
            return self.model_copy(update={"content": weights_content(self._folder)})
        repository, commit = self.model.partition("@")[0], commit_of("model", self.model)
        content = digest({"hub": repository, "commit": commit})
        return self.model_copy(update={"model": f"{repository}@{commit}", "content": content})

    def close(self) -> None:
        close_shared(scorer)

    @property
    def _folder(self) -> Path:
        return Path(self.model).expanduser().resolve()

    def _shown(self, trace: Trace) -> str:
        return trace.response if self.show == "response" else trace.said

    def _verdict(self, result: Any, answer: str) -> Verdict:
        if isinstance(result, Failure):
            return Verdict.of(CAUSES[result.cause], answer)
        if result is None:
            return Verdict.of("judge_unavailable", answer, too_long=True)
        reward = self._squashed(result)
        score = reward if self.threshold is None else float(reward >= self.threshold)
        return Verdict(score, reason_of(score), answer, {"reward": reward})

    def _squashed(self, outputs: list[float]) -> float:
        """A score in [0, 1] of a model's outputs."""
        value = outputs[self.label] / self.scale
        if len(outputs) > 1:
            shifted = [math.exp(each - max(outputs)) for each in outputs]
            return round(shifted[self.label] / sum(shifted), DIGITS)
        if self.squash == "none":
            return round(min(1.0, max(0.0, value)), DIGITS)
        return round(1 / (1 + math.exp(-max(-700.0, min(700.0, value)))), DIGITS)

    def _score(self, batches: Sequence[list[list[Message]]]) -> list[Any]:
        """Of each batch the outputs of its conversations (None: too long for the model), or a Failure."""
        if not batches:
            return []
        if self.content is None:
            raise RecipeError(f"reward_model: {self.model}: used before its weights were pinned (`pinned`)")
        path, _, revision = (str(self._folder), "", "") if self.is_folder else self.model.partition("@")
        args = (path, revision, self.content, self.dtype, self.max_length, self.label)
        pool = shared(scorer, args, workers=1, cpu_s=self.cpu_s, memory_gib=NO_LIMIT_GIB)
        try:
            results = pool.map(batches)
        except StartError as error:
            raise MissingError(f"reward_model: {error.why}") from None
        refused = next((each["refused"] for each in results if isinstance(each, dict)), None)
        if refused is not None:
            raise MissingError(f"reward_model: {refused}")
        return results


def scorer(
    path: str, revision: str, content: str, dtype: str, max_length: int | None, label: int
) -> Callable[[list[list[Message]]], Any]:
    """What the worker serves: outputs of each conversation of a batch; {"refused": why} where it cannot be loaded.

    It is loaded at the first batch, since the start of a worker has a short time limit. `content` tells weights apart
    that were changed in place.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    load = cache(lambda: _Classifier(path, revision, dtype, max_length, label))

    def score(batch: list[list[Message]]) -> Any:
        try:
            classifier = load()
        except MissingError as error:
            return {"refused": str(error)}
        return classifier.outputs(batch)

    return score


class _Classifier:
    """The model, loaded."""

    def __init__(self, path: str, revision: str, dtype: str, max_length: int | None, label: int) -> None:
        import torch

        torch.set_num_threads(
            len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.tokenizer, self.model = load_classifier(path, revision or None, dtype)
        self.model.to(self.device).eval()
        labels = self.model.config.num_labels
        if label >= labels:
            raise MissingError(f"{path}: has {labels} outputs, there is no label {label}")
        own = self.model.config.get_text_config().to_dict().get("max_position_embeddings") or 1 << 30
        self.max_length = min(own, max_length or own)

    def outputs(self, batch: list[list[Message]]) -> list[list[float] | None]:
        """Outputs of each conversation; None for one that is too long."""
        import torch

        ids = [self._encoded(messages) for messages in batch]
        fits = [row for row, each in enumerate(ids) if len(each) <= self.max_length]
        found: list[list[float] | None] = [None] * len(batch)
        if fits:
            padded = self.tokenizer.pad({"input_ids": [ids[row] for row in fits]}, return_tensors="pt")
            with torch.inference_mode():
                logits = self.model(**padded.to(self.device)).logits.float().cpu().tolist()
            for row, values in zip(fits, logits, strict=True):
                found[row] = values
        return found

    def _encoded(self, messages: list[Message]) -> list[int]:
        """Token ids of a conversation by the model's own template; without one, its texts line by line."""
        if self.tokenizer.chat_template is not None:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False)
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return list(self.tokenizer("\n\n".join(each["content"] for each in messages))["input_ids"])


def load_classifier(
    path: str, revision: str | None, dtype: str
) -> "tuple[PreTrainedTokenizerBase, PreTrainedModel]":
    """Tokenizer and classifier; raises MissingError for weights that are none of a classifier, or not safetensors."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        model, told = AutoModelForSequenceClassification.from_pretrained(
            path, revision=revision, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        first = str(error).strip().split("\n")[0]
        get = f"; get it with: hf download {path} --revision {revision}" if revision else ""
        raise MissingError(f"{path}: no classifier that can be loaded ({first}){get}") from None
    if told["missing_keys"]:
        missing = ", ".join(sorted(told["missing_keys"])[:3])
        raise MissingError(
            f"{path}: no sequence classifier: it has no weights for {missing}; give a reward model"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer, model
