"""TEMPORARY while the stages are being written: whatever exists is in the union (the lead restores the real file)."""
import importlib
from typing import Annotated, Any
from pydantic import Field
from distillkit.stages.base import Stage
_found: list[Any] = []
for _module, _name in [("problems","Problems"),("sample","Sample"),("verify","Verify"),("measure","MeasureStage"),("dedup","Dedup"),("filter","Filter"),("select","Select"),("sft","Sft"),("grpo","Grpo"),("evaluate","Evaluate"),("screen","Screen"),("publish","Publish")]:
    try:
        _found.append(getattr(importlib.import_module(f"distillkit.stages.{_module}"), _name))
    except (ImportError, AttributeError):
        pass
_union: Any = Stage
for _each in _found:
    _union = _each if _union is Stage else _union | _each
AnyStage = Annotated[_union, Field(discriminator="kind")] if len(_found) > 1 else _union
