"""The Hub's client with what it lacks: every request has a time limit, and every call is tried again.

huggingface_hub retries blobs only; its commit, tag and info calls fail at the first 503, and a server that hangs
would hang the run. Source: huggingface_hub 1.33 to 2.4, utils/_http.py.
"""

import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from distillkit.hub.failure import causes

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
TIMEOUT_S = {"connect": 10.0, "read": 120.0, "write": 120.0, "pool": 120.0}
"""Wall seconds that one step of a request may take; a commit of thousands of files takes most of a minute."""
TRIES = 6
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
LONGEST_REST_S = 900.0
"""Asked to wait longer, we end: what was sent is safe, and a later run goes on."""
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)


def api() -> "HfApi":
    """The client for the Hub of HF_ENDPOINT."""
    from huggingface_hub import constants

    return _api(constants.ENDPOINT)


@cache
def _api(endpoint: str) -> "HfApi":
    from huggingface_hub import HfApi, set_client_factory
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()  # its warnings name signed addresses, and what matters is said by us
    set_client_factory(_client)
    return HfApi(endpoint, library_name="distillkit")


def _client() -> Any:
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    hooks = client.event_hooks
    client.event_hooks = hooks | {"request": [*hooks["request"], _limit]}
    return client


def _limit(request: Any) -> None:
    """Give a request its time limits where the library set none (it passes None on, which means for ever)."""
    given = {
        name: limit for name, limit in request.extensions.get("timeout", {}).items() if limit is not None
    }
    request.extensions["timeout"] = TIMEOUT_S | given


def patiently(call: Callable[[], T], tries: int = TRIES) -> T:
    """The value of a call that may be repeated; waits and repeats while what goes wrong may pass.

    Raises: what the last call raised.
    """
    for attempt in range(tries - 1):
        try:
            return call()
        except errors() as error:
            rest(error, attempt)
    return call()


def rest(error: BaseException, attempt: int) -> None:
    """Sleep before the next try; raises the error itself where waiting would not help."""
    rest_s = rest_of(error, attempt)
    if rest_s is None:
        raise error
    time.sleep(rest_s)


def errors() -> tuple[type[BaseException], ...]:
    """What the Hub's libraries raise."""
    from huggingface_hub.utils import httpx  # httpx2 from huggingface_hub 2 on

    return (httpx.HTTPError, OSError, ValueError)


def rest_of(error: BaseException, attempt: int) -> float | None:
    """Seconds to wait after an error: what the Hub asks for, else twice as long each time, with jitter.

    None where waiting would not help, or the Hub asks for more than LONGEST_REST_S.
    """
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    from huggingface_hub.utils import httpx

    jittered: float = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**attempt) * random.uniform(0.5, 1.0)
    for cause in causes(error):
        if isinstance(cause, HfHubHTTPError):
            if cause.response.status_code not in TRANSIENT:
                return None
            asked = asked_rest(cause.response.headers)
            if asked is None:
                return jittered
            return asked + jittered if asked <= LONGEST_REST_S else None
        if isinstance(cause, OfflineModeIsEnabled):
            return None
        # A gateway's error page instead of JSON, or the line was cut, or nobody answered.
        if isinstance(cause, (json.JSONDecodeError, httpx.TransportError, ConnectionError)):
            return jittered
    return None


def asked_rest(headers: Any) -> float | None:
    """Seconds that an answer asks to wait: `RateLimit: "api";r=0;t=9`, `Retry-After: 9` or a date; None: it does not.

    Source: RFC 9110, 10.2.3; draft-ietf-httpapi-ratelimit-headers-09.
    """
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())
