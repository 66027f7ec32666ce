"""The SQL of features as known then: which row of a feature table an instant may see. Knows no Feast and runs nothing.

Instants are compared as timestamps without a zone in UTC; the connection's time zone must be UTC (`Lake` sees to it).
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

# Names inside the queries; no table's own column is likely to have them.
ROW, AT = "__row", "__at"

# To be run once before `as_of_join`. DuckDB joins few rows by a nested loop, and takes rows that have just come in for
# few: with it, joins of 300,000 rows take minutes; without it, they take a second, and those of one row 30 ms.
NO_LOOP_JOIN = "SET asof_loop_join_threshold = 0"


@dataclass(frozen=True)
class FeatureTable:
    """A feature table as a join sees it: keys, when a row became known, and what is taken from it.

    Attributes:
        table: `schema.table`.
        keys: Key column of the table -> column of the entity rows that must equal it.
        timestamp: Column of the instant at which a row became known.
        created: Column that decides between rows of the same keys and instant (the newest wins). Where it is None,
            keys and timestamp must be unique in the table.
        ttl: Age past which a row is no longer used (its edge still is); None for no limit.
        features: Column of the table -> name in the result.
    """

    table: str
    keys: dict[str, str]
    timestamp: str
    created: str | None = None
    ttl: timedelta | None = None
    features: dict[str, str] = field(default_factory=dict)


def as_of_join(view: FeatureTable, entity_rows: str) -> str:
    """For each entity row, the features of the row known last at or before its instant; one row each, in order.

    Args:
        view: The feature table.
        entity_rows: Relation with the entity columns, `__at` (the instant, UTC) and `__row` (the order).
    """
    columns = [*view.keys, *view.features]
    # Without a TTL as well: to an ASOF join, two nulls are instants that match.
    fresh = f"v.{AT} >= e.{AT} - {_interval(view.ttl)}" if view.ttl else f"v.{AT} <= e.{AT}"
    taken = [f"CASE WHEN {fresh} THEN v.{name(c)} END AS {name(out)}" for c, out in view.features.items()]
    same_keys = "".join(f"e.{name(entity)} = v.{name(key)} AND " for key, entity in view.keys.items())
    return (
        f"SELECT {', '.join(taken)} FROM {entity_rows} e ASOF LEFT JOIN ({_unique_rows(view, columns)}) v "
        f"ON {same_keys}e.{AT} >= v.{AT} ORDER BY e.{ROW}"
    )


def latest_rows(view: FeatureTable, start: datetime | None, end: datetime | None) -> str:
    """Per key the row known last from `start` to `end` (both included): keys, features, timestamp, created."""
    rows = all_rows(view, start, end)
    rows += "".join(f" AND {name(column)} IS NOT NULL" for column in [*view.keys, view.timestamp])
    newest_first = ", ".join(f"{name(column)} DESC" for column in [view.timestamp, view.created] if column)
    if not view.keys:  # a window without a partition would make one row of nulls out of none
        return f"{rows} ORDER BY {newest_first} LIMIT 1"
    keys = ", ".join(name(key) for key in view.keys)
    return f"{rows} QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {newest_first}) = 1"


def all_rows(view: FeatureTable, start: datetime | None, end: datetime | None) -> str:
    """All rows known from `start` to `end` (both included): keys, features, timestamp, created."""
    columns = [*view.keys, *view.features, view.timestamp, *([view.created] if view.created else [])]
    bounds = [f"CAST({name(view.timestamp)} AS TIMESTAMP) >= {instant(start)}"] if start else []
    bounds += [f"CAST({name(view.timestamp)} AS TIMESTAMP) <= {instant(end)}"] if end else []
    listed = ", ".join(name(column) for column in dict.fromkeys(columns))
    return f"SELECT {listed} FROM {table_name(view.table)} WHERE {' AND '.join(bounds) or 'true'}"


def _unique_rows(view: FeatureTable, columns: list[str]) -> str:
    """The table with one row per keys and instant: an ASOF join takes any one of several."""
    listed = ", ".join(name(column) for column in dict.fromkeys(columns))
    rows = f"SELECT {listed}{', ' if listed else ''}CAST({name(view.timestamp)} AS TIMESTAMP) AS {AT}"
    rows += f" FROM {table_name(view.table)}"
    if view.created is None:
        return rows
    partition = ", ".join(name(column) for column in [*view.keys, AT])
    return f"{rows} QUALIFY row_number() OVER (PARTITION BY {partition} ORDER BY {name(view.created)} DESC) = 1"


def name(identifier: str) -> str:
    """An identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def table_name(table: str) -> str:
    """`schema.table`, quoted."""
    return ".".join(name(part) for part in table.split("."))


def instant(at: datetime) -> str:
    """An instant as a timestamp in UTC; one without a zone is UTC."""
    utc = at.astimezone(UTC).replace(tzinfo=None) if at.tzinfo else at
    return f"TIMESTAMP '{utc.isoformat(sep=' ')}'"


def _interval(age: timedelta) -> str:
    return f"to_microseconds({age // timedelta(microseconds=1)})"
