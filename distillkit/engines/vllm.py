"""Sampling with vLLM in this process: the engine for a teacher on a GPU (and, with its CPU build, for tests).

Every sample is a request of its own with its own seed; a window of them is kept in flight, and each comes back
when it is finished. Written against vLLM 0.31.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from distillkit.artifact import Model
from distillkit.engines.base import (
    Completion,
    Engine,
    Feed,
    Parameters,
    Request,
    encode,
    end_tokens,
    require_context,
    require_model,
    text_of,
    too_long,
    unreadable,
)
from distillkit.errors import EngineError, MissingError, RecipeError
from distillkit.spec import EXECUTION

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import SamplingParams
    from vllm.v1.engine.llm_engine import LLMEngine

QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
"""Set where the user's environment does not say otherwise."""


CPU_CACHE_BYTES = 2**30

OWN_FIELDS = ("dtype", "max_model_len", "gpu_memory_utilization", "enforce_eager")
NOT_FURTHER = {
    **dict.fromkeys(OWN_FIELDS, "write it on the engine itself"),
    "tensor_parallel_size": "write tensor_parallel on the engine itself",
    "model": "it is the stage's model",
    "seed": "every request has a seed of its own",
    "load_format": "weights are read from safetensors only",
}
"""Arguments of vLLM's engine that are not for `engine_args`, and why."""


