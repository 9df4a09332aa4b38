"""Completions of a model in the middle of its training, without disturbing that training.

The noise is of our own (a stream per completion, from its seed), so that no random number of the trainer's is spent:
the weights are the same, bit for bit, however often somebody looks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distillkit.engines.base import Parameters, encode, end_tokens
from distillkit.engines.transformers.block import Block, Row, StopText

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

BLOCK = 256
"""Completions that are sampled together."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One completion: its raw text, its token ids with the end token, and whether it finished by itself."""

    text: str
    ids: list[int]
    finished: bool


class Sampler:
    """Samples from a trainer's model as it is now: by TRL's own vLLM in this process, else by its forward pass."""

    def __init__(self, trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase") -> None:
        self.trainer, self.tokenizer = trainer, tokenizer
        self.ends = end_tokens(trainer.model.generation_config.eos_token_id, tokenizer)

    def sample(self, prompts: Sequence[str], seeds: Sequence[int], parameters: Parameters) -> list[Drawn]:
        """One completion for each rendered prompt, in order.

        Of several processes each samples its share; every one gets all completions.
        """
        from accelerate.utils import gather_object

        args = self.trainer.args
        mine = range(args.process_index, len(prompts), args.world_size)
        rows = [(tuple(encode(self.tokenizer, prompts[at])), seeds[at]) for at in mine]
        drawn = (self._by_vllm if self._has_vllm() else self._by_model)(rows, parameters)
        if args.world_size == 1:
            return drawn
        found = gather_object(list(zip(mine, drawn, strict=True)))
        return [each for _, each in sorted(found, key=lambda pair: pair[0])]

    def losses(self, rows: Sequence[tuple[list[int], list[int]]]) -> list[float]:
        """Of each (prompt, text): the mean loss of the text's tokens behind the prompt, in nats."""
        import torch

        found = []
        with self._model() as model, torch.inference_mode():
            for prompt, text in rows:
                ids = torch.tensor([[*prompt, *text]], device=model.device)
                logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(text) + 1).logits[0, :-1]
                loss = torch.nn.functional.cross_entropy(logits.float(), ids[0, len(prompt) :])
                found.append(float(loss))
        return found

    @contextmanager
    def _model(self) -> Iterator["PreTrainedModel"]:
        """The model, whole (of a sharded one all parts are gathered) and without dropout, as it was afterwards."""
        from trl.models import unwrap_model_for_generation

        with unwrap_model_for_generation(self.trainer.model_wrapped, self.trainer.accelerator) as model:
            training = model.training
            model.eval()
            try:
                yield model
            finally:
                model.train(training)

    def _by_model(self, rows: Sequence[tuple[tuple[int, ...], int]], parameters: Parameters) -> list[Drawn]:
        import torch

        found: list[Drawn] = []
        with self._model() as model, torch.inference_mode():
            stop = self._stop(model, parameters.stop)
            for start in range(0, len(rows), BLOCK):
                asked = [Row(ids, seed, parameters.max_tokens) for ids, seed in rows[start : start + BLOCK]]
                block = Block(model, asked, parameters, self.ends, stop)
                block.run()
                found += [self._drawn(*result) for result in block.results()]
        return found

    def _drawn(self, ids: list[int], count: int, finished: bool) -> Drawn:
        """A result of a block, whose ids lack the end token that `count` counts."""
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Drawn(text, ids + self.ends[:1] * (count - len(ids)), finished)

    def _stop(self, model: "PreTrainedModel", stop: tuple[str, ...]) -> StopText | None:
        return StopText.of(self.tokenizer, stop, model.config.get_text_config().vocab_size) if stop else None

    def _has_vllm(self) -> bool:
        """Whether TRL has a vLLM in this process; one that sleeps is left alone."""
        config: dict[str, Any] = self.trainer.args.to_dict()
        return (
            bool(config.get("use_vllm"))
            and config["vllm_mode"] == "colocate"
            and not config["vllm_enable_sleep_mode"]
        )

    def _by_vllm(self, rows: Sequence[tuple[tuple[int, ...], int]], parameters: Parameters) -> list[Drawn]:
        """By the engine that makes the rollouts, with the weights of now; each request has its own seed."""
        from vllm import SamplingParams

        engine = self.trainer.vllm_generation
        engine.sync_weights()
        requests = [
            SamplingParams(
                max_tokens=parameters.max_tokens,
                temperature=parameters.temperature,
                top_p=parameters.top_p,
                seed=seed,
                stop=list(parameters.stop),
                include_stop_str_in_output=True,
            )
            for _, seed in rows
        ]
        prompts = [{"prompt_token_ids": list(ids)} for ids, _ in rows]
        outputs = [each.outputs[0] for each in engine.llm.generate(prompts, requests, use_tqdm=False)]
        return [
            Drawn(
                self.tokenizer.decode(each.token_ids, skip_special_tokens=True),
                list(each.token_ids),
                each.finish_reason == "stop",
            )
            for each in outputs
        ]
