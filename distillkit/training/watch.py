"""Evaluation on the way: held-out problems sampled every N steps, to see what the reward does not show.

Whatever is measured leaves the training as it is, bit for bit (training.sampler). A row per evaluation goes to
`eval.jsonl` and to the tracker; an evaluation that is repeated after a kill is written once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from distillkit.durable import write_text
from distillkit.engines.base import Parameters
from distillkit.scoring import Scoring, by_problem, metrics
from distillkit.spec import EXECUTION, Naming, seed_of
from distillkit.store import Writer
from distillkit.template import AnyTemplate, is_prefilled, stop_of
from distillkit.trace import Problem, Trace, Verdict
from distillkit.training.examples import encode, render
from distillkit.training.sampler import Drawn, Sampler
from distillkit.verifiers.base import Verifier

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerState

FILE = "eval.jsonl"
PREFIX = "eval_"
"""Under which trackers sort a number among evaluations."""

LOSS_TOKENS = 1024
"""Tokens of a text at most that forgetting is measured on."""

Line = dict[str, float]


class Watch(Naming):
    """What is measured on the way: {problems: heldout, every: 50}."""

    problems: Annotated[str, EXECUTION]
    """A problems stage; held-out ones are for this."""
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


class Evaluation:
    """Samples, judges and writes; one for each training."""

    def __init__(
        self,
        watch: Watch,
        sampler: Sampler,
        problems: Sequence[Sequence[Problem]],
        verifiers: Mapping[str, Verifier],
        parameters: Parameters,
        seed: int,
        folder: Path,
    ) -> None:
        """problems: those of each of `watch.names()`; folder: where its lines survive an interruption."""
        known, *foreign = [sorted(each, key=lambda problem: problem.id)[: watch.limit] for each in problems]
        self.watch, self.sampler, self.verifiers = watch, sampler, verifiers
        self.parameters, self.seed = parameters, seed
        self.known, self.foreign = known, [problem for each in foreign for problem in each]
        self.lines, self.texts = folder / FILE, folder / "first_texts.json"
        self.worked: Sequence[tuple[list[int], list[int]]] = ()
        """Held-out texts as token ids (prompt, completion), whose loss is told too."""

    @property
    def _leads(self) -> bool:
        return bool(self.sampler.trainer.is_world_process_zero())

    def read(self) -> list[Line]:
        """The lines so far, by step."""
        if not self.lines.exists():
            return []
        return [json.loads(line) for line in self.lines.read_text("utf-8").splitlines()]

    def begin(self, step: int) -> None:
        """Forget what lies behind the step at which the training goes on; measure the start where nobody has."""
        if self._leads:
            self._write([line for line in self.read() if line["step"] <= step])
        if step == 0:
            self.measure(0)

    def measure(self, step: int) -> Line:
        """The numbers of this step, also appended to the lines."""
        line: Line = {"step": step, "problems": len(self.known), **self._score(self.known, self.watch.n)}
        if self.worked:
            line["loss"] = fmean(self.sampler.losses(self.worked))
        if self.foreign:
            found = self._score(self.foreign, 1) | self._loss(step)
            line |= {f"forgetting/{name}": value for name, value in found.items()}
        if self._leads:
            self._write([each for each in self.read() if each["step"] < step] + [line])
        return line

    def _write(self, lines: list[Line]) -> None:
        write_text(self.lines, "".join(json.dumps(line) + "\n" for line in lines))

    def _score(self, problems: Sequence[Problem], n: int) -> Line:
        """Metrics of `scoring` over n samples a problem; those with a verdict where the domain has a verifier."""
        traces = self._traces(problems, n)
        judges = {each.domain: self.verifiers.get(each.domain, Mute()) for each in problems}
        found = metrics(by_problem(Scoring().judge(traces, judges)), [n] if n > 1 else [], judges)
        line: Line = {"samples": len(traces)}
        line |= {name: each.value for name, each in found.items() if each.value is not None}
        if any(isinstance(judge, Mute) for judge in judges.values()):
            line.pop("no_answer", None)
        return line

    def _traces(self, problems: Sequence[Problem], n: int) -> list[Trace]:
        asked = [(problem, index) for problem in problems for index in range(n)]
        prompts = [self._prompt(each) for each, _ in asked]
        seeds = [seed_of(self.seed, "watch", each.id, index) for each, index in asked]
        drawn = self.sampler.sample(prompts, seeds, self.parameters)
        return [
            trace_of(problem, index, each, is_prefilled(prompt))
            for (problem, index), prompt, each in zip(asked, prompts, drawn, strict=True)
        ]

    def _loss(self, step: int) -> Line:
        """Mean loss, in nats per token, on what the model itself said to the foreign prompts before its training."""
        prompts = [self._prompt(each) for each in self.foreign]
        if step == 0 or not self.texts.exists():
            greedy = replace(
                self.parameters, temperature=0, max_tokens=min(self.parameters.max_tokens, LOSS_TOKENS)
            )
            answers = [each.ids for each in self.sampler.sample(prompts, [0] * len(prompts), greedy)]
            if self._leads:
                write_text(self.texts, json.dumps(answers))
        else:
            answers = json.loads(self.texts.read_text("utf-8"))
        rows = [
            (encode(self.sampler.tokenizer, each), ids) for each, ids in zip(prompts, answers, strict=True)
        ]
        return {"loss": fmean(self.sampler.losses([(prompt, ids) for prompt, ids in rows if ids]))}

    def _prompt(self, problem: Problem) -> str:
        return render(self.sampler.tokenizer, problem.messages, add_generation_prompt=True)


def watch(
    declared: Watch | None,
    trainer: "Trainer",
    tokenizer: "PreTrainedTokenizerBase",
    problems: Sequence[Sequence[Problem]],
    verifiers: Mapping[str, Verifier],
    *,
    template: AnyTemplate | None,
    max_tokens: int,
    seed: int,
    folder: Path,
) -> Evaluation | None:
    """Let a trainer be watched as its stage declares it; None where it does not.

    problems: those of each end of the wire; max_tokens: where the declaration has none; folder: the stage's scratch.
    """
    if declared is None:
        return None
    parameters = Parameters(
        max_tokens=declared.max_tokens or max_tokens,
        temperature=declared.temperature,
        top_p=declared.top_p,
        stop=stop_of(template),
    )
    sampler = Sampler(trainer, tokenizer)
    found = Evaluation(declared, sampler, problems, verifiers, parameters, seed, folder)
    trainer.add_callback(_callback(found))
    callbacks = trainer.callback_handler.callbacks
    callbacks.insert(0, callbacks.pop())  # before the trackers, which log what it adds
    return found


def write_evaluation(found: Evaluation | None, out: Writer) -> dict[str, Any]:
    """Write `eval.jsonl`, a line per evaluation; its part of the summary: {"evaluation": {"first": .., "last": ..}}."""
    lines = [] if found is None else found.read()
    if not lines:
        return {}
    out.add_text(FILE, "".join(json.dumps(line) + "\n" for line in lines))
    return {"evaluation": {"first": lines[0], "last": lines[-1]}}


def _callback(evaluation: Evaluation) -> "TrainerCallback":
    from transformers import TrainerCallback

    class Watching(TrainerCallback):  # type: ignore[misc]
        line: Line | None = None

        def on_train_begin(self, args: Any, state: "TrainerState", control: Any, **_: Any) -> None:
            evaluation.begin(state.global_step)

        def on_step_end(self, args: Any, state: "TrainerState", control: Any, **_: Any) -> None:
            if state.global_step % evaluation.watch.every == 0 or state.global_step == state.max_steps:
                self.line = evaluation.measure(state.global_step)

        def on_log(
            self, args: Any, state: "TrainerState", control: Any, logs: dict[str, Any] | None = None, **_: Any
        ) -> None:
            # Not trainer.log in on_step_end: it would make the step's own row vanish.
            if logs is not None and self.line is not None and self.line["step"] == state.global_step:
                logs |= {f"{PREFIX}{name}": value for name, value in self.line.items() if name != "step"}
                self.line = None

    return Watching()


class Mute(Verifier):
    """Stands in for the verifier that a domain does not have: no opinion on anything."""

    votes: ClassVar[bool] = False

    kind: str = "mute"

    def grade_all(self, traces: Sequence[Trace]) -> list[Verdict]:
        return [Verdict.of("judge_unavailable") for _ in traces]


def trace_of(problem: Problem, index: int, drawn: Drawn, prefilled: bool) -> Trace:
    """A completion of the model in training as a trace."""
    return Trace.of(
        problem,
        drawn.text,
        prefilled=prefilled,
        finish_reason="stop" if drawn.finished else "length",
        completion_tokens=len(drawn.ids),
        index=index,
    )
