"""What a draw asks for: every prompt rendered once, the seed and the key of each sample derived when needed.

A million samples are a hundred thousand problems and a number; nothing here is as long as the samples are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from typing import Any, NamedTuple

from distillkit.artifact import Model
from distillkit.engines.base import Completion, Engine, Parameters, Request
from distillkit.errors import RecipeError
from distillkit.sampling.declaration import Continuation, Sampling, Until
from distillkit.spec import digest, seed_of
from distillkit.template import Template, is_prefilled
from distillkit.trace import Problem, Trace


class Ask(NamedTuple):
    """A problem, and of its rendered prompt only what is always needed: the text is rendered again when it goes out."""

    problem: Problem
    prompt: str
    """Digest of the rendered prompt."""
    prefilled: bool
    """Whether it ends with an open `<think>`."""


@dataclass(frozen=True, slots=True)
class Want:
    """One sample that is wanted; wants of an equal `key` are one and the same completion."""

    ask: Ask
    index: int
    seed: int
    key: str
    first: Completion | None = None
    """The truncated completion that this one continues."""


@dataclass(frozen=True)
class Plan:
    """Everything that a draw asks for."""

    engine: Engine
    template: Template
    parameters: Parameters
    continuation: Parameters | None
    """Of what continues a truncated completion; None leaves it as it is."""
    seed: int
    n: int
    until: Until | None
    model: str
    """As traces name it."""
    ledger: str
    """Digest of what all completions of a ledger share: weights, engine, parameters."""
    origin: str
    recorded: dict[str, Any]
    """The parameters as traces carry them."""
    asks: list[Ask]
    """Sorted by problem."""
    _rendered: dict[str, str] = field(default_factory=dict)
    """The prompt that was last needed, by its digest: the samples of a problem are asked one after the other."""

    @classmethod
    def of(
        cls,
        sampling: Sampling,
        model: Model | None,
        problems: Sequence[Problem],
        n: int,
        seed: int,
        until: Until | None = None,
        continued: Continuation | None = None,
    ) -> "Plan":
        """Render every problem.

        Raises RecipeError for an engine that is not there, or that has no model or cannot do what is asked.
        """
        engine = able(sampling, has_model=model is not None, continued=continued)
        template = Template.of(sampling.template, engine.tokenizer(model))
        parameters = sampling.parameters
        decisive = {
            "weights": model.content if model is not None else None,
            "engine": engine.key(),
            "parameters": asdict(parameters),
        }
        # A sample that goes on is another one; asking for fewer of them (n, until) changes none.
        more = [continued.model_dump()] if continued is not None else []
        options = {"until": until, "continue_truncated": continued}
        return cls(
            engine=engine,
            template=template,
            parameters=parameters,
            continuation=replace(parameters, max_tokens=continued.max_tokens) if continued else None,
            seed=seed,
            n=n,
            until=until,
            model=_name(engine, model),
            ledger=digest(decisive),
            origin=digest([decisive, template.name, *more]),
            recorded={"engine": engine.kind, **asdict(parameters), "stop": list(parameters.stop)}
            | {key: option.model_dump() for key, option in options.items() if option is not None},
            asks=[_ask(template, problem) for problem in sorted(problems, key=lambda each: each.id)],
        )

    @property
    def total(self) -> int:
        """Samples at most."""
        return self.n * len(self.asks)

    def want(self, ask: Ask, index: int) -> Want:
        """A sample of a problem: its seed is drawn from the run's seed, the rendered prompt and the index."""
        # The same as spec.seed_of and spec.digest of these lists, a tenth of the time: there may be millions.
        seed = int(_hash(f'[{self.seed},"{ask.prompt}",{index}]')[:16], 16) % 2**31
        return Want(ask, index, seed, _hash(f'["{ask.prompt}",{seed}]')[:32])

    def wants(self, ask: Ask) -> Iterator[Want]:
        """All samples of a problem."""
        return (self.want(ask, index) for index in range(self.n))

    def continued(self, want: Want, first: Completion) -> Want:
        """What goes on where a truncated sample was cut, under a seed and a key of its own."""
        assert self.continuation is not None
        prompt = digest(self._prompt(want.ask) + first.text)
        seed = seed_of(self.seed, prompt, want.index)
        key = digest(["continued", prompt, seed, self.continuation.max_tokens])[:32]
        return Want(want.ask, want.index, seed, key, first)

    def request(self, want: Want) -> Request:
        """What the engine is asked."""
        problem = want.ask.problem
        prompt = self._prompt(want.ask) + (want.first.text if want.first else "")
        return Request(want.key, prompt, want.seed, problem.id, want.index, problem.messages)

    def _prompt(self, ask: Ask) -> str:
        if ask.prompt not in self._rendered:
            self._rendered.clear()
            self._rendered[ask.prompt] = self.template.render(ask.problem.messages)
        return self._rendered[ask.prompt]

    def trace(self, want: Want, completion: Completion) -> Trace:
        """The trace of a completion, or of the two that one sample was made of."""
        sampling = self.recorded | {"prompt": want.ask.prompt[:32]}
        seed = want.seed
        if want.first is not None:
            seed = self.want(want.ask, want.index).seed
            if completion.finish_reason != "error":
                sampling["continued"] = {"at": len(want.first.text), "seed": want.seed}
            completion = joined(want.first, completion)
        problem = want.ask.problem
        return Trace.of(
            problem,
            completion.text,
            prefilled=want.ask.prefilled,
            finish_reason=completion.finish_reason,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            seed=seed,
            index=want.index,
            origin=self.origin,
            model=self.model,
            template=self.template.name,
            sampling=sampling,
            extra=problem.extra | {"error": completion.error} if completion.error else problem.extra,
            telemetry=completion.telemetry,
        )


