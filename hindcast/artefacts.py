"""Reads and writes a home's artefacts, each whole or absent: JSON files, and fitted models."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

from hindcast.errors import HindcastError
from hindcast.files import write_atomically


def read_json(path: Path) -> dict[str, Any] | None:
    """The content of a JSON file; None where there is no such file.

    Raises:
        HindcastError: It is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(path, f"it isn't JSON: {error}") from error
    if not isinstance(content, dict):
        raise _damaged(path, "it isn't a mapping")
    return content


def require_json(path: Path) -> dict[str, Any]:
    """As `read_json`, of a file that must be there.

    Raises:
        HindcastError: It is missing or damaged.
    """
    content = read_json(path)
    if content is None:
        raise HindcastError(f"There is no {path}: `hindcast run` makes it.")
    return content


def to_json(content: Any, sort_keys: bool = False) -> str:
    """A content as artefacts hold it; equal contents, equal texts.

    Raises:
        ValueError: It holds a number that isn't finite.
    """
    return json.dumps(content, indent=2, sort_keys=sort_keys, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> str:
    """Replaces a JSON file as a whole; returns its text."""
    text = to_json(content)
    write_atomically(path, text)
    return text


def read_joblib(path: Path) -> Any:
    """What `write_joblib` wrote on this machine; None where there is no such file. Never of a stranger's file.

    Raises:
        HindcastError: It is damaged.
    """
    import joblib

    try:
        return joblib.load(path)
    except FileNotFoundError:
        return None
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        raise _damaged(path, f"{type(error).__name__} {error}") from error


def write_joblib(path: Path, thing: Any) -> None:
    """Replaces a file of Python objects as a whole: for the next step on this machine, never for a service."""
    import joblib

    content = io.BytesIO()
    joblib.dump(thing, content)
    write_atomically(path, content.getvalue())


def _damaged(path: Path, why: str) -> HindcastError:
    return HindcastError(f"{path} is damaged ({why}): restore it from a copy, or delete it to have it made again.")
