"""Tokens per second, peak memory and model FLOPs utilisation of sft and grpo on the GPU that is there.

    python scripts/bench_train.py                        # Qwen2.5-7B and 1.5B shapes: a GPU of 80 GB or more
    python scripts/bench_train.py --model tiny           # any machine, also without a GPU
    python scripts/bench_train.py --only "sft 8k packed" --steps 5

Weights are random, of the size and shape of the real models; nothing is downloaded. Each row is a process of its own,
through the stage's own settings and trainer, so that one that runs out of memory is a row of the table and no more.
MFU counts what the model asks for (6 per parameter and token, and attention), not what checkpointing computes again.
The estimate beside the measured peak is what `plan` tells.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from distillkit.budget import GPUS, utilisation
from distillkit.memory import Load, memory
from distillkit.model_size import model_size
from distillkit.toy import BASE

QWEN = {"model_type": "qwen2", "rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 131072}
SHAPES: dict[str, dict[str, Any]] = {
    "7b": {
        **QWEN, "hidden_size": 3584, "num_hidden_layers": 28, "intermediate_size": 18944,
        "num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
    },
    "1.5b": {
        **QWEN, "hidden_size": 1536, "num_hidden_layers": 28, "intermediate_size": 8960,
        "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
    },
    "tiny": {
        **QWEN, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 192,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "tie_word_embeddings": True,
    },
}  # fmt: skip
"""Fields of config.json: Qwen2.5-7B, Qwen2.5-1.5B, and one for trying the script."""
OUT_OF_MEMORY = 77
ANSWER = "bench: "


class Case(NamedTuple):
    """One row of the table."""

    kind: str
    model: str
    length: int
    packed: bool = False
    liger: bool = False
    checkpointing: bool = True

    @property
    def name(self) -> str:
        on = ("packed", self.packed), ("liger", self.liger), ("checkpointing", self.checkpointing)
        size = f"{self.length // 1024}k" if self.length >= 1024 else str(self.length)
        return " ".join([self.kind, size, *(word for word, is_on in on if is_on)])


def cases(tiny: bool) -> list[Case]:
    """SFT of 7B at 8k and 32k under every switch, GRPO of 1.5B; of the tiny model at lengths that it has."""
    model, lengths = ("tiny", (128, 256)) if tiny else ("7b", (8192, 32768))
    switches = [(p, li, ck) for ck in (True, False) for li in (False, True) for p in (False, True)]
    sft = [Case("sft", model, length, *each) for length in lengths for each in switches]
    small, cap = ("tiny", 64) if tiny else ("1.5b", 2048)
    return [*sft, *(Case("grpo", small, cap, liger=li) for li in (False, True))]


def save_model(case: Case, folder: Path) -> None:
    """Random weights in bf16 where there is a GPU, beside the toy world's tokenizer, whose words are all in range."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    shape = {key: value for key, value in SHAPES[case.model].items() if key != "model_type"}
    config = Qwen2Config(**shape, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    gpu = torch.cuda.is_available()
    torch.set_default_dtype(torch.bfloat16 if gpu else torch.float32)
    with torch.device("cuda" if gpu else "cpu"):
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    torch.set_default_dtype(torch.float32)


def rows_of(case: Case, steps: int) -> list[dict[str, Any]]:
    """Rows of random words: full ones, or of a quarter to half the length, where packing has something to pack."""
    draw = random.Random(0)
    rows = []
    for _ in range(steps * (3 if case.packed else 1) + 2):
        length = draw.randrange(case.length // 4, case.length // 2) if case.packed else case.length
        ids = [draw.randrange(10, 60) for _ in range(length)]
        rows.append({"input_ids": ids, "labels": ids})
    return rows


def measure(case: Case, steps: int, optim: str, folder: Path) -> dict[str, Any]:
    """Train and time all steps but the first; {tokens_per_s, peak_gb, mfu, estimate_gb, seconds}."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback

    from distillkit.artifact import Model
    from distillkit.stages.grpo import Grpo
    from distillkit.stages.sft import Sft

    save_model(case, folder / "model")
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    extra: dict[str, Any] = {"optim": optim, **({"use_liger_kernel": True} if case.liger else {})}
    if case.kind == "grpo" and gpu and importable("vllm"):
        extra["use_vllm"] = True
    model = Model("bench", str(folder / "model"), "")
    marks: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if gpu:
                torch.cuda.synchronize()
            marks.append(time.perf_counter())

    trainer: Any
    common: dict[str, Any] = {"name": "bench", "model": "bench", "gradient_checkpointing": case.checkpointing}
    if case.kind == "sft":
        from trl import SFTConfig, SFTTrainer

        sft = Sft(
            **common, learning_rate=1e-6, max_length=case.length, batch=1, packing=case.packed, trainer=extra
        )
        ours = {
            "max_steps": steps, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1,
            "packing": case.packed, "max_length": case.length if case.packed else None, "save_steps": 10**6,
        }  # fmt: skip
        config = SFTConfig(**sft.arguments(model, folder, 0, ours) | {"save_strategy": "no"})
        trainer = SFTTrainer(model.path, args=config, train_dataset=Dataset.from_list(rows_of(case, steps)))
        load = sft.load(1, case.length)
    else:
        from trl import GRPOConfig, GRPOTrainer

        grpo = Grpo(
            **common, learning_rate=1e-6, steps=steps, prompts_per_step=2, num_generations=8,
            max_completion_length=case.length, trainer=extra,
        )  # fmt: skip
        rows = grpo.rows_per_pass(16, case.length)
        ours = {
            "max_steps": steps, "per_device_train_batch_size": rows, "gradient_accumulation_steps": 16 // rows,
            "num_generations": 8, "max_completion_length": case.length, "save_steps": 10**6,
        }  # fmt: skip
        config = GRPOConfig(**grpo.arguments(model, folder, 0, ours) | {"save_strategy": "no"})
        prompts = [[{"role": "user", "content": f"{n} + 1 ="}] for n in range(2 * steps)]
        trainer = GRPOTrainer(
            model.path,
            reward_funcs=[lambda completion_ids, **_: [float(len(each) % 2) for each in completion_ids]],
            args=config,
            train_dataset=Dataset.from_dict({"prompt": prompts}),
        )
        load = grpo.load(16, case.length)
    trainer.add_callback(Clock())
    trainer.train()
    seen = [row["num_tokens"] for row in trainer.state.log_history if "num_tokens" in row]
    seconds = (marks[-1] - marks[0]) / (len(marks) - 1)
    speed = (seen[-1] - seen[0]) / (len(seen) - 1) / seconds
    size = model_size("bench", SHAPES[case.model])
    assert size is not None
    peak = GPUS[kind_of_gpu(torch.cuda.get_device_name())].peak_tflops if gpu else None
    return {
        "tokens_per_s": speed,
        "seconds": seconds,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if gpu else None,
        "mfu": utilisation(size, case.length, speed, peak) if peak and case.kind == "sft" else None,
        "estimate_gb": memory(size, wide(load, gpu)).total / 1e9,
    }


def wide(load: Load, gpu: bool) -> Load:
    """The load as it is on this machine: float32 weights without a GPU."""
    from dataclasses import replace

    return load if gpu else replace(load, weight_bytes=4)


def kind_of_gpu(name: str) -> str:
    """The kind in `budget:` that a device's name stands for; an H100 where none does."""
    return next((kind for kind in GPUS if kind.partition("_")[0] in name.lower().replace(" ", "")), "h100")


def importable(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def row(case: Case, given: argparse.Namespace) -> tuple[str, ...]:
    """The case in a process of its own, as cells of the table."""
    if case.liger and not importable("liger_kernel"):
        return (case.model, case.name, "liger_kernel is not installed", "", "", "", "")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        command = [
            sys.executable, __file__, "--case", json.dumps(case), "--steps", str(given.steps),
            "--optim", given.optim, "--folder", folder,
        ]  # fmt: skip
        environment = os.environ | {"PYTORCH_ALLOC_CONF": "expandable_segments:True", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode == OUT_OF_MEMORY or done.returncode == -9:
        return (case.model, case.name, "out of memory", "", "", "", "")
    answers = [line for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    if done.returncode or not answers:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        return (case.model, case.name, f"failed: {last[0][:60] if last else done.returncode}", "", "", "", "")
    found = json.loads(answers[-1].removeprefix(ANSWER))
    cells = {name: "" if value is None else value for name, value in found.items()}
    return (
        case.model,
        case.name,
        f"{found['tokens_per_s']:,.0f}",
        f"{found['seconds']:.2f}",
        f"{found['peak_gb']:.1f}" if cells["peak_gb"] else "",
        f"{found['estimate_gb']:.1f}",
        f"{found['mfu']:.1%}" if cells["mfu"] else "",
    )


def run_case(given: argparse.Namespace) -> None:
    """The inside of one row's process."""
    import torch

    case = Case(*json.loads(given.case))
    try:
        print(ANSWER + json.dumps(measure(case, given.steps, given.optim, given.folder)))
    except torch.OutOfMemoryError:
        sys.exit(OUT_OF_MEMORY)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=["7b", "tiny"], default="7b", help="tiny runs without a GPU")
    parser.add_argument("--steps", type=int, default=8, help="of which the first is not timed")
    parser.add_argument(
        "--optim", default=None, help="TRL's optim; left out: 8 bits where bitsandbytes is there"
    )
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--folder", type=Path, default=None, help="where weights go for a while (15 GB)")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.case:
        run_case(given)
        return
    if given.optim is None:
        eight = given.model != "tiny" and importable("bitsandbytes")
        given.optim = "paged_adamw_8bit" if eight else "adamw_torch_fused"
    table = Table("shape", "case", "tokens/s", "s/step", "peak GB", "estimated GB", "MFU", box=None)
    for case in cases(given.model == "tiny"):
        if given.only in case.name:
            table.add_row(*row(case, given))
    console = Console(width=120)
    console.print(table)
    console.print(
        f"{given.steps} steps, the first not timed; a row of full length a step (grpo: 2 prompts x 8); {given.optim}"
    )


if __name__ == "__main__":
    main()
