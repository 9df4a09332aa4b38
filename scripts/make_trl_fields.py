"""Write distillkit/training/trl_fields.json: field names and types of TRL's config classes, for `check`.

    python scripts/make_trl_fields.py            # after a new pin of TRL or transformers

Importing the classes takes seconds, reading the list a millisecond; a test compares the two.
"""

import dataclasses
import enum
import json
import types
import typing
from pathlib import Path
from typing import Any

from distillkit.training.passthrough import FIELDS_FILE

NAMES: dict[Any, str] = {
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "list",
    dict: "dict",
    types.NoneType: "null",
}


def describe(hint: Any) -> dict[str, list[str]]:
    """JSON types that a field takes and, where an enumeration closes them, its choices."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        parts = [describe(part) for part in typing.get_args(hint)]
        return {key: found for key in ("types", "choices") if (found := _union(parts, key))}
    if typing.get_origin(hint) is typing.Literal:
        return {"types": sorted({NAMES[type(value)] for value in typing.get_args(hint)})}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"types": ["str"], "choices": sorted(str(member.value) for member in hint)}
    origin = typing.get_origin(hint) or hint
    return {"types": [NAMES[origin]] if origin in NAMES else []}  # an object of a class has no YAML form


def _union(parts: list[dict[str, list[str]]], key: str) -> list[str]:
    return sorted({name for part in parts for name in part.get(key, [])})


def describe_class(config: type[Any]) -> dict[str, dict[str, list[str]]]:
    """Field name -> what it takes, for every field that can be set."""
    hints = typing.get_type_hints(config)
    return {each.name: describe(hints[each.name]) for each in dataclasses.fields(config) if each.init}


def make() -> dict[str, Any]:
    """The whole list, of the installed TRL."""
    import transformers
    import trl
    from trl import DistillationConfig, GRPOConfig, RewardConfig, SFTConfig

    return {
        "versions": {"trl": trl.__version__, "transformers": transformers.__version__},
        "SFTConfig": describe_class(SFTConfig),
        "GRPOConfig": describe_class(GRPOConfig),
        "RewardConfig": describe_class(RewardConfig),
        "DistillationConfig": describe_class(DistillationConfig),
    }


def main(path: Path = FIELDS_FILE) -> None:
    def block(fields: dict[str, Any]) -> str:
        return ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in fields.items())

    parts = [f" {json.dumps(name)}: {{\n{block(fields)}\n }}" for name, fields in make().items()]
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
