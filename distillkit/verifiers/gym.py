"""What a worker does with the package reasoning-gym: makes problems, scores answers, finds scorers that lie.

Never in our own process: scorers may hang, raise, or evaluate what a model wrote (four of them call `eval`, five
more sympy's parser, which does), so here `eval` reads arithmetic and literals only. An entry travels as JSON that
keeps tuples and number keys, since a few scorers compare types.
Source: reasoning-gym 0.1.25 (open-thought/reasoning-gym).
"""

import ast
import builtins
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import date, time
from difflib import get_close_matches
from enum import Enum
from functools import lru_cache
from typing import Any

from distillkit.errors import RecipeError
from distillkit.spec import canonical, seed_of

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
        packed = {
            "question": entry["question"],
            "answer": entry["answer"],
            "metadata": pack(entry["metadata"]),
        }
        canonical(packed)
    except (TypeError, ValueError):
        return None
    return packed if scores_its_own(dataset, unpack(packed)) else None


def serve_scores() -> Callable[[Sequence[Any]], bool | str | None]:
    """What a worker runs: [task, settings, entry, answer] -> is the answer right in full.

    Without an answer: why the entry cannot be graded against, None if it can.
    """
    import reasoning_gym

    assert reasoning_gym.create_dataset
    disarm()

    @lru_cache(maxsize=256)
    def loaded(task: str, settings: bytes) -> tuple[Any, str | None]:
        import json

        try:
            return make(task, json.loads(settings), seed=0, size=1), probe(task, json.loads(settings))
        except RecipeError as error:
            return None, str(error)

    def score(question: Sequence[Any]) -> bool | str | None:
        task, settings, entry, answer = question
        dataset, complaint = loaded(task, canonical(settings))
        entry = unpack(entry)
        if answer is not None and complaint is None:
            return accepts(dataset, entry, answer)
        if complaint is None and not scores_its_own(dataset, entry):
            return f"the scorer of {task} does not accept the answer in it"
        return complaint

    return score


def make(task: str, settings: dict[str, Any], seed: int, size: int) -> Any:
    """The package's dataset object of a task.

    Raises:
        RecipeError: for an unknown task or setting, or a value that the task refuses.
    """
    from reasoning_gym.factory import DATASETS, create_dataset

    if task not in DATASETS:
        near = get_close_matches(task, DATASETS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(DATASETS))}"
        raise RecipeError(f"reasoning-gym has no task {task!r}; {hint}")
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
    """Texts that cannot be right: nonsense, and the first character of a longer answer."""
    if answer is None:
        return list(_JUNK)
    return [
        junk for junk in (*_JUNK, answer[:1] if len(answer) >= 4 else "?") if _plain(junk) != _plain(answer)
    ]


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


def disarm() -> None:
    """Shadow `eval` in the package and in sympy's parser by one that reads arithmetic and literals only."""
    import sympy.parsing.sympy_parser as parser

    parser.__dict__["eval"] = evaluate
    for name, module in list(sys.modules.items()):
        if name.startswith("reasoning_gym."):
            module.__dict__["eval"] = evaluate


_LITERAL = (
    ast.Expression, ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.BinOp, ast.UnaryOp, ast.operator,
    ast.unaryop, ast.expr_context,
)  # fmt: skip
_CALLABLE = frozenset({"sqrt", "cbrt", "root"})


def evaluate(source: str, names: dict[str, Any] | None = None, locals_: dict[str, Any] | None = None) -> Any:
    """`eval` of arithmetic and literals; where `names` are given (by sympy), of its expressions too.

    Raises:
        ValueError: for an attribute, an index, a lambda, or a call of anything but sympy's own constructors.
    """
    tree = ast.parse(source.strip(), mode="eval")
    known = {**(names or {}), **(locals_ or {})}
    for node in ast.walk(tree):
        if not isinstance(node, _LITERAL) and not (names and _is_symbolic(node, known)):
            raise ValueError(f"{type(node).__name__} is not evaluated")
    return builtins.eval(compile(tree, "<answer>", "eval"), {"__builtins__": {}}, known)


def _is_symbolic(node: ast.AST, known: dict[str, Any]) -> bool:
    """Whether it is a name, or a call of one of sympy's expression classes (or of an undefined function)."""
    from sympy import Basic

    match node:
        case ast.Name():
            return True
        case ast.Call(func=ast.Name(id=name), keywords=[]):
            made = known.get(name)
            return name in _CALLABLE or (isinstance(made, type) and issubclass(made, Basic))
        case ast.Call(func=ast.Call(func=ast.Name(id="Function")), keywords=[]):
            return True
    return False
