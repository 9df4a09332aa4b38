"""One OpenAI-compatible server: asking it over HTTP, and what it means when it does not answer.

Transport is the official client with its own retries off: they know nothing of the other servers, of the window,
or of what a request has cost so far.
"""

import asyncio
import re
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from openai import AsyncOpenAI

T = TypeVar("T")

BUSY = frozenset({429, 503, 529})
PASSING = frozenset({408, 409, 425})
"""Statuses below 500 that another try may mend."""
NO_CREDIT = frozenset({"insufficient_quota", "insufficient_balance", "billing_hard_limit_reached"})
OURS = frozenset({"vllm", "sglang"})
"""Who serves with parameters beyond OpenAI's, and the context in its list of models."""
CONNECT_S = 10.0


class Trouble(Exception):
    """A request that was not answered: `status` is the HTTP status, None where it did not come that far.

    garbled: it was answered, and probably paid for, with what is no completion.
    """

    def __init__(
        self,
        reason: str,
        status: int | None = None,
        code: str | None = None,
        wait_s: float | None = None,
        *,
        garbled: bool = False,
    ) -> None:
        super().__init__(" ".join(reason.split())[:400])
        self.status, self.code, self.wait_s, self.garbled = status, code, wait_s, garbled

    @property
    def busy(self) -> bool:
        """The server works, and has too much to do."""
        return self.status in BUSY and not self.unpaid

    @property
    def broken(self) -> bool:
        """The server is at fault, not the request."""
        return self.status is None or self.status in PASSING or (self.status >= 500 and not self.busy)

    @property
    def unpaid(self) -> bool:
        """The account has no money left."""
        return self.status == 402 or self.code in NO_CREDIT


@dataclass
class Server:
    """A base URL and what it told of itself."""

    url: str
    client: "AsyncOpenAI"
    key: str = field(repr=False)
    ours: bool = False
    """vLLM or SGLang."""
    lost: tuple[type[Exception], ...] = ()
    """What the transport raises where the client does not see to it."""
    context: int | None = None
    """Tokens of prompt and completion together, where it tells."""

    @classmethod
    def at(cls, url: str, key: str, timeout_s: float) -> "Server":
        """A server that nobody has spoken to yet."""
        from openai import AsyncOpenAI, DefaultAioHttpClient, Timeout

        try:
            transport = DefaultAioHttpClient()  # half of the default's time per request
            from aiohttp import ClientError

            lost: tuple[type[Exception], ...] = (ClientError,)
        except RuntimeError:  # openai 2 has it as an extra only
            transport, lost = None, ()
        timeout = Timeout(timeout_s, connect=CONNECT_S)
        client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0, timeout=timeout, http_client=transport)
        return cls(url, client, key, lost=lost)

    @property
    def host(self) -> str:
        """Host and port, as telemetry and messages have it."""
        return urlsplit(self.url).netloc

    async def ask(self, path: str, body: dict[str, Any], timeout_s: float) -> object:
        """What it answers to a POST, parsed. Raises Trouble."""
        return await self.whole(self.client.post(path, body=body, cast_to=object), timeout_s)

    async def models(self) -> list[dict[str, Any]]:
        """What it serves, empty where it does not say. Raises Trouble."""
        answer = await self.whole(self.client.get("/models", cast_to=object), CONNECT_S)
        listed = answer.get("data") if isinstance(answer, dict) else None
        return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []

    async def greet(self, served_model: str) -> None:
        """Learn what it is. Raises Trouble."""
        for each in await self.models():
            if each.get("id") == served_model:
                self.ours = each.get("owned_by") in OURS
                context = each.get("max_model_len")
                self.context = context if self.ours and isinstance(context, int) else None

    async def whole(self, asking: Awaitable[T], timeout_s: float) -> T:
        """What a call of the client gives. Raises Trouble in place of all that it raises."""
        import openai

        try:
            async with asyncio.timeout(timeout_s):
                return await asking
        except TimeoutError:
            raise Trouble(f"no answer within {timeout_s:g} s") from None
        except openai.APIStatusError as error:
            raise Trouble(
                self._said(error), error.status_code, error.code, wait_s(error.response.headers)
            ) from None
        except openai.APIConnectionError as error:
            raise Trouble(self._without_key(str(error.__cause__ or error)) or "connection lost") from None
        except self.lost as error:
            raise Trouble(f"no HTTP: {error}") from None
        except (ValueError, RecursionError) as error:
            raise Trouble(f"malformed JSON ({error})", garbled=True) from None

    def _said(self, error: Any) -> str:
        """What the server says of a refusal, in one line without the key."""
        body = error.body
        said = body.get("message") if isinstance(body, dict) else body
        text = self._without_key(str(said or ""))
        return f"{error.status_code}: {text}" if text else f"status {error.status_code}"

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "<key>")


def wait_s(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a refusal asks to wait: Retry-After (seconds or a date), or when a spent limit is reset.

    None where it does not say, or says what cannot be read.

    Source: RFC 9110, 10.2.3; OpenAI's `retry-after-ms` and `x-ratelimit-reset-*` ("6m0s").
    """
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(ValueError):
            seconds = float(headers[name]) * unit_s if name in headers else -1.0
            if 0 <= seconds < 1e6:
                return seconds
    with suppress(ValueError):
        if "retry-after" in headers:
            date = parsedate_to_datetime(headers["retry-after"])
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())
    spent = [kind for kind in ("requests", "tokens") if headers.get(f"x-ratelimit-remaining-{kind}") == "0"]
    resets = [_duration_s(headers.get(f"x-ratelimit-reset-{kind}", "")) for kind in spent]
    return max((reset for reset in resets if reset is not None), default=None)


def _duration_s(text: str) -> float | None:
    """Seconds in "1h2m3.5s" or "20ms"; None for anything else."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    unit_s = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    return sum(float(number) * unit_s[unit] for number, unit in parts)
