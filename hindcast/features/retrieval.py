"""One historical retrieval: entity rows in, the same rows with their features out. Knows no configuration."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.errors import HindcastError
from hindcast.features.asof import AT, KNOWN_BY, ROW, as_of_join, instant, without_views
from hindcast.features.feast_imports import FeatureView, OnDemandFeatureView, from_feast_to_pyarrow_type
from hindcast.features.lake_source import feature_table
from hindcast.features.on_demand import compute, input_features, request_fields
from hindcast.sql import identifier, table_identifier

EVENT_TIMESTAMP = "event_timestamp"
EntityRows = Any  # a Pandas or Polars frame, an Arrow table, or SQL over the lake
Features = dict[tuple[str, str], pa.ChunkedArray]  # by (view, feature)

SLICE = 340_000
"""Entity rows that are joined at once: what Polars holds in memory beside the result grows with it."""


@dataclass(frozen=True)
class Retrieval:
    """What to retrieve.

    Attributes:
        views: Each with its projection: alias, and join key -> column of the entity rows.
        on_demand: On-demand views among those that `refs` names.
        refs: `view:feature` in the order of the result.
        full_names: Whether the result's names are `view__feature`.
        known_by: Column of the entity rows: the instant (UTC) past which nothing that became known is used, while
            a view's TTL counts from the row's own instant. None where both are the same.
    """

    views: Sequence[FeatureView]
    on_demand: Sequence[OnDemandFeatureView]
    refs: Sequence[str]
    full_names: bool
    known_by: str | None = None

    def run(self, connection: duckdb.DuckDBPyConnection, entity_rows: pa.Table) -> pa.Table:
        """Entity rows as they are, then the features.

        Raises:
            HindcastError: A join key or the instant is missing or of another type, or names collide.
        """
        asked, request = self._asked(entity_rows), entity_rows.select(self._request_fields(entity_rows))
        # Slice by slice, each with its own part of the history, so that what is held in memory beside the result
        # doesn't grow with the rows.
        in_time = _order(asked[AT])
        slices = []
        for start in range(0, max(1, len(asked)), SLICE):
            chosen = None if in_time is None else in_time.slice(start, SLICE)
            each = [table.slice(start, SLICE) if chosen is None else table.take(chosen) for table in (asked, request)]
            slices.append(self._features(connection, *each))
        features: Features = {}
        back = None if in_time is None else pc.sort_indices(in_time)
        for ref in list(slices[0]):
            whole = pa.chunked_array([chunk for found in slices for chunk in found.pop(ref).chunks])
            features[ref] = whole if back is None else whole.take(back)
        return self._append(entity_rows, features)

    def _asked(self, entity_rows: pa.Table) -> pa.Table:
        """Instants (UTC, without a zone) and join keys of the entity rows."""
        instants = {AT: instant_column(entity_rows)} | ({KNOWN_BY: self.known_by} if self.known_by else {})
        columns = {at: entity_rows[column].cast(pa.timestamp("us"), safe=False) for at, column in instants.items()}
        for view in self.views:
            columns |= _checked_keys(view, entity_rows)
        return pa.table(columns)

    def _request_fields(self, entity_rows: pa.Table) -> list[str]:
        """Columns of the entity rows that on-demand views need."""
        for view in self.on_demand:
            if absent := [field for field in request_fields(view) if field not in entity_rows.column_names]:
                raise HindcastError(f"Entity rows have no column {absent[0]}, which on-demand view {view.name} needs.")
        return list(dict.fromkeys(field for view in self.on_demand for field in request_fields(view)))

    def _features(self, connection: duckdb.DuckDBPyConnection, asked: pa.Table, request: pa.Table) -> Features:
        known_by = KNOWN_BY if self.known_by else AT
        in_time = pl.DataFrame(asked).with_row_index(ROW).sort(known_by)  # once for all views
        features: Features = {}
        for view in self.views:
            wanted = [feature for source, feature in map(_parse, self.refs) if source == view.projection.name_to_use()]
            if wanted:
                found = as_of_join(connection, feature_table(view, wanted), in_time, known_by)
                features |= {(view.projection.name_to_use(), column): found[column] for column in found.column_names}
        for computed in self.on_demand:
            features |= _computed(computed, features, request, asked[AT])
        return features

    def _append(self, entity_rows: pa.Table, features: Features) -> pa.Table:
        aliases = {view.projection.name_to_use(): view.projection.name_alias or view.name for view in self.views}
        result = entity_rows
        for source, feature in map(_parse, self.refs):
            column = f"{aliases.get(source, source)}__{feature}" if self.full_names else feature
            if column in result.column_names:
                raise HindcastError(
                    f"Two columns would be named {column}: rename the entity rows' or ask for full feature names."
                )
            result = result.append_column(column, features[source, feature])
        return result


def _order(instants: pa.ChunkedArray) -> pa.Array | None:
    """The order of time; None where slices of the rows as they come cover not even twice the time of all rows."""

    def width(rows: pa.ChunkedArray) -> int:
        ends = pc.min_max(rows.cast(pa.int64())).as_py()
        return (ends["max"] or 0) - (ends["min"] or 0)

    slices = [instants.slice(start, SLICE) for start in range(0, len(instants), SLICE)]
    return pc.sort_indices(instants) if sum(map(width, slices)) > 2 * width(instants) else None


def to_arrow(connection: duckdb.DuckDBPyConnection, entity_rows: EntityRows) -> pa.Table:
    """Entity rows of any form as an Arrow table; SQL is run in the lake.

    Raises:
        HindcastError: They are of no known form.
    """
    if isinstance(entity_rows, str):
        return without_views(connection.execute(entity_rows).to_arrow_table().combine_chunks())
    if isinstance(entity_rows, pd.DataFrame):
        # Pandera sets this to 1 for Spark's sake; Arrow then takes datetimes of any zone for UTC ones.
        os.environ["PYARROW_IGNORE_TIMEZONE"] = ""
        return pa.Table.from_pandas(entity_rows, preserve_index=False).replace_schema_metadata()
    if isinstance(entity_rows, pa.Table):
        return entity_rows
    if hasattr(entity_rows, "to_arrow"):
        return entity_rows.to_arrow()
    raise HindcastError(
        f"Entity rows must be a Pandas or Polars frame, an Arrow table or SQL, not {type(entity_rows).__name__}."
    )


def instant_column(entity_rows: pa.Table) -> str:
    """The column of the instants: `event_timestamp`, or the only timestamp.

    Raises:
        HindcastError: There is none, or `event_timestamp` is no timestamp.
    """
    found = [
        field.name for field in entity_rows.schema if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)
    ]
    if EVENT_TIMESTAMP in found or (len(found) == 1 and EVENT_TIMESTAMP not in entity_rows.column_names):
        return EVENT_TIMESTAMP if EVENT_TIMESTAMP in found else found[0]
    listed = ", ".join(f"{field.name} ({field.type})" for field in entity_rows.schema)
    raise HindcastError(
        f"Entity rows need a timestamp {EVENT_TIMESTAMP} (UTC where it has no zone), not just {listed}."
    )


def span(entity_rows: pa.Table) -> tuple[datetime | None, datetime | None]:
    """First and last instant of the entity rows."""
    ends = pc.min_max(entity_rows[instant_column(entity_rows)]).as_py()
    return ends["min"], ends["max"]


def every_key(views: Sequence[FeatureView], start: datetime, end: datetime) -> str:
    """SQL of entity rows: each key that any of the views saw from start to end, at end.

    Raises:
        HindcastError: The views have different keys.
    """
    tables = [feature_table(view, []) for view in views]
    keys = {tuple(sorted(table.keys.values())) for table in tables}
    if len(keys) != 1:
        raise HindcastError("Without entity rows, all feature views must have the same join keys; pass entity rows.")
    selects = [
        f"SELECT {''.join(f'{identifier(column)} AS {identifier(key)}, ' for column, key in table.keys.items())}"
        f"{instant(end)} AS {EVENT_TIMESTAMP} FROM {table_identifier(table.table)} "
        f"WHERE {table.known} BETWEEN {instant(start)} AND {instant(end)}"
        f"{''.join(f' AND {identifier(column)} IS NOT NULL' for column in table.keys)}"
        for table in tables
    ]
    return f"SELECT DISTINCT * FROM ({' UNION ALL BY NAME '.join(selects)}) ORDER BY ALL"


def _parse(ref: str) -> tuple[str, str]:
    view, _, feature = ref.partition(":")
    return view, feature


def _checked_keys(view: FeatureView, entity_rows: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Entity columns that the view joins on; of the declared type where they hold nothing but nulls."""
    keys: dict[str, pa.ChunkedArray] = {}
    for field in view.entity_columns:
        key = view.projection.join_key_map.get(field.name, field.name)
        if key not in entity_rows.column_names:
            raise HindcastError(
                f"Entity rows have no column {key}, the join key of feature view {view.name}; "
                f"they have {', '.join(entity_rows.column_names)}."
            )
        declared, given = from_feast_to_pyarrow_type(field.dtype), entity_rows.schema.field(key).type
        if _is_text(declared) != _is_text(given) and not pa.types.is_null(given):
            raise HindcastError(f"Entity rows: join key {key} of {view.name} must be {declared}, not {given}.")
        plain = given.value_type if pa.types.is_dictionary(given) else given
        keys[key] = entity_rows[key].cast(declared if pa.types.is_null(given) else plain)
    return keys


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _computed(view: OnDemandFeatureView, features: Features, request: pa.Table, instants: pa.ChunkedArray) -> Features:
    inputs = {source: features[source].to_pylist() for source in input_features(view)}
    given = {field: request[field].to_pylist() for field in request_fields(view)}
    outputs = compute(view, inputs, given, instants.to_pylist())
    return {
        (view.projection.name_to_use(), field.name): pa.chunked_array(
            [pa.array(outputs[field.name], from_feast_to_pyarrow_type(field.dtype))]
        )
        for field in view.features
    }
