"""Features as known then: which row of a feature table an instant may see. Knows no Feast.

Instants are compared as timestamps without a zone in UTC; the connection's time zone must be UTC (`Lake` sees to it).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.sql import identifier, identifiers, table_identifier, without_zone

# The service reads feature tables' forms, and has neither library.
if TYPE_CHECKING:
    import duckdb
    import polars as pl

# Names inside the join; no table's own column is likely to have them.
ROW, AT, KNOWN, KNOWN_BY, VERSION = "__row", "__at", "__known", "__known_by", "__version"

# mimalloc, Arrow's default, rounds columns of a slice up to huge pages: to clear them takes longer than to fill them.
_POOL = pa.jemalloc_memory_pool() if "jemalloc" in pa.supported_memory_backends() else pa.default_memory_pool()


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

    def history(self, first: datetime, last: datetime) -> str:
        """SQL of the rows that may count for instants from `first` to `last` (UTC).

        Its columns: keys, features, `__at` (timestamp) and, if that differs, `__known`, from when on a row counts.
        Instants aren't null, and keys and the latter are unique.
        """
        listed = "".join(f"{identifier(column)}, " for column in dict.fromkeys([*self.keys, *self.features]))
        at = _utc(self.timestamp)
        useful = [f"{self.known} <= {instant(last)}"]
        # What is too old hides nothing but what is older still.
        useful += [f"{at} >= {instant(first)} - {_interval(self.ttl)}"] if self.ttl else []
        source = f"FROM {table_identifier(self.table)} WHERE {' AND '.join(useful)}"
        if self.created is None:
            return f"SELECT {listed}{at} AS {AT} {source}"
        # What comes in behind something newer never counts.
        version = f"row({at}, ifnull({_utc(self.created)}, {at}))"
        each = f"PARTITION BY {identifiers(self.keys)} " if self.keys else ""
        newest = f"max({version}) OVER ({each}ORDER BY {self.known} RANGE UNBOUNDED PRECEDING)"
        return f"SELECT {listed}{at} AS {AT}, {self.known} AS {KNOWN} {source} QUALIFY {version} = {newest}"


def as_of_join(
    connection: "duckdb.DuckDBPyConnection", view: FeatureTable, entity_rows: "pl.DataFrame", known_by: str = AT
) -> pa.Table:
    """For each entity row, the features of the row that counts at its instant.

    Holds the history between the first and the last instant (and the TTL before it) in memory.

    Args:
        connection: Reads the feature table.
        view: The feature table.
        entity_rows: The entity columns, `__at` (the instant, UTC without a zone, in microseconds) and `__row` (0, 1, …
            in any order; rows in the order of time are joined faster).
        known_by: Their column of the instant past which nothing that became known is used, of the same type.

    Returns:
        The features, one row for each entity row, in the order of `__row`; types are the table's.
    """
    import polars as pl

    asked = entity_rows.drop_nulls([*view.keys.values(), known_by])  # null equals nothing
    first, last = asked.select(pl.col(AT).min(), pl.col(known_by).max().alias(KNOWN_BY)).row(0)
    history = connection.execute(view.history(first or datetime.max, last or datetime.min)).to_arrow_table()
    known = KNOWN if view.created else AT
    versions = pl.DataFrame(history.select([*view.keys, known])).with_row_index(VERSION)
    # Only keys, instants and row numbers are sorted and joined; the rest is gathered afterwards.
    keys = [f"__key{number}" for number in range(len(view.keys))]
    left, right = [], []
    for key, (column, entity_column) in zip(keys, view.keys.items(), strict=True):
        kind = _comparable(asked.schema[entity_column], versions.schema[column])
        left.append(pl.col(entity_column).cast(kind).alias(key))
        right.append(pl.col(column).cast(kind).alias(key))
    found = (
        _sorted(asked.select(ROW, AT, pl.col(known_by).alias(KNOWN_BY), *left), KNOWN_BY)
        .join_asof(
            _sorted(versions.select(VERSION, pl.col(known).alias(KNOWN), *right), KNOWN),
            left_on=KNOWN_BY,
            right_on=KNOWN,
            by=keys or None,
            check_sortedness=False,  # within keys Polars can't, and warns
        )
        .select(ROW, AT, VERSION)
        .drop_nulls(VERSION)
    )
    if view.ttl:
        told = pl.Series(history[AT]).gather(found[VERSION])
        found = found.filter(told >= found[AT] - view.ttl)
    rows = found[ROW].to_numpy()
    version, missing = np.zeros(len(entity_rows), np.int64), np.ones(len(entity_rows), bool)
    version[rows], missing[rows] = found[VERSION].to_numpy(), False
    features = without_views(history.select(list(view.features)))
    taken = pc.take(features, pa.array(version, mask=missing), memory_pool=_POOL)
    return taken.rename_columns(list(view.features.values()))


def without_views(table: pa.Table) -> pa.Table:
    """A table with its texts as plain ones: as string views, Polars takes them as they are and Arrow can't gather."""
    kinds = [pa.string() if pa.types.is_string_view(kind) else kind for kind in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, kinds, strict=True))))


