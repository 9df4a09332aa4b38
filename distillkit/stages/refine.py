"""Rewrite traces for readability: a model turns raw reasoning into prose of one language with a summary behind it.

What RL writes from scratch is right but hard to read and mixes languages, so that a student of it starts badly; a few
thousand refined traces are the cold start of the method. A rewrite is a new trace with the id of its parent, and it
is judged again like any other: a rewriter may get the answer wrong.

Source: DeepSeek-R1, arXiv:2501.12948v2, section 2.3.1 (cold start: readable pattern, summary at the end).
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field

from distillkit.artifact import Row, shard_of
from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.sampling import Drawn, Plan, Sampling, drawn
from distillkit.sampling.plan import able
from distillkit.spec import EXECUTION, SourceFile, digest
from distillkit.stages.base import SELECTION, TRACES, WEIGHTS, Job, Stage, Wire, require_rows
from distillkit.text import END_THINK, THINK, split_think
from distillkit.trace import Problem, Trace, to_row, trace_of, trace_schema

if TYPE_CHECKING:
    import pyarrow as pa

PROMPT = """\
Below are a question, somebody's raw reasoning about it, and the answer that was given.

Rewrite the reasoning so that a reader can follow it easily. Write whole sentences in {language} only, keep the order \
of the thoughts, the checks and the corrections that lead anywhere, leave out what is repeated or leads nowhere, and \
put formulas into LaTeX. Do not solve the question anew, and do not change the result.
Then write a summary that states the solution in a few sentences and ends with the final answer in the form in which \
it was given (in \\boxed{} where it was).

Answer in exactly this form:
<reasoning>
the rewritten reasoning
</reasoning>
<summary>
the summary with the final answer
</summary>

Question:
{prompt}

Raw reasoning:
{reasoning}

