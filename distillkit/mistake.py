"""What pydantic finds wrong with a recipe, as `file:line: path: message` with the nearest name that exists."""

import types
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from distillkit.document import Place, source_of
from distillkit.errors import nearest


def describe(
    error: ValidationError, model: type[BaseModel], data: dict[str, Any], sources: dict[Place, str]
) -> list[str]:
    """One line per mistake of `data` as a `model`; `sources` says where each place was written."""
    found = []
    errors = error.errors(include_url=False, include_context=True)
    for each in errors:
        if each["type"] == "too_short" and any(_is_below(other["loc"], each["loc"]) for other in errors):
            continue  # too short only because what is wrong in it was not counted
        at = _real_path(each["loc"], data, each["type"] in ("extra_forbidden", "missing"))
        written = (*at, "kind") if each["type"] == "union_tag_invalid" else at
        found.append(f"{source_of(written, sources)}: {_shown(at, data)}: {_message(each, at, model)}")
    return list(dict.fromkeys(found))


def _is_below(loc: Place, other: Place) -> bool:
    return len(loc) > len(other) and loc[: len(other)] == other


def _real_path(loc: Place, data: Any, ends_in_key: bool) -> Place:
    """The loc without pydantic's union tags, which are no keys of the YAML."""
    at: list[str | int] = []
    here = data
    for position, key in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(here, dict) and (key in here or (last and ends_in_key)):
            at.append(key)
            here = here.get(key)
        elif isinstance(here, list) and isinstance(key, int):
            at.append(key)
            here = here[key] if key < len(here) else None
    return tuple(at)


def _shown(at: Place, data: Any) -> str:
    """Dotted path, a stage by its name."""
    parts = []
    here: Any = data
    for key in at:
        here = here[key] if isinstance(here, list) and isinstance(key, int) else (here or {}).get(key)
        named = isinstance(key, int) and isinstance(here, dict) and isinstance(here.get("name"), str)
        parts.append(str(here["name"]) if named else str(key))
    return ".".join(parts) or "recipe"


def _message(each: Any, at: Place, model: type[BaseModel]) -> str:
    kind = each["type"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(at[-1]) if at else '', _keys_at(model, each['loc'][:-1]))}"
    if kind == "union_tag_invalid":
        context = each["ctx"]
        expected = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
        near = nearest(context["tag"], expected, f"there are {', '.join(expected)}")
        return f"unknown kind {context['tag']!r}{near}"
    if kind == "union_tag_not_found":
        return "has no kind:"
    if kind == "missing":
        return "is required"
    if kind == "value_error":
        return str(each["ctx"]["error"])
    given = each["input"]
    shown = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
    message: str = each["msg"]
    return message[0].lower() + message[1:] + shown


def _keys_at(model: type[BaseModel], loc: Place) -> list[str]:
    """Field names of the model that a loc leads to."""
    here: Any = model
    for key in loc:
        here = _below(here, key)
    return list(here.model_fields) if _is_model(here) else []


def _below(kind: Any, key: str | int) -> Any:
    if _is_model(kind):
        info = kind.model_fields.get(str(key))
        return info.annotation if info else None
    origin = get_origin(kind)
    if origin is Annotated:
        return _below(get_args(kind)[0], key)
    if origin in (list, dict):
        return get_args(kind)[-1]
    for member in get_args(kind):
        member = get_args(member)[0] if get_origin(member) is Annotated else member
        if (
            _is_model(member)
            and "kind" in member.model_fields
            and key in get_args(member.model_fields["kind"].annotation)
        ):
            return member
        if (
            get_origin(member) in (list, dict, types.UnionType)
            and (deeper := _below(member, key)) is not None
        ):
            return deeper
        if _is_model(member) and key in member.model_fields:
            return _below(member, key)
    return None


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
