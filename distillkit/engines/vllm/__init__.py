"""Sampling with vLLM on this machine: the engine for a teacher on a GPU (and, with its CPU build, for tests).

On vLLM's async engine, which runs in a process of its own. Every sample is a request of its own with its own
seed; a window of them is in flight, with no batch to wait for, and the samples of a prompt share its cache.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from distillkit.artifact import Model
from distillkit.engines.base import (
    Completion,
    Engine,
    EngineDied,
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
from distillkit.engines.stream import Stream
from distillkit.engines.vllm import api
from distillkit.engines.vllm.guard import guarded
from distillkit.engines.vllm.log import Log
from distillkit.engines.vllm.memory import Need, require_room
from distillkit.errors import EngineError, RecipeError
from distillkit.spec import EXECUTION

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

CPU_CACHE_BYTES = 2**30

WAITING_SHARE = 0.25
"""Requests that wait in the engine for each that it runs, so that the place of a finished one is taken at once."""

NOT_FURTHER = {
    **dict.fromkeys(
        ("dtype", "max_model_len", "gpu_memory_utilization", "enforce_eager"), "write it on the engine itself"
    ),
    "tensor_parallel_size": "write tensor_parallel on the engine itself",
    "data_parallel_size": "write data_parallel on the engine itself",
    "model": "it is the stage's model",
    "tokenizer": "it is that of the stage's model",
    "revision": "write it behind the model: org/name@revision",
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
    data_parallel: Annotated[int, EXECUTION, Field(ge=1)] = 1
    """Copies of the model, each on its own GPUs; requests go to the one with the fewest in flight."""
    gpu_memory_utilization: Annotated[float | None, EXECUTION, Field(gt=0, le=1)] = None
    """Share of the memory to take; left out: vLLM's own choice on a GPU, 1 GiB for the cache on a CPU."""
    enforce_eager: Annotated[bool, EXECUTION] = False
    """Start sooner, run slower: no compilation."""
    window: Annotated[int | None, EXECUTION, Field(ge=1)] = None
    """Requests in flight; left out: a quarter more than the engine runs at once (its max_num_seqs)."""
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
        build = api.require()
        arguments = self._arguments(model, build)
        with guarded() as guard:
            engine = _start(arguments, model.name, build)
            guard.started()
            declared = engine.model_config.try_get_generation_config().get("eos_token_id")
            with Stream() as stream:
                session = VllmSession(
                    engine=engine,
                    stream=stream,
                    tokenizer=tokenizer,
                    ends=end_tokens(declared, tokenizer),
                    name=model.name,
                    window=self.window or self._wide(engine),
                    build=f"vllm {build.version}",
                )
                del engine
                try:
                    yield session
                finally:
                    session.close()

    def _wide(self, engine: "AsyncLLM") -> int:
        running: int = engine.vllm_config.scheduler_config.max_num_seqs * self.data_parallel
        return int(running * (1 + WAITING_SHARE))

    def _arguments(self, model: Model, build: api.Build) -> "AsyncEngineArgs":
        """Everything that the engine is started with; refuses what it does not know and what cannot fit."""
        from transformers import PretrainedConfig

        declared: dict[str, Any] = {
            "model": model.path,
            "revision": model.revision,
            "tokenizer_revision": model.revision,
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "tensor_parallel_size": self.tensor_parallel,
            "data_parallel_size": self.data_parallel,
            "enforce_eager": self.enforce_eager,
            "load_format": "safetensors",
            "disable_log_stats": True,
        }
        if self.gpu_memory_utilization is not None:
            declared["gpu_memory_utilization"] = self.gpu_memory_utilization
        if build.on_cpu:
            # The CPU's random generator has no offset to rewind, which a seeded request read in chunks asks for.
            declared["enable_chunked_prefill"] = False
        arguments = api.engine_args(declared, self.engine_args)
        try:
            config, _ = PretrainedConfig.get_config_dict(model.path, revision=model.revision)
        except (OSError, ValueError) as error:
            raise unreadable(model, error) from None
        need = Need.of(config, arguments)
        if build.on_cpu and self.gpu_memory_utilization is None and not arguments.kv_cache_memory_bytes:
            arguments.kv_cache_memory_bytes = max(CPU_CACHE_BYTES, int(need.cache) + 1 if need else 0)
        memory = api.device_memory(build.on_cpu)
        if need and memory:
            require_room(model.name, need, arguments, *memory)
        return arguments

    def foreign(self) -> list[str]:
        return (
            ["engine_args.trust_remote_code: code of the model's repository"]
            if self.engine_args.get("trust_remote_code")
            else []
        )


