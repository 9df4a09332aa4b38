"""Folders as `publish` makes them, small."""

import hashlib
import json
from pathlib import Path

CARD = "---\nlicense: mit\ntags: [distillkit]\n---\n# Traces\n"


def make(folder: Path, files: dict[str, bytes] | None = None, version: str = "1.0.0") -> Path:
    """A sealed folder: a card, two shards, a manifest that lists them."""
    content = {"README.md": f"{CARD}{version}\n".encode()} | (shards(2) if files is None else files)
    for name, body in content.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    listed = {n: {"bytes": len(b), "sha256": hashlib.sha256(b).hexdigest()} for n, b in content.items()}
    (folder / "manifest.json").write_text(json.dumps({"version": version, "files": listed}))
    return folder


def shards(count: int, size: int = 1000, salt: str = "") -> dict[str, bytes]:
    """Large files of different contents."""
    return {
        f"data/train-{n:05d}-of-{count:05d}.parquet": hashlib.sha256(f"{salt}{n}".encode()).digest()
        * (size // 32)
        for n in range(count)
    }


def content(folder: Path) -> dict[str, bytes]:
    """Path -> bytes of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
