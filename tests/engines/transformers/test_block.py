import math

import pytest

from distillkit.engines.base import Parameters
from distillkit.engines.transformers.block import StopText, choose, narrow, noise

PLAIN = Parameters(max_tokens=64)


def test_a_stop_text_that_ends_within_a_token_or_in_white_space_is_found(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(["<think>", "3", "+", "4"])
    for stop in ("thi", "> 3 +", "3 ", "+ 4"):
        text = StopText.of(tokenizer, (stop,), len(tokenizer))
        hits = [
            at for at in range(len(ids)) if text.may_end[ids[at]] and text.ends(ids[: at + 1][-text.window :])
        ]
        assert hits, stop
        whole = tokenizer.decode(ids[: hits[0] + 1])
        assert stop in whole
        assert hits[0] == 0 or stop not in tokenizer.decode(ids[: hits[0]])


def test_noise_is_a_stream_per_seed():
    import torch

    rows = noise([3, 4, 3], 8)
    assert rows.dtype == torch.float64
    assert torch.equal(rows[0], rows[2])
    assert not torch.equal(rows[0], rows[1])
    assert torch.equal(noise([4], 3)[0], rows[1, :3])
    assert bool(((rows >= 0) & (rows < 1)).all())


def test_choose_draws_by_the_probabilities():
    import torch

    logits = torch.tensor([0.5, 0.2, 0.3]).log().repeat(6, 1)
    at = torch.tensor([0.0, 0.499, 0.501, 0.699, 0.701, 1 - 2**-53], dtype=torch.float64)
    assert choose(logits, at, PLAIN).tolist() == [0, 0, 1, 1, 2, 2]


def test_choose_never_takes_what_has_no_probability():
    import torch

    logits = torch.full((2, 5), -math.inf)
    logits[:, 3] = 1.0
    assert choose(logits, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), PLAIN).tolist() == [3, 3]


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"), [(5, 1.0, 0.0), (0, 0.7, 0.0), (0, 1.0, 0.2), (0, 0.05, 0)]
)
def test_narrow_leaves_what_the_librarys_warpers_leave(temperature, top_k, top_p, min_p):
    import torch
    from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = torch.randn(64, 200, generator=torch.Generator().manual_seed(0)) * 3 / temperature
    parameters = Parameters(max_tokens=1, top_k=top_k, top_p=top_p, min_p=min_p)
    warper = (
        TopKLogitsWarper(top_k)
        if top_k
        else TopPLogitsWarper(top_p)
        if top_p < 1
        else MinPLogitsWarper(min_p)
    )
    assert torch.equal(narrow(logits, parameters), warper(None, logits.clone()))
