"""Describe every trace by declared measures; drops nothing.

Measuring and filtering are two stages: measures cost CPU time once, and a threshold then moves in seconds.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from distillkit.artifact import Counts, Row
from distillkit.engines.base import unreadable
from distillkit.measures import AnyMeasure
from distillkit.measures.language import Language
from distillkit.measures.length import Length
from distillkit.measures.python import Python
from distillkit.measures.readability import Readability
from distillkit.measures.reflection import Reflection
from distillkit.measures.repetition import Repetition
from distillkit.measures.structure import Structure
from distillkit.spec import canonical, file_digest
from distillkit.stages.base import WEIGHTS, Job, Wire
from distillkit.stages.labeler import Given, Labeler
from distillkit.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

    from distillkit.artifact import Model


class MeasureStage(Labeler):
    """One label per trace, `measures` = {name: {key: value}}; a rule names `measures.<name>.<key>`.

    The name is the measure's kind; a measure of the user's own (kind python) has its own.
    """

    VERSION: ClassVar[int] = 1

    kind: Literal["measure"] = "measure"
    measures: Annotated[tuple[AnyMeasure, ...], Field(min_length=1)] = (
        Language(),
        Readability(),
        Repetition(),
        Length(),
        Reflection(),
        Structure(),
    )
    """What is measured; each kind at most once, and python ones by different names, since labels go by them."""
    tokenizer: Annotated[str | None, Wire((WEIGHTS,), default="none", external=True)] = None
    """By whose tokenizer `length` counts where the source did not: a stage, org/name[@rev], ./folder, toy:base."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        labels = [measure.label for measure in self.measures]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise ValueError(
                f"measures: {', '.join(twice)} stands there twice; use a second measure stage, "
                "or give each python measure a `name:` of its own"
            )
        return self

    def fields(self) -> list[str]:
        return [f"measures.{measure.label}.{key}" for measure in self.measures for key in measure.label_keys]

    def label_schema(self) -> "pa.Schema":
        import pyarrow as pa

        return pa.schema([("id", pa.string()), ("measures", pa.string())])

    def given(self, job: Job) -> Given:
        """The path of a tokenizer.json and its digest: weights that share a tokenizer share labels."""
        if self.tokenizer is None:
            return Given()
        [model] = job.models("tokenizer")
        file = _tokenizer_file(model)
        return Given(file, file_digest(Path(file)))

    def label(self, traces: list[Trace], given: Any) -> list[Row]:
        measures = [_with_tokenizer(measure, given) for measure in self.measures]
        own = {
            measure.label: measure.measure_all(traces) for measure in measures if isinstance(measure, Python)
        }
        # Trace by trace, so that the measures of one share what they read it into.
        found = [
            {each.label: each.measure(trace) for each in measures if not isinstance(each, Python)}
            for trace in traces
        ]
        for i, labels in enumerate(found):
            labels |= {name: values[i] for name, values in own.items()}
        return [{"measures": canonical(labels).decode("utf-8", "replace")} for labels in found]

    def counts(self, labels: list[Row]) -> Counts:
        """Rows on which a measure of the user's failed, by its name."""
        own = {measure.name: measure.failed for measure in self._own()}
        if not own:
            return {}
        rows = [json.loads(label["measures"]) for label in labels]
        failed = {name: sum(row[name] == nulls for row in rows) for name, nulls in own.items()}
        return {"failed": {name: n for name, n in failed.items() if n}}

    def run(self, job: Job) -> None:
        try:
            super().run(job)
        finally:
            self.close()

    def check(self, recipe_folder: Path) -> None:
        for measure in self._own():
            measure.check()

    def foreign(self) -> list[str]:
        return [phrase for measure in self._own() for phrase in measure.foreign()]

    def probe(self, trace: Trace) -> None:
        """Try the user's measures on one row, where their code may run; raises RecipeError where one fails."""
        try:
            for measure in self._own():
                measure.probe(trace)
        finally:
            self.close()

    def close(self) -> None:
        """End the worker processes of the user's measures."""
        for measure in self._own():
            measure.close()

    def _own(self) -> list[Python]:
        return [measure for measure in self.measures if isinstance(measure, Python)]


def _with_tokenizer(measure: AnyMeasure, file: str | None) -> AnyMeasure:
    if file is None or not isinstance(measure, Length) or measure.tokenizer is not None:
        return measure
    return measure.model_copy(update={"tokenizer": file})


def _tokenizer_file(model: "Model") -> str:
    """Path of a model's tokenizer.json; raises MissingError where it has none, or cannot be reached."""
    if model.revision is None:
        file = Path(model.path) / "tokenizer.json"
        if not file.is_file():
            raise unreadable(model, FileNotFoundError("no tokenizer.json; save it with a fast tokenizer"))
        return str(file)
    from huggingface_hub import hf_hub_download

    try:
        return str(hf_hub_download(model.path, "tokenizer.json", revision=model.revision))
    except (OSError, ValueError) as error:
        raise unreadable(model, error) from None