def _start(arguments: "AsyncEngineArgs", name: str, build: api.Build) -> "AsyncLLM":
    """The running engine; what keeps it from starting is one line."""
    import torch

    log = Log()
    try:
        if build.on_cpu and arguments.tensor_parallel_size * arguments.pipeline_parallel_size == 1:
            with api.cpu_environment():
                return api.start(arguments)
        return api.start(arguments)
    except torch.OutOfMemoryError as error:
        raise EngineError(f"{name}: does not fit: {error}") from None
    except OSError as error:
        raise EngineError(f"{name}: vLLM did not start: {error}") from None
    except ValidationError as error:
        raise RecipeError(f"{name}: vLLM refuses: {error.errors()[0]['msg']}") from None
    except api.refusals() as error:
        raise RecipeError(f"{name}: vLLM refuses: {error}") from None
    except RuntimeError:
        raise EngineError(f"{name}: vLLM's engine process did not start: {log.cause()}") from None


@dataclass
class VllmSession:
    """A started engine, and the loop that its requests run on."""

    engine: "AsyncLLM"
    stream: Stream
    tokenizer: "PreTrainedTokenizerBase"
    ends: list[int]
    """Ids of the end tokens."""
    name: str
    window: int
    build: str
    log: Log = field(default_factory=Log)
    encoded: tuple[str, list[int]] = field(default=("", []))
    """The last prompt and its ids: the samples of a problem follow each other."""

    def generate(self, feed: Feed, parameters: Parameters) -> Iterator[tuple[Request, Completion]]:
        context = self.engine.model_config.max_model_len
        require_context(context, parameters.max_tokens, self.name)
        dead, refused, failed = api.dead_error(), api.refusals(), api.request_error()
        try:
            api.sampling_params(parameters, 0, parameters.max_tokens)
        except refused as error:
            raise RecipeError(f"{self.name}: vLLM refuses: {error}") from None

        async def complete(request: Request) -> Completion:
            ids = self._encode(request.prompt)
            if len(ids) >= context:
                return too_long(len(ids), context)
            limit = min(parameters.max_tokens, context - len(ids))
            sampling = api.sampling_params(parameters, request.seed, limit)
            began = time.monotonic()
            try:
                async for output in self.engine.generate(api.prompt_of(ids), sampling, request.key):
                    if output.finished:
                        return self._completion(output, parameters, time.monotonic() - began)
            except refused as error:
                return Completion("", "error", prompt_tokens=len(ids), error=str(error).split("\n")[0])
            except failed as error:
                cause = f"vLLM could not answer: {error.__cause__}"
                return Completion("", "error", len(ids), error=cause, telemetry={"retry": True})
            raise EngineError(f"{self.name}: vLLM ended a request without an answer")

        try:
            yield from self.stream.map(complete, feed, self.window)
        except dead:
            raise EngineDied(f"{self.name}: vLLM's engine process died: {self.log.cause()}") from None

    def close(self) -> None:
        """End the engine, while its loop still runs.

        The object goes too: collected at the end of the interpreter it would fail, and say so.
        """
        self.stream.run(api.quieten(self.engine))
        self.engine.shutdown()
        del self.engine
        gc.collect()

    def _encode(self, prompt: str) -> list[int]:
        if prompt != self.encoded[0]:
            self.encoded = prompt, encode(self.tokenizer, prompt)
        return self.encoded[1]

    def _completion(self, output: Any, parameters: Parameters, latency_s: float) -> Completion:
        [sample] = output.outputs
        ids = list(sample.token_ids)
        text = ids[:-1] if ids and ids[-1] in self.ends else ids
        return Completion(
            text=text_of(self.tokenizer, text, parameters.stop),
            finish_reason="length" if sample.finish_reason == "length" else "stop",
            prompt_tokens=len(output.prompt_token_ids),
            completion_tokens=len(ids),
            telemetry={"engine": self.build, "latency_s": round(latency_s, 3)},
        )
