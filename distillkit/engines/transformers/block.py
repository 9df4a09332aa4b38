"""Sampling a batch of completions by the model's own forward pass, with noise of our own.

The library's `generate` draws all rows from one random stream, so that a text hangs on its neighbours. Here each
row has the stream of its seed. Each prompt is read once for all of its samples, and finished rows leave.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distillkit.engines.base import Parameters
from distillkit.engines.transformers.cache import growing_cache

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Row:
    """A completion to sample: the token ids of its prompt, its seed, and at most how many tokens."""

    prompt: tuple[int, ...]
    seed: int
    limit: int


class Block:
    """Completions that are sampled together. B = all of them, A = those not finished yet, in the cache's order."""

    def __init__(
        self,
        model: "PreTrainedModel",
        rows: Sequence[Row],
        parameters: Parameters,
        ends: Sequence[int],
        stop: "StopText | None",
    ) -> None:
        """`ends` are the ids of the end tokens, `stop` recognises the stop texts."""
        import torch

        self.model, self.parameters, self.stop = model, parameters, stop
        device = model.device
        size, longest = len(rows), max(row.limit for row in rows)
        self.ends = torch.tensor(ends, device=device)
        self.limits_B = torch.tensor([row.limit for row in rows], device=device)
        self.noise_BT = noise([row.seed for row in rows], longest).to(device)
        self.tokens_BT = torch.zeros(size, longest, dtype=torch.int32, device=device)
        self.counts_B = torch.zeros(size, dtype=torch.int64, device=device)
        self.ended_B = torch.zeros(size, dtype=torch.bool, device=device)
        """Finished by an end token, which is no part of the text."""
        self.stopped_B = torch.zeros(size, dtype=torch.bool, device=device)
        self.rows_A = torch.arange(size, device=device)
        self.cache, self.mask_AL, self.logits_AV = self._read([row.prompt for row in rows], longest)
        self.width = self.mask_AL.shape[1] - longest

    def _read(
        self, prompts: list[tuple[int, ...]], longest: int
    ) -> "tuple[DynamicCache, torch.Tensor, torch.Tensor]":
        """Read every different prompt once, and fan the cache out to the rows that begin with it."""
        import torch

        unique = sorted(set(prompts))
        width = max(map(len, unique))
        ids = torch.zeros(len(unique), width, dtype=torch.int64)
        mask = torch.ones(len(unique), width + longest, dtype=torch.int64)
        for row, prompt in enumerate(unique):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, : width - len(prompt)] = 0
        cache = growing_cache(self.model.config)
        ids, mask = ids.to(self.rows_A.device), mask.to(self.rows_A.device)
        logits = self._forward(cache, ids, mask[:, :width], (mask[:, :width].cumsum(-1) - 1).clamp(min=0))
        place = {prompt: row for row, prompt in enumerate(unique)}
        rows = torch.tensor([place[prompt] for prompt in prompts], device=mask.device)
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
