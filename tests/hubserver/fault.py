"""What happens to a request in place of a whole answer."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Fault:
    """Meets the requests whose "METHOD path" matches `route`: skips some, then as many `times` as it says."""

    route: str
    """Regular expression, searched in "METHOD path"."""
    times: int = 1
    skip: int = 0
    status: int | None = None
    """Answered instead."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": "a fault was asked for"}'
    drop: bool = False
    """The connection is cut without an answer."""
    hang_s: float | None = None
    """Silence for so long (or until the server closes), then the connection is cut."""
    truncate: int | None = None
    """The answer's body is cut after so many bytes."""
    late: bool = False
    """What was asked is done first, and only the answer is lost."""
    call: Callable[[], None] | None = None
    """Called when it strikes, e.g. to kill the client."""

    def strikes(self, request: str) -> bool:
        """Whether it is the turn of this request."""
        if not re.search(self.route, request) or self.times <= 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True