Answer that was given:
{response}
"""
"""What the rewriter is asked where the recipe names no prompt of its own."""

QUESTION_LANGUAGE = "the language of the question"
PLACEHOLDERS = ("prompt", "reasoning", "response", "language")
_PLACEHOLDER = re.compile(rf"{{({'|'.join(PLACEHOLDERS)})}}")

Parts = tuple[str, str]
"""Reasoning and response."""


class Refine(Stage, Sampling):
    """Traces and a model in; rewritten traces out, each with the id of its parent.

    Tables: `rows` (the traces) and `rejected` (what could not be used of the rewriter's answers, and why: unparseable,
    empty, truncated, failed). Summary: parents, traces, and tokens of all answers.
    """

    MAKES: ClassVar[str] = TRACES
    DRAWS: ClassVar[bool] = True
    CHILD: ClassVar[bool] = True
    # Without a file of its own, a recipe's prompt is what PROMPT says today.
    VERSION: ClassVar[int] = int(digest(PROMPT)[:8], 16)

    kind: Literal["refine"] = "refine"
    input: Annotated[str | None, Wire((SELECTION, TRACES)), EXECUTION] = None
    """Traces or a selection of them; left out, the nearest earlier one."""
    model: Annotated[str | None, Wire((WEIGHTS,), default="none", external=True), EXECUTION] = None
    """The rewriter: a stage, org/name[@rev] on the Hub, ./folder, or packaged weights; none for an endpoint with its
    own."""
    prompt: SourceFile | None = None
    """A text file with what to ask. {prompt} (the question), {reasoning}, {response} and {language} stand for those of
    the trace; {reasoning} has to be in it. Left out: whole sentences, one language, a summary at the end."""
    output: Literal["tags", "json", "think"] = "tags"
    """How the rewriter says both parts: between <reasoning> and <summary> tags; as a JSON object {"reasoning",
    "summary"}; or as a completion whose own <think> is the rewritten reasoning."""
    language: str | None = None
    """Name of the language to write in, as the prompt is to say it; left out: that of the question."""
    n: int = Field(1, ge=1)
    """Rewrites of each trace."""
    max_failed: Annotated[float, EXECUTION, Field(ge=0, le=1)] = 0.05
    """Largest share of answers that may fail for a cause that may pass (a server that was down); above it the stage
    stops, and running it again asks for those alone."""

    def check(self, recipe_folder: Path) -> None:
        if self.temperature == 0 and self.n > 1:
            raise RecipeError(
                f"stages.{self.name}: temperature 0 gives the same text {self.n} times; write n: 1 or a temperature"
            )
        if self.engine is not None:
            able(self, has_model=self.model is not None)
        if "{reasoning}" not in self.asked():
            raise RecipeError(
                f"stages.{self.name}.prompt: {self.prompt} has no {{reasoning}}: the rewriter would not see what it is "
                f"to rewrite; it takes {', '.join(f'{{{each}}}' for each in PLACEHOLDERS)}"
            )

    def foreign(self) -> list[str]:
        return self.engine.foreign() if self.engine is not None else []

    def limited(self, rows: int) -> Self:
        return self.model_copy(update={"n": 1})

    def asked(self) -> str:
        """The prompt with its placeholders; raises MissingError for a file that is not there."""
        if self.prompt is None:
            return PROMPT
        try:
            return Path(self.prompt).read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            raise MissingError(
                f"{self.prompt}: no text file (looked for in {Path.cwd()}); give the path of the prompt"
            ) from None

    def question(self, parent: Trace, asked: str) -> Problem:
        """What the rewriter is asked of a trace, under that trace's id; `asked` is the prompt with placeholders."""
        values = {
            "prompt": parent.prompt,
            "reasoning": parent.text,
            "response": parent.response,
            "language": self.language or QUESTION_LANGUAGE,
        }
        text = _PLACEHOLDER.sub(lambda found: values[found[1]], asked).strip()
        return Problem([{"role": "user", "content": text}], domain=parent.domain, id=parent.id)

    def run(self, job: Job) -> None:
        traces = [trace_of(row) for row in job.view().rows(labels=False)]
        parents = {trace.id: trace for trace in traces if trace.completion.strip()}
        require_rows(len(parents), f"{self.name}: input", "give it traces")
        job.out.rows_in = len(traces)
        model = next(iter(job.models()), None)
        asked = self.asked()
        questions = [self.question(parent, asked) for parent in parents.values()]
        plan = Plan.of(self, model, questions, self.n, job.seed)
        origin = digest([plan.origin, asked, self.output, self.language])
        with drawn(plan, model, job.store, job.progress, job.warn, replicas=job.replicas) as found:
            self.require_answers(found, job)
            self.write(job, found, parents, origin)
        job.out.telemetry["tokens_per_second"] = found.facts.get("tokens_per_s")

    def require_answers(self, found: Drawn, job: Job) -> None:
        """Raises StageError where too many answers failed; they are asked for again by another run."""
        if not found.failed:
            return
        why = next(iter(found.failed.values())).error
        told = f"{len(found.failed):,} of {found.asked:,} rewrites failed ({why})"
        if len(found.failed) > self.max_failed * found.asked:
            raise StageError(
                f"{self.name}: {told}, max_failed is {self.max_failed:g}; run again to ask for these alone, or raise it"
            )
        job.warn(f"{told}; they are rejected as failed")

    def write(self, job: Job, found: Drawn, parents: Mapping[str, Trace], origin: str) -> None:
        """Write rewrites and rejects shard by shard, and count them."""
        rejected = +Counter(no_completion=job.out.rows_in - len(parents))
        tokens = Counter(prompt_tokens=0, completion_tokens=0)
        for shard in range(job.shards):
            asks = [ask for ask in found.plan.asks if shard_of(ask.problem.id, job.shards) == shard]
            kept: list[Row] = []
            dropped: list[Row] = []
            for answer in found.traces(asks):
                tokens["prompt_tokens"] += answer.prompt_tokens or 0
                tokens["completion_tokens"] += answer.completion_tokens or 0
                made = self.rewrite(parents[answer.problem_id], answer, origin)
                if isinstance(made, Trace):
                    kept.append(to_row(made))
                else:
                    dropped.append(_reject(answer, made))
            job.out.write(shard, kept, trace_schema())
            job.out.write(shard, dropped, reject_schema(), "rejected")
            rejected.update(row["reason"] for row in dropped)
        traces = sum(shard.rows for shard in job.out.tables()["rows"])
        if not traces:
            raise StageError(
                f"{self.name}: no rewrite is usable ({_list(rejected)}); what the rewriter said stands in "
                f"{job.out.path / 'tables' / 'rejected'}; mend the prompt, or set output:"
            )
        job.out.rows_kept = traces
        job.out.counts = {"rejected": dict(rejected)} if rejected else {}
        job.out.summary = {"parents": len(parents), "traces": traces, **tokens}
        if rejected:
            job.warn(f"left out {_list(rejected)} of {found.asked:,} rewrites")

    def rewrite(self, parent: Trace, answer: Trace, origin: str) -> Trace | str:
        """The new trace in a rewriter's answer, or the reason why there is none."""
        if answer.finish_reason == "error":
            return "failed"
        if answer.finish_reason == "length":
            return "truncated"
        parts = READERS[self.output](answer)
        if parts is None:
            return "unparseable"
        reasoning, response = parts
        if not reasoning or not response:
            return "empty"
        return Trace(
            problem_id=parent.problem_id,
            messages=parent.messages,
            completion=f"{THINK}\n{reasoning}\n{END_THINK}\n\n{response}",
            reasoning=reasoning,
            response=response,
            reference=parent.reference,
            domain=parent.domain,
            source=parent.source,
            language=parent.language,
            finish_reason="stop",
            prompt_tokens=parent.prompt_tokens,
            # Those of the answer, its tags included; a rewriter that thought by itself says nothing of the length.
            completion_tokens=None if answer.reasoning else answer.completion_tokens,
            seed=None,  # its problem was not sampled anew: there is no pass rate to be had of rewrites
            index=answer.index,
            origin=origin,
            model=answer.model,
            template=parent.template,
            sampling=answer.sampling | {"seed": answer.seed},
            parent_id=parent.id,
            extra=parent.extra,
            id=f"{parent.problem_id}/{origin[:12]}/{digest(parent.id)[:8]}-{answer.index}",
            telemetry=answer.telemetry,
        )


