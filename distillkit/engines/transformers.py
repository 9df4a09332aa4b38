"""Sampling with plain transformers, on a CPU or a GPU: the engine that runs everywhere.

It samples in fixed blocks, because the shape of a batch decides how its sums are rounded: a block that was
interrupted is redone whole, so that a resumed draw equals an uninterrupted one bit for bit. The noise is ours,
one number per token from the seed of its row, so that a text hangs on its own prompt and seed and not on its
neighbours. Within a block each prompt is read once for all of its samples, and finished rows leave.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from distillkit.artifact import Model
from distillkit.engines.base import (
    Completion,
    Engine,
    Parameters,
    Request,
    context_of,
    encode,
    end_tokens,
    require_context,
    require_model,
    text_of,
    too_long,
    unreadable,
)
from distillkit.errors import EngineError

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase


class TransformersEngine(Engine):
    """Blocks of completions through the model's own forward pass; for a big model take vllm."""

    kind: Literal["transformers"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is that of the checkpoint."""
    block: int = Field(512, ge=1)
    """Completions that are sampled together: more are faster and take more memory."""

    @contextmanager
    def open(
        self, model: Model, tokenizer: "PreTrainedTokenizerBase | None"
    ) -> Iterator["TransformersSession"]:
        import torch
        from transformers import AutoModelForCausalLM

        require_model(model)
        assert tokenizer is not None
        try:
            loaded = AutoModelForCausalLM.from_pretrained(
                model.path, revision=model.revision, dtype=self.dtype, use_safetensors=True
            )
        except (OSError, ValueError) as error:
            raise unreadable(model, error) from None
        loaded = loaded.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        ends = end_tokens(loaded.generation_config.eos_token_id, tokenizer)
        session = TransformersSession(loaded, tokenizer, model.name, self.block, ends)
        del loaded
        yield session
        del session.model
        torch.cuda.empty_cache()

    def key(self) -> dict[str, Any]:
        """Without `block`: it decides no more than a rounding, and whoever lowers it keeps what is done."""
        return {name: value for name, value in super().key().items() if name != "block"}

    def batches(self, planned: Sequence[Request], missing: set[str]) -> list[list[Request]]:
        """Blocks over all that was planned, less those that are done; equal prompts lie together."""
        ordered = sorted(planned, key=lambda request: (len(request.prompt), request.prompt, request.key))
        blocks = [ordered[start : start + self.block] for start in range(0, len(ordered), self.block)]
        return [block for block in blocks if any(request.key in missing for request in block)]


@dataclass
class TransformersSession:
    """A model in memory; each `generate` is one block."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    name: str
    block: int
    ends: list[int]
    """Ids of the end tokens."""
    stops: dict[tuple[str, ...], "StopText"] = field(default_factory=dict)

    def generate(
        self, requests: Sequence[Request], parameters: Parameters
    ) -> Iterator[tuple[Request, Completion]]:
        context = context_of(self.model.config)
        require_context(context, parameters.max_tokens, self.name)
        ids = {prompt: encode(self.tokenizer, prompt) for prompt in {r.prompt for r in requests}}
        room = {p: (context or math.inf) - len(tokens) for p, tokens in ids.items()}
        fitting = [request for request in requests if room[request.prompt] >= 1]
        for request in requests:
            if room[request.prompt] < 1:
                yield request, too_long(len(ids[request.prompt]), context or 0)
        if fitting:
            limits = [int(min(parameters.max_tokens, room[request.prompt])) for request in fitting]
            prompts = [ids[request.prompt] for request in fitting]
            seeds = [request.seed for request in fitting]
            yield from zip(fitting, self._sample(prompts, seeds, limits, parameters), strict=True)

    def _sample(
        self, prompts: list[list[int]], seeds: list[int], limits: list[int], parameters: Parameters
    ) -> list[Completion]:
        """One completion per prompt (token ids), of at most so many tokens; raises EngineError out of memory."""
        import torch
        import transformers

        try:
            with torch.inference_mode():
                block = Block(self, prompts, seeds, limits, parameters)
                block.run()
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
                raise
            raise EngineError(
                f"{self.name}: out of memory with {len(prompts)} completions at a time; write engine: "
                f"{{kind: transformers, block: {max(1, self.block // 2)}}}, or lower max_tokens"
            ) from None
        build = {"engine": f"transformers {transformers.__version__}", "device": self.model.device.type}
        return [
            Completion(
                text=text_of(self.tokenizer, tokens, parameters.stop),
                finish_reason="stop" if finished else "length",
                prompt_tokens=len(prompt),
                completion_tokens=count,
                telemetry=build,
            )
            for prompt, (tokens, count, finished) in zip(prompts, block.results(), strict=True)
        ]

    def stop_text(self, stop: tuple[str, ...]) -> "StopText | None":
        """What recognises the stop texts in generated ids; None without any."""
        if stop and stop not in self.stops:
            self.stops[stop] = StopText.of(
                self.tokenizer, stop, self.model.config.get_text_config().vocab_size
            )
        return self.stops.get(stop)


class Block:
    """Completions that are sampled together. B = all of them, A = those not finished yet, in the cache's order."""

    def __init__(
        self,
        session: TransformersSession,
        prompts: list[list[int]],
        seeds: list[int],
        limits: list[int],
        parameters: Parameters,
    ) -> None:
        import torch

        self.model, self.parameters = session.model, parameters
        device = session.model.device
        size, longest = len(prompts), max(limits)
        self.stop = session.stop_text(parameters.stop)
        self.ends = torch.tensor(session.ends, device=device)
        self.limits_B = torch.tensor(limits, device=device)
        self.noise_BT = noise(seeds, longest).to(device)
        self.tokens_BT = torch.zeros(size, longest, dtype=torch.int32, device=device)
        self.counts_B = torch.zeros(size, dtype=torch.int64, device=device)
        self.ended_B = torch.zeros(size, dtype=torch.bool, device=device)
        """Finished by an end token, which is no part of the text."""
        self.stopped_B = torch.zeros(size, dtype=torch.bool, device=device)
        self.rows_A = torch.arange(size, device=device)
        self.cache, self.mask_AL, self.logits_AV = self._read(prompts, longest)
        self.width = self.mask_AL.shape[1] - longest

    def _read(
        self, prompts: list[list[int]], longest: int
    ) -> "tuple[DynamicCache, torch.Tensor, torch.Tensor]":
        """Read every different prompt once, and fan the cache out to the rows that begin with it."""
        import torch

        unique = sorted({tuple(prompt) for prompt in prompts})
        width = max(map(len, unique))
        ids = torch.zeros(len(unique), width, dtype=torch.int64)
        mask = torch.ones(len(unique), width + longest, dtype=torch.int64)
        for row, prompt in enumerate(unique):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, : width - len(prompt)] = 0
        cache = growing_cache(self.model)
        ids, mask = ids.to(self.rows_A.device), mask.to(self.rows_A.device)
        logits = self._forward(cache, ids, mask[:, :width], (mask[:, :width].cumsum(-1) - 1).clamp(min=0))
        place = {prompt: row for row, prompt in enumerate(unique)}
        rows = torch.tensor([place[tuple(prompt)] for prompt in prompts], device=mask.device)
        cache.reorder_cache(rows)
        return cache, mask[rows], logits[rows]

    def _forward(
        self, cache: "DynamicCache", ids: "torch.Tensor", mask: "torch.Tensor", positions: "torch.Tensor"
    ) -> "torch.Tensor":
        """Logits (rows, vocabulary) behind the last of `ids` (rows, new tokens)."""
        answer = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = answer.logits[:, -1]
        return logits

    def run(self) -> None:
        """Sample until every row has ended or met its limit."""
        import torch

        for step in range(self.tokens_BT.shape[1]):
            tokens_A = choose(self.logits_AV, self.noise_BT[self.rows_A, step], self.parameters)
            self.tokens_BT[self.rows_A, step] = tokens_A.int()
            ended_A = torch.isin(tokens_A, self.ends)
            stopped_A = self._stopped(tokens_A, step)
            leaving_A = ended_A | stopped_A | (self.limits_B[self.rows_A] == step + 1)
            if leaving_A.any():
                self.ended_B[self.rows_A], self.stopped_B[self.rows_A] = ended_A, stopped_A
                self.counts_B[self.rows_A[leaving_A]] = step + 1
                if leaving_A.all():
                    return
                tokens_A = self._leave(leaving_A, tokens_A)
            mask = self.mask_AL[:, : self.width + step + 1]
            self.logits_AV = self._forward(
                self.cache, tokens_A[:, None], mask, mask.sum(-1, keepdim=True) - 1
            )

    def _stopped(self, tokens_A: "torch.Tensor", step: int) -> "torch.Tensor":
        import torch

        found = torch.zeros_like(tokens_A, dtype=torch.bool)
        if self.stop is None:
            return found
        for at in self.stop.may_end[tokens_A.cpu()].nonzero()[:, 0].tolist():
            first = max(0, step + 1 - self.stop.window)
            found[at] = self.stop.ends(self.tokens_BT[self.rows_A[at], first : step + 1].tolist())
        return found

    def _leave(self, leaving_A: "torch.Tensor", tokens_A: "torch.Tensor") -> "torch.Tensor":
        """Take rows out of the cache: rows from the end move into the gaps. Returns the tokens in the new order."""
        import torch

        left = int((~leaving_A).sum())
        order = torch.arange(left, device=leaving_A.device)
        order[leaving_A[:left]] = left + (~leaving_A[left:]).nonzero()[:, 0]
        self.cache.reorder_cache(order)
        self.rows_A, self.mask_AL = self.rows_A[order], self.mask_AL[order]
        return tokens_A[order]

    def results(self) -> list[tuple[list[int], int, bool]]:
        """Per row: the ids of its text, how many tokens were generated, whether it finished by itself."""
        ended, stopped = self.ended_B.tolist(), self.stopped_B.tolist()
        counts, tokens = self.counts_B.tolist(), self.tokens_BT.tolist()
        return [
            (tokens[row][: count - ended[row]], count, ended[row] or stopped[row])
            for row, count in enumerate(counts)
        ]


