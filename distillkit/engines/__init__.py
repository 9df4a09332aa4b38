"""Engines: where completions come from. To add one: its file, its name here, its test."""

from typing import Annotated

from pydantic import Field

from distillkit.engines.endpoint import EndpointEngine
from distillkit.engines.replay import ReplayEngine
from distillkit.engines.transformers import TransformersEngine
from distillkit.engines.vllm import VllmEngine

AnyEngine = Annotated[
    TransformersEngine | VllmEngine | EndpointEngine | ReplayEngine, Field(discriminator="kind")
]
