"""What has silently ruined trainings before, asked in seconds before one starts.

DeepSeek-R1-Distill's chat template deletes the reasoning, so that only answers are trained; Qwen bases name
another end token than their chat template writes, so that the student never stops; a `<think>` that is a
special token is gone before the rewards read the text.
"""

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from distillkit.errors import MissingError, RecipeError, StageError
from distillkit.memory import CHECKPOINTS
from distillkit.text import END_THINK, THINK, split_think
from distillkit.trace import Problem, Trace
from distillkit.training.checkpoints import sets_kept
from distillkit.training.examples import Examples, encode, example, render
from distillkit.training.room import states_of, weights_of
from distillkit.training.serving import ANSWER, chat_end
from distillkit.verifiers.base import Verifier, trial

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Trainer

PROBE = 32
"""Traces or rows that are looked at where all would take too long."""

MUCH = 0.02
"""Share of the tokens in rows over max_length above which it is said aloud."""

PADS = ("pad", "reserved", "unused")
"""What the names of tokens that may pad hold, the best first."""

Warned = dict[str, str]
"""{name, text}: what the report and the run say aloud."""


def require_template(tokenizer: "PreTrainedTokenizerBase", name: str) -> None:
    """Raises MissingError for a tokenizer that cannot render a conversation."""
    if not tokenizer.chat_template:
        raise MissingError(
            f"{name}: its tokenizer has no chat template; set template: to r1, qwen_math, none or a .jinja file"
        )


def require_token(tokenizer: "PreTrainedTokenizerBase", token: str, where: str) -> None:
    """Raises RecipeError for a token that is not in the vocabulary: nothing would ever be encoded as it."""
    if token in tokenizer.get_vocab():
        return
    known = list(tokenizer.added_tokens_encoder)
    near = get_close_matches(token, known, n=1) or known[:8]
    raise RecipeError(
        f"{where}: {token!r} is no token of the model; it has {', '.join(near) or 'no special ones'}"
    )


def keep_reasoning(tokenizer: "PreTrainedTokenizerBase", traces: Iterable[Trace]) -> None:
    """Give the tokenizer the training variant of its template where its own would delete the reasoning.

    TRL has such variants for the templates of known models; for others the traces are dropped later, counted.
    """
    from trl import get_training_chat_template

    lost = any(example(trace, tokenizer) == "reasoning_lost" for trace in islice(traces, PROBE))
    if lost:
        try:
            tokenizer.chat_template = get_training_chat_template(tokenizer) or tokenizer.chat_template
        except ValueError:
            return


SPOILED = {
    "reasoning_lost": "deletes the reasoning of {n} of {total} traces: only answers would be trained",
    "prompt_differs": "renders the prompt of {n} of {total} traces otherwise when an answer follows: "
    "it would be trained on prompts that it never sees",
    "think_doubled": "opens <think> twice in {n} of {total} traces: the student would learn to open it twice",
    "not_rendered": "refuses {n} of {total} traces, for their roles or the order of their turns",
    "think_lost": "drops <think> in {n} of {total} traces: the student would not learn to open it",
}
"""Reason of a dropped trace -> what the template does, in words."""


def require_examples(examples: Examples, stage: str, max_length: int) -> None:
    """Raises StageError when no row is left, or when the template spoils most of them."""
    spoiled = sum(examples.dropped[reason] for reason in SPOILED)
    total = len(examples.kept) + examples.dropped.total()
    if total == 0:
        raise StageError(f"{stage}: no traces to train on; loosen the filter or selection before it")
    if spoiled * 2 > total:
        worst = max(SPOILED, key=lambda reason: examples.dropped[reason])
        what = SPOILED[worst].format(n=examples.dropped[worst], total=total)
        raise StageError(f"{stage}: the model's chat template {what}; set template: to one that does not")
    if not examples.kept:
        raise StageError(
            f"{stage}: none of {total} traces fits max_length {max_length} "
            f"({examples.dropped['too_long']} are longer); raise max_length or filter by length before"
        )