class VllmEngine(Engine):
    """vLLM's own engine, loaded with the stage's weights."""

    kind: Literal["vllm"] = "vllm"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is vLLM's choice: that of the checkpoint, but 16 bits for a checkpoint in float32."""
    max_model_len: int | None = Field(None, ge=1)
    """Tokens of prompt and completion together; left out: what the model was made for."""
    tensor_parallel: Annotated[int, EXECUTION, Field(ge=1)] = 1
    """GPUs that hold one copy of the model."""
    gpu_memory_utilization: Annotated[float | None, EXECUTION, Field(gt=0, le=1)] = None
    """Share of the memory to take; left out: vLLM's own choice on a GPU, 1 GiB for the cache on a CPU."""
    enforce_eager: Annotated[bool, EXECUTION] = False
    """Start sooner, run slower: no compilation."""
    window: Annotated[int, EXECUTION, Field(ge=1)] = 1024
    """Requests in flight."""
    engine_args: dict[str, Any] = {}
    """Any further argument of vLLM's engine, under its own name (quantization, kv_cache_dtype, ...)."""

    @field_validator("engine_args")
    @classmethod
    def _only_further(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            if name in NOT_FURTHER:
                raise ValueError(f"{name}: {NOT_FURTHER[name]}")
        return given

    @contextmanager
    def open(
        self, model: Model | None, tokenizer: "PreTrainedTokenizerBase | None"
    ) -> Iterator["VllmSession"]:
        assert model is not None and tokenizer is not None
        require_model(model)
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        engine = self._start(model)
        try:
            declared = engine.model_config.try_get_generation_config().get("eos_token_id")
            yield VllmSession(engine, tokenizer, end_tokens(declared, tokenizer), model.name, self.window)
        finally:
            engine.engine_core.shutdown()

    def _start(self, model: Model) -> "LLMEngine":
        on_cpu = require_vllm()
        import torch
        from vllm import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        known = EngineArgs.__dataclass_fields__
        for name in self.engine_args:
            if name not in known:
                raise RecipeError(f"engine_args.{name}: vLLM's EngineArgs has no such argument")
        declared: dict[str, Any] = {
            "model": model.path,
            "revision": model.revision,
            "tokenizer_revision": model.revision,
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "tensor_parallel_size": self.tensor_parallel,
            "enforce_eager": self.enforce_eager,
            "load_format": "safetensors",
            "disable_log_stats": True,
        }
        if self.gpu_memory_utilization is not None:
            declared["gpu_memory_utilization"] = self.gpu_memory_utilization
        elif on_cpu:
            declared["kv_cache_memory_bytes"] = CPU_CACHE_BYTES
        if on_cpu:
            # A second process would only take a core away.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            # The CPU's random generator has no offset to rewind, which a seeded request read in chunks asks for.
            declared["enable_chunked_prefill"] = False
        try:
            return LLMEngine.from_engine_args(EngineArgs(**(declared | self.engine_args)))
        except torch.OutOfMemoryError as error:
            raise EngineError(f"{model.name}: does not fit: {error}") from None
        except OSError as error:
            raise unreadable(model, error) from None
        except ValidationError as error:
            raise RecipeError(f"{model.name}: vLLM refuses: {error.errors()[0]['msg']}") from None
        except ValueError as error:
            raise RecipeError(f"{model.name}: vLLM refuses: {error}") from None
        except RuntimeError as error:  # what its engine process died of is in its own log only
            raise EngineError(f"{model.name}: vLLM did not start: {error}") from None

    def foreign(self) -> list[str]:
        return (
            ["engine_args.trust_remote_code: code of the model's repository"]
            if self.engine_args.get("trust_remote_code")
            else []
        )


def require_vllm() -> bool:
    """Whether vLLM runs on the CPU here.

    Raises MissingError without vLLM, and without a GPU where it is no CPU build.
    """
    if find_spec("vllm") is None:
        raise MissingError(
            "engine vllm: vLLM is not installed; pip install 'distillkit[vllm]' (needs an NVIDIA GPU), "
            "or write engine: {kind: transformers}"
        )
    from vllm.platforms import current_platform

    if not current_platform.device_type:
        raise MissingError(
            "engine vllm: no GPU is visible here; run where one is, or write engine: {kind: transformers}"
        )
    return bool(current_platform.is_cpu())


@dataclass
class VllmSession:
    """A started engine."""

    engine: "LLMEngine"
    tokenizer: "PreTrainedTokenizerBase"
    ends: list[int]
    """Ids of the end tokens."""
    name: str
    window: int

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        from vllm.v1.engine.exceptions import EngineDeadError

        context = self.engine.model_config.max_model_len
        require_context(context, parameters.max_tokens, self.name)
        waiting = iter(feed.take, None)
        flying: dict[str, Request] = {}
        try:
            while True:
                for request in waiting:
                    ids = encode(self.tokenizer, request.prompt)
                    if len(ids) >= context:
                        yield request, too_long(len(ids), context)
                        continue
                    flying[request.key] = request
                    limit = min(parameters.max_tokens, context - len(ids))
                    self.engine.add_request(
                        request.key,
                        {"prompt_token_ids": ids},
                        sampling_params(parameters, request.seed, limit),
                    )
                    if len(flying) == self.window:
                        break
                if not flying:
                    return
                for output in self.engine.step():
                    if output.finished:
                        yield flying.pop(output.request_id), self._completion(output, parameters)
        except EngineDeadError as error:
            raise EngineError(
                f"{self.name}: the vLLM engine died ({error}); its log above says why"
            ) from None
        finally:
            if flying:
                self.engine.abort_request(list(flying))

    def _completion(self, output: Any, parameters: Parameters) -> Completion:
        import vllm

        [sample] = output.outputs
        ids = list(sample.token_ids)
        text = ids[:-1] if ids and ids[-1] in self.ends else ids
        return Completion(
            text=text_of(self.tokenizer, text, parameters.stop),
            finish_reason="length" if sample.finish_reason == "length" else "stop",
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(ids),
            telemetry={"engine": f"vllm {vllm.__version__}"},
        )


def sampling_params(parameters: Parameters, seed: int, limit: int) -> "SamplingParams":
    """vLLM's form of one request's parameters."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        top_k=parameters.top_k,
        min_p=parameters.min_p,
        max_tokens=limit,
        stop=list(parameters.stop),
        include_stop_str_in_output=True,
        seed=seed,
        skip_special_tokens=False,
        detokenize=bool(parameters.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
