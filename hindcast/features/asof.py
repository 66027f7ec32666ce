"""The SQL of features as known then: which row of a feature table an instant may see. Knows no Feast and runs nothing.

Instants are compared as timestamps without a zone in UTC; the connection's time zone must be UTC (`Lake` sees to it).
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

# Names inside the queries; no table's own column is likely to have them.
ROW, AT, KNOWN, KNOWN_BY = "__row", "__at", "__known", "__known_by"

# To be run once before `as_of_join`. DuckDB joins few rows by a nested loop, and takes rows that have just come in for
# few: with it, joins of 300,000 rows take minutes; without it, they take a second, and those of one row 30 ms.
NO_LOOP_JOIN = "SET asof_loop_join_threshold = 0"


@dataclass(frozen=True)
class FeatureTable:
    """A feature table as a join sees it: keys, when a row became known, and what is taken from it.

    A row is known from its timestamp on, or from when it was created where that is later. Of the rows known by an
    instant, the one of the newest timestamp counts, and of several of that timestamp the one created last: a late or
    corrected value is used from when it came in, and a correction of something old doesn't hide what is newer.

    Attributes:
        table: `schema.table`.
        keys: Key column of the table -> column of the entity rows that must equal it.
        timestamp: Column of the instant that a row tells of; where there is no `created`, of when it became known.
        created: Column of the instant at which a row came in. Where it is None, keys and timestamp must be unique in
            the table; else, keys, timestamp and created.
        ttl: Age (since `timestamp`) past which a row is no longer used (its edge still is); None for no limit.
        features: Column of the table -> name in the result.
    """

    table: str
    keys: dict[str, str]
    timestamp: str
    created: str | None = None
    ttl: timedelta | None = None
    features: dict[str, str] = field(default_factory=dict)

    @property
    def known(self) -> str:
        """SQL of the instant at which a row became known; null where its timestamp is."""
        at = _utc(self.timestamp)
        return f"CASE WHEN {at} IS NOT NULL THEN greatest({at}, {_utc(self.created)}) END" if self.created else at

    def history(self) -> str:
        """SQL of the rows that ever count: keys, features, `__at` (timestamp) and `__known`, from when on they do."""
        listed = "".join(f"{name(column)}, " for column in dict.fromkeys([*self.keys, *self.features]))
        at = _utc(self.timestamp)
        rows = f"SELECT {listed}{at} AS {AT}, {self.known} AS {KNOWN} FROM {table_name(self.table)}"
        if self.created is None:
            return rows
        # What comes in behind something newer never counts.
        version = f"row({at}, ifnull({_utc(self.created)}, {at}))"
        each = f"PARTITION BY {', '.join(map(name, self.keys))} " if self.keys else ""
        newest = f"max({version}) OVER ({each}ORDER BY {self.known} RANGE UNBOUNDED PRECEDING)"
        return f"{rows} WHERE {at} IS NOT NULL QUALIFY {version} = {newest}"


def as_of_join(view: FeatureTable, entity_rows: str, known_by: str = AT) -> str:
    """For each entity row, the features of the row that counts at its instant; one row each, in order.

    Args:
        view: The feature table.
        entity_rows: Relation with the entity columns, `__at` (the instant, UTC) and `__row` (the order).
        known_by: Its column of the instant (UTC) past which nothing that became known is used.
    """
    # Without a TTL as well: to an ASOF join, two nulls are instants that match.
    fresh = f"v.{AT} >= e.{AT} - {_interval(view.ttl)}" if view.ttl else f"v.{KNOWN} <= e.{known_by}"
    taken = [f"CASE WHEN {fresh} THEN v.{name(c)} END AS {name(out)}" for c, out in view.features.items()]
    same_keys = "".join(f"e.{name(entity)} = v.{name(key)} AND " for key, entity in view.keys.items())
    return (
        f"SELECT {', '.join(taken)} FROM {entity_rows} e ASOF LEFT JOIN ({view.history()}) v "
        f"ON {same_keys}e.{known_by} >= v.{KNOWN} ORDER BY e.{ROW}"
    )


def latest_rows(view: FeatureTable, start: datetime | None, end: datetime | None) -> str:
    """Per key the row that counts of those known from `start` to `end` (both included).

    Its columns: keys, features, timestamp, created.
    """
    rows = all_rows(view, start, end)
    rows += "".join(f" AND {name(column)} IS NOT NULL" for column in [*view.keys, view.timestamp])
    newest_first = f"{_utc(view.timestamp)} DESC"
    if view.created:  # without a word on it, a row came in when it says
        newest_first += f", ifnull({_utc(view.created)}, {_utc(view.timestamp)}) DESC"
    if not view.keys:  # a window without a partition would make one row of nulls out of none
        return f"{rows} ORDER BY {newest_first} LIMIT 1"
    keys = ", ".join(name(key) for key in view.keys)
    return f"{rows} QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {newest_first}) = 1"


def all_rows(view: FeatureTable, start: datetime | None, end: datetime | None) -> str:
    """All rows known from `start` to `end` (both included): keys, features, timestamp, created."""
    columns = [*view.keys, *view.features, view.timestamp, *([view.created] if view.created else [])]
    bounds = [f"{view.known} >= {instant(start)}"] if start else []
    bounds += [f"{view.known} <= {instant(end)}"] if end else []
    listed = ", ".join(name(column) for column in dict.fromkeys(columns))
    return f"SELECT {listed} FROM {table_name(view.table)} WHERE {' AND '.join(bounds) or 'true'}"


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


def _utc(column: str) -> str:
    return f"CAST({name(column)} AS TIMESTAMP)"


def _interval(age: timedelta) -> str:
    return f"to_microseconds({age // timedelta(microseconds=1)})"
