"""Replicas and shard tasks on a real two-node Ray cluster on this host, one node killed in mid-run."""

import json
import threading
import time
from pathlib import Path

import pytest

from distillkit import toy
from distillkit.artifact import Model, weights_content
from distillkit.cluster import Cluster, RayExecutor, Replicas
from distillkit.engines.transformers import TransformersEngine
from distillkit.errors import MissingError, StageError
from distillkit.sampling import Sampling, draw
from distillkit.store import Store
from distillkit.toy.problems import generate

pytest.importorskip("ray")

HERE = Cluster(gpus_per_replica=0, replicas=2)


def test_without_a_cluster_it_says_what_to_start(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(MissingError, match=r"no Ray cluster at 127.0.0.1:1 .*ray start --head"),
        HERE.connected(),
    ):
        pass


def test_the_plan_says_what_to_start_where():
    lines = Cluster(replicas=4, gpus_per_replica=2).instructions()
    assert lines[0].endswith("ray start --head --port=6379")
    assert "4 replicas, 8 GPUs in all" in lines[-1]


@pytest.fixture(scope="module")
def nodes():
    """Two nodes of one CPU each beside a head without any, and the cluster to kill them in."""
    import ray
    from ray.cluster_utils import Cluster as Local

    local = Local(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    added = [local.add_node(num_cpus=1) for _ in range(2)]
    ray.init(address=local.address, log_to_driver=False)
    local.wait_for_nodes()
    yield local, added
    ray.shutdown()
    local.shutdown()


def slow_square(task):
    """A shard task as the real ones are: it writes a file with a fixed name, and skips what exists."""
    folder, number = task
    path = Path(folder) / f"{number}.txt"
    if not path.exists():
        time.sleep(0.2)
        with (Path(folder) / "log.txt").open("a") as log:
            log.write(f"{number}\n")
        path.write_text(str(number * number))
    return number * number


def refuse(task):
    raise StageError(f"shard {task} is empty")


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
class TestOnACluster:
    def test_shards_come_back_in_order(self, nodes, tmp_path):
        found = list(RayExecutor(HERE).map(slow_square, [(str(tmp_path), n) for n in range(6)]))
        assert found == [0, 1, 4, 9, 16, 25]

    def test_what_a_task_refuses_is_raised_as_it_is(self, nodes):
        with pytest.raises(StageError, match=r"^shard 3 is empty$"):
            list(RayExecutor(HERE).map(refuse, [3]))

    def test_a_node_killed_in_mid_run_loses_nothing(self, nodes, tmp_path):
        local, (_, victim) = nodes
        model = Model("toy:base", str(toy.BASE), weights_content(toy.BASE))
        sampling = Sampling(engine=TransformersEngine(block=16), max_tokens=96)
        problems = generate(60, 1, "train")
        store = Store(tmp_path)
        killer = threading.Thread(target=lambda: local.remove_node(victim, allow_graceful=False))

        def kill_once(done, total, **facts):
            if done >= 20 and killer.ident is None:
                killer.start()

        traces = list(draw(sampling, model, problems, 4, 7, store, kill_once, replicas=Replicas(HERE)))
        killer.join()
        assert len({trace.id for trace in traces}) == len(traces) == 240
        assert {trace.finish_reason for trace in traces} <= {"stop", "length"}
        [ledger] = (tmp_path / "completions").glob("*.jsonl")
        keys = [line["key"] for line in map(json.loads, ledger.read_text().splitlines()) if "key" in line]
        assert len(keys) == len(set(keys)) == 240