def warn_of_length(examples: Examples, max_length: int) -> list[Warned]:
    """A warning where rows over max_length take many tokens with them."""
    share = examples.over_length / (examples.over_length + examples.tokens)
    if share < MUCH:
        return []
    total = len(examples.kept) + examples.dropped.total()
    long = examples.dropped["too_long"]
    text = (
        f"traces over max_length {max_length:,} ({long:,} of {total:,}) hold {share:.0%} of the tokens, and are not "
        "trained; raise max_length, or choose shorter traces on purpose"
    )
    return [{"name": "over_max_length", "text": text}]


def check_positions(longest: int, context: int | None, stage: str) -> None:
    """Raises RecipeError for rows that are longer than the model has positions."""
    if context is not None and longest > context:
        raise RecipeError(
            f"stages.{stage}.max_length: there are rows of {longest} tokens, but the model has {context} "
            f"positions; lower max_length to {context}, or give rope: {{max_position_embeddings: {longest}}}"
        )


def require_disk(trainer: "Trainer", stage: str, keep_steps: int | None = None) -> None:
    """Raises MissingError where the checkpoints of a training, and the weights of every `keep_steps` that are kept
    beside, would not fit on the disk that they go to."""
    weights = weights_of(trainer, trained=True)
    kept = 0 if keep_steps is None else sets_kept(steps_of(trainer), keep_steps)
    needed = CHECKPOINTS * (weights + states_of(trainer)) + kept * weights + weights_of(trainer)
    free = shutil.disk_usage(trainer.args.output_dir).free
    if needed > free:
        raise MissingError(
            f"{stage}: its checkpoints and weights take about {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are "
            f"free in {trainer.args.output_dir}; make room, give another --store, or train with lora:"
        )


def steps_of(trainer: "Trainer") -> int:
    """Optimizer steps of a whole training."""
    args = trainer.args
    if args.max_steps > 0:
        return int(args.max_steps)
    rows: int = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    epochs: float = args.num_train_epochs
    return math.ceil(epochs * math.ceil(len(trainer.train_dataset) / rows))


def settle_pad(tokenizer: "PreTrainedTokenizerBase", stage: str) -> None:
    """Give the tokenizer a pad token that ends nothing, where it has none or pads with its end token.

    What masks padding by its id would mask the end of every answer too. Raises StageError where no token is to spare.
    """
    ends = {tokenizer.eos_token_id, *chat_end(tokenizer)}
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id not in ends:
        return
    spare = [str(token) for id, token in tokenizer.added_tokens_decoder.items() if id not in ends]
    for word in PADS:
        for token in spare:
            if word in token.lower():
                tokenizer.pad_token = token
                return
    raise StageError(
        f"{stage}: the tokenizer pads with its end token {tokenizer.eos_token}, and has no other to pad with; "
        "name one that no text holds as trainer: {pad_token: ...}"
    )


