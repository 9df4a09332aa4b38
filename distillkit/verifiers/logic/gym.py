"""What a worker does with the package reasoning-gym: makes problems, scores answers, finds scorers that lie.

Never in our own process: scorers may hang or raise, and nine of them run what a model wrote (four call `eval`, five
sympy's parser, which does), so `eval` is replaced here. An entry travels as JSON that keeps tuples and number keys,
since a few scorers compare types.
Source: reasoning-gym 0.1.25 (open-thought/reasoning-gym).
"""

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import date, time
from enum import Enum
from functools import lru_cache
from typing import Any

from distillkit.errors import RecipeError, nearest
from distillkit.spec import canonical, seed_of
from distillkit.verifiers.arithmetic import disarm

Entry = dict[str, Any]
"""{"question": text, "answer": text or None, "metadata": {...}} as the package makes it."""

BLOCK = 50
"""Problems that a worker makes at a time."""
PROBES = 10
"""Problems of a task that are tried with junk before the task is trusted."""
_JUNK = ("zzz wrong", "I do not know", "?", "0", "-1", "[]", "{}")


def serve_problems(task: str, settings: dict[str, Any], seed: int, size: int) -> Callable[[int], list[Any]]:
    """What a worker runs: block `number` of a task's problems, None for one that JSON cannot hold.

    Raises RecipeError for an unknown task or setting, or a task whose scorer gives full marks to junk.
    """
    dataset = make(task, settings, seed, size)
    if complaint := probe(task, settings):
        raise RecipeError(complaint)

    def block(number: int) -> list[Any]:
        rows = range(number * BLOCK, min(size, (number + 1) * BLOCK))
        return [_portable(dataset, item(dataset, row)) for row in rows]

    return block


def _portable(dataset: Any, entry: Entry) -> Entry | None:
    """The entry as JSON; None where its own answer would not be right any more once it is read back."""
    try:
        # No scorer reads the number of the draw, and with it no question would be the same twice.
        metadata = {name: value for name, value in entry["metadata"].items() if name != "source_index"}
        packed = {"question": entry["question"], "answer": entry["answer"], "metadata": pack(metadata)}
        canonical(packed)
    except (TypeError, ValueError):
        return None
    return packed if scores_its_own(dataset, unpack(packed)) else None


def serve_scores() -> Callable[[Sequence[Any]], bool | str | None]:
    """What a worker runs: [task, settings, entry, answer] -> is the answer right in full.

    A text says why the entry cannot be graded against; where the answer is None that is all that is asked.
    """
    import reasoning_gym

    disarm(reasoning_gym.__name__)

    @lru_cache(maxsize=256)
    def loaded(task: str, settings: bytes) -> tuple[Any, str | None]:
        try:
            return make(task, json.loads(settings), seed=0, size=1), probe(task, json.loads(settings))
        except RecipeError as error:
            return None, str(error)

    @lru_cache(maxsize=1024)
    def complaint_about(task: str, settings: bytes, entry: bytes) -> str | None:
        dataset, complaint = loaded(task, settings)
        if complaint is None and not scores_its_own(dataset, unpack(json.loads(entry))):
            return f"the scorer of {task} does not accept the answer in it"
        return complaint

    def score(question: Sequence[Any]) -> bool | str | None:
        task, settings, entry, answer = question
        complaint = complaint_about(task, canonical(settings), canonical(entry))
        if complaint is not None or answer is None:
            return complaint
        return accepts(loaded(task, canonical(settings))[0], unpack(entry), answer)

    return score


def make(task: str, settings: dict[str, Any], seed: int, size: int) -> Any:
    """The package's dataset object of a task.

    Raises:
        RecipeError: for an unknown task or setting, or a value that the task refuses.
    """
    from reasoning_gym.factory import DATASETS, create_dataset

    if task not in DATASETS:
        names = sorted(DATASETS)
        hint = nearest(task, names, f"there are {', '.join(names)}")
        raise RecipeError(f"reasoning-gym has no task {task!r}{hint}")
    config = DATASETS[task][1]
    known = {field.name for field in fields(config)} - {"seed", "size"}
    if unknown := settings.keys() - known:
        raise RecipeError(
            f"task {task} has no setting {min(unknown)!r}; there are {', '.join(sorted(known))}"
        )
    random.seed(seed)
    try:
        fitted = {name: _fit(config(), name, value) for name, value in settings.items()}
        return create_dataset(task, seed=seed, size=size, **fitted)
    except (AssertionError, TypeError, ValueError, KeyError) as error:
        raise RecipeError(f"task {task} refuses its settings: {error}") from None


