"""A ticket: everything that a process needs to run one stage, as JSON, and how the outcome is told to its parent."""

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from distillkit.cluster import Cluster, RayExecutor, Replicas
from distillkit.durable import write_text
from distillkit.errors import DistillkitError, EngineError, MissingError, RecipeError, StageError
from distillkit.events import Event, Events
from distillkit.executor import executor_for
from distillkit.stages import AnyStage
from distillkit.stages.base import Input, Job, Stage
from distillkit.store import Store, Writer
from distillkit.training.config import Training
from distillkit.training.parallel import launched_size, require_world
from distillkit.verifiers import AnyVerifier

Listener = Callable[[Event], None]

INTERRUPTED = 130
"""Exit code of a process that was told to stop and did so in good order."""

RESULT, ERROR, PROGRESS, LOG = "result.json", "error.json", "progress.jsonl", "log.txt"

ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OPENBLAS_NUM_THREADS": "1",  # its threads would start in the server, before the fork
    "OMP_WAIT_POLICY": "PASSIVE",  # spinning threads cost most of a machine that has other work
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for a GPU must not initialise it before the fork
}
"""What every process with a model has set."""

ERRORS = (RecipeError, MissingError, StageError, EngineError, DistillkitError)
"""What travels from a child to its parent, the most special first."""


@dataclass(frozen=True)
class Ticket:
    """Everything a child needs to run one stage, as JSON."""

    name: str
    stage: dict[str, Any]
    verifiers: dict[str, dict[str, Any]]
    inputs: dict[str, list[dict[str, Any]]]
    seed: int
    shards: int
    workers: int
    cluster: dict[str, Any] | None
    store: str
    work: str
    recipe: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stage: Stage,
        inputs: dict[str, list[Input]],
        *,
        seed: int,
        shards: int,
        workers: int,
        cluster: Cluster | None = None,
        verifiers: dict[str, AnyVerifier],
        store: Path,
        work: Path,
        recipe: str = "",
        environment: dict[str, str] | None = None,
    ) -> Self:
        """The ticket of a stage with resolved inputs; `work` is the work directory of its artifact."""
        return cls(
            name=stage.name,
            stage=stage.model_dump(mode="json"),
            verifiers={domain: verifier.model_dump(mode="json") for domain, verifier in verifiers.items()},
            inputs={slot: [asdict(each) for each in ends] for slot, ends in inputs.items()},
            seed=seed,
            shards=shards,
            workers=workers,
            cluster=cluster.model_dump(mode="json") if cluster is not None else None,
            store=str(store.resolve()),
            work=str(work.resolve()),
            recipe=recipe,
            environment=environment or {},
        )

    @property
    def declared(self) -> AnyStage:
        """The stage itself."""
        return TypeAdapter(AnyStage).validate_python(self.stage)

    @property
    def scratch(self) -> Path:
        """Where the child leaves its log, its progress and its outcome."""
        return Path(self.work) / ".scratch"


def run_here(ticket: Ticket, out: Writer, on_event: Listener) -> None:
    """Run a stage in this process, writing to `out`."""

    def progress(done: int, total: int, **facts: Any) -> None:
        on_event({"event": "progress", "done": done, "total": total, **facts})

    def warn(text: str) -> None:
        on_event({"event": "warning", "text": text})

    stage = ticket.declared
    if isinstance(stage, Training):
        require_world(stage.name, stage.world_size, launched_size())
    verifiers = TypeAdapter(dict[str, AnyVerifier]).validate_python(ticket.verifiers)
    cluster = Cluster.model_validate(ticket.cluster) if ticket.cluster is not None else None
    job = Job(
        store=Store(Path(ticket.store)),
        out=out,
        inputs={slot: [Input(**each) for each in ends] for slot, ends in ticket.inputs.items()},
        seed=ticket.seed,
        shards=ticket.shards,
        verifiers=verifiers,
        executor=RayExecutor(cluster) if cluster is not None else executor_for(ticket.workers),
        replicas=Replicas(cluster) if cluster is not None else None,
        progress=progress,
        warn=warn,
        recipe=ticket.recipe,
    )
    stage.run(job)


def run_and_tell(ticket: Ticket) -> None:
    """Run the stage, its events going to the progress file and its counts to the result file."""
    events = Events(ticket.scratch / PROGRESS)

    def tell(event: Event) -> None:
        events.tell(**event)

    out = Writer(Path(ticket.work))
    run_here(ticket, out, tell)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    out.telemetry["peak_memory_mib"] = usage.ru_maxrss // (1024 if sys.platform == "linux" else 2**20)
    out.telemetry["cpu_s"] = round(usage.ru_utime + usage.ru_stime, 2)
    if gpus := gpus_seen():
        out.telemetry["gpus"] = gpus
    result = {
        "rows_in": out.rows_in,
        "rows_kept": out.rows_kept,
        "counts": out.counts,
        "summary": out.summary,
        "telemetry": out.telemetry,
        "salt": out.salt,
    }
    write_text(ticket.scratch / RESULT, json.dumps(result))


def gpus_seen() -> int:
    """GPUs that are visible to a stage that loaded torch: what its hours are paid for, used to the full or not."""
    torch = sys.modules.get("torch")
    return 0 if torch is None else int(torch.cuda.device_count())


def tell_error(ticket: Ticket, error: DistillkitError) -> None:
    """Leave an error for the parent; of several the first is the cause of the others, and stays."""
    file = ticket.scratch / ERROR
    if not file.exists():
        known = next(each for each in ERRORS if isinstance(error, each))
        write_text(file, json.dumps({"class": known.__name__, "text": str(error)}))
