import pytest

from distillkit.training.stopping import closed

END, PAD = 9, 0


@pytest.mark.parametrize(
    ("new", "limit", "expected"),
    [
        ([[1, 2, 3], [1, 0, 0]], 3, [[1, 2, 3], [1, 9, 0]]),  # the first used all it had
        ([[1, 2, 3], [1, 0, 0]], 4, [[1, 2, 3, 9], [1, 9, 0, 0]]),
        ([[1, 9, 0], [1, 2, 3]], 5, [[1, 9, 0, 0], [1, 2, 3, 9]]),  # the first has its end
    ],
)
def test_what_stopped_without_an_end_token_gets_one(
    new: list[list[int]], limit: int, expected: list[list[int]]
) -> None:
    import torch

    prompt = torch.tensor([[0, 7], [7, 7]])
    found = closed(torch.cat([prompt, torch.tensor(new)], dim=1), 2, [END], PAD, limit)
    assert found[:, :2].equal(prompt)
    assert found[:, 2:].tolist() == expected


def test_padding_that_is_an_end_token_is_an_end() -> None:
    import torch

    found = closed(torch.tensor([[7, 1, 2], [7, 1, 9]]), 1, [END], END, 8)
    assert found[:, 1:].tolist() == [[1, 2, 9], [1, 9, 9]]