def _fit(config: Any, name: str, value: Any) -> Any:
    """A value of YAML in the type that a setting has by default."""
    from reasoning_gym.composite import CompositeConfig, DatasetSpec

    if isinstance(config, CompositeConfig) and name == "datasets":
        return [DatasetSpec(**({"weight": 1.0, "config": {}} | each)) for each in value]
    default = config.__dict__[name]
    if isinstance(default, tuple):
        return tuple(value)
    if isinstance(default, date | time):
        return type(default).fromisoformat(value)
    if isinstance(default, Enum):
        return type(default)(value)
    if is_dataclass(default) and not isinstance(default, type):
        return replace(default, **value)
    return value


def item(dataset: Any, index: int) -> Entry:
    """Problem `index`; the same each time, although some tasks draw from the global generator."""
    random.seed(seed_of("reasoning-gym", dataset.seed, index))
    entry: Entry = dataset[index]
    return entry


def accepts(dataset: Any, entry: Entry, answer: str) -> bool:
    """Whether the task's scorer gives full marks; one that raises on odd text does not."""
    try:
        return bool(dataset.score_answer(answer, entry=entry) >= 1.0)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the scorers raise whatever Python does with text that is no answer
        return False


def scores_its_own(dataset: Any, entry: Entry) -> bool:
    """Whether the stored answer is right; a few tasks store none and check validity instead."""
    return entry["answer"] is None or accepts(dataset, entry, entry["answer"])


def probe(task: str, settings: dict[str, Any]) -> str | None:
    """Why a task cannot be trusted: its scorer gives full marks to junk. The same problems are tried each time."""
    for dataset in _members(make(task, settings, seed=0, size=PROBES)):
        for entry in (item(dataset, row) for row in range(PROBES)):
            for junk in _junk_for(entry["answer"]):
                if accepts(dataset, entry, junk):
                    right = f", where {entry['answer'][:40]!r} is right" if entry["answer"] else ""
                    return f"reasoning-gym's scorer of {task} gives full marks to {junk!r}{right}; take another task"
    return None


def _members(dataset: Any) -> Iterable[Any]:
    """The dataset, or those that a composite draws from."""
    from reasoning_gym.composite import CompositeDataset

    return dataset.datasets.values() if isinstance(dataset, CompositeDataset) else [dataset]


def _junk_for(answer: str | None) -> list[str]:
    """The junk that is not by chance the answer."""
    return [junk for junk in _JUNK if answer is None or _plain(junk) != _plain(answer)]


def _plain(answer: str) -> str | float:
    try:
        return float(answer)
    except ValueError:
        return "".join(answer.split()).casefold()


_TUPLE, _ITEMS = "__tuple__", "__items__"


def pack(value: Any) -> Any:
    """The value as JSON, reversible by `unpack`; raises TypeError for what has no form in it."""
    if isinstance(value, tuple):
        return {_TUPLE: [pack(each) for each in value]}
    if isinstance(value, list):
        return [pack(each) for each in value]
    if isinstance(value, dict):
        if all(type(key) is str and key not in (_TUPLE, _ITEMS) for key in value):
            return {key: pack(each) for key, each in value.items()}
        return {_ITEMS: [[pack(key), pack(each)] for key, each in value.items()]}
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)  # numpy's subclasses of them too
    if value is None:
        return None
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def unpack(value: Any) -> Any:
    """What `pack` was given."""
    if isinstance(value, list):
        return [unpack(each) for each in value]
    if isinstance(value, dict):
        if value.keys() == {_TUPLE}:
            return tuple(unpack(each) for each in value[_TUPLE])
        if value.keys() == {_ITEMS}:
            return {unpack(key): unpack(each) for key, each in value[_ITEMS]}
        return {key: unpack(each) for key, each in value.items()}
    return value
