"""The Hugging Face Hub: pinned reading, and pushes that end whole or not at all.

Whatever goes wrong is said in one line without the token.
"""

from distillkit.hub.pull import Fetched, fetch, remote_manifest
from distillkit.hub.push import Change, Preview, Pushed, Upload, preview, push
from distillkit.hub.read import check_readable, dataset_rows, model_folder, resolve
from distillkit.hub.reference import HubRef, dataset_at, parse_reference
from distillkit.hub.target import Target, check_push
from distillkit.hub.tree import sealed_files

__all__ = [
    "Change",
    "Fetched",
    "HubRef",
    "Preview",
    "Pushed",
    "Target",
    "Upload",
    "check_push",
    "check_readable",
    "dataset_at",
    "dataset_rows",
    "fetch",
    "model_folder",
    "parse_reference",
    "preview",
    "push",
    "remote_manifest",
    "resolve",
    "sealed_files",
]
