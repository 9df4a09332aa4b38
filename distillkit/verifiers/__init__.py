"""All kinds of verifier. A new one is its file, its name here, and its test."""

from typing import Annotated

from pydantic import Field

from distillkit.verifiers.base import Verifier
from distillkit.verifiers.exact import Exact
from distillkit.verifiers.math import Math
from distillkit.verifiers.python import Python

AnyVerifier = Annotated[Exact | Math | Python, Field(discriminator="kind")]

KINDS: dict[str, type[Verifier]] = {"exact": Exact, "math": Math, "python": Python}

__all__ = ["KINDS", "AnyVerifier", "Exact", "Math", "Python", "Verifier"]
