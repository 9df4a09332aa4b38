"""Measures: what a trace is like, without judging it. Adding one: its file, its name below, its test."""

from typing import Annotated

from pydantic import Field

from distillkit.measures.base import Labels, Measure
from distillkit.measures.language import Language
from distillkit.measures.length import Length
from distillkit.measures.python import Python
from distillkit.measures.readability import R1_READABLE, Readability
from distillkit.measures.reflection import Reflection
from distillkit.measures.repetition import Repetition
from distillkit.measures.structure import Structure

AnyMeasure = Annotated[
    Language | Readability | Repetition | Length | Reflection | Structure | Python,
    Field(discriminator="kind"),
]

__all__ = ["R1_READABLE", "AnyMeasure", "Labels", "Measure"]
