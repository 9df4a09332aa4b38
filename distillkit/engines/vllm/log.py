"""Why vLLM's engine process ended, from this process's own log: it tells the process that started it nothing."""

import os
import re
import stat
from pathlib import Path

ERROR = re.compile(r"(?:^|[\s.])([A-Z]\w*(?:Error|Exception)): (\S.*)$")
NO_CAUSE = re.compile(r"Engine core initialization failed|EngineCore encountered an issue|See stack trace")
LONGEST = 400
"""Characters of a cause that are told."""


class Log:
    """What is written to standard error from now on, where that is a file (as it is in a run's stage)."""

    def __init__(self) -> None:
        self._start = os.fstat(2).st_size if self._is_file() else 0

    @staticmethod
    def _is_file() -> bool:
        return stat.S_ISREG(os.fstat(2).st_mode) and Path("/proc/self/fd/2").exists()

    def cause(self) -> str:
        """The last error in it, else where to look; for the end of a sentence."""
        if not self._is_file():
            return "its log above says why"
        with Path("/proc/self/fd/2").open("rb") as file:
            file.seek(self._start)
            text = file.read().decode("utf-8", "replace")
        found = [match for line in text.splitlines() if (match := ERROR.search(line.rstrip()))]
        causes = [f"{each[1]}: {each[2]}" for each in found if not NO_CAUSE.search(each[2])]
        return causes[-1][:LONGEST] if causes else "its log does not say why"
