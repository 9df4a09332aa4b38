"""Reinforcement learning with verifiable rewards, by TRL's GRPOTrainer: the R1-Zero step of the method.

Sources: GRPO, arXiv:2402.03300; DeepSeek-R1, arXiv:2501.12948v2, section 2.2; Dr. GRPO, arXiv:2503.20783.
"""

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from distillkit.artifact import Artifact, Model
from distillkit.durable import write_text
from distillkit.engines.base import Parameters, context_of, load_tokenizer
from distillkit.errors import RecipeError, StageError
from distillkit.spec import EXECUTION, seed_of
from distillkit.stages.band import Band, check_limits, objections
from distillkit.stages.base import PROBLEMS, SCORES, WEIGHTS, Job, Stage, Wire
from distillkit.stages.trainer import WatchedStage
from distillkit.template import is_prefilled, stop_of
from distillkit.trace import Problem
from distillkit.training.account import Account
from distillkit.training.callbacks import sampling_errors
from distillkit.training.chat import jinja_of
from distillkit.training.examples import render
from distillkit.training.passthrough import ConfigName
from distillkit.training.preflight import (
    check_extraction,
    check_golds,
    check_tags,
    fitting,
    require_prompts,
    require_template,
)
from distillkit.training.probe import probe
from distillkit.training.prompts import dataset_of, end_ids, window_of
from distillkit.training.rehearsal import memory_errors, rehearse
from distillkit.training.rewards import (
    Accuracy,
    Circumstance,
    Format,
    Function,
    Overlong,
    Reward,
    RewardModel,
    Rewards,
    Rollouts,
    dataset_row,
    functions_of,
    named,
)
from distillkit.training.rewards.classifier import Classifier
from distillkit.training.room import warn_of_memory
from distillkit.training.run import built, load_trainer, save_weights, train
from distillkit.training.sampler import Sampler
from distillkit.training.serving import finisher, serving
from distillkit.training.stopping import stop_at
from distillkit.verifiers.base import learned_by

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from trl import GRPOConfig, GRPOTrainer


