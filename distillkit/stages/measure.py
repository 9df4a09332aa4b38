"""Describe every trace by declared measures; drops nothing.

Measuring and filtering are two stages: measures cost CPU time once, and a threshold then moves in seconds.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Row
from distillkit.measures import AnyMeasure
from distillkit.measures.language import Language
from distillkit.measures.length import Length
from distillkit.measures.readability import Readability
from distillkit.measures.reflection import Reflection
from distillkit.measures.repetition import Repetition
from distillkit.spec import canonical
from distillkit.stages.labeler import Labeler
from distillkit.trace import Trace
from distillkit.verifiers import AnyVerifier

if TYPE_CHECKING:
    import pyarrow as pa


class MeasureStage(Labeler):
    """One label per trace, `measures` = {kind: {key: value}}; a rule names `measures.<kind>.<key>`."""

    VERSION: ClassVar[int] = 1

    kind: Literal["measure"] = "measure"
    measures: Annotated[tuple[AnyMeasure, ...], Field(min_length=1)] = (
        Language(),
        Readability(),
        Repetition(),
        Length(),
        Reflection(),
    )
    """What is measured; each kind at most once, since its labels go by its kind."""

    @model_validator(mode="after")
    def _kinds_differ(self) -> Self:
        kinds = [measure.kind for measure in self.measures]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"measures: {', '.join(twice)} stands there twice; use a second measure stage")
        return self

    def fields(self) -> list[str]:
        return [f"measures.{measure.kind}.{key}" for measure in self.measures for key in measure.KEYS]

    def label_schema(self) -> "pa.Schema":
        import pyarrow as pa

        return pa.schema([("id", pa.string()), ("measures", pa.string())])

    def label(self, traces: list[Trace], verifiers: dict[str, AnyVerifier]) -> list[Row]:
        by_kind = {measure.kind: measure.measure_all(traces) for measure in self.measures}
        return [
            {
                "measures": canonical({kind: labels[i] for kind, labels in by_kind.items()}).decode(
                    "utf-8", "replace"
                )
            }
            for i in range(len(traces))
        ]
