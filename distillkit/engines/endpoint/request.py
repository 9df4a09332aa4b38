"""What a server is asked: the fields of an endpoint that decide the answer, and the request made of them."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from distillkit.engines.base import Completion, Parameters, Request, encode, too_long
from distillkit.engines.endpoint.server import Server
from distillkit.spec import Strict

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PATHS = {"chat": "/chat/completions", "completions": "/completions"}
STAGE_SAYS = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "stop")
"""Parameters that are the stage's; `extra_body` may only take them out, by null."""
NEVER = {
    "model": "write served_model",
    "messages": "they are the problem's",
    "prompt": "it is the problem's",
    "seed": "every request has one of its own; write seed: omit to send none",
    "stream": "answers are read whole",
    "n": "the samples of a problem are requests of their own, each with its seed; write n on the stage",
}


class Wording(Strict):
    """The model and the way it is asked."""

    served_model: str = Field(min_length=1)
    """Its name there."""
    api: Literal["chat", "completions"] = "chat"
    """chat: the server renders the messages, no weights are needed here. completions: the prompt is rendered here with
    the template and tokenizer of the stage's `model:`, so that the rows are those of the engine vllm."""
    seed: Literal["send", "omit"] = "send"
    """omit: for a provider that refuses the parameter. Traces keep the seed, and say that it was not sent."""
    extra_body: dict[str, Any] = {}
    """Further parameters of the request, such as `reasoning_effort`; null takes one out that is sent else."""

    @field_validator("extra_body")
    @classmethod
    def _only_further(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name, value in given.items():
            if name in NEVER:
                raise ValueError(f"{name}: {NEVER[name]}")
            if name in STAGE_SAYS and value is not None:
                raise ValueError(f"{name}: write it on the stage")
        return given

    def body(
        self,
        request: Request,
        parameters: Parameters,
        server: Server,
        tokenizer: "PreTrainedTokenizerBase | None",
    ) -> dict[str, Any] | Completion:
        """The request as this server is asked; or the row of a prompt that fills its context."""
        body: dict[str, Any] = {
            "model": self.served_model,
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "max_tokens": parameters.max_tokens,
            "stop": list(parameters.stop) or None,
            "seed": request.seed if self.seed == "send" else None,
            "top_k": parameters.top_k or None,
            "min_p": parameters.min_p or None,
        }
        if server.ours:
            # Its own defaults are the checkpoint's generation config, of which the recipe says nothing.
            body |= {"top_k": parameters.top_k or -1, "min_p": parameters.min_p, "repetition_penalty": 1.0}
            body["skip_special_tokens"] = False
        if self.api == "chat":
            body["messages"] = request.messages
        elif server.ours and tokenizer is not None:
            ids = encode(tokenizer, request.prompt)
            if server.context is not None:
                if len(ids) >= server.context:
                    return too_long(len(ids), server.context)
                body["max_tokens"] = min(parameters.max_tokens, server.context - len(ids))
            # As a text it would get a second begin token from some tokenizers; and a server decodes what it
            # generates behind it, so that the text may begin with a space of its own making.
            body |= {"prompt": ids, "return_token_ids": True}
        else:
            body["prompt"] = request.prompt
        return {name: value for name, value in (body | self.extra_body).items() if value is not None}
