"""The step before the first one: it finds an end of memory, and leaves no trace."""

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from patience import PATIENCE_S
from transformers import AutoModelForCausalLM, TrainerControl, TrainerState

from distillkit.errors import EngineError
from distillkit.toy import BASE, PACKAGED
from distillkit.toy.problems import generate
from distillkit.training import rehearsal as module
from distillkit.training.rehearsal import (
    first_input,
    gradients,
    kept_randomness,
    longest_batch,
    longest_prompt,
    longest_rows,
    loss_of,
    memory_errors,
    optimizer_states,
    rehearsal,
    rehearse,
    run_through,
)


def rows(lengths: list[int]) -> Dataset:
    ids = [[5] * length for length in lengths]
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def test_the_longest_rows_come_first_and_ties_in_order() -> None:
    found = longest_rows(rows([3, 9, 4, 9, 1]), 3)
    assert [len(each["input_ids"]) for each in found] == [9, 9, 4]
    assert len(longest_rows(rows([2, 1]), 8)) == 2


def test_random_numbers_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = draw()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(ValueError, match="lost"), kept_randomness():
        draw()
        raise ValueError("lost")
    assert draw() == expected


def test_an_end_of_memory_is_told_with_remedies() -> None:
    with (
        pytest.raises(
            EngineError, match=r"student: out of memory with 2 rows; try gradient_checkpointing: true"
        ),
        memory_errors("student", "2 rows"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shape"), memory_errors("student", "2 rows"):
        raise RuntimeError("shape mismatch")


COMMON: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-3,
    "max_steps": 3,
    "weight_decay": 0.1,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "logging_steps": 1,
    "save_strategy": "no",
    "disable_tqdm": True,
    "model_init_kwargs": {"dtype": "float32"},
}
PROMPTS = sorted((each.prompt for each in generate(24, 1, "train")), key=len)[::-8]


def sft(folder: Path, **fields: Any) -> Any:
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(output_dir=str(folder), max_length=None, **COMMON, **fields)
    return SFTTrainer(str(BASE), args=config, train_dataset=rows([4, 16, 8, 12, 5, 7]))


def asked() -> Dataset:
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": text}] for text in PROMPTS * 8]})


def grpo(folder: Path, **fields: Any) -> Any:
    from trl import GRPOConfig, GRPOTrainer

    def length(completions: list[Any], **_: Any) -> list[float]:
        return [float(len(each[0]["content"]) % 7) for each in completions]

    config = GRPOConfig(
        output_dir=str(folder), num_generations=2, max_completion_length=12, shuffle_dataset=False,
        **{**COMMON, **fields},
    )  # fmt: skip
    return GRPOTrainer(str(BASE), reward_funcs=length, args=config, train_dataset=asked())


def distill(folder: Path, **fields: Any) -> Any:
    from trl import DistillationConfig, DistillationTrainer

    config = DistillationConfig(
        output_dir=str(folder), max_completion_length=12, shuffle_dataset=False,
        teacher_model_init_kwargs={"dtype": "float32"}, **{**COMMON, **fields},
    )  # fmt: skip
    return DistillationTrainer(
        str(BASE), teacher_model=str(PACKAGED["toy:base"]), args=config, train_dataset=asked()
    )


DEEPSPEED = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
MAKERS = pytest.mark.parametrize("make", [sft, grpo, distill])


def trained(
    trainer: Any, *, rehearsed: bool
) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]], torch.Tensor]:
    """Weights, curves and the state of the random numbers after a training."""
    if rehearsed:
        trainer.add_callback(rehearsal(trainer, "student"))
    trainer.train()
    timeless = [
        {key: value for key, value in row.items() if "time" not in key and "per_second" not in key}
        for row in trainer.state.log_history
    ]
    return trainer.model.state_dict(), timeless, torch.get_rng_state()


