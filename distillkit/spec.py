"""What a thing *is*: strict frozen models, their identity, and digests.

Identity decides which artifact a stage's request names. It holds every declared value but leaves out where
and how the work runs (`Execution`), and it raises on a value that it cannot name stably: a permissive
fallback would let such a value silently fork the identity (or worse, share one).
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from distillkit.errors import MissingError


class Strict(BaseModel):
    """A frozen model that refuses unknown keys. YAML key = field name = word in the docs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    VERSION: ClassVar[int] = 1
    """Raise it when an equal declaration on equal input would give another result."""


class Naming(Strict):
    """A part of a stage that names other stages from within one of its wires."""

    def names(self) -> list[str]:
        """The names, in order; a field that holds one is marked `EXECUTION`, as only contents are identity."""
        return []


class Execution:
    """Marks a field that says where or how fast, never what: it is left out of the identity."""

    outside = True
    """A subclass may say otherwise of one of its marks."""


@dataclass(frozen=True)
class Aside:
    """Marks a dict of which these keys say where or how fast, never what: they are left out of the identity."""

    keys: frozenset[str]


class Content:
    """Marks a path whose identity is the digest of the file's bytes, not its name."""


EXECUTION = Execution()
CONTENT = Content()

SourceFile = Annotated[str, CONTENT]
"""Path of a file of the user's (a grader, a template): its bytes are identity, its name is not. Where a stage reads
several, a folder or a pattern: see `files_of`."""


def identity(value: Any) -> Any:
    """The JSON-ready part of `value` that decides its result.

    Models become dicts with their class VERSION; `Execution` fields and `Aside` keys are dropped and `SourceFile`
    paths become content digests.

    Raises:
        TypeError: for a value without a stable name (a function, a set, NaN, ...).
        MissingError: for a `SourceFile` that is not there.
    """
    if isinstance(value, Strict):
        fields = {
            name: _field_identity(getattr(value, name), field)
            for name, field in type(value).model_fields.items()
            if not any(isinstance(mark, Execution) and mark.outside for mark in field.metadata)
        }
        return {"VERSION": type(value).VERSION, **fields}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"identity: keys must be strings: {value!r}")
        return {key: identity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [identity(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"identity: {value} has no stable name")
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"identity: {type(value).__name__} has no stable name: {value!r}")


def _field_identity(value: Any, field: FieldInfo) -> Any:
    if _holds_file(field):
        return _file_identity(value)
    aside = {key for mark in field.metadata if isinstance(mark, Aside) for key in mark.keys}
    return identity({key: each for key, each in value.items() if key not in aside} if aside else value)


def source_files(kind: type[Strict]) -> set[str]:
    """Names of the fields that hold the path of a file of the user's."""
    return {name for name, field in kind.model_fields.items() if _holds_file(field)}


def _holds_file(field: FieldInfo) -> bool:
    """Whether the field is a `SourceFile`, directly or inside `X | None`."""
    inside = [
        mark
        for part in get_args(field.annotation)
        if get_origin(part) is Annotated
        for mark in get_args(part)
    ]
    return any(isinstance(mark, Content) for mark in [*field.metadata, *inside])


def _file_identity(path: str | None) -> str | None:
    if path is None:
        return None
    found = files_of(path) or [Path(path)]
    return digest([file_digest(each) for each in found]) if len(found) > 1 else file_digest(found[0])


DATA_ENDINGS = (".parquet", ".jsonl", ".csv", ".json")


def files_of(path: str) -> list[Path]:
    """The file of this path; those that a pattern (`part-*.jsonl`) matches; or the data files of a folder, by name.

    Of a folder those of the first of `DATA_ENDINGS` that it has count, in its `data/` where it has one: so a dataset
    as `publish` lays it out is its kept rows. Empty where there is nothing.
    """
    given = Path(path)
    if given.is_dir():
        folder = given / "data" if (given / "data").is_dir() else given
        found = [sorted(folder.glob(f"*{ending}")) for ending in DATA_ENDINGS]
        return next(filter(None, found), [])
    if given.exists() or not set(given.name) & set("*?["):
        return [given] if given.exists() else []
    return sorted(each for each in given.parent.glob(given.name) if each.is_file())


def canonical(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8; equal values give equal bytes.

    Raises:
        ValueError: for NaN and infinities, which JSON has no name for.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def digest(value: Any) -> str:
    """64 hex digits of blake2b-256 over the canonical JSON of `value`."""
    return hashlib.blake2b(canonical(value), digest_size=32).hexdigest()


def seed_of(*parts: Any) -> int:
    """A seed in [0, 2^31) drawn from the digest of `parts`: equal parts give an equal seed anywhere."""
    return int(digest(list(parts))[:16], 16) % 2**31


def file_digest(path: Path) -> str:
    """64 hex digits of blake2b-256 over the bytes of a file; raises MissingError where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32)).hexdigest()
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror}); give the path of a file") from None
