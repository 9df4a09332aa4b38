"""A Hub on localhost: repositories, commits, refs, tags and large files over real HTTP, that goes wrong on demand.

It speaks what `huggingface_hub` and `datasets` need to create, push, list, tag and download, so that tests run the
real clients with no account and no network. Set HF_ENDPOINT to its `url` and HF_HUB_DISABLE_XET=1 before either
library is imported. Standard library only; `python tests/hubserver` serves until its input ends.
"""

from hubserver.fault import Fault
from hubserver.repository import Account, Blobs, Commit, Files, Repository
from hubserver.server import HubServer

TOKEN = "hf_theTokenThatNobodyMaySee"
"""What tests give as HF_TOKEN."""

__all__ = ["TOKEN", "Account", "Blobs", "Commit", "Fault", "Files", "HubServer", "Repository"]
