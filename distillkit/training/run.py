"""Drive one of TRL's trainers from its last checkpoint to saved weights and curves."""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillkit.artifact import CHECKPOINTS, Model
from distillkit.engines.base import require_model, unreadable
from distillkit.errors import RecipeError
from distillkit.events import Progress
from distillkit.store import Writer
from distillkit.training.callbacks import last_checkpoint, stop_requests, watcher
from distillkit.training.checkpoints import KEPT
from distillkit.training.parallel import Agreed, allow_numbered_cpu, gather, part, together
from distillkit.training.preflight import require_disk

if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback, TrainerState

Logs = list[dict[str, Any]]
"""One row of metrics per step, as the trainer logged them."""

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle")


def built(make: Callable[..., Any], stage: str, **arguments: Any) -> Any:
    """An object of TRL's; what TRL refuses in its arguments is the recipe's mistake.

    Raises RecipeError with TRL's own words.
    """
    try:
        return make(**arguments)
    except (ValueError, TypeError) as error:
        first = str(error).strip().split("\n")[0]
        raise RecipeError(f"stages.{stage}: TRL refuses its configuration: {first}") from error


def load_trainer(make: Callable[..., Any], config: Any, model: Model, stage: str, **arguments: Any) -> Any:
    """A trainer of TRL's on the weights of a model.

    Raises:
        MissingError: the weights cannot be loaded.
        RecipeError: TRL refuses the combination.
        EngineError: the processes that were launched did not come together.
    """
    require_model(model)
    gather(stage, config)
    try:
        return built(make, stage, model=model.path, args=config, **arguments)
    except OSError as error:
        raise unreadable(model, error) from None


def train(
    trainer: "Trainer", name: str, progress: Progress, window: int = 1, keep_steps: int | None = None
) -> Logs:
    """Train to the end, or on from the last whole checkpoint; returns the rows of every step.

    window: steps that one generation of completions serves; keep_steps: steps between two sets of weights that
    `save_weights` writes beside the last ones.
    A signal to stop ends the training behind a checkpoint; then KeyboardInterrupt goes upwards.
    """
    folder = Path(str(trainer.args.output_dir))
    with stop_requests() as stop:
        if trainer.args.world_size > 1:
            stop = Agreed(stop, trainer.args.device)
            trainer.add_callback(together())
            allow_numbered_cpu()
        trainer.add_callback(watcher(name, progress, stop, window))
        if keep_steps is not None:
            trainer.add_callback(keeper(trainer, keep_steps))
        with trainer.args.main_process_first():  # it removes checkpoints that were cut short
            checkpoint = last_checkpoint(folder)
        if checkpoint is None:
            require_disk(trainer, name, keep_steps)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if trainer.is_world_process_zero():
            end_trackers(trainer.args.report_to)
        if trainer.state.global_step < trainer.state.max_steps:
            raise KeyboardInterrupt
    return [row for row in trainer.state.log_history if "loss" in row]


def end_trackers(names: Sequence[str]) -> None:
    """Let trackers write what they still hold: wandb would at the end of Python, which a forked child never sees."""
    if "wandb" in names:
        import wandb

        wandb.finish()


def keeper(trainer: "Trainer", steps: int) -> "TrainerCallback":
    """Saves the weights of every so many steps; before a checkpoint of that step, so that no resumption skips one."""
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: "TrainerState", control: Any, **_: Any) -> None:
            if state.global_step % steps == 0 and state.global_step < state.max_steps:
                _save_all(trainer, Path(str(args.output_dir)) / KEPT / str(state.global_step))

    return Keeper()


def save_weights(trainer: "Trainer", out: Writer, finish: Callable[[Path], None] | None = None) -> None:
    """Write `model/` of the artifact, and `checkpoints/STEP/` for every step that was kept on the way: safetensors,
    configs, tokenizer with its template; nothing pickled.

    finish: what to do with such a folder before it goes to its place (training.serving.finisher).
    Raises Parted in every process beside the first, whose stage ends here.
    """
    folder = out.scratch / "model"
    _save_all(trainer, folder)
    part(trainer.accelerator)
    _put(folder, out.path / "model", finish)
    for kept in sorted((out.scratch / KEPT).glob("*")):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder)  # a kill must not leave it half finished: it is not made again
        _put(folder, out.path / CHECKPOINTS / kept.name, finish)
        shutil.rmtree(kept)


def _put(folder: Path, place: Path, finish: Callable[[Path], None] | None) -> None:
    """Finish a saved folder and bring it to its place."""
    if finish is not None:
        finish(folder)
    for file in folder.iterdir():
        if file.suffix in PICKLES:
            file.unlink()
        else:
            file.chmod(0o644)  # safetensors are written for their owner alone
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(exist_ok=True)
    folder.rename(place)


def _save_all(trainer: "Trainer", folder: Path) -> None:
    """What every process does to save the weights as they are."""
    if trainer.is_world_process_zero():
        shutil.rmtree(folder, ignore_errors=True)
    config = trainer.model.config
    training, config.use_cache = config.use_cache, True  # the trainer turned it off; whoever samples wants it
    _gather_weights(trainer, folder)
    config.use_cache = training


def _gather_weights(trainer: "Trainer", folder: Path) -> None:
    """With ZeRO-3 each process gives its part of the weights."""
    from transformers import PreTrainedModel

    if not (trainer.is_deepspeed_enabled and isinstance(trainer.model, PreTrainedModel)):
        trainer.save_model(str(folder))
        return
    # TRL's own way writes tied weights twice after ZeRO-2.
    state = trainer.accelerator.get_state_dict(trainer.deepspeed)
    if trainer.is_world_process_zero():
        tied = trainer.model.all_tied_weights_keys
        kept = {name: tensor for name, tensor in state.items() if name not in tied}
        trainer.model.save_pretrained(folder, state_dict=kept)
        trainer.processing_class.save_pretrained(folder)


def write_curves(logs: Logs, names: Mapping[str, str], out: Writer) -> None:
    """Write `curves.json`: {"step": [...], name: [...]}, one number (or null) per step.

    names: the trainer's metric -> its name in the file; a metric that was never logged is left out.
    """
    steps = {"step": [row["step"] for row in logs]}
    out.add_text("curves.json", json.dumps(steps | curves_of(logs, names)))


def curves_of(logs: Logs, names: Mapping[str, str]) -> dict[str, list[float | None]]:
    """The curves by the names in the file, a number (or None) per row of the logs."""
    found = {name: [_number(row.get(metric)) for row in logs] for metric, name in names.items()}
    return {name: values for name, values in found.items() if any(each is not None for each in values)}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