def read_tags(answer: Trace) -> Parts | None:
    """What stands in the last <reasoning> and the last <summary> of an answer."""
    reasoning, summary = _last(answer.response, "reasoning"), _last(answer.response, "summary")
    return None if reasoning is None or summary is None else (reasoning, summary)


def read_json(answer: Trace) -> Parts | None:
    """The texts of a JSON object {"reasoning", "summary"}: the answer from its first brace to its last."""
    start, end = answer.response.find("{"), answer.response.rfind("}")
    try:
        found = json.loads(answer.response[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return None
    match found:
        case {"reasoning": str(reasoning), "summary": str(summary)}:
            return reasoning.strip(), summary.strip()
    return None


def read_think(answer: Trace) -> Parts | None:
    """The two halves of the answer itself."""
    if END_THINK not in answer.completion:
        return None
    reasoning, response = split_think(answer.completion)
    return reasoning, response.strip()


READERS = {"tags": read_tags, "json": read_json, "think": read_think}


def _last(text: str, tag: str) -> str | None:
    """What the last closed pair of a tag holds, stripped."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, max(end, 0))
    return text[start + len(tag) + 2 : end].strip() if start >= 0 else None


def _reject(answer: Trace, reason: str) -> Row:
    return {
        "id": answer.id,
        "parent_id": answer.problem_id,
        "reason": reason,
        "text": answer.completion or str(answer.extra.get("error", "")),
    }


def reject_schema() -> "pa.Schema":
    """Arrow schema of what was rejected: `text` is what the rewriter said, or why it said nothing."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in ("id", "parent_id", "reason", "text")])


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in Counter(counts).most_common())
