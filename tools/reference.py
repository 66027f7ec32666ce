"""Writes docs/reference.md: every key of the YAML forms, from the forms themselves. `make reference` runs it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from hindcast.leaks.variants import Leaks
from hindcast.problem import Duration, Instant, Offset, Problem
from hindcast.sources import Sources
from hindcast.tasks import TASKS

FILE = Path(__file__).parents[1] / "docs" / "reference.md"
FORMS: dict[str, type[BaseModel]] = {
    "Problem: `problems/<problem>.yaml`": Problem,
    "Sources: `problems/sources/<domain>.yaml`": Sources,
    "Leak variants: `problems/leaks/<problem>/variants.yaml`": Leaks,
}
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any value", Path: "path"}
_SPECIAL = {
    "timedelta": "length of time, as in 2 hours",
    "datetime": "instant, as in 2024-05-01T12:00:00Z",
    "date": "day",
}


def main() -> None:
    FILE.write_text(text())
    print(f"Wrote {FILE}")


def text() -> str:
    """The document."""
    parts = [
        "# Reference: every key of the YAML files\n",
        "Written by `make reference` from the forms in `hindcast/problem.py`, `hindcast/sources.py` and "
        "`hindcast/leaks/variants.py`. An unknown key is an error. `<name>` stands for a name of your choice, `[]` for "
        "each entry of a list. `hindcast check` says what is wrong with a file.\n",
    ]
    for title, form in FORMS.items():
        lead = (form.__doc__ or "").strip().splitlines()[0]
        parts += [f"## {title}\n", f"{lead}\n", "| key | what it takes | default | meaning |", "|---|---|---|---|"]
        parts += [f"| `{key}` | {kind} | {default} | {meaning} |" for key, kind, default, meaning in keys(form)]
        parts.append("")
    parts += ["## What each task knows\n", "| task | metrics | families of models |", "|---|---|---|"]
    for name, task in TASKS.items():
        parts.append(f"| {name} | {', '.join(task.metrics)} | {', '.join(task.families)} |")
    return "\n".join(parts) + "\n"


def keys(form: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Dotted key, type, default and meaning of each field, nested forms after the field that holds them."""
    for name, field in form.model_fields.items():
        key, nested = f"{prefix}{name}", _nested(field.annotation)
        suffix, inner = nested if nested else ("", None)
        meaning = field.description or (inner and (inner.__doc__ or "").strip().splitlines()[0]) or ""
        kind = "see below" if inner else _kind(field.annotation, field.metadata)
        yield key + suffix, kind, _default(field, inner), " ".join(meaning.split()).replace("|", "\\|")
        if inner:
            yield from keys(inner, f"{key}{suffix}.")


def _nested(annotation: Any) -> tuple[str, type[BaseModel]] | None:
    """The form that a field holds, and how its key goes on."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "", annotation
    if origin is Annotated:
        return _nested(parts[0])
    if origin in (Union, UnionType):
        return next((found for part in parts if (found := _nested(part))), None)
    if origin is dict and (found := _nested(parts[1])):
        return f".<name>{found[0]}", found[1]
    if origin is tuple and (found := _nested(parts[0])):
        return f"[]{found[0]}", found[1]
    return None


def _kind(annotation: Any, metadata: list[Any]) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    limits = "".join(
        f", {word} {getattr(each, mark)}"
        for each in metadata
        for mark, word in (("gt", "above"), ("ge", "at least"), ("lt", "below"), ("le", "at most"))
        if getattr(each, mark, None) is not None and not hasattr(getattr(each, mark), "days")
    )
    if annotation in (Duration, Instant, Offset) or origin is Annotated:
        return _kind(parts[0], [])
    if origin is Literal:
        return "one of " + ", ".join(f"`{part}`" for part in parts)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_kind(part, []) for part in parts if part is not NoneType)) + limits
    if origin is dict:
        return f"names, each with {_kind(parts[1], [])}"
    if origin in (tuple, list):
        return f"list of {_kind(parts[0], [])}"
    if annotation in _WORDS:
        return _WORDS[annotation] + limits
    return _SPECIAL[annotation.__name__]


def _default(field: FieldInfo, inner: type[BaseModel] | None) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if value in (None, (), {}, "") or inner:
        return ""
    return f"`{value}`"


if __name__ == "__main__":
    sys.exit(main())
