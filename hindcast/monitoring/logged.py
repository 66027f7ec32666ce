"""Reads the request log's nested values as typed columns, and lists the records that can't be read, with the reason.

One bad record must not stop what is done with the others. What is done with them is in `recomputing` and `periods`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import polars as pl

from hindcast.serving.request_log import prediction_columns
from hindcast.sql import identifier

Kind = str
"""Of a value: `integer` (32 bits), `big integer` (64 bits), `number`, `text`, `boolean` or `instant`."""

_NUMBERS = "numbers of the prediction"
_BITS = {"integer": 32, "big integer": 64}
# As which DuckDB reads them. Integers by way of text: it would round 1.5, and lose digits by way of a number.
_DUCKDB = {
    **dict.fromkeys((*_BITS, "text"), "VARCHAR"),
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "instant": "TIMESTAMPTZ",
}
_POLARS: dict[str, Any] = {"integer": pl.Int32, "big integer": pl.Int64}
_EXPECTED = {
    **{name: f"a whole number of {bits} bits" for name, bits in _BITS.items()},
    "number": "a finite number",
    "text": "text",
    "boolean": "true or false",
    "instant": "an instant",
}


@dataclass(frozen=True)
class Logged:
    """Records of the log. The frames have one row per readable record, in the order of prediction times and ids.

    Attributes:
        said: The plain columns that were asked for, and one per output of the prediction.
        nested: Per nested column, the values that were asked for.
        unreadable: `id`, `prediction_time` and `reason` of the records that can't be read.
    """

    said: pl.DataFrame
    nested: dict[str, pl.DataFrame]
    unreadable: pl.DataFrame


def read_logged(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    bounds: Mapping[str, Any],
    plain: Sequence[str],
    outputs: Sequence[str],
    forms: Mapping[str, Mapping[str, Kind]],
) -> Logged:
    """Reads records, and tells those apart that lack a value of the forms or hold one of another type, or whose
    prediction isn't a finite number per output.

    Args:
        connection: To the lake.
        rows: SQL after `FROM`: the table with the records, and a condition.
        bounds: Parameters of it.
        plain: Columns to be read as they are; `id` and `prediction_time` among them.
        outputs: Names of a prediction's numbers, in their order.
        forms: Per nested column (JSON) the names that it must hold, and of which kind each is. Null is of any kind.
    """
    shapes = {column: _text({name: _DUCKDB[kind] for name, kind in form.items()}) for column, form in forms.items()}
    nested = [f"TRY(json_transform_strict({column}, {shape})) AS {column}" for column, shape in shapes.items()]
    selected = [*plain, f"len(prediction) AS {identifier(_NUMBERS)}", prediction_columns(outputs), *nested]
    found = connection.execute(
        f"SELECT {', '.join(selected)} FROM {rows} ORDER BY prediction_time, id", dict(bounds)
    ).pl()
    lost = [~found[name].is_finite().fill_null(value=False) for name in outputs]
    lost.append(found[_NUMBERS].ne_missing(len(outputs)))
    odd = [pl.repeat(False, len(found), eager=True)]
    values = {}
    for column, form in forms.items():
        lost.append(found[column].is_null())
        read = found[column].struct.unnest()
        for name, kind in form.items():
            if kind in _POLARS:
                typed = read[name].cast(_POLARS[kind], strict=False)
                lost.append(read[name].is_not_null() & typed.is_null())
                read = read.with_columns(typed)
            elif kind == "number":
                lost.append(read[name].is_not_null() & ~read[name].is_finite())
            elif kind == "text":
                odd.append(read[name].str.contains(r"^[\[{]").fill_null(value=False))  # an object, or just such a text
        values[column] = read
    missed, suspect = _any(lost), _any([*lost, *odd])
    reasons = _reasons(connection, rows, bounds, outputs, forms, found["id"].filter(suspect).to_list())
    said = found.select(*plain, *outputs).with_columns(
        reason=pl.when(suspect).then(pl.col("id").replace_strict(reasons, default=None, return_dtype=pl.String))
    )
    unnamed = missed & said["reason"].is_null()
    said = said.with_columns(
        reason=pl.when(unnamed).then(pl.lit("logged in a form that can't be read")).otherwise("reason")
    )
    good = said["reason"].is_null()
    return Logged(
        said=said.filter(good).drop("reason"),
        nested={column: read.filter(good) for column, read in values.items()},
        unreadable=said.filter(~good).select("id", "prediction_time", "reason"),
    )


def _reasons(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    bounds: Mapping[str, Any],
    outputs: Sequence[str],
    forms: Mapping[str, Mapping[str, Kind]],
    ids: list[str],
) -> dict[str, str | None]:
    """By id, what is wrong with a record, or None."""
    if not ids:
        return {}
    texts = ", ".join(f"CAST({column} AS VARCHAR)" for column in forms)
    found = connection.execute(
        f"SELECT id, prediction, {texts} FROM (FROM {rows}) WHERE list_contains($ids, id)", {**bounds, "ids": ids}
    ).fetchall()
    return {
        request: _fault(prediction, outputs, dict(zip(forms, cells, strict=True)), forms)
        for request, prediction, *cells in found
    }


def _fault(
    prediction: list[float | None] | None,
    outputs: Sequence[str],
    texts: Mapping[str, str | None],
    forms: Mapping[str, Mapping[str, Kind]],
) -> str | None:
    if [number is not None and math.isfinite(number) for number in prediction or ()] != [True] * len(outputs):
        if len(outputs) > 1:
            return f"logged with a prediction that isn't {len(outputs)} finite numbers"
        return f"logged with a {outputs[0]} that isn't a finite number"
    for column, form in forms.items():
        try:
            content = json.loads(texts[column] or "")
        except (ValueError, RecursionError):
            return f"logged with broken JSON as its {column}"
        if not isinstance(content, dict):
            return f"logged with a value that isn't an object as its {column}"
        for name, kind in form.items():
            if name not in content:
                return f"logged without {name} among its {column}"
            if content[name] is not None and not _is(kind, content[name]):
                return f"logged with a value of {name}, among its {column}, that isn't {_EXPECTED[kind]}"
    return None


def _is(kind: Kind, value: Any) -> bool:
    if kind in _BITS:
        return type(value) is int and -(2 ** (_BITS[kind] - 1)) <= value < 2 ** (_BITS[kind] - 1)
    if kind == "number":
        try:
            return isinstance(value, int | float) and math.isfinite(value)
        except OverflowError:
            return False
    if kind == "instant":
        try:
            return datetime.fromisoformat(value).tzinfo is not None
        except (TypeError, ValueError):
            return False
    return isinstance(value, bool) if kind == "boolean" else isinstance(value, str | int | float)


def _any(masks: Sequence[pl.Series]) -> pl.Series:
    result = masks[0]
    for mask in masks[1:]:
        result = result | mask
    return result


def _text(shape: Mapping[str, str]) -> str:
    escaped = json.dumps(shape).replace("'", "''")
    return f"'{escaped}'"
