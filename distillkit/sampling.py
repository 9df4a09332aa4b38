"""Draw completions of problems from a model: render, seed, look up, sample what is missing, keep it.

Every completion is kept store-wide by what decides it (rendered prompt, weights, engine, parameters, seed), so
that more problems, a higher n or another recipe pay only for what is new, and a killed draw goes on.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from distillkit.artifact import Model, Store, locked
from distillkit.engines import AnyEngine
from distillkit.engines.base import Completion, Parameters, Request
from distillkit.errors import MissingError, RecipeError
from distillkit.events import Progress
from distillkit.spec import Strict, digest, seed_of
from distillkit.text import split_think
from distillkit.trace import Message, Problem, Trace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

R1 = (
    "A conversation between User and Assistant. The User asks a question, and the Assistant solves it. The Assistant "
    "first thinks about the reasoning process in the mind and then provides the User with the answer. The reasoning "
    "process is enclosed within <think> </think> and answer is enclosed within <answer> </answer> tags, respectively, "
    "i.e., <think> reasoning process here </think> <answer> answer here </answer>.\nUser: {prompt}\nAssistant: <think>"
)
QWEN_MATH = (
    "<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{{}}.<|im_end|>\n"
    "<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
)
NAMED = {"r1": R1, "qwen_math": QWEN_MATH, "none": "{prompt}"}


class Sampling(Strict):
    """How completions are drawn; a stage that samples inherits it."""

    engine: AnyEngine | None = None
    """What generates; left out, the recipe's engine."""
    template: str | None = None
    """chat (the tokenizer's own, the default), r1, qwen_math, none, or a .jinja file."""
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    min_p: float = Field(0.0, ge=0, le=1)
    max_tokens: int = Field(ge=1)
    stop: list[str] = []

    @property
    def parameters(self) -> Parameters:
        """What the engine is told; the r1 template ends behind `</answer>`."""
        stop = [*self.stop, *(["</answer>"] if self.template == "r1" else [])]
        return Parameters(self.max_tokens, self.temperature, self.top_p, self.top_k, self.min_p, tuple(stop))


@dataclass(frozen=True)
class Renderer:
    """Renders the messages of a problem as the model reads them."""

    template: str
    tokenizer: "PreTrainedTokenizerBase | None"

    def __call__(self, messages: list[Message]) -> str:
        """The prompt as text, special tokens included; plain text where the engine renders by itself."""
        if self.template in NAMED:
            return NAMED[self.template].format(prompt=messages[-1]["content"])
        if self.tokenizer is None:
            return json.dumps(messages, ensure_ascii=False)
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True}
        if self.template != "chat":
            options["chat_template"] = Path(self.template).read_text("utf-8")
        if self.template == "chat" and not self.tokenizer.chat_template:
            raise RecipeError("the model has no chat template; write template: r1, qwen_math, none or a .jinja file")
        return str(self.tokenizer.apply_chat_template(messages, **options))


