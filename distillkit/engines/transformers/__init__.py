"""Sampling with plain transformers, on a CPU or a GPU: the engine that runs everywhere.

It samples in fixed blocks, because the shape of a batch decides how its sums are rounded: a block that was
interrupted is redone whole, so that a resumed draw equals an uninterrupted one bit for bit.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines.base import (
    Completion,
    Engine,
    Feed,
    Parameters,
    Request,
    context_of,
    encode,
    end_tokens,
    require_context,
    require_model,
    taken,
    text_of,
    too_long,
    unreadable,
)
from distillkit.engines.transformers.block import Block, Row, StopText
from distillkit.errors import EngineError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TransformersEngine(Engine):
    """Blocks of completions through the model's own forward pass; for a big model take vllm."""

    streams: ClassVar[bool] = False

    kind: Literal["transformers"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is that of the checkpoint."""
    block: int = Field(512, ge=1)
    """Completions that are sampled together: more are faster and take more memory."""

    @contextmanager
    def open(
        self, model: Model | None, tokenizer: "PreTrainedTokenizerBase | None"
    ) -> Iterator["TransformersSession"]:
        import torch
        from transformers import AutoModelForCausalLM

        assert model is not None and tokenizer is not None
        require_model(model)
        try:
            loaded = AutoModelForCausalLM.from_pretrained(
                model.path, revision=model.revision, dtype=self.dtype, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise unreadable(model, error) from None
        loaded = loaded.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        ends = end_tokens(loaded.generation_config.eos_token_id, tokenizer)
        session = TransformersSession(loaded, tokenizer, model.name, ends)
        del loaded
        yield session
        del session.model
        torch.cuda.empty_cache()

    def key(self) -> dict[str, Any]:
        """Without `block`: it decides no more than a rounding, and whoever lowers it keeps what is done."""
        return {name: value for name, value in super().key().items() if name != "block"}

    def batches(self, planned: Sequence[Request], missing: set[str]) -> list[list[Request]]:
        """Blocks over all that was planned, less those that are done; equal prompts lie together."""
        ordered = sorted(planned, key=lambda request: (len(request.prompt), request.prompt, request.key))
        blocks = [ordered[start : start + self.block] for start in range(0, len(ordered), self.block)]
        return [block for block in blocks if any(request.key in missing for request in block)]


@dataclass
class TransformersSession:
    """A model in memory; each `generate` is one block."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    ends: list[int]
    """Ids of the end tokens."""
    stops: dict[tuple[str, ...], StopText] = field(default_factory=dict)

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        requests = taken(feed)
        context = context_of(self.model.config)
        require_context(context, parameters.max_tokens, self.name)
        ids = {prompt: tuple(encode(self.tokenizer, prompt)) for prompt in {r.prompt for r in requests}}
        fitting, rows = [], []
        for request in requests:
            prompt = ids[request.prompt]
            if len(prompt) >= context:
                yield request, too_long(len(prompt), context)
            else:
                fitting.append(request)
                rows.append(Row(prompt, request.seed, min(parameters.max_tokens, context - len(prompt))))
        if rows:
            yield from zip(fitting, self._sample(rows, parameters), strict=True)

    def _sample(self, rows: list[Row], parameters: Parameters) -> list[Completion]:
        """One completion per row; raises EngineError out of memory."""
        import torch
        import transformers

        began = time.monotonic()
        try:
            with torch.inference_mode():
                block = Block(self.model, rows, parameters, self.ends, self._stop(parameters.stop))
                block.run()
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            raise EngineError(
                f"{self.name}: out of memory with {len(rows)} completions at a time; write engine: "
                f"{{kind: transformers, block: {max(1, len(rows) // 2)}}}, or lower max_tokens"
            ) from None
        telemetry = {
            "engine": f"transformers {transformers.__version__}",
            "device": self.model.device.type,
            "latency_s": round(time.monotonic() - began, 3),
        }
        return [
            Completion(
                text=text_of(self.tokenizer, tokens, parameters.stop),
                finish_reason="stop" if finished else "length",
                prompt_tokens=len(row.prompt),
                completion_tokens=count,
                telemetry=telemetry,
            )
            for row, (tokens, count, finished) in zip(rows, block.results(), strict=True)
        ]

    def _stop(self, stop: tuple[str, ...]) -> StopText | None:
        """What recognises the stop texts in generated ids; None without any."""
        if stop and stop not in self.stops:
            vocabulary = self.model.config.get_text_config().vocab_size
            self.stops[stop] = StopText.of(self.tokenizer, stop, vocabulary)
        return self.stops.get(stop)