def noise(seeds: Sequence[int], length: int) -> "torch.Tensor":
    """Uniform numbers in [0, 1), float64, shape (seeds, length): a row is the stream of its seed, its beginning
    the same for any length."""
    import numpy as np
    import torch

    rows = [np.random.Generator(np.random.Philox(seed)).random(length) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def choose(logits_AV: "torch.Tensor", noise_A: "torch.Tensor", parameters: Parameters) -> "torch.Tensor":
    """Next token of each row by inverse transform sampling: the first whose cumulated probability exceeds the noise."""
    if parameters.temperature == 0:
        return logits_AV.argmax(-1)
    probabilities = narrow(logits_AV.float() / parameters.temperature, parameters).softmax(-1)
    cumulated = probabilities.cumsum(-1, dtype=noise_A.dtype)
    reached = (cumulated > noise_A[:, None] * cumulated[:, -1:]) & (probabilities > 0)
    return reached.byte().argmax(-1)


def narrow(logits_AV: "torch.Tensor", parameters: Parameters) -> "torch.Tensor":
    """Logits with -inf for the tokens that min_p, top_k and top_p leave out, in that order; one always stays.

    Source: min-p, arXiv:2407.01082v2 section 3; top-p, arXiv:1904.09751v2 section 3.1.
    """
    if parameters.min_p > 0:
        floor = logits_AV.amax(-1, keepdim=True) + math.log(parameters.min_p)
        logits_AV = logits_AV.masked_fill(logits_AV < floor, -math.inf)
    if parameters.top_k == 0 and parameters.top_p == 1:
        return logits_AV
    ranked, order = logits_AV.sort(dim=-1, descending=True, stable=True)
    if parameters.top_k > 0:
        ranked[:, parameters.top_k :] = -math.inf
    if parameters.top_p < 1:
        share = ranked.double().softmax(-1)
        ranked[share.cumsum(-1) - share >= parameters.top_p] = -math.inf
    return ranked.scatter(-1, order, ranked)


@dataclass(frozen=True)
class StopText:
    """Finds stop texts as they are completed, decoding only behind tokens that could complete one."""

    tokenizer: "PreTrainedTokenizerBase"
    stop: tuple[str, ...]
    may_end: "torch.Tensor"
    """Per token of the vocabulary: whether a stop text can end in it."""
    window: int
    """Tokens to look back: a stop text spans no more tokens than it has bytes."""

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase", stop: tuple[str, ...], vocabulary: int) -> "StopText":
        import torch

        last = {text[-1] for text in stop}
        pieces = tokenizer.batch_decode([[token] for token in range(vocabulary)])
        # Half of a character decodes to U+FFFD, and white space may come from joining tokens.
        blank = any(char.isspace() for char in last)
        may_end = [blank or "\ufffd" in piece or not last.isdisjoint(piece) for piece in pieces]
        return cls(tokenizer, stop, torch.tensor(may_end), max(len(text.encode()) for text in stop) + 1)

    def ends(self, tail: list[int]) -> bool:
        """Whether a stop text is in the last tokens."""
        text = self.tokenizer.decode(tail, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return any(each in text for each in self.stop)


def growing_cache(model: "PreTrainedModel") -> "DynamicCache":
    """A cache for the model whose full-attention layers write in place; others stay the library's own."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    made = DynamicCache(config=model.config)
    made.layers = [_slab()() if type(layer) is DynamicLayer else layer for layer in made.layers]
    return made


@cache
def _slab() -> "type":
    """The class of layer that `growing_cache` puts in; made here because its base takes seconds to import."""
    import torch
    from transformers.cache_utils import DynamicLayer

    class Slab(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
        """Keys and values in buffers with room to grow: the library's layer copies all of them for every token
        (measured with the toy model on a CPU: 1.5 times the completions per second)."""

        room = 64
        """Tokens that a buffer is made longer than needed."""
        keys: torch.Tensor
        values: torch.Tensor
        buffers: tuple[torch.Tensor, torch.Tensor]

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.buffers = (key_states, value_states)
            start = self.get_seq_length()
            end = start + key_states.shape[2]
            if start == 0 or end > self.buffers[0].shape[2]:
                self._hold(len(key_states), end + self.room)
            for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
                buffer[:, :, start:end] = new
            self._show(end)
            return self.keys, self.values

        def reorder_cache(self, beam_idx: torch.Tensor) -> None:
            """Rows in a new order. Where rows only leave, the gaps are filled in place."""
            length, rows = self.get_seq_length(), len(beam_idx)
            moved = (beam_idx != torch.arange(rows, device=beam_idx.device)).nonzero()[:, 0]
            if rows <= len(self.keys) and bool((beam_idx[moved] >= rows).all()):
                for buffer in self.buffers:
                    buffer[moved, :, :length] = buffer[beam_idx[moved], :, :length]
                self.buffers = (self.buffers[0][:rows], self.buffers[1][:rows])
            else:
                self.keys, self.values = self.keys[beam_idx], self.values[beam_idx]
                self._hold(rows, length + self.room)
            self._show(length)

        def _hold(self, rows: int, tokens: int) -> None:
            """New buffers, with what there is at their beginning."""
            length, old = self.get_seq_length(), (self.keys, self.values)
            first, second = (b.new_empty(rows, b.shape[1], tokens, b.shape[3]) for b in self.buffers)
            self.buffers = (first, second)
            if length:
                for buffer, each in zip(self.buffers, old, strict=True):
                    buffer[:, :, :length] = each

        def _show(self, length: int) -> None:
            self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)

    return Slab