def latest_rows(view: FeatureTable, start: datetime | None, end: datetime | None) -> str:
    """Per key the row that counts of those known from `start` to `end` (both included).

    Its columns: keys, features, timestamp, created.
    """
    rows = all_rows(view, start, end)
    rows += "".join(f" AND {identifier(column)} IS NOT NULL" for column in [*view.keys, view.timestamp])
    newest_first = f"{_utc(view.timestamp)} DESC"
    if view.created:  # without a word on it, a row came in when it says
        newest_first += f", ifnull({_utc(view.created)}, {_utc(view.timestamp)}) DESC"
    if not view.keys:  # a window without a partition would make one row of nulls out of none
        return f"{rows} ORDER BY {newest_first} LIMIT 1"
    keys = identifiers(view.keys)
    return f"{rows} QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {newest_first}) = 1"


def all_rows(view: FeatureTable, start: datetime | None, end: datetime | None) -> str:
    """All rows known from `start` to `end` (both included): keys, features, timestamp, created."""
    columns = [*view.keys, *view.features, view.timestamp, *([view.created] if view.created else [])]
    bounds = [f"{view.known} >= {instant(start)}"] if start else []
    bounds += [f"{view.known} <= {instant(end)}"] if end else []
    listed = identifiers(dict.fromkeys(columns))
    return f"SELECT {listed} FROM {table_identifier(view.table)} WHERE {' AND '.join(bounds) or 'true'}"


def instant(at: datetime) -> str:
    """An instant as a timestamp in UTC; one without a zone is UTC."""
    return f"TIMESTAMP '{without_zone(at).isoformat(sep=' ')}'"


def _utc(column: str) -> str:
    return f"CAST({identifier(column)} AS TIMESTAMP)"


def _interval(age: timedelta) -> str:
    return f"to_microseconds({age // timedelta(microseconds=1)})"


def _sorted(frame: "pl.DataFrame", column: str) -> "pl.DataFrame":
    """By a column of instants without nulls; which of equal instants comes first makes no difference to the join."""
    if frame[column].is_sorted():
        return frame
    return frame[np.argsort(frame[column].to_physical().to_numpy())]  # half of what Polars' own sort takes


def _comparable(one: "pl.DataType", other: "pl.DataType") -> "pl.DataType":
    """The type in which keys of two types are compared, as SQL would: neither loses anything."""
    import polars as pl

    kinds = [pl.Datetime("us") if isinstance(kind, pl.Datetime) else kind for kind in (one, other)]
    return pl.concat([pl.DataFrame(schema={ROW: kind}) for kind in kinds], how="vertical_relaxed").schema[ROW]