@MAKERS
def test_a_rehearsed_training_ends_bit_for_bit_as_one_that_is_not(make: Any, tmp_path: Path) -> None:
    fields = {"gradient_accumulation_steps": 2, "gradient_checkpointing": True}
    plain, rehearsed = (
        trained(make(tmp_path / str(each), **fields), rehearsed=each) for each in (False, True)
    )
    assert all(value.equal(plain[0][name]) for name, value in rehearsed[0].items())
    assert rehearsed[1] == plain[1] and len(plain[1]) == 4  # three steps and the end
    assert rehearsed[2].equal(plain[2])
    start = AutoModelForCausalLM.from_pretrained(BASE, dtype="float32").state_dict()
    assert not all(value.equal(start[name]) for name, value in plain[0].items())  # it learns


@MAKERS
def test_it_reads_and_learns_from_the_longest_rows(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make(tmp_path, gradient_accumulation_steps=4)
    seen: list[tuple[tuple[int, ...], bool]] = []
    forward = trainer.model.forward

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.append((tuple(kwargs["input_ids"].shape), trainer.model.training))
        return forward(*args, **kwargs)

    monkeypatch.setattr(trainer.model, "forward", spy)
    trainer.model.eval()
    batch = longest_batch(trainer)
    run_through(trainer, batch)
    length = 16 if make is sft else len(longest_prompt(trainer)) + 12
    assert seen == [((2, length), True)]
    assert not trainer.model.training
    assert all(each.grad is None for each in trainer.model.parameters())


def test_the_longest_prompt_is_taken_and_only_the_completion_is_learnt_from(tmp_path: Path) -> None:
    trainer = grpo(tmp_path)
    prompt = longest_prompt(trainer)
    assert max(PROMPTS, key=len) in trainer.processing_class.decode(prompt)
    labels = longest_batch(trainer)["labels"]
    assert [(row != -100).sum().item() for row in labels] == [12, 12]
    assert (labels[:, : len(prompt)] == -100).all()


@pytest.mark.parametrize(("optim", "each"), [("adamw_torch_fused", 8), ("adafactor", 0), ("sgd", 0)])
def test_what_the_optimizer_will_keep_is_held_beside(tmp_path: Path, optim: str, each: int) -> None:
    trainer = sft(tmp_path, optim=optim)
    assert optimizer_states(trainer).numel() == each * sum(p.numel() for p in trainer.model.parameters())


def test_what_the_optimizer_keeps_is_what_was_held(tmp_path: Path) -> None:
    trainer = sft(tmp_path)
    held = optimizer_states(trainer).numel()
    trainer.train()
    states = [value for state in trainer.optimizer.state.values() for value in state.values()]
    kept = sum(value.numel() * value.element_size() for value in states if value.numel() > 1)
    assert kept == held


def test_memory_that_ends_stops_the_training_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "states_of", lambda _: 1e16)  # more than any machine has
    trainer = sft(tmp_path)
    trainer.add_callback(rehearsal(trainer, "student"))
    with pytest.raises(
        EngineError, match="student: out of memory with 2 rows of 16 tokens, the longest; try"
    ):
        trainer.train()
    assert trainer.state.global_step == 0


def test_the_gradients_of_passes_before_are_held_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(steps: int) -> list[str]:
        seen: list[str] = []
        trainer = sft(tmp_path, gradient_accumulation_steps=steps)
        monkeypatch.setattr(module, "gradients", lambda _: seen.append("gradients"))
        monkeypatch.setattr(module, "loss_of", lambda *args: (seen.append("loss"), loss_of(*args))[1])
        run_through(trainer, longest_batch(trainer))
        return seen

    size = sum(each.numel() for each in sft(tmp_path).model.parameters()) * 4
    assert gradients(sft(tmp_path)).numel() == size
    assert held(1) == ["loss", "gradients"]
    assert held(2) == ["gradients", "loss"]


def test_the_gradient_goes_through_every_layer_and_stays_off_the_weights(tmp_path: Path) -> None:
    model = sft(tmp_path).model.train()
    passed: list[int] = []
    for at, layer in enumerate(model.model.layers):
        layer.register_full_backward_hook(lambda *_, at=at: passed.append(at))
    ids = torch.tensor([[5] * 8])
    with first_input(model) as inputs:
        loss = model(input_ids=ids).logits.logsumexp(-1).sum()
    [found] = torch.autograd.grad(loss, inputs)
    assert found.shape == (1, 8, model.config.hidden_size) and found.abs().sum() > 0
    assert passed == list(reversed(range(model.config.num_hidden_layers)))
    assert all(each.grad is None for each in model.parameters())
    model(input_ids=ids).logits.sum().backward()  # the embedding learns again
    assert model.get_input_embeddings().weight.grad.abs().sum() > 0


