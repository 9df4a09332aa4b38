"""Evaluation on the way: held-out problems sampled every N steps, to see what the reward does not show.

Whatever is measured leaves the training as it is, bit for bit (training.sampler). A row per evaluation goes to
`eval.jsonl` and to the tracker; an evaluation that is repeated after a kill is written once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from distillkit.durable import write_text
from distillkit.engines.base import Parameters
from distillkit.scoring import Scoring, by_problem, metrics
from distillkit.spec import EXECUTION, Naming, Strict, seed_of
from distillkit.template import AnyTemplate, is_prefilled, stop_of
from distillkit.text import split_think
from distillkit.trace import Problem, Trace
from distillkit.training.examples import encode, render
from distillkit.training.sampler import Drawn, Sampler
from distillkit.verifiers.base import Verifier

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback

FILE = "eval.jsonl"
PREFIX = "eval_"
"""Under which trackers sort a number among evaluations."""

Line = dict[str, float]


class Watch(Naming):
    """What is measured on the way: {problems: heldout, every: 50}."""

    problems: Annotated[str, EXECUTION]
    """A problems stage (held-out ones are for this), or a built-in benchmark."""
    forgetting: Annotated[str | None, EXECUTION] = None
    """Further problems, of a kind that the training does not teach: general prompts, to see what it unlearns."""
    every: Annotated[int, Field(ge=1)] = 50
    """Steps between two evaluations; one comes before the first step and one after the last."""
    n: Annotated[int, Field(ge=1)] = 4
    """Samples per problem; cons@k is for k = n."""
    limit: Annotated[int, Field(ge=1)] = 64
    """At most so many problems, the first by id."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int | None, Field(ge=1)] = None
    """Tokens of a completion; left out: those that the stage trains with."""

    def names(self) -> list[str]:
        return [self.problems, *([self.forgetting] if self.forgetting is not None else [])]


@dataclass
class Subject:
    """What the evaluations need of the training that they watch.

    known, foreign: problems of `problems` and of `forgetting`, in any order.
    max_tokens: where the declaration has none.
    """

    watch: Watch
    known: Sequence[Problem]
    foreign: Sequence[Problem]
    verifiers: Mapping[str, Verifier]
    template: AnyTemplate | None
    max_tokens: int
    seed: int


class Evaluation:
    """Samples, judges and writes; one for each training."""

    def __init__(
        self, trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase", subject: Subject, folder: Path
    ) -> None:
        """folder: where its lines and the texts of the start are kept over interruptions."""
        self.trainer, self.tokenizer, self.subject = trainer, tokenizer, subject
        self.sampler = Sampler(trainer, tokenizer)
        self.lines, self.texts = folder / FILE, folder / "first_texts.json"
        watch = subject.watch
        self.known = sorted(subject.known, key=lambda each: each.id)[: watch.limit]
        self.foreign = sorted(subject.foreign, key=lambda each: each.id)[: watch.limit]
        self.parameters = Parameters(
            max_tokens=watch.max_tokens or subject.max_tokens,
            temperature=watch.temperature,
            top_p=watch.top_p,
            stop=stop_of(subject.template),
        )

    def read(self) -> list[Line]:
        """The lines so far, by step."""
        if not self.lines.exists():
            return []
        return [json.loads(line) for line in self.lines.read_text("utf-8").splitlines()]

    def begin(self, step: int) -> None:
        """Forget what lies behind the step at which the training goes on; measure the start where nobody has."""
        if self.trainer.is_world_process_zero():
            self._write([line for line in self.read() if line["step"] <= step])
        if step == 0:
            self.measure(0)

    def measure(self, step: int) -> Line:
        """The numbers of this step, also appended to the lines."""
        line: Line = {"step": step, "problems": len(self.known), **self._score(self.known, self.subject.watch.n)}
        if self.foreign:
            found = self._score(self.foreign, 1) | self._loss(step)
            line |= {f"forgetting/{name}": value for name, value in found.items()}
        if self.trainer.is_world_process_zero():
            self._write([each for each in self.read() if each["step"] < step] + [line])
        return line

    def _write(self, lines: list[Line]) -> None:
        write_text(self.lines, "".join(json.dumps(line) + "\n" for line in lines))

    def _score(self, problems: Sequence[Problem], n: int) -> Line:
        """Metrics of `scoring` over n samples a problem; what needs a verdict is absent where a domain has no verifier."""
        traces = self._traces(problems, n)
        judges = {each.domain: self.subject.verifiers.get(each.domain, Mute(kind="mute")) for each in problems}
        groups = by_problem(Scoring().judge(traces, judges))
        ks = [n] if n > 1 else []
        found = metrics(groups, ks, judges)
        values = {name: estimate.value for name, estimate in found.items()}
        return {"samples": len(traces)} | {name: value for name, value in values.items() if value is not None}

    def _traces(self, problems: Sequence[Problem], n: int) -> list[Trace]:
        asked = [(problem, index) for problem in problems for index in range(n)]
        prompts = [render(self.tokenizer, each.messages, add_generation_prompt=True) for each, _ in asked]
        seeds = [seed_of(self.subject.seed, "watch", each.id, index) for each, index in asked]
        drawn = self.sampler.sample(prompts, seeds, self.parameters)
        return [
            trace_of(problem, index, each, is_prefilled(prompt))
            for (problem, index), prompt, each in zip(asked, prompts, drawn, strict=True)
        ]

    def _loss(self, step: int) -> Line:
        """Mean loss on what the model itself said to the foreign prompts before its training, nats per token."""
        prompts = [render(self.tokenizer, each.messages, add_generation_prompt=True) for each in self.foreign]
        if step == 0 or not self.texts.exists():
            greedy = Parameters(self.parameters.max_tokens, temperature=0, stop=self.parameters.stop)
            drawn = self.sampler.sample(prompts, [0] * len(prompts), greedy)
            if self.trainer.is_world_process_zero():
                write_text(self.texts, json.dumps([each.ids for each in drawn]))
            answers = [each.ids for each in drawn]
        else:
            answers = json.loads(self.texts.read_text("utf-8"))
        pairs = zip(prompts, answers, strict=True)
        losses = self.sampler.losses([(encode(self.tokenizer, prompt), ids) for prompt, ids in pairs])
        return {"loss": fmean(losses)} if losses else {}


class Mute(Verifier):
    """Stands in for the verifier that a domain does not have: no opinion on anything."""

    votes = False

    kind: str = "mute"

    def grade_all(self, traces: Sequence[Trace]) -> list[Any]:
        from distillkit.trace import Verdict

        return [Verdict.of("judge_unavailable") for _ in traces]


def trace_of(problem: Problem, index: int, drawn: Drawn, prefilled: bool) -> Trace:
    """A completion of the model in training as a trace."""
    reasoning, response = split_think(drawn.text, prefilled)
    return Trace(
        problem_id=problem.id,
        messages=problem.messages,
        completion=drawn.text,
        reasoning=reasoning,
        response=response,
        reference=problem.reference,
        domain=problem.domain,
        source=problem.source,
        language=problem.language,
        finish_reason="stop" if drawn.finished else "length",
        completion_tokens=len(drawn.ids),
        index=index,
    )
