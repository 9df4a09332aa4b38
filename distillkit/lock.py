"""`<recipe>.lock`: the commit that each Hub branch or tag of a recipe was resolved to, once.

Offline runs use it; `run --update` resolves anew. Shipped recipes carry none, since commits cannot be known
before the first time online.
"""

import json
from pathlib import Path

from distillkit.durable import write_text
from distillkit.errors import MissingError, RecipeError
from distillkit.hub import check_readable, parse_reference, resolve
from distillkit.hub.failure import is_offline


class Lock:
    """The lock file beside a recipe; `None` keeps resolutions in memory only.

    probe: ask of what the lock knows already, too, whether the account may read it.
    """

    def __init__(self, path: Path | None, *, update: bool = False, probe: bool = False) -> None:
        self.path = path
        self.probe = probe
        self.commits: dict[str, str] = {}
        if path is not None and path.exists() and not update:
            self.commits = _read(path)

    def commit_of(self, kind: str, reference: str) -> str:
        """40 hex digits for `org/name@rev`; asks the Hub (and writes the lock) where the lock does not know.

        Raises:
            MissingError: the Hub cannot be reached or does not have it, or its terms are not accepted yet.
        """
        ref = parse_reference(reference, kind)
        if self.probe and not is_offline():
            check_readable(ref)
        if ref.commit is not None:
            return ref.commit
        key = f"{kind}:{reference}"
        if key not in self.commits:
            self.commits[key] = resolve(ref)
            if self.path is not None:
                write_text(self.path, json.dumps(self.commits, indent=1, sort_keys=True) + "\n")
        return self.commits[key]

    def known(self, kind: str, reference: str) -> str | None:
        """The commit, or None where only the Hub could tell."""
        return parse_reference(reference, kind).commit or self.commits.get(f"{kind}:{reference}")


def _read(path: Path) -> dict[str, str]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise MissingError(
            f"{path}: cannot be read ({error.strerror}); remove it and run again online"
        ) from None
    except ValueError:
        raise RecipeError(f"{path}:1: not a lock file; remove it and run again online") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path}:1: not a lock file; remove it and run again online")
    return {str(key): str(value) for key, value in data.items()}
