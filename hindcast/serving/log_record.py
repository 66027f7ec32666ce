"""The form of a logged record: its versions, and the columns of the tables that records become rows of.

When and how records are moved is `request_log`'s work.
"""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hindcast.errors import HindcastError
from hindcast.sql import without_zone

if TYPE_CHECKING:  # the service writes the log and has no lake
    import duckdb

RECORD = 2
"""The version that records say they are of. Those of before say none: all problems were binary then, and a record held
`probability`, and `decision` as a number."""

COLUMNS = {
    "id": "VARCHAR",
    "received_at": "TIMESTAMP",
    "prediction_time": "TIMESTAMP",
    "entity": "JSON",
    "model_version": "VARCHAR",
    "snapshot": "BIGINT",
    "features": "JSON",
    "feature_times": "JSON",
    "missing_or_stale": "VARCHAR[]",
    "unknown_categories": "VARCHAR[]",
    "prediction": "DOUBLE[]",
    "decision": "VARCHAR",
    "latency_ms": "DOUBLE",
    "features_as_of": "TIMESTAMP",
    "features_snapshot": "BIGINT",
}
"""The columns of the tables besides the entity's key, and their types in DuckDB. `prediction` holds the numbers of
`Task.outputs` in their order; `decision` is null where the task decides nothing."""
# What a record may lack: services of earlier versions didn't say it, and some online stores can't.
_OPTIONAL = ("features_as_of", "features_snapshot")
_NULLABLE = (*_OPTIONAL, "snapshot", "decision")
_INSTANTS = ("received_at", "prediction_time", "features_as_of")
_NESTED = ("entity", "features", "feature_times")


def read_records(
    lines: bytes, file: str | None = None, entity_key: str | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Whole lines of a log's file as rows.

    Args:
        lines: Of the file.
        file: Its name, for the error.
        entity_key: A further column, with the entity's value as text; None for none.

    Returns:
        The rows, and how many lines aren't records: other text, or a value of another type.

    Raises:
        HindcastError: A record is of a version that came later than this code.
    """
    rows, torn = [], 0
    for line in filter(None, lines.splitlines()):
        try:
            record = _of_today(dict.fromkeys(_OPTIONAL) | json.loads(line), file)
            if b"\\u" in line:  # half of a character (a lone surrogate) is text to Python alone
                json.dumps(record, ensure_ascii=False).encode()
            row = {name: _cell(name, record[name]) for name in COLUMNS}
            if entity_key is not None:
                row[entity_key] = str(record["entity"][entity_key])
            rows.append(row)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            torn += 1
    return rows, torn


def rows_of(connection: "duckdb.DuckDBPyConnection", table: str) -> str:
    """SQL, after `FROM`, of a table of records in the form of today, which it may not have yet.

    A table of before is brought into it when something is next moved there; who reads it may come first.
    """
    from hindcast.lake import columns_of

    if "probability" not in columns_of(connection, table):
        return table
    return (
        "(SELECT * EXCLUDE (probability, decision), [probability] AS prediction, "
        f"CAST(decision AS VARCHAR) AS decision FROM {table})"
    )


def _of_today(record: dict[str, Any], file: str | None) -> dict[str, Any]:
    version = record.get("record", 1)
    if type(version) is not int:
        raise TypeError("a version is a whole number")
    if version > RECORD:
        raise HindcastError(
            f"The request log's file {file} holds records of form {version}, and this version of Hindcast reads up to "
            f"{RECORD}: work with the version that has served. The file stays as it is."
        )
    if version == RECORD:
        return record
    if type(record["decision"]) is not int:
        raise TypeError("a decision was a whole number")
    return record | {"prediction": [record["probability"]], "decision": str(record["decision"])}


def _cell(name: str, value: Any) -> Any:
    """A value as a column takes it.

    Raises:
        ValueError: It is of another type.
    """
    if value is None and name in _NULLABLE:
        return None
    if name in _INSTANTS:
        return without_zone(datetime.fromisoformat(value))
    if name in _NESTED:
        return json.dumps(value)
    kind = COLUMNS[name]
    if not _holds(kind, value):
        raise ValueError(f"{name} isn't {kind}")
    if kind == "DOUBLE[]":
        return [float(each) for each in value]
    return float(value) if kind == "DOUBLE" else value


def _holds(kind: str, value: Any) -> bool:
    """Whether a column of DuckDB takes a value as it is."""
    if kind.endswith("[]"):
        return isinstance(value, list) and all(_holds(kind[:-2], each) for each in value)
    if kind == "BIGINT":
        return type(value) is int and -(2**63) <= value < 2**63
    return isinstance(value, int | float) if kind == "DOUBLE" else kind == "VARCHAR" and isinstance(value, str)