def joined(first: Completion, second: Completion) -> Completion:
    """Both texts as one completion; where the second gave nothing (no room left) the first stays as it is."""
    if second.finish_reason == "error":
        return first
    counts = first.completion_tokens, second.completion_tokens
    return Completion(
        text=first.text + second.text,
        finish_reason=second.finish_reason,
        prompt_tokens=first.prompt_tokens,
        completion_tokens=None if None in counts else sum(each or 0 for each in counts),
        telemetry=first.telemetry | {"continued": second.telemetry},
    )


def cost_of(completion: Completion) -> float:
    """What a completion cost, in the currency of the engine's prices; 0 where it has none."""
    telemetry = completion.telemetry
    second = telemetry.get("continued", {})
    return float(telemetry.get("cost", 0.0)) + float(second.get("cost", 0.0))


def able(sampling: Sampling, *, has_model: bool, continued: Continuation | None = None) -> Engine:
    """The engine of a stage; raises RecipeError where there is none, or it cannot do what is asked of it."""
    engine = sampling.engine
    if engine is None:
        raise RecipeError("no engine; write engine: {kind: vllm} at the top of the recipe or on the stage")
    if not has_model and engine.needs_model:
        raise RecipeError(f"no model; engine {engine.kind} needs one: write model: org/name")
    if has_model and not engine.needs_model:
        raise RecipeError(f"model: engine {engine.kind} serves a model of its own; leave it out")
    if not engine.continues and sampling.template not in (None, "chat"):
        raise RecipeError(
            f"template: engine {engine.kind} takes messages and its server renders them; leave template out, or "
            "write api: completions and the model whose tokenizer renders"
        )
    if not engine.continues and continued is not None:
        raise RecipeError(
            f"continue_truncated: engine {engine.kind} takes messages, so it cannot go on in the middle of an "
            "answer; raise max_tokens instead"
        )
    return engine


def _name(engine: Engine, model: Model | None) -> str:
    if model is None:
        return engine.model_name or ""
    return f"{model.path}@{model.revision}" if model.revision else model.name


def _ask(template: Template, problem: Problem) -> Ask:
    prompt = template.render(problem.messages)
    return Ask(problem, digest(prompt), is_prefilled(prompt))


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=32).hexdigest()
