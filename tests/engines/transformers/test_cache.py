import pytest

from distillkit.engines.transformers.cache import growing_cache


@pytest.fixture(scope="module")
def config():
    from transformers import Qwen3Config

    return Qwen3Config(
        num_hidden_layers=2, hidden_size=16, num_attention_heads=2, num_key_value_heads=2, head_dim=4
    )


@pytest.mark.parametrize("seed", range(8))
def test_it_holds_what_the_librarys_cache_holds(config, seed):
    """Tokens are appended, rows fan out, leave in any pattern and change places, beyond the room of a buffer."""
    import torch
    from transformers import DynamicCache

    generator = torch.Generator().manual_seed(seed)
    ours, theirs = growing_cache(config), DynamicCache(config=config)
    rows, order = 3, torch.tensor([0, 0, 2, 1, 1, 1, 2, 0])
    for step in range(90):
        for layer in range(2):
            new = torch.randn(2, rows, 2, 7 if step == 0 else 1, 4, generator=generator)
            found, expected = ours.update(*new, layer), theirs.update(*new, layer)
            assert all(map(torch.equal, found, expected))
        if step == 0 or (step % 9 == 0 and rows > 1):
            if step:
                kept = torch.randperm(rows, generator=generator)[: rows - 1]
                order = kept if step % 2 else kept.sort().values
            ours.reorder_cache(order)
            theirs.reorder_cache(order)
            rows = len(order)
        assert ours.get_seq_length() == theirs.get_seq_length() == 7 + step
    assert rows == 1


def test_gaps_are_filled_from_the_end_in_place(config):
    import torch

    ours = growing_cache(config)
    keys, values = torch.randn(2, 6, 2, 5, 4)
    ours.update(keys, values, 0)
    before = ours.layers[0].keys.data_ptr()
    ours.layers[0].reorder_cache(torch.tensor([0, 5, 2, 4]))
    assert torch.equal(ours.layers[0].keys, keys[[0, 5, 2, 4]])
    assert torch.equal(ours.layers[0].values, values[[0, 5, 2, 4]])
    assert ours.layers[0].keys.data_ptr() == before


def test_layers_of_other_kinds_stay_the_librarys_own():
    from transformers import Qwen3Config
    from transformers.cache_utils import DynamicSlidingWindowLayer

    config = Qwen3Config(num_hidden_layers=2, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    kinds = [type(layer) for layer in growing_cache(config).layers]
    assert DynamicSlidingWindowLayer in kinds
    assert len(set(kinds)) == 2