def settle_end(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Let completions end where the template ends an answer, which bases may do with another token than their own."""
    ends = chat_end(tokenizer)
    if ends and tokenizer.eos_token_id not in ends:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(ends[0])


def check_end(tokenizer: "PreTrainedTokenizerBase", stage: str) -> None:
    """Raises StageError where the template ends an answer with another token than the model's end token, and
    RecipeError for one that cannot be rendered at all."""
    question = {"role": "user", "content": ANSWER}
    try:
        whole = render(tokenizer, [question, {"role": "assistant", "content": ANSWER}])
    except TemplateError as error:
        raise RecipeError(
            f"stages.{stage}.template: cannot render a question and its answer: {error}; give another"
        ) from None
    tail = whole[whole.rindex(ANSWER) + len(ANSWER) :]
    if tokenizer.eos_token_id in encode(tokenizer, tail):
        return
    written = tokenizer.convert_ids_to_tokens(chat_end(tokenizer))
    fix = (
        f"write trainer: {{eos_token: '{written[0]}'}}, or a template: that ends with {tokenizer.eos_token}"
        if written
        else f"write a template: that ends an answer with {tokenizer.eos_token}"
    )
    raise StageError(
        f"{stage}: the end token {tokenizer.eos_token} is never trained, so that the student would never stop: "
        f"its template ends an answer with {tail.strip() or 'nothing'}; {fix}"
    )


def check_tags(tokenizer: "PreTrainedTokenizerBase", stage: str) -> None:
    """Raises StageError where TRL, which drops special tokens, would hide the think tags from the rewards."""
    text = f"{THINK} 1 {END_THINK} 1"
    seen = tokenizer.decode(encode(tokenizer, text), skip_special_tokens=True)
    if THINK not in seen or END_THINK not in seen:
        raise StageError(
            f"{stage}: {THINK} and {END_THINK} do not survive the tokenizer (special or unknown tokens): "
            "no reward would see them; make them ordinary tokens of it"
        )


def check_golds(problems: Sequence[Problem], verifiers: Mapping[str, Verifier], stage: str) -> list[Warned]:
    """What to say of golds that cannot be graded: they give no reward; raises StageError where none can be."""
    golds: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.domain in verifiers:
            golds.setdefault(problem.domain, []).append(problem)
    found = []
    for domain, known in golds.items():
        reasons = verifiers[domain].check_references([each.reference for each in known])
        bad = [(each, reason) for each, reason in zip(known, reasons, strict=True) if reason is not None]
        if len(bad) == len(known):
            raise StageError(
                f"{stage}: no gold of domain {domain} can be graded ({bad[0][1]}): nothing would be paid"
            )
        if bad:
            text = (
                f"{len(bad):,} of {len(known):,} golds of domain {domain} cannot be graded ({bad[0][1]}), e.g. "
                f"{repr(bad[0][0].reference)[:80]}: their completions are paid nothing; mend or drop them"
            )
            found.append({"name": "golds", "text": text})
    return found


def check_extraction(
    tokenizer: "PreTrainedTokenizerBase",
    problems: Sequence[Problem],
    verifiers: Mapping[str, Verifier],
    *,
    prefilled: bool,
    stage: str,
) -> None:
    """Raises StageError where a reward would read another answer in a completion than an evaluation does.

    TRL hides special tokens from rewards; an engine shows them. Where one stands in an answer, the two differ.
    """
    for problem in problems[:PROBE]:
        if problem.domain not in verifiers:
            continue
        given = trial(problem)
        text = given.completion.removeprefix(THINK) if prefilled else given.completion
        ids = encode(tokenizer, text)
        read = []
        for hidden in (True, False):
            seen = tokenizer.decode(ids, skip_special_tokens=hidden)
            reasoning, response = split_think(seen, prefilled)
            trace = replace(given, completion=seen, reasoning=reasoning, response=response)
            read.append(verifiers[problem.domain].answer(trace))
        if read[0] != read[1]:
            raise StageError(
                f"{stage}: of {given.response!r} the reward would read {read[0]!r} and an evaluation {read[1]!r}: "
                "a special token of the tokenizer stands in it; make it an ordinary one"
            )


def fitting(
    rows: list[dict[str, Any]], tokenizer: "PreTrainedTokenizerBase", context: int | None, completion: int
) -> list[dict[str, Any]]:
    """The rows whose prompt and a completion of full length go into the context together."""
    if context is None:
        return rows
    prompts = [render(tokenizer, row["prompt"], add_generation_prompt=True) for row in rows]
    lengths = [len(encode(tokenizer, prompt)) for prompt in prompts]
    return [row for row, length in zip(rows, lengths, strict=True) if length + completion <= context]


def require_prompts(count: int, dropped: int, needed: int, stage: str) -> None:
    """Raises where a step cannot be filled: StageError for no prompts at all, RecipeError for too few."""
    long = f" ({dropped} are too long for the context with max_completion_length)" if dropped else ""
    if count == 0:
        raise StageError(f"{stage}: no problems left to train on{long}; widen band: or give more problems")
    if count < needed:
        raise RecipeError(
            f"stages.{stage}.prompts_per_step: {needed}, but there are only {count} problems{long}; lower it"
        )
