"""Drawing traces from a model: every stage that samples does it here."""

from distillkit.sampling.declaration import Continuation, Sampling, Until
from distillkit.sampling.draw import Drawn, draw, drawn
from distillkit.sampling.plan import Ask, Plan

__all__ = ["Ask", "Continuation", "Drawn", "Plan", "Sampling", "Until", "draw", "drawn"]
