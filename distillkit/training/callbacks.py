"""What we hang into a TRL trainer's loop: progress, a good end when told to stop, marks on checkpoints."""

import math
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.errors import StageError
from distillkit.events import Progress

if TYPE_CHECKING:
    import torch
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

WHOLE = ".whole"
"""Marks a checkpoint that was written to its end: a kill leaves one without it."""

SHOWN = ("loss", "reward")
"""Metrics that are told with every step."""


def watcher(name: str, progress: Progress, stop: threading.Event, window: int) -> "TrainerCallback":
    """Tells the progress, marks whole checkpoints, and ends behind a checkpoint once `stop` is set.

    window: steps that one generation serves; only at its end can a training be resumed exactly.
    """
    from transformers import TrainerCallback

    class Watcher(TrainerCallback):  # type: ignore[misc]
        def on_step_end(
            self,
            args: "TrainingArguments",
            state: "TrainerState",
            control: "TrainerControl",
            model: "torch.nn.Module | None" = None,
            **_: Any,
        ) -> None:
            if stop.is_set() and state.global_step % window == 0:
                control.should_save = control.should_training_stop = True
            if control.should_save and model is not None and not _is_finite(model):
                advice = advice_of(Path(str(args.output_dir)), state.global_step)
                raise StageError(
                    f"{name}: a weight is not a number at step {state.global_step}; lower learning_rate{advice}"
                )

        def on_log(
            self,
            args: "TrainingArguments",
            state: "TrainerState",
            control: "TrainerControl",
            logs: dict[str, float | None] | None = None,
            **_: Any,
        ) -> None:
            told = logs or {}
            # Before this step's checkpoint, so that a good one is kept; fp16 skips steps of infinite norm by itself.
            for key in SHOWN if args.fp16 else (*SHOWN, "grad_norm"):
                if not math.isfinite(told.get(key) or 0.0):
                    advice = advice_of(Path(str(args.output_dir)), state.global_step)
                    raise StageError(
                        f"{name}: {key} is not a number at step {state.global_step}; "
                        f"lower learning_rate or max_grad_norm{advice}"
                    )
            facts = {key: value for key in SHOWN if (value := told.get(key)) is not None}
            progress(state.global_step, state.max_steps, unit="steps", **facts)

        def on_save(
            self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
        ) -> None:
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / WHOLE).touch()

    return Watcher()


def _is_finite(model: "torch.nn.Module") -> bool:
    """Whether every weight that learns is a number; those of a quantized base are packed bits."""
    return all(bool(each.isfinite().all()) for each in model.parameters() if each.requires_grad)


@contextmanager
def sampling_errors(name: str, trainer: "Trainer") -> Iterator[None]:
    """Turns torch's complaint about a model that gives no probabilities any more into a StageError with the step."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        step = trainer.state.global_step + 1
        advice = advice_of(Path(str(trainer.args.output_dir)), step)
        raise StageError(
            f"{name}: the model gives no probabilities (not a number) at step {step}; "
            f"lower learning_rate or max_grad_norm{advice}"
        ) from None


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Within it SIGINT and SIGTERM only set an event, so that a step is ended and a checkpoint saved."""
    stop = threading.Event()

    def request(*_: Any) -> None:
        stop.set()

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def advice_of(folder: Path, step: int) -> str:
    """How to go on after a training went wrong in a step: from the last checkpoint that is known to be good.

    That of the step before is not: its weights are those that the step failed with.
    """
    known = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*")}
    good = [known[at] for at in sorted(known) if at < step - 1 and (known[at] / WHOLE).exists()]
    if not good:
        return "; a changed recipe begins anew"
    whole = (good[-1] / "config.json").exists()  # an adapter's checkpoint has none
    onward = f", or goes on from there with model: {good[-1]}" if whole else ""
    return f"; {good[-1]} is the last good checkpoint; a changed recipe begins anew{onward}"


def last_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint in a folder; those that a kill cut short are removed."""
    found = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*")}
    for step, path in list(found.items()):
        if not (path / WHOLE).exists():
            shutil.rmtree(path)
            del found[step]
    return found[max(found)] if found else None
