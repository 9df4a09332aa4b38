"""Drawing traces from a model: look up, sample what is missing, record it, read it back.

What decides a completion is its rendered prompt, the weights, the engine, the parameters and its seed; one that
the store has under these is never sampled again. First everything is made complete in the ledger, then traces
are read from there one by one: nothing ever holds them all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distillkit.artifact import Model
from distillkit.cluster import Replicas
from distillkit.engines.base import Completion, EngineDied, Listed, Session
from distillkit.errors import EngineError
from distillkit.events import Progress, silent
from distillkit.ledger import Ledger
from distillkit.sampling.course import Course, Everything
from distillkit.sampling.declaration import Sampling
from distillkit.sampling.desk import Desk
from distillkit.sampling.jury import Jury
from distillkit.sampling.meter import Meter
from distillkit.sampling.outcome import Notes, Outcome
from distillkit.sampling.plan import Ask, Plan
from distillkit.sampling.until import UntilEnough
from distillkit.store import Store
from distillkit.trace import Problem, Trace
from distillkit.verifiers.base import Verifier

RESTARTS = 2
"""How often an engine that died is opened again in one draw."""

Open = Callable[[], AbstractContextManager[Session]]


def draw(
    sampling: Sampling,
    model: Model | None,
    problems: Sequence[Problem],
    n: int,
    seed: int,
    store: Store,
    progress: Progress = silent,
    warn: Callable[[str], None] = print,
    replicas: Replicas | None = None,
) -> Iterator[Trace]:
    """n traces per problem, by problem, once all of them are recorded in the store.

    The rows are the same whether they are drawn in one go or after interruptions. A trace without a completion has
    finish_reason "error" and says why in `extra["error"]`.
    Progress counts traces; for its facts see Meter.

    Raises:
        MissingError: no weights, package, device or disk space.
        RecipeError: no engine, or a template or parameter that the model does not take.
        StageError: the engine's max_cost is reached.
        EngineError: the engine died; the message says how much is safe.
    """
    plan = Plan.of(sampling, model, problems, n, seed)
    with drawn(plan, model, store, progress, warn, replicas=replicas) as found:
        yield from found.traces()


@dataclass
class Drawn:
    """A finished draw: all that was asked for is in the store."""

    plan: Plan
    desk: Desk
    outcomes: dict[str, Outcome] | None
    """What became of each problem, by its id; None where all n samples were asked of each."""
    facts: dict[str, float]
    """What the meter told at the end."""

    @property
    def asked(self) -> int:
        """Samples that were asked for, now or before."""
        return self.desk.meter.total

    @property
    def sampled(self) -> int:
        """Completions that were sampled now."""
        return self.desk.meter.sampled

    @property
    def failed(self) -> dict[str, Completion]:
        """Key -> completion that failed for a cause that may pass: a row now, asked for again by a later draw."""
        return self.desk.failed

    def traces(self, asks: Iterable[Ask] | None = None) -> Iterator[Trace]:
        """The traces of some problems, or of all; ascending by id within a problem."""
        for ask in self.plan.asks if asks is None else asks:
            n = self.plan.n if self.outcomes is None else self.outcomes[ask.problem.id].n
            for index in sorted(range(n), key=str):
                yield self.plan.trace(*self.desk.read(self.plan.want(ask, index)))


@contextmanager
def drawn(
    plan: Plan,
    model: Model | None,
    store: Store,
    progress: Progress = silent,
    warn: Callable[[str], None] = print,
    *,
    verifiers: Mapping[str, Verifier] | None = None,
    replicas: Replicas | None = None,
    notes: Path | None = None,
) -> Iterator[Drawn]:
    """Sample what is missing; inside the context, which holds the ledger, its traces can be read.

    verifiers: by domain, what judges where the plan says `until`. notes: where that keeps what it learned.
    Raises what `draw` raises.
    """
    meter = Meter(progress, plan.total)
    path = store.root / "completions" / f"{plan.ledger}.jsonl"
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.alone(path, meter.wait))
        streams = plan.engine.streams or replicas is not None
        course: Course = Everything(plan)
        outcomes = None
        if plan.until is not None:
            # A block's neighbours must be the same again, so that an engine of blocks starts over.
            kept = stack.enter_context(Notes.open(notes if streams else None, _recorded(plan, ledger)))
            outcomes = kept.outcomes
            for completion in _bought(plan, ledger, outcomes):
                meter.spend(completion)
            course = UntilEnough(plan, stack.enter_context(Jury(verifiers or {})), meter, kept)
        desk = Desk(plan, course, ledger, meter)
        try:
            (_stream if streams else _sample_sets)(desk, partial(_opened, plan, model, replicas), warn)
        except EngineError as error:
            safe = f"{ledger.added:,} completions of this run are safe in the store"
            raise EngineError(f"{error}; {safe}") from None
        meter.tell()
        yield Drawn(plan, desk, outcomes, meter.facts())


def _opened(plan: Plan, model: Model | None, replicas: Replicas | None) -> AbstractContextManager[Session]:
    if replicas is not None:
        return replicas.open(plan.engine, model, plan.template.tokenizer)
    return plan.engine.open(model, plan.template.tokenizer)


def _stream(desk: Desk, opened: Open, warn: Callable[[str], None]) -> None:
    """Keep an engine busy with whatever can be asked; open it again where it died and that may mend it."""
    restarts = 0
    while desk.ready():
        try:
            with opened() as session:
                desk.meter.begin()
                while desk.ready():
                    for request, completion in session.generate(desk, desk.parameters):
                        desk.answer(request.key, completion)
        except EngineDied as error:
            lost = desk.retake()
            if restarts == RESTARTS:
                raise EngineError(f"{error}; it was started {RESTARTS + 1} times") from None
            restarts += 1
            warn(f"{error}; it is started again ({restarts} of {RESTARTS}), {lost:,} completions begin anew")


def _sample_sets(desk: Desk, opened: Open, warn: Callable[[str], None]) -> None:
    """One round after the other, each cut into sets that are sampled whole."""
    with ExitStack() as stack:
        session: Session | None = None
        while wants := desk.round():
            planned = desk.begun(wants)
            missing = {want.key for want in wants if desk.admit(want)}
            for batch in desk.plan.engine.batches(planned, missing):
                if session is None:
                    session = stack.enter_context(opened())
                    desk.meter.begin()
                for request, completion in session.generate(Listed(batch), desk.parameters):
                    if request.key in missing:
                        desk.answer(request.key, completion)
                desk.ledger.sync()


def _recorded(plan: Plan, ledger: Ledger) -> Callable[[str, Outcome], bool]:
    """Tells whether the ledger has all that a problem's outcome stands on."""
    asks = {ask.problem.id: ask for ask in plan.asks}

    def holds(problem: str, outcome: Outcome) -> bool:
        if plan.continuation is not None or problem not in asks:
            return False
        return all(plan.want(asks[problem], index).key in ledger for index in range(outcome.n))

    return holds


def _bought(plan: Plan, ledger: Ledger, outcomes: Mapping[str, Outcome]) -> Iterator[Completion]:
    """What the problems that are done with had cost before; none where no money is counted over draws."""
    for ask in plan.asks if plan.engine.priced else []:
        outcome = outcomes.get(ask.problem.id)
        for index in range(outcome.n if outcome else 0):
            yield ledger[plan.want(ask, index).key]
