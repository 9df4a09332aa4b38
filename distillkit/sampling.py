"""Drawing traces from a model: render, seed, look up, sample what is missing, record, split.

Every stage that samples does it here. What decides a completion is its rendered prompt, the weights, the engine,
the parameters and its seed; one that the store has under these is never sampled again.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines import AnyEngine
from distillkit.engines.base import Completion, Engine, Listed, Parameters, Request
from distillkit.errors import EngineError, RecipeError
from distillkit.events import Progress, silent
from distillkit.ledger import Ledger
from distillkit.spec import Strict, digest, identity, seed_of
from distillkit.store import Store
from distillkit.template import AnyTemplate, Template, is_prefilled, stop_of
from distillkit.text import split_think
from distillkit.trace import Problem, Trace


class Sampling(Strict):
    """How a stage draws from its model; stages that sample inherit it."""

    engine: AnyEngine | None = None
    """Left out: the recipe's."""
    template: AnyTemplate | None = None
    """Left out: chat."""
    temperature: float = Field(1.0, ge=0)
    """0 takes the likeliest token every time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Keep the likeliest tokens that make up this share; 1 keeps all."""
    top_k: int = Field(0, ge=0)
    """Keep this many tokens; 0 keeps all."""
    min_p: float = Field(0.0, ge=0, lt=1)
    """Keep tokens at least this likely, relative to the likeliest."""
    max_tokens: int = Field(ge=1)
    """Most tokens of a completion; one that is cut there has finish_reason length."""
    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Texts that end a completion; the text stays in it. The template r1 adds its own."""

    @property
    def parameters(self) -> Parameters:
        """What the engine is told."""
        return Parameters(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            stop=tuple(dict.fromkeys([*stop_of(self.template), *self.stop])),
        )


def draw(
    sampling: Sampling,
    model: Model,
    problems: Sequence[Problem],
    n: int,
    seed: int,
    store: Store,
    progress: Progress = silent,
) -> Iterator[Trace]:
    """n traces per problem, in any order, each recorded in the store before it is yielded.

    The rows are the same whether they are drawn in one go or after interruptions. A trace without a completion has
    finish_reason "error" and says why in `extra["error"]`.
    Progress counts traces; its facts tokens, rate (completions/s) and tokens_per_s are of what was sampled now.

    Raises:
        MissingError: no weights, package, device or disk space.
        RecipeError: no engine, or a template or parameter that the model does not take.
        EngineError: the engine died; the message says how much is safe.
    """
    plan = Plan.of(sampling, model, problems, n, seed)
    meter = Meter(progress, total=n * len(problems))
    with Ledger.alone(store.root / "completions" / f"{plan.ledger}.jsonl", meter.wait) as ledger:
        missing = {key for key in plan.wanted if key not in ledger}
        for key in plan.wanted:
            if key not in missing:
                yield from plan.traces(key, ledger[key])
                meter.count(len(plan.wanted[key]))
        for key, completion in _sample(plan, model, missing, ledger, meter):
            yield from plan.traces(key, completion)
            meter.count(len(plan.wanted[key]), completion)


def _sample(
    plan: "Plan", model: Model, missing: set[str], ledger: Ledger, meter: "Meter"
) -> Iterator[tuple[str, Completion]]:
    """Sample and record what is missing."""
    if not missing:
        return
    begun = ledger.begin(plan.name, plan.wanted)
    planned = [wanted[0][1] for key, wanted in plan.wanted.items() if key in begun]
    with plan.engine.open(model, plan.template.tokenizer) as session:
        meter.begin()
        for batch in plan.engine.batches(planned, missing):
            try:
                for request, completion in session.generate(Listed(batch), plan.parameters):
                    if request.key in missing:
                        ledger.add(request.key, completion)
                        yield request.key, completion
            except EngineError as error:
                safe = f"{ledger.added} completions of this run are safe in the store"
                raise EngineError(f"{error}; {safe}") from None
            ledger.sync()


@dataclass(frozen=True)
class Plan:
    """Everything that a draw asks for."""

    engine: Engine
    template: Template
    parameters: Parameters
    model: str
    """As traces name it."""
    ledger: str
    """Digest of what all completions of a ledger share: weights, engine, parameters."""
    origin: str
    recorded: dict[str, Any]
    """The parameters as traces carry them."""
    wanted: dict[str, list[tuple[Problem, Request]]]
    """Key -> who wants this completion: several where problems render to the same prompt."""

    @classmethod
    def of(cls, sampling: Sampling, model: Model, problems: Sequence[Problem], n: int, seed: int) -> "Plan":
        """Render every problem and derive every seed."""
        engine = sampling.engine
        if engine is None:
            raise RecipeError(
                "no engine; write engine: {kind: vllm} at the top of the recipe or on the stage"
            )
        template = Template.of(sampling.template, engine.tokenizer(model))
        parameters = sampling.parameters
        decisive = {"weights": model.content, "engine": engine.key(), "parameters": asdict(parameters)}
        wanted: dict[str, list[tuple[Problem, Request]]] = {}
        for problem in sorted(problems, key=lambda problem: problem.id):
            for request in _requests(problem, template.render(problem.messages), n, seed):
                wanted.setdefault(request.key, []).append((problem, request))
        return cls(
            engine=engine,
            template=template,
            parameters=parameters,
            model=f"{model.path}@{model.revision}" if model.revision else model.name,
            ledger=digest(decisive),
            origin=digest([decisive, template.name]),
            recorded={"engine": engine.kind, **asdict(parameters), "stop": list(parameters.stop)},
            wanted=wanted,
        )

    @property
    def name(self) -> str:
        """Digest of what is asked for and how it is cut into batches."""
        return digest([identity(self.engine), sorted(self.wanted)])

    def traces(self, key: str, completion: Completion) -> Iterator[Trace]:
        """A trace for everyone who wants this completion."""
        for problem, request in self.wanted[key]:
            reasoning, response = split_think(completion.text, is_prefilled(request.prompt))
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
                origin=self.origin,
                model=self.model,
                template=self.template.name,
                sampling=self.recorded,
                extra=problem.extra | ({"error": completion.error} if completion.error else {}),
                telemetry=completion.telemetry,
            )


def _requests(problem: Problem, prompt: str, n: int, seed: int) -> Iterator[Request]:
    rendered = digest(prompt)
    for index in range(n):
        own = seed_of(seed, rendered, index)
        yield Request(digest([rendered, own])[:32], prompt, own, problem.id, index, problem.messages)


@dataclass
class Meter:
    """Counts a draw and tells of it, at most every `TELL_S` seconds."""

    TELL_S = 0.5

    progress: Progress
    total: int
    done: int = 0
    sampled: int = 0
    tokens: int = 0
    began: float = 0.0
    told: float = 0.0

    def begin(self) -> None:
        """The model is loaded: rates count from here."""
        self.began = time.monotonic()
        self.tell()

    def count(self, traces: int, completion: Completion | None = None) -> None:
        """Traces that are done; `completion` where it was sampled now."""
        self.done += traces
        if completion is not None:
            self.sampled += 1
            self.tokens += completion.completion_tokens or 0
        if self.done == self.total or time.monotonic() - self.told >= self.TELL_S:
            self.tell()

    def tell(self) -> None:
        """Tell how far it is."""
        self.told = time.monotonic()
        facts: dict[str, float] = {"tokens": self.tokens}
        if self.sampled:
            seconds = self.told - self.began
            facts |= {"rate": self.sampled / seconds, "tokens_per_s": self.tokens / seconds}
        self.progress(self.done, self.total, unit="completions", **facts)

    def wait(self, owner: str) -> None:
        """Another process draws from the same model in the same way."""
        self.progress(self.done, self.total, unit="completions", waiting_for=owner)
