"""Reads logged requests, and computes their features again from the lake by the join that training uses.

What follows from a difference is decided in `parity`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from hindcast.errors import HindcastError
from hindcast.features.asof import FeatureTable
from hindcast.features.feast_imports import from_feast_to_pyarrow_type
from hindcast.features.feature_service import find_service, open_store, service_features, service_views
from hindcast.features.lake_source import feature_table
from hindcast.features.on_demand import input_features, request_fields
from hindcast.features.retrieval import EVENT_TIMESTAMP, Retrieval
from hindcast.monitoring.logged import Kind, read_logged
from hindcast.package.model import FEATURES, ServedModel
from hindcast.serving.log_record import rows_of
from hindcast.serving.request_log import REQUESTS
from hindcast.settings import Settings
from hindcast.sql import identifier, table_identifier, without_zone

_KNOWN_BY = "known_by"
_IN_WINDOW = "prediction_time > $since AND prediction_time <= $until"


@dataclass(frozen=True)
class Requests:
    """Requests that one model answered, by prediction time. All frames have one row per request, in one order.

    Attributes:
        said: `id`, `received_at`, `prediction_time`, `features_as_of`, `features_snapshot`, and `served`: the
            prediction, an array of the model's outputs.
        entities: What was asked: join keys and request fields.
        features: As `Recomputing.features` gives them, but as they were served.
    """

    said: pl.DataFrame
    entities: pl.DataFrame
    features: pl.DataFrame

    def __len__(self) -> int:
        return len(self.said)

    def where(self, mask: pl.Series) -> "Requests":
        """Those of which the mask is true."""
        return Requests(self.said.filter(mask), self.entities.filter(mask), self.features.filter(mask))

    def saying(self, **columns: pl.Expr | pl.Series) -> "Requests":
        """The same, with more said of each."""
        return replace(self, said=self.said.with_columns(**columns))


def requests_by_version(
    connection: duckdb.DuckDBPyConnection, problem: str, since: datetime, until: datetime
) -> dict[str, pl.DataFrame]:
    """`id` and `prediction_time` of the requests of (since, until], by the version of the model that answered."""
    rows = connection.execute(
        f"SELECT model_version, id, prediction_time FROM {problem}.{REQUESTS} WHERE {_IN_WINDOW} ORDER BY ALL",
        _bounds(since, until),
    ).pl()
    return {
        str(key[0]): part for key, part in rows.partition_by("model_version", include_key=False, as_dict=True).items()
    }


class Recomputing:
    """The features of one model, as its package defines them.

    Args:
        settings: Of the home.
        model: Names its feature service and features.

    Attributes:
        views: The feature views that its features are taken from.

    Raises:
        HindcastError: The package defines no such service, or one that lacks one of the model's features.
    """

    def __init__(self, settings: Settings, model: ServedModel) -> None:
        self._model, self._table = model, f"{settings.problem}.{REQUESTS}"
        names, service_name = model.signature.names, model.signature.feature_service
        store = open_store(settings, registry=str(model.folder / FEATURES))
        service = find_service(store, service_name)
        view_of = {feature: view for view, feature in service_features(service)}
        if absent := [feature for feature in names if feature not in view_of]:
            raise HindcastError(f"Feature service {service_name} of {model.version} lacks {', '.join(absent)}.")
        self._views, self._on_demand = service_views(store, service)
        self.views = [view.projection.name_to_use() for view in self._views]
        served = [f"{view_of[feature]}:{feature}" for feature in names]
        # When a row became known is told by its timestamp and, where that is later, by when it came in.
        self._tables = [feature_table(view, []) for view in self._views]
        self._instants = [
            [f"{view}:{column}" for column in (table.timestamp, table.created) if column]
            for view, table in zip(self.views, self._tables, strict=True)
        ]
        inputs = [":".join(each) for computed in self._on_demand for each in input_features(computed)]
        self._refs = list(dict.fromkeys([*served, *chain.from_iterable(self._instants), *inputs]))

    def requests(
        self, connection: duckdb.DuckDBPyConnection, since: datetime, until: datetime
    ) -> tuple[Requests, pl.DataFrame]:
        """What the model answered of (since, until] (UTC), in the types of the feature views.

        Returns:
            The requests, and of those whose record can't be read `id`, `prediction_time` and `reason`.
        """
        keys = {
            view.projection.join_key_map.get(field.name, field.name): _kind(field.dtype)
            for view in self._views
            for field in view.entity_columns
        }
        fields = {
            field.name: _kind(field.dtype)
            for computed in self._on_demand
            for source in computed.source_request_sources.values()
            for field in source.schema
            if field.name in request_fields(computed)
        }
        kinds, outputs = {"numeric": "number", "categorical": "text"}, self._model.task.outputs
        found = read_logged(
            connection,
            f"{rows_of(connection, self._table)} WHERE model_version = $version AND {_IN_WINDOW}",
            _bounds(since, until) | {"version": self._model.version},
            ("id", "received_at", "prediction_time", "features_as_of", "features_snapshot"),
            outputs,
            {
                "entity": keys | fields,
                "features": {feature.name: kinds[feature.kind] for feature in self._model.signature.features},
                "feature_times": dict.fromkeys(self.views, "instant"),
            },
        )
        times = found.nested["feature_times"]
        requests = Requests(
            said=found.said.drop(outputs).with_columns(served=pl.Series(found.said.select(outputs).to_numpy())),
            entities=found.nested["entity"],
            features=found.nested["features"].hstack(
                [_naive(times[view]).alias(known_at(view)) for view in self.views]
            ),
        )
        return requests, found.unreadable

    def features(
        self, connection: duckdb.DuckDBPyConnection, requests: Requests, known_by: pl.Series, snapshot: int
    ) -> pl.DataFrame:
        """What the lake says of the requests' features.

        Args:
            connection: To the lake, with no transaction begun.
            requests: At least one.
            known_by: Per request the instant (UTC) past which nothing that became known is used.
            snapshot: Of the lake.

        Returns:
            The model's features in its order, numbers as float64, what isn't finite as null; then per view, named
            as `known_at` says, when the row that they are taken from became known (null where there is none).

        Raises:
            duckdb.Error: The snapshot lacks a table or column of a feature view.
        """
        asked = requests.entities.with_columns(
            requests.said["prediction_time"].alias(EVENT_TIMESTAMP), known_by.alias(_KNOWN_BY)
        )
        retrieval = Retrieval(self._views, self._on_demand, self._refs, full_names=True, known_by=_KNOWN_BY)
        connection.execute("BEGIN")
        try:
            _show(connection, self._tables, snapshot)
            connection.execute("USE memory")
            found = retrieval.run(connection, asked.to_arrow())
        finally:
            connection.execute("ROLLBACK")  # the views of the snapshot go
            connection.execute("USE lake")
        columns = dict(zip(self._refs, pl.DataFrame(found).get_columns()[asked.width :], strict=True))
        result = [
            _number(columns[ref]).alias(feature.name)
            if feature.kind == "numeric"
            else columns[ref].cast(pl.String).alias(feature.name)
            for ref, feature in zip(self._refs, self._model.signature.features, strict=False)
        ]
        for view, instants in zip(self.views, self._instants, strict=True):
            result.append(
                pl.select(pl.max_horizontal(_naive(columns[ref]) for ref in instants)).to_series().alias(known_at(view))
            )
        return pl.DataFrame(result)


def known_at(view: str) -> str:
    """Name of the column that says when what was taken from a view became known."""
    return f"{view} known at"


def _show(connection: duckdb.DuckDBPyConnection, tables: Sequence[FeatureTable], snapshot: int) -> None:
    """Lets the tables' names, in DuckDB's own memory, mean the tables as they were at a snapshot of the lake.

    So one connection serves all snapshots: to attach the lake anew takes longer than the join.
    """
    for table in {table.table for table in tables}:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS memory.{identifier(table.split('.')[0])}")
        connection.execute(
            f"CREATE OR REPLACE VIEW memory.{table_identifier(table)} AS "
            f"FROM lake.{table_identifier(table)} AT (VERSION => {snapshot})"
        )


def _kind(dtype: Any) -> Kind:
    kind = from_feast_to_pyarrow_type(dtype)
    if pa.types.is_integer(kind):
        return "integer" if kind.bit_width <= 32 else "big integer"
    return "number" if pa.types.is_floating(kind) else "boolean" if pa.types.is_boolean(kind) else "text"


def _bounds(since: datetime, until: datetime) -> dict[str, Any]:
    return {"since": without_zone(since), "until": without_zone(until)}


def _naive(instants: pl.Series) -> pl.Series:
    """As the lake keeps instants: UTC without saying so, in microseconds."""
    return instants.cast(pl.Datetime("us"))


def _number(values: pl.Series) -> pl.Series:
    numbers = values.cast(pl.Float64)
    return numbers.set(~numbers.is_finite(), None)
