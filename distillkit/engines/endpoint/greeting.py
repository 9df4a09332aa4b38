"""Meeting the servers before anything is asked: who is there, and the errors for those that will not have us."""

import asyncio

from distillkit.engines.endpoint.lane import pause_s
from distillkit.engines.endpoint.server import Server, Trouble
from distillkit.errors import MissingError, RecipeError

GREETINGS = 3
SHOWN = 20
"""Models of a server that a message lists."""


async def greet(servers: list[Server], served_model: str, key_name: str | None) -> list[bool]:
    """Which servers are there. Raises MissingError where none is, or where one refuses the key."""
    reached = await asyncio.gather(*(_reach(server, served_model, key_name) for server in servers))
    if not any(reason is None for reason in reached):
        told = "; ".join(f"{s.host}: {reason}" for s, reason in zip(servers, reached, strict=True))
        raise MissingError(f"engine endpoint: no server answers ({told}); start it, or correct base_urls")
    return [reason is None for reason in reached]


async def close(servers: list[Server]) -> None:
    """Close all connections."""
    for server in servers:
        await server.client.close()


async def _reach(server: Server, served_model: str, key_name: str | None) -> str | None:
    """Why a server cannot be reached, None where it can."""
    reason = ""
    for attempt in range(1, GREETINGS + 1):
        try:
            await server.greet(served_model)
        except Trouble as trouble:
            if trouble.status == 401:
                raise key_refused(server, 401, key_name) from None
            if trouble.status is not None:  # it has no list, or keeps it from this key: it is there
                return None
            reason = str(trouble)
            if attempt < GREETINGS:
                await asyncio.sleep(pause_s(attempt))
        else:
            return None
    return reason


def key_refused(server: Server, status: int, key_name: str | None) -> MissingError:
    """The error for a server that does not let us in; what it says itself may repeat the key."""
    mend = (
        f"export {key_name}=... with one that it takes"
        if key_name
        else "write api_key_env: NAME_OF_THE_VARIABLE"
    )
    return MissingError(f"engine endpoint: {server.host} refuses the key ({status}); {mend}")


async def not_served(server: Server, served_model: str, trouble: Trouble) -> RecipeError:
    """The error for a model, or a path, that a server does not have; tells those that it has."""
    try:
        names = [str(each.get("id")) for each in await server.models()]
    except Trouble:
        names = []
    served = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    mend = f"it serves: {served}" if names else "base_urls mostly end in /v1"
    return RecipeError(f"engine endpoint: {server.url} does not serve {served_model} ({trouble}); {mend}")
