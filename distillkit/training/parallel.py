"""One training in several processes: how many, what each of them holds, and how a batch is shared out.

torchrun's environment variables tell a process its place; accelerate and DeepSpeed read the same ones.
"""

import os
import threading
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from distillkit.errors import EngineError, MissingError, RecipeError
from distillkit.spec import Strict

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Parallel(Strict):
    """How many processes train together. All of it is identity: sums in another order end in other last bits, and
    each process of a GRPO training draws its own random numbers."""

    processes: int = Field(1, ge=1)
    """Processes on each machine, one per GPU; on a machine without GPUs they share the CPU."""
    machines: int = Field(1, ge=1)
    """Machines with so many processes each, over one shared store; `plan` prints the command for each."""
    parallel: Literal["ddp", "zero2", "zero3"] = "ddp"
    """What a process holds: everything (ddp), its part of gradients and optimizer states (zero2), and of the weights
    too (zero3). The last two need DeepSpeed."""
    offload: bool = False
    """Keep optimizer states, and with zero3 the weights, in the memory of the CPU: slow, and fits nearly anything."""

    @property
    def world_size(self) -> int:
        """Processes in all."""
        return self.processes * self.machines

    @property
    def spread(self) -> bool:
        """Whether it takes a launcher: more than one process, or DeepSpeed, which asks for one."""
        return self.world_size > 1 or self.parallel != "ddp"

    def check_parallel(self, stage: str) -> None:
        """Raises RecipeError for offload without DeepSpeed."""
        if self.offload and self.parallel == "ddp":
            raise RecipeError(
                f"stages.{stage}.offload: is for parallel: zero2 or zero3; set one, or leave it out"
            )

    def share(self, batch: int) -> int:
        """Rows of one optimizer step that fall to one process.

        Raises RecipeError for a batch that cannot be shared out evenly.
        """
        if batch % self.world_size:
            raise RecipeError(
                f"processes: {self.world_size} processes cannot share the {batch} rows of a step evenly; "
                "make the one a multiple of the other"
            )
        return batch // self.world_size

    def launched(self) -> dict[str, Any]:
        """Arguments of TRL's config for the way it is spread."""
        if self.parallel == "ddp":
            return {}
        return {"deepspeed": deepspeed_config(int(self.parallel[-1]), self.offload)}


def deepspeed_config(stage: int, offload: bool) -> dict[str, Any]:
    """DeepSpeed's JSON for ZeRO-2 or ZeRO-3; "auto" is filled in from TRL's config.

    Source: DeepSpeed 0.19, docs/config-json; without stage3_gather_16bit_weights_on_model_save no
    model.safetensors would be saved.
    """
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    if offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    if offload and stage == 3:
        zero["offload_param"] = {"device": "cpu"}
    return {
        "bf16": {"enabled": "auto"},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,  # the 8-bit one of bitsandbytes
        "zero_force_ds_cpu_optimizer": False,  # torch's own needs no compiler
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "steps_per_print": 10**9,
    }


def rank() -> int:
    """This process's place among those that train together; 0 writes."""
    return int(os.environ.get("RANK", "0"))


def launched_size() -> int:
    """Processes that were launched to train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def require_world(stage: str, asked: int, got: int) -> None:
    """Raises EngineError where fewer or more processes came together than asked for, as some launch paths do."""
    if asked != got:
        raise EngineError(
            f"{stage}: asked for {asked} processes, got {got}; is WORLD_SIZE or ACCELERATE_* set from outside?"
        )


def require_gpus(stage: str, asked: int, there: int) -> None:
    """Raises MissingError where a machine has GPUs, but fewer than processes; without any, they share the CPU."""
    if 0 < there < asked:
        raise MissingError(
            f"{stage}: processes: {asked} asks for {asked} GPUs, and this machine has {there}; "
            f"set stages.{stage}.processes={there}, or make more visible (CUDA_VISIBLE_DEVICES)"
        )


def gather(stage: str, config: "TrainingArguments") -> None:
    """Look whether all processes came together, and tell DeepSpeed; before any weights are loaded.

    Raises EngineError where they did not.
    """
    require_world(stage, launched_size(), config.world_size)
    if config.deepspeed is not None:
        from deepspeed import comm

        if not comm.is_initialized():  # accelerate 1.15 does it with a GPU only
            comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)


class Agreed(threading.Event):
    """An event that is set for every process as soon as it is for one; each must ask at the same points.

    So that all of them stop behind the same step: whoever stopped alone would leave the others waiting for it.
    """

    def __init__(self, own: threading.Event, device: Any) -> None:
        super().__init__()
        self._own = own
        self._device = device

    def is_set(self) -> bool:
        import torch
        import torch.distributed as dist

        flag = torch.tensor([float(self._own.is_set())], device=self._device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item())


def together() -> "TrainerCallback":
    """Holds every process until all have written their part of a checkpoint; goes before what marks it as whole."""
    from transformers import TrainerCallback

    class Together(TrainerCallback):  # type: ignore[misc]
        def on_save(
            self, args: "TrainingArguments", state: "TrainerState", control: "TrainerControl", **_: Any
        ) -> None:
            import torch.distributed as dist

            dist.barrier()

    return Together()


def allow_numbered_cpu() -> None:
    """Let torch.load put tensors on "cpu:0", as accelerate 1.15 calls the device of a rank without a GPU."""
    import torch

    torch.serialization.register_package(
        100, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
    )


class Parted(Exception):
    """Ends a stage in a process beside the first once the weights are written: the rest is for that one alone."""


def part(accelerator: "Accelerator") -> None:
    """Leave the process group, all together, once the weights are written; trackers are ended too.

    Raises Parted in every process beside the first.
    """
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized():
        dist.barrier()
    accelerator.end_training()  # what Trainer.end does from transformers 5.18 on
    if rank() != 0:
        raise Parted
