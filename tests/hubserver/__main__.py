"""Serves until its input ends: `python tests/hubserver [FOLDER] < /dev/stdin`; prints its address first.

Who has the token `hf_alice` is alice. Benchmarks give it a process of its own.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from hubserver import Account, HubServer

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
if folder is not None:
    folder.mkdir(parents=True, exist_ok=True)
with HubServer(folder) as server:
    server.accounts["hf_alice"] = Account("alice")
    print(server.url, flush=True)
    sys.stdin.read()
