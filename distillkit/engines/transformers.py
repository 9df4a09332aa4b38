"""Sampling with plain transformers, on a CPU or a GPU: the engine that runs everywhere.

It samples in fixed blocks, because a batch's shape decides how its sums are rounded: a block that was
interrupted is redone whole, so that a resumed draw equals an uninterrupted one bit for bit. The noise is ours,
one number per token from the seed of the row, so that a text hangs on its own prompt and seed. Within a block
each prompt is read once, and rows that are finished leave.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines.base import (
    Completion,
    Engine,
    Parameters,
    Request,
    context_of,
    encode,
    require_context,
    require_model,
    too_long,
    unreadable,
)
from distillkit.errors import EngineError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TransformersEngine(Engine):
    """Batches of `block` completions through the model's own forward pass; for a big model take vllm."""

    kind: Literal["transformers"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """"auto" is that of the checkpoint."""
    block: int = Field(512, ge=1)
    """Completions that are sampled together: more are faster and take more memory."""

    @contextmanager
    def open(self, model: Model, tokenizer: "PreTrainedTokenizerBase | None") -> Iterator["TransformersSession"]:
        import torch
        from transformers import AutoModelForCausalLM

        assert tokenizer is not None
        require_model(model)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            loaded = AutoModelForCausalLM.from_pretrained(
                model.path, revision=model.revision, dtype=self.dtype, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise unreadable(model, error) from None
        yield TransformersSession(loaded.to(device).eval(), tokenizer, self.block, model.name)
        del loaded
        torch.cuda.empty_cache()

    def key(self) -> dict[str, Any]:
        """Without `block`: it decides a rounding only, and whoever lowers it to save memory keeps what is done."""
        return {name: value for name, value in super().key().items() if name != "block"}

    def batches(self, planned: Sequence[Request], missing: set[str]) -> list[list[Request]]:
        """Blocks over all that was planned, minus those that are done; equal prompts stay together."""
        ordered = sorted(planned, key=lambda request: (len(request.prompt), request.prompt, request.key))
        blocks = [ordered[start : start + self.block] for start in range(0, len(ordered), self.block)]
        return [block for block in blocks if any(request.key in missing for request in block)]


@dataclass
class TransformersSession:
    """A model in memory. Each `generate` is one block."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    block: int
    name: str

    def generate(
        self, requests: Sequence[Request], parameters: Parameters
    ) -> Iterator[tuple[Request, Completion]]:
        import torch

        context = context_of(self.model.config)
        require_context(context, parameters.max_tokens, self.name)
        ids = {prompt: encode(self.tokenizer, prompt) for prompt in {r.prompt for r in requests}}
        fitting = []
        for request in requests:
            if context is not None and len(ids[request.prompt]) >= context:
                yield request, too_long(len(ids[request.prompt]), context)
            else:
                fitting.append(request)
        if not fitting:
            return
        try:
            with torch.inference_mode():
                yield from Block(self, fitting, ids, parameters, context).run()
        except torch.OutOfMemoryError:
            raise self._out_of_memory() from None
        except RuntimeError as error:
            if "can't allocate memory" not in str(error):
                raise
            raise self._out_of_memory() from None

    def _out_of_memory(self) -> EngineError:
        lower = max(1, self.block // 2)
        return EngineError(
            f"{self.name}: out of memory with {self.block} completions at a time; "
            f"write engine: {{kind: transformers, block: {lower}}} or lower max_tokens"
        )
