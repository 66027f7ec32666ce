"""One short name for some content: equal content, equal name, in any home and on any machine."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def fingerprint(files: Iterable[Path] = (), values: Iterable[object] = ()) -> str:
    """SHA-256 (16 hex digits) of files' names and bytes, sorted by path, and then of values' text."""
    digest = hashlib.sha256()
    for path in sorted(set(files)):
        if path.is_file():
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    for value in values:
        digest.update(f"{value}\0".encode())
    return digest.hexdigest()[:16]
