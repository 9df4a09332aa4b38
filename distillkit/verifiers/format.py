"""The form of a completion: `<think>..</think>`, then one answer, and nothing else.

Alone it judges no answer. In `all_of` before another verifier it is a gate: of a completion in another form the
answer does not count (an added bonus for form would pay for long completions without an answer). In `weighted` it
is DeepSeek-R1's format reward.

Source: DeepSeek-R1, arXiv:2501.12948v1, 2.2.2; the gate: allenai/open-instruct, which pays no form alone.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from distillkit.text import is_formatted
from distillkit.trace import Trace, Verdict
from distillkit.verifiers.base import Answered, Verifier


class Format(Verifier):
    """Correct when the completion is reasoning in `<think>` tags, then one `<answer>` or box (text.is_formatted)."""

    votes: ClassVar[bool] = False

    kind: Literal["format"] = "format"
    prefilled: bool = False
    """Whether the prompt ended with `<think>` (template r1 does so): then a completion must not open it again."""

    def answer(self, trace: Trace) -> str | None:
        """The declared or boxed answer, else the whole response: form is judged whether there is an answer or not."""
        return super().answer(trace) or trace.completion.strip() or None

    def judge(self, answered: Sequence[Answered]) -> list[Verdict]:
        return [
            Verdict.of(
                "correct" if is_formatted(trace.completion, self.prefilled) else "bad_format",
                super(Format, self).answer(trace),
            )
            for trace, _ in answered
        ]