class Ledger:
    """Completions of one origin in `store/completions/`, one JSON line each, appended and synced as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.found = self._read()

    def _read(self) -> dict[str, Completion]:
        """What is there; a torn last line is cut off, so that what is appended stands on a line of its own."""
        if not self.path.exists():
            return {}
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        found = {}
        for line in whole.splitlines():
            entry = json.loads(line)
            key = entry.pop("key")
            found[key] = Completion(**entry)
        return found

    def add(self, several: Sequence[tuple[Request, Completion]]) -> None:
        """Keep completions; they are on disk when this returns. One that failed is not kept: it is tried again."""
        lines = [
            json.dumps({"key": request.key, **asdict(completion)}, ensure_ascii=False) + "\n"
            for request, completion in several
            if completion.finish_reason != "error"
        ]
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        self.found |= {request.key: completion for request, completion in several}


GROUP_S = 1.0
"""Completions that come one by one are synced in groups of at most so many seconds."""


def draw(
    sampling: Sampling, model: Model, problems: Sequence[Problem], n: int, seed: int, store: Store, progress: Progress
) -> Iterator[Trace]:
    """n traces of each problem; what was sampled before, by whatever run, is taken from the store.

    Raises:
        RecipeError: no engine, or a template that the model does not have.
        MissingError: no weights, package or device.
        EngineError: the engine cannot go on; what is finished is safe.
    """
    engine = sampling.engine
    if engine is None:
        raise RecipeError("no engine: write engine: {kind: vllm} at the top of the recipe or in the stage")
    tokenizer = engine.tokenizer(model)
    parameters, template = sampling.parameters, sampling.template or "chat"
    render = Renderer(template, tokenizer)
    recorded = asdict(parameters) | {"engine": engine.key()}
    origin = digest([model.content, recorded, _template_content(template)])
    path = store.root / "completions" / f"{origin[:32]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), lambda owner: None):
        ledger = Ledger(path)
        wanted = [
            _request(problem, index, prompt, seed, origin)
            for problem in problems
            for prompt in [render(problem.messages)]
            for index in range(n)
        ]
        _complete(wanted, ledger, engine, model, tokenizer, parameters, progress)
    by_id = {problem.id: problem for problem in problems}
    prefilled = template == "r1" or wanted[0].prompt.rstrip().endswith("<think>")
    for request in wanted:
        completion = ledger.found[request.key]
        reasoning, response = split_think(completion.text, prefilled)
        problem = by_id[request.problem_id]
        yield Trace(
            problem_id=problem.id,
            messages=problem.messages,
            completion=completion.text,
            reasoning=reasoning,
            response=response,
            reference=problem.reference,
            domain=problem.domain,
            source=problem.source,
            language=problem.language,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            seed=request.seed,
            index=request.index,
            origin=origin,
            model=model.name,
            template=template,
            sampling=recorded,
            extra=problem.extra,
            telemetry=completion.telemetry,
        )


def _template_content(template: str) -> str:
    if template == "chat" or template in NAMED:
        return template
    try:
        return digest(Path(template).read_text("utf-8"))
    except OSError:
        raise MissingError(f"template {template}: no such file; write chat, r1, qwen_math, none or a .jinja file") from None


def _request(problem: Problem, index: int, prompt: str, seed: int, origin: str) -> Request:
    drawn = seed_of(seed, digest(prompt), index)
    return Request(digest([origin, prompt, drawn]), prompt, drawn, problem.id, index, problem.messages)


def _complete(
    wanted: list[Request],
    ledger: Ledger,
    engine: Any,
    model: Model,
    tokenizer: "PreTrainedTokenizerBase | None",
    parameters: Parameters,
    progress: Progress,
) -> None:
    """Sample what the ledger lacks. The plan of what was missing at first outlives a kill, so that blocks stay."""
    missing = {request.key for request in wanted} - set(ledger.found)
    plan_path = ledger.path.with_suffix(f".{digest(sorted(request.key for request in wanted))[:16]}.plan")
    if not missing:
        plan_path.unlink(missing_ok=True)
        progress(len(wanted), len(wanted), unit="completions")
        return
    if plan_path.exists():
        planned_keys = set(json.loads(plan_path.read_text("utf-8")))
    else:
        planned_keys = set(missing)
        plan_path.write_text(json.dumps(sorted(missing)), "utf-8")
    planned = [request for request in wanted if request.key in planned_keys]
    started, tokens, done = time.monotonic(), 0, len(wanted) - len(missing)
    with engine.open(model, tokenizer) as session:
        for batch in engine.batches(planned, missing):
            group: list[tuple[Request, Completion]] = []
            synced = time.monotonic()
            for request, completion in session.generate(batch, parameters):
                group.append((request, completion))
                tokens += completion.completion_tokens or 0
                done += request.key in missing
                if time.monotonic() - synced > GROUP_S:
                    ledger.add(group)
                    group, synced = [], time.monotonic()
                    progress(done, len(wanted), unit="completions", tokens_per_s=tokens / (synced - started))
            ledger.add(group)
            seconds = max(time.monotonic() - started, 1e-9)
            progress(done, len(wanted), unit="completions", tokens_per_s=tokens / seconds)
    plan_path.unlink(missing_ok=True)
