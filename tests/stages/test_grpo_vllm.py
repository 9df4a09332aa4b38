"""GRPO with vLLM in the trainer's own process, on the CPU build.

TRL's hand-over of new weights does not work there: vLLM's CPU layers keep their weights in another form. The patch is
vLLM's own way of loading weights anew, and lives in this test only.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_S

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

SCRIPT = """
import json, sys
from pathlib import Path

from trl.generation.vllm_generation import VLLMGeneration

def sync(self):
    weights = [(name, each.clone()) for name, each in self._iter_named_params()]
    self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights)})
    self.llm.reset_prefix_cache()

if __name__ == "__main__":
    VLLMGeneration.sync_weights = sync
    from distillkit.artifact import Manifest, weights_content
    from distillkit.spec import digest
    from distillkit.stages import grpo
    from distillkit.training import config
    from distillkit.stages.base import Input, Job, write_shards
    from distillkit.store import Store
    from distillkit.toy import BASE
    from distillkit.toy.problems import generate
    from distillkit.trace import problem_schema, to_row
    from distillkit.verifiers import Exact

    config.takes_weights = lambda: True
    root = Path(sys.argv[1])
    store = Store(root / "store")

    def problems(name, split):
        with store.building("problems", digest(name), print) as out:
            rows = [to_row(each) for each in generate(12, 1, split)]
            write_shards(Job(store, out, {}, shards=2), rows, problem_schema())
            found = store.seal(out, Manifest(name, "problems", "problems", digest(name), ""))
            return Input(name, "problems", found.content, artifact=found.path.name)

    ends = {
        "input": [problems("train", "train")],
        "evaluate": [problems("heldout", "heldout")],
        "model": [Input("toy:base", "weights", weights_content(BASE), path=str(BASE))],
    }
    stage = grpo.Grpo(
        name="zero", model="toy:base", learning_rate=1e-3, steps=6, prompts_per_step=8, num_generations=8,
        max_completion_length=64, rewards={"accuracy": 1.0, "format": 0.1}, loss_type="dr_grpo", scale_rewards="none",
        evaluate={"problems": "heldout", "every": 3, "n": 4}, template=sys.argv[2] if len(sys.argv) > 2 else None,
        trainer={
            "use_vllm": True, "vllm_mode": "colocate", "vllm_max_model_length": 128,
            "vllm_gpu_memory_utilization": 0.3,
        },
    )
    with store.building("grpo", digest("zero"), print) as out:
        stage.run(Job(store, out, ends, seed=3, verifiers={"chain": Exact()}))
        store.seal(out, Manifest("zero", "grpo", "weights", digest("zero"), ""))
    import os
    os._exit(0)  # vLLM's own ending is not what is tested here
"""


def run(folder: Path, *arguments: str) -> Path:
    """Run the training in a fresh interpreter; the artifact."""
    import os
    import subprocess
    import sys

    script = folder / "train.py"
    script.write_text(SCRIPT, "utf-8")
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    [found] = (folder / "store" / "artifacts").glob("grpo-*")
    return found


def read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def test_rollouts_by_vllm_follow_the_weights(tmp_path: Path) -> None:
    found = run(tmp_path)
    curves = read(found / "curves.json")
    assert len(curves["step"]) == 6
    assert sum(curves["reward"][-2:]) > sum(curves["reward"][:2])
    lines = [json.loads(line) for line in (found / "eval.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == [0, 3, 6]
    assert lines[-1]["mean_tokens"] != lines[0]["mean_tokens"]


def test_the_r1_template_stops_in_vllm_too(tmp_path: Path) -> None:
    found = run(tmp_path, "r1")
    texts = [
        json.loads(line)["completion"]
        for line in (found / "completions.jsonl").read_text("utf-8").splitlines()
    ]
    assert any(text.endswith("</answer>") for text in texts)
    assert all(not text.partition("</answer>")[2] for text in texts)
    assert max(read(found / "curves.json")["truncated"]) < 0.5
