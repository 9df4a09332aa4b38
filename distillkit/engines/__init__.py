"""Engines: how completions come about. To add one: its file, its name here, its test."""

from typing import Annotated

from pydantic import Field

from distillkit.engines.base import Completion, Engine, Parameters, Request, Session
from distillkit.engines.transformers import TransformersEngine

AnyEngine = Annotated[TransformersEngine, Field(discriminator="kind")]