class Grpo(WatchedStage):
    """Train a model on its own completions, paid by the recipe's verifiers."""

    JUDGES: ClassVar[bool] = True
    CONFIG: ClassVar[ConfigName] = "GRPOConfig"
    RENAMED: ClassVar[dict[str, str]] = {"max_steps": "steps", "num_train_epochs": "steps"}

    kind: Literal["grpo"] = "grpo"
    input: Annotated[str | list[str] | None, Wire((PROBLEMS,)), EXECUTION] = None
    """Problems to train on, of one stage or several; left out, the nearest earlier ones. Held-out ones are refused."""
    screened: Annotated[str | None, Wire((SCORES,), kinds=("screen",), default="none"), EXECUTION] = None
    """A screen stage over these problems, for `band` and `require_go`."""
    band: tuple[float, float] | None = None
    """Keep problems whose pass rate in the screening lies in [low, high]; one without a pass rate is kept."""
    curriculum: Literal["pass_rate"] | None = None
    """Order of the prompts: easy ones first, by their pass rate in the screening; left out, each pass over them is
    shuffled anew. No generation asks a prompt twice."""
    require_go: bool = False
    """Stop where the screening advises against the training."""

    steps: int = Field(ge=1)
    """Optimizer steps."""
    prompts_per_step: int = Field(16, ge=1)
    num_generations: int = Field(8, ge=2)
    """Completions per prompt: the group whose rewards are compared."""
    max_completion_length: int = Field(ge=2)
    """Tokens; a completion that is not finished by then is cut, and its answer does not count."""
    temperature: float = Field(1.0, gt=0)
    rewards: Annotated[Rewards, Wire((WEIGHTS,), default="none", external=True, named=True, rates=True)] = [
        Accuracy()
    ]
    """What a completion is paid for, each with its weight in the sum; `{accuracy: 1.0, format: 0.1}` is short for
    rewards that need no more than a weight."""
    probe: Annotated[bool, EXECUTION] = True
    """Look at 32 completions and their rewards before the first step, for rewards that can teach nothing."""

    loss_type: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = "dapo"
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What the advantages are divided by: the standard deviation of the group, of the batch, or nothing."""
    beta: float = Field(0.0, ge=0)
    """Weight of the KL divergence from the reference model; 0 loads none."""
    epsilon: float = Field(0.2, gt=0)
    epsilon_high: float | None = Field(None, gt=0)
    """Upper clipping where it differs from the lower (DAPO: 0.28)."""
    num_iterations: int = Field(1, ge=1)
    """Optimizer passes over each batch of completions."""

    def check(self, recipe_folder: Path) -> None:
        self.check_training(self.name)
        rows = self.rows_per_pass(self.prompts_per_step * self.num_generations, self.max_completion_length)
        self._check_generations(rows * self.world_size)
        asking = {
            "band": self.band is not None,
            "curriculum": self.curriculum is not None,
            "require_go": self.require_go,
        }
        for field in [name for name, asks in asking.items() if asks and self.screened is None]:
            raise RecipeError(f"stages.{self.name}.{field}: needs screened: and the name of a screen stage")
        check_limits(self.band, self.name)
        for reward in self.rewards:
            reward.check()
            if isinstance(reward, Overlong) and (reward.buffer or 0) > self.max_completion_length:
                raise RecipeError(
                    f"stages.{self.name}.rewards: overlong: buffer {reward.buffer:,} is above max_completion_length "
                    f"{self.max_completion_length:,}, so that every completion would be punished; lower it"
                )
        for key, reason in self.unstoppable().items():
            raise RecipeError(f"stages.{self.name}.trainer.{key}: {reason}; leave it out")

    def _check_generations(self, rows: int) -> None:
        """Raises RecipeError for a rollout that passes of so many rows, or whole groups, cannot share out."""
        size, unit = self.trainer.get("generation_batch_size"), math.lcm(rows, self.num_generations)
        if size and size % unit:
            raise RecipeError(
                f"stages.{self.name}.trainer.generation_batch_size: {size:,} is no multiple of {unit:,} (the {rows:,} "
                f"rows of a pass, and the {self.num_generations} completions of a prompt)"
            )

    def unstoppable(self) -> dict[str, str]:
        """Keys of `trainer:` that do not go with a template whose answers end at a text, and why."""
        if not stop_of(self.template):
            return {}
        found = {}
        if self.trainer.get("use_transformers_continuous_batching"):
            found["use_transformers_continuous_batching"] = "knows no stop texts, and template r1 needs one"
        if self.trainer.get("use_vllm") and self.trainer.get("mask_truncated_completions"):
            found["mask_truncated_completions"] = (
                "with vLLM TRL takes every completion that ends at </answer> for truncated"
            )
        return found

    def foreign(self) -> list[str]:
        return [*super().foreign(), *(phrase for reward in self.rewards for phrase in reward.foreign())]

    @property
    def judges(self) -> bool:
        return self.evaluate is not None or any(reward.verifies for reward in self.rewards)

    def judged(self, domains: Collection[str]) -> set[str]:
        return {
            domain for domain in domains for each in self.rewards if each.verifies and each.applies(domain)
        }

    def reach(self, inputs: "Mapping[str, Sequence[Stage]]", recipe: str) -> None:
        for reward in self.rewards:
            reward.reach()

    def limited(self, rows: int) -> Self:
        update = {
            "steps": min(self.steps, 4),
            "prompts_per_step": self.fewer(self.prompts_per_step, rows),
            "per_device_train_batch_size": None,
            # A rollout for many steps is no multiple of these smaller ones.
            "trainer": {key: value for key, value in self.trainer.items() if key != "generation_batch_size"},
        }
        return self.model_copy(update=update)

    def run(self, job: Job) -> None:
        self.require_machine(self.name)
        [model] = job.models()
        tokenizer = load_tokenizer(model)
        tokenizer.chat_template = jinja_of(self.template, tokenizer)
        require_template(tokenizer, model.name)
        check_tags(tokenizer, self.name)
        problems = job.problems()
        rows = self.rows(job, problems, model, tokenizer)
        self.claim_checkpoints(job)
        rewards = named(self.rewards)
        circumstance = self.circumstance(job, model, tokenizer, rows)
        ids = {row["id"] for row in rows}
        kept = [each for each in problems if each.id in ids]
        warnings = self.preflight(job, tokenizer, circumstance, kept)
        functions = functions_of(rewards, Rollouts(circumstance))
        trainer = self.trainer_of(job, model, tokenizer, rows, functions)
        warnings += self.probed(job, trainer, tokenizer, functions, rows)
        evaluation = self.watched(job, trainer, tokenizer, self.max_completion_length)
        account = Account(list(rewards), job.warn, warnings, evaluation)
        trainer.add_callback(account.listener())
        rehearse(trainer, self.name)
        longest = f"completions of up to {self.max_completion_length:,} tokens"
        with memory_errors(self.name, longest), sampling_errors(self.name, trainer):
            logs = train(
                trainer, self.name, job.progress, window_of(trainer.args), keep_steps=self.keep_steps
            )
        save_weights(trainer, job.out, finisher(trainer, tokenizer, tokenizer.chat_template, self.lora))
        learned = self.learned(job, rewards, {row["domain"] for row in rows})
        job.out.summary = account.write(logs, job.out) | learned
        job.out.summary["serve"] = serving(job.out.path / "model", model.name)

    def circumstance(
        self, job: Job, model: Model, tokenizer: "PreTrainedTokenizerBase", rows: list[dict[str, Any]]
    ) -> Circumstance:
        """What the rewards know of this training; reward models are loaded."""
        gates = [each for each in self.rewards if isinstance(each, Format) and each.gate]
        paying = [each.model for each in self.rewards if isinstance(each, RewardModel)]
        return Circumstance(
            prefilled=is_prefilled(render(tokenizer, rows[0]["prompt"], add_generation_prompt=True)),
            max_completion_length=self.max_completion_length,
            end_ids=end_ids(model, tokenizer),
            stop=stop_of(self.template),
            verifiers=job.verifiers,
            models={
                name: Classifier.load(each)
                for name, each in zip(paying, job.models("rewards") if paying else [], strict=True)
            },
            gate=lambda domain: any(gate.applies(domain) for gate in gates),
        )

    def trainer_of(
        self,
        job: Job,
        model: Model,
        tokenizer: "PreTrainedTokenizerBase",
        rows: list[dict[str, Any]],
        functions: list[Function],
    ) -> "GRPOTrainer":
        """TRL's trainer, ready to train."""
        from trl import GRPOTrainer

        config = self.config(model, job)
        batch = self.prompts_per_step * self.num_generations
        load = self.load(batch, self.max_completion_length)
        paying = any(isinstance(each, RewardModel) for each in self.rewards)
        warn_of_memory(
            model,
            load,
            self.name,
            job.warn,
            self.trainer,
            self.share(batch),
            reference=self.beta > 0 and self.lora is None,
            raters=job.models("rewards") if paying else (),
        )
        trainer = load_trainer(
            GRPOTrainer,
            config,
            model,
            self.name,
            reward_funcs=functions,
            train_dataset=dataset_of(rows, config, easy_first=self.curriculum == "pass_rate"),
            processing_class=tokenizer,
            **self.adaptation(),
        )
        if stop_of(self.template) and not config.use_vllm:
            stop_at(trainer, tokenizer, stop_of(self.template))
        return trainer

    def preflight(
        self,
        job: Job,
        tokenizer: "PreTrainedTokenizerBase",
        circumstance: Circumstance,
        problems: list[Problem],
    ) -> list[dict[str, str]]:
        """Warnings of what can be seen without a completion."""
        verifiers = {
            domain: verifier
            for domain, verifier in job.verifiers.items()
            if domain in self.judged({each.domain for each in problems})
        }
        check_extraction(tokenizer, problems, verifiers, prefilled=circumstance.prefilled, stage=self.name)
        warnings = check_golds(problems, verifiers, self.name)
        for each in warnings:
            job.warn(each["text"])
        return warnings

    def probed(
        self,
        job: Job,
        trainer: "GRPOTrainer",
        tokenizer: "PreTrainedTokenizerBase",
        functions: list[Function],
        rows: list[dict[str, Any]],
    ) -> list[dict[str, str]]:
        """Warnings of the probe, kept over interruptions; none where it is turned off."""
        file = job.out.scratch / "probe.json"
        if not self.probe:
            return []
        if file.exists():
            warnings: list[dict[str, str]] = json.loads(file.read_text("utf-8"))
            return warnings
        parameters = Parameters(
            self.max_completion_length, temperature=self.temperature, stop=stop_of(self.template)
        )
        warnings = probe(Sampler(trainer, tokenizer), functions, rows, parameters, job.seed, self.name)
        for each in warnings:
            job.warn(each["text"])
        if trainer.is_world_process_zero():
            write_text(file, json.dumps(warnings))
        return warnings

    def learned(self, job: Job, rewards: Mapping[str, Reward], domains: set[str]) -> dict[str, Any]:
        """{learned: true, judges: {domain or reward: kind}} where a model's opinion pays, else {}."""
        found = learned_by(job.verifiers, self.judged(domains)).get("judges", {})
        found |= {name: reward.kind for name, reward in rewards.items() if reward.learned}
        return {"learned": True, "judges": found} if found else {}

    def screenings(self, job: Job) -> list[Artifact]:
        """The screening of these problems; its advice is told.

        Raises StageError where it advises against the training, if it was asked to.
        """
        found = job.artifacts("screened")
        for line in objections(found):
            if self.require_go:
                raise StageError(f"{self.name}: {line}")
            job.warn(line)
        return found

    def rows(
        self, job: Job, problems: list[Problem], model: Model, tokenizer: "PreTrainedTokenizerBase"
    ) -> list[dict[str, Any]]:
        """The problems to train on as dataset rows, in their order; what was dropped is counted."""
        from transformers import AutoConfig

        band = Band.of(self.band, self.screenings(job))
        reasons = [band.rejects(each) for each in problems]
        inside = [
            dataset_row(each, band.rates.get(each.id))
            for each, reason in zip(problems, reasons, strict=True)
            if reason is None
        ]
        context = context_of(AutoConfig.from_pretrained(model.path, revision=model.revision))
        rows = fitting(inside, tokenizer, context, self.max_completion_length)
        rejected = Counter(reason for reason in reasons if reason is not None)
        rejected["too_long"] = len(inside) - len(rows)
        job.out.rows_in, job.out.rows_kept = len(problems), len(rows)
        job.out.counts = {"rejected": dict(+rejected)} if +rejected else {}
        require_prompts(len(rows), rejected["too_long"], self.prompts_per_step, self.name)
        return rows

    def config(self, model: Model, job: Job) -> "GRPOConfig":
        """TRL's config; saves are aligned with the generations, else a resumed run would differ."""
        from trl import GRPOConfig

        batch = self.prompts_per_step * self.num_generations
        rows = self.rows_per_pass(batch, self.max_completion_length)
        ours = {
            "max_steps": self.steps,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": self.share(batch) // rows,
            "num_generations": self.num_generations,
            "max_completion_length": self.max_completion_length,
            "temperature": self.temperature,
            "loss_type": self.loss_type,
            "scale_rewards": self.scale_rewards,
            "beta": self.beta,
            "epsilon": self.epsilon,
            "epsilon_high": self.epsilon_high,
            "num_iterations": self.num_iterations,
            "reward_weights": [reward.weight for reward in self.rewards],
            "log_completions": True,
            "num_completions_to_print": 0,
            "shuffle_dataset": False,  # the dataset is in its order already
        }
        arguments = self.arguments(model, job.out.scratch, seed_of(job.seed, self.kind), ours)
        config = built(GRPOConfig, self.name, **arguments)
        stop = stop_of(self.template)
        if stop and config.use_vllm:  # transformers is told by stop_at
            ending = {"stop": list(stop), "include_stop_str_in_output": True}
            config.generation_kwargs = ending | (config.generation_kwargs or {})
        window = window_of(config)
        config.save_steps = math.ceil(self.save_steps / window) * window
        return config
