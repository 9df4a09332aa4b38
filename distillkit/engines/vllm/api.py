"""The one place that knows vLLM's names, for 0.22 to 0.31 (what TRL 1.16 allows); the rest is written against this.

Read in the sources of 0.22.1, 0.26.0 and 0.31.0; the names below stand at the same place in all three, except

| what                           | 0.22.1            | 0.26.0            | 0.31.0                                |
|--------------------------------|-------------------|-------------------|---------------------------------------|
| a refused request              | ValueError        | ValueError        | VLLMValidationError, no ValueError    |
| EngineDeadError is a           | Exception         | Exception         | VLLMServerError                       |
| raw prompts are prepared in    | the event loop    | the event loop    | threads (a rendered one: the loop)    |
| engine arguments               | 209               | 221               | 252; 4 of those of 0.22 gone          |
"""

import asyncio
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from distillkit.engines.base import Parameters
from distillkit.errors import MissingError, RecipeError, nearest

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

OLDEST, NEWEST = (0, 22), (0, 31)

QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
"""Set where the user's environment does not say otherwise."""


@dataclass(frozen=True)
class Build:
    """The vLLM that is installed."""

    version: str
    on_cpu: bool


def require() -> Build:
    """The installed vLLM.

    Raises MissingError without one, for one out of range, and without a GPU where it is no CPU build.
    """
    if find_spec("vllm") is None:
        raise MissingError(
            "engine vllm: vLLM is not installed; pip install 'distillkit[vllm]' (needs an NVIDIA GPU), "
            "or write engine: {kind: transformers}"
        )
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import vllm
    from vllm.platforms import current_platform

    require_version(vllm.__version__)
    if not current_platform.device_type:
        raise MissingError(
            "engine vllm: no GPU is visible here; run where one is, or write engine: {kind: transformers}"
        )
    return Build(vllm.__version__, bool(current_platform.is_cpu()))


def require_version(version: str) -> None:
    """Raises MissingError for a release outside of the range; a build from source names none and is taken."""
    number = re.match(r"(\d+)\.(\d+)", version)
    if number and not OLDEST <= (int(number[1]), int(number[2])) <= NEWEST:
        low, high = (".".join(map(str, end)) for end in (OLDEST, NEWEST))
        raise MissingError(
            f"engine vllm: vLLM {version} is installed, and {low} to {high} are supported; "
            f"pip install 'vllm>={low},<0.{NEWEST[1] + 1}'"
        )


def engine_args(declared: Mapping[str, Any], further: Mapping[str, Any]) -> "AsyncEngineArgs":
    """What the engine is started with; `further` are the recipe's own, unchecked so far.

    Raises RecipeError for one that this vLLM does not have, or whose value it does not take.
    """
    from vllm import AsyncEngineArgs

    known = AsyncEngineArgs.__dataclass_fields__
    for name in further:
        if name not in known:
            raise RecipeError(f"engine_args.{name}: vLLM's engine has no such argument{nearest(name, known)}")
    try:
        return AsyncEngineArgs(**{**declared, **further})
    except refusals() as error:
        raise RecipeError(f"engine_args: vLLM refuses: {' '.join(str(error).split())}") from None


def start(arguments: "AsyncEngineArgs") -> "AsyncLLM":
    """The running engine, with the defaults of offline use: wider batches than a server's."""
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args(arguments, usage_context=UsageContext.LLM_CLASS)


async def quieten(engine: "AsyncLLM") -> None:
    """End the task that reads the engine's answers, which else reports the end of the engine as its death."""
    if engine.output_handler is not None:
        engine.output_handler.cancel()
        await asyncio.gather(engine.output_handler, return_exceptions=True)


@contextmanager
def cpu_environment() -> Iterator[None]:
    """Start the engine of the CPU build as one process of its own instead of two, with a core left for ours.

    Threads of its arithmetic on all cores wait for each other whenever this process works: five times slower
    on two cores. Only a process that starts inside reads this.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    wanted = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "OMP_NUM_THREADS": str(max(1, cores - 1))}
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def sampling_params(parameters: Parameters, seed: int, limit: int) -> "SamplingParams":
    """vLLM's form of one request's parameters; `limit` is its max_tokens."""
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


def prompt_of(ids: list[int]) -> Any:
    """A prompt that is rendered and tokenised already."""
    from vllm.inputs.engine import tokens_input

    return tokens_input(ids)


def dead_error() -> type[Exception]:
    """What a request raises whose engine process has ended."""
    from vllm.v1.engine.exceptions import EngineDeadError

    found: type[Exception] = EngineDeadError
    return found


def request_error() -> type[Exception]:
    """What a request raises that failed in the engine while the others go on."""
    from vllm.v1.engine.exceptions import EngineGenerateError

    found: type[Exception] = EngineGenerateError
    return found


def refusals() -> tuple[type[Exception], ...]:
    """What is raised for a request or an argument that vLLM does not take."""
    from vllm.exceptions import VLLMValidationError

    return (ValueError, TypeError, VLLMValidationError)


def device_memory(on_cpu: bool) -> tuple[int, int] | None:
    """(free, total) bytes of the first device, None where it cannot be told.

    Asked of the driver: torch would open the GPU in this process and keep a part of it.
    """
    if on_cpu:
        import psutil  # type: ignore[import-untyped]  # it comes with vLLM

        memory = psutil.virtual_memory()
        return int(memory.available), int(memory.total)
    from vllm.platforms import current_platform
    from vllm.third_party import pynvml

    if not current_platform.is_cuda():
        return None
    try:
        pynvml.nvmlInit()
        try:
            number = current_platform.device_id_to_physical_device_id(0)
            found = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(number))
        finally:
            pynvml.nvmlShutdown()
    except (pynvml.NVMLError, ValueError):  # no driver library, or a slice of a GPU
        return None
    return int(found.free), int(found.total)