def test_lora_is_rehearsed_over_a_frozen_base(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    trainer = sft(tmp_path)
    trainer.model = get_peft_model(
        trainer.model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    adapter = sum(each.numel() for each in trainer.model.parameters() if each.requires_grad)
    assert optimizer_states(trainer).numel() == adapter * 8
    run_through(trainer, longest_batch(trainer))
    assert all(each.grad is None for each in trainer.model.parameters())


def test_it_is_for_accelerators_whose_activations_stay_and_are_not_reentrant() -> None:
    def asked(device: str, *, offloading: bool = False, **kwargs: bool) -> list[str]:
        found: list[Any] = []
        fields = {"gradient_checkpointing_kwargs": kwargs, "activation_offloading": offloading}
        arguments = SimpleNamespace(device=SimpleNamespace(type=device), to_dict=lambda: fields)
        trainer: Any = SimpleNamespace(args=arguments, add_callback=found.append)
        rehearse(trainer, "student")
        return [type(each).__name__ for each in found]

    assert asked("cuda") == asked("cuda", use_reentrant=False) == ["Rehearsal"]
    assert asked("cpu") == asked("cuda", use_reentrant=True) == asked("cuda", offloading=True) == []


def test_a_real_trainer_on_a_cpu_is_left_alone(tmp_path: Path) -> None:
    trainer = sft(tmp_path)
    before = len(trainer.callback_handler.callbacks)
    rehearse(trainer, "student")
    assert len(trainer.callback_handler.callbacks) == before


def test_a_training_that_goes_on_is_not_rehearsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "longest_batch", None)  # whoever calls it fails
    trainer = sft(tmp_path)
    state = TrainerState(global_step=3)
    rehearsal(trainer, "student").on_train_begin(trainer.args, state, TrainerControl())
    with pytest.raises(TypeError):
        rehearsal(trainer, "student").on_train_begin(trainer.args, TrainerState(), TrainerControl())


RANKS = """
import hashlib, sys
sys.path[:0] = {paths!r}
from pathlib import Path
import torch
import test_rehearsal as t
from distillkit.training.parallel import deepspeed_config

folder, zero = Path({folder!r}), {zero}
fields = {{"deepspeed": deepspeed_config(zero, False)}} if zero else {{}}
if zero:
    from deepspeed import comm
    comm.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
for make in (t.sft, t.grpo, t.distill):
    found = []
    for rehearsed in (False, True):
        trainer = make(folder / make.__name__, gradient_accumulation_steps=2, gradient_checkpointing=True, **fields)
        assert trainer.accelerator.num_processes == 2 and trainer.is_deepspeed_enabled == bool(zero)
        weights, curves, randomness = t.trained(trainer, rehearsed=rehearsed)
        if zero:
            weights = trainer.accelerator.get_state_dict(trainer.deepspeed) or {{}}
        digest = hashlib.sha256(b"".join(each.contiguous().numpy().tobytes() for each in weights.values())).hexdigest()
        # It counts weights that ZeRO-3 has put together just now.
        curves = [{{name: value for name, value in row.items() if name != "total_flos"}} for row in curves]
        found.append((digest, curves, randomness.tolist()))
    assert found[0] == found[1], make.__name__
    (folder / f"{{make.__name__}}-{{trainer.args.process_index}}").touch()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "zero", [0, pytest.param(2, marks=[DEEPSPEED, pytest.mark.soak]), pytest.param(3, marks=DEEPSPEED)]
)
def test_processes_that_rehearse_end_bit_for_bit_as_those_that_do_not(tmp_path: Path, zero: int) -> None:
    folder, program = tmp_path / "out", tmp_path / "ranks.py"
    program.write_text(
        RANKS.format(
            paths=[str(folder) for folder in Path(__file__).parents[:2]], folder=str(folder), zero=zero
        )
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        str(program),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(folder.glob("*-[01]"))) == 6
