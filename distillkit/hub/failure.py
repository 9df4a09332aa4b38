"""What went wrong between us and the Hub, in one clear line without the token."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from distillkit.errors import DistillkitError, MissingError, RecipeError, StageError, redacted
from distillkit.hub.reference import HubRef

NO_SPACE = re.compile(r"storage|quota|space", re.IGNORECASE)
"""Words of the Hub's answers to an account that is full."""


@contextmanager
def explained(ref: HubRef) -> Iterator[None]:
    """Turns what the Hub's libraries raise into one clear line."""
    from huggingface_hub.utils import httpx  # httpx2 from huggingface_hub 2 on

    try:
        yield
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise explain(ref, error) from None


@contextmanager
def explained_push(ref: HubRef) -> Iterator[None]:
    """Turns what goes wrong while something is written into one clear line."""
    from huggingface_hub.utils import httpx

    try:
        yield
    except (httpx.HTTPError, OSError, ValueError) as error:
        raise explain_push(ref, error) from None


def explain_push(ref: HubRef, error: BaseException) -> DistillkitError:
    """The error to show when something was to be written."""
    from huggingface_hub.errors import HfHubHTTPError

    chain = list(causes(error))
    card = next((each for each in chain if str(each).startswith("Invalid metadata in README.md")), None)
    if card is not None:
        return RecipeError(
            f"{ref.repository}: the card's header is not valid ({str(card).partition('- ')[2]})"
        )
    answer = next((each for each in chain if isinstance(each, HfHubHTTPError)), None)
    status = answer.response.status_code if answer is not None else 0
    said = redacted(short(error) if answer is None else answer.server_message or "").strip()
    said = said.rpartition(": `")[2]  # behind the client's own words on a large file
    if status in (402, 413, 507) or (status in (0, 403, 422) and NO_SPACE.search(said)):
        return MissingError(
            f"{ref.repository}: the Hub has no space left for it ({said}); free some there or ask for more; what "
            "was sent is safe"
        )
    if status in (401, 403):
        return MissingError(
            f"{ref.repository}: the account of your HF_TOKEN may not write to it; ask for that, or set another token"
        )
    if status == 429 or status >= 500:
        return MissingError(
            f"{ref.repository}: the Hub answered {status} again and again; wait and run again; what was sent is safe"
        )
    if answer is not None and status in (400, 409, 412, 422):
        return StageError(
            f"{ref.repository}: the Hub refused it ({status}: {said or 'no reason given'}); run again"
        )
    return explain(ref, error)


def explain(ref: HubRef, error: BaseException) -> DistillkitError:
    """The error to show, by the first thing in the chain of causes that says what is wrong."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    if isinstance(error, errors.HFValidationError):
        return RecipeError(f"{ref}: {short(error)}")
    found = list(causes(error))
    for cause in found:
        if isinstance(cause, errors.GatedRepoError):
            return MissingError(f"{ref}: gated; accept its terms at {ref.page}, then {token_advice()}")
        if isinstance(cause, errors.RepositoryNotFoundError):
            return MissingError(
                f"{ref}: no such {ref.kind}, or a private one; check the name, or {token_advice()}"
            )
        if isinstance(cause, errors.RevisionNotFoundError):
            return RecipeError(
                f"{ref}: no revision {ref.revision!r}; see the branches and tags at {ref.page}"
            )
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return MissingError(
                f"{ref}: no disk space for the Hub's cache; free some or set HF_HOME to another disk"
            )
    if is_offline():
        return not_cached(ref)
    for cause in found:
        if isinstance(cause, errors.HfHubHTTPError) and not isinstance(cause, errors.EntryNotFoundError):
            status = cause.response.status_code
            return MissingError(f"{ref}: the Hub answered {status}; {advice(status)}")
        if isinstance(cause, (httpx.TransportError, ConnectionError)):
            reason = type(cause).__name__
            return MissingError(
                f"{ref}: the Hub cannot be reached ({reason}); check the network and HF_ENDPOINT"
            )
    return StageError(f"{ref}: its files cannot be read ({type(error).__name__}: {short(error)})")


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, what caused that: `datasets` wraps the errors that matter."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # what is raised again may be its own context
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def not_cached(ref: HubRef) -> MissingError:
    why = "offline (HF_HUB_OFFLINE)" if is_offline() else "the Hub cannot be reached"
    return MissingError(f"{ref}: {why}, and it is not in the local cache; run once online")


def is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def token_advice() -> str:
    from huggingface_hub import get_token

    return "set HF_TOKEN" if get_token() is None else "see that the account of your HF_TOKEN may read it"


def advice(status: int) -> str:
    if status in (401, 403):
        return token_advice()
    return "wait and run again" if status == 429 or status >= 500 else "see whether HF_ENDPOINT is right"


def short(error: BaseException) -> str:
    """The first two lines of its text, in one."""
    return " ".join(str(error).split("\n")[:2])
