"""What a trainer has made of the examples, read back before it learns from them: every token that was to bear a loss
does, the reasoning among them and the end of every answer.

TRL's packing cuts rows that are longer than max_length, and a tokenizer that is not the model's spells nonsense.
"""

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

from distillkit.errors import StageError
from distillkit.trace import Trace
from distillkit.training.examples import IGNORED, Examples
from distillkit.training.preflight import PROBE

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, Trainer


def check_reasoning(
    examples: Examples, traces: Iterable[Trace], tokenizer: "PreTrainedTokenizerBase", stage: str
) -> None:
    """Raises StageError where the reasoning of most traces is not in the tokens that bear a loss, read back as text.

    White space does not count: tokenizers may not keep it.
    """
    behind = {each.id: each.ids[each.prompt :] for each in examples.kept}
    probe = [trace for trace in islice(traces, PROBE) if trace.id in behind]
    lost = sum(
        "".join(trace.reasoning.split()) not in "".join(tokenizer.decode(behind[trace.id].tolist()).split())
        for trace in probe
    )
    if lost * 2 > len(probe):
        raise StageError(
            f"{stage}: the reasoning of {lost} of {len(probe)} traces cannot be read back from the tokens to be "
            "trained; is this the tokenizer of that model?"
        )


def check_labels(
    trainer: "Trainer", tokenizer: "PreTrainedTokenizerBase", examples: Examples, stage: str
) -> None:
    """Look at what the trainer has made of the examples: every token that was to bear a loss does, ends included.

    Raises StageError where it does not.
    """
    rows = list(islice(iter(trainer.train_dataset), PROBE))
    labels = trainer.data_collator(rows)["labels"]
    trained = {int(label) for label in labels.flatten().tolist() if label != IGNORED}
    if not trained:
        raise StageError(
            f"{stage}: no token of the first {len(rows)} rows bears a loss; are they all prompt?"
        )
    if tokenizer.eos_token_id not in trained:
        raise StageError(f"{stage}: the end token {tokenizer.eos_token} is never trained")
    count = trained_tokens(trainer.train_dataset)
    if count != examples.trained:
        raise StageError(
            f"{stage}: {count:,} tokens bear a loss, but the traces have {examples.trained:,}: "
            "the trainer cut some; leave out what in trainer: shortens rows"
        )


def trained_tokens(dataset: "Dataset") -> int:
    """Labels of a dataset that bear a loss."""
    import pyarrow.compute as pc

    found = 0
    for batch in dataset.with_format("arrow").iter(batch_size=1024):
        found += pc.sum(pc.not_equal(pc.list_flatten(batch["labels"]), IGNORED)).as_py() or 0
    return found
