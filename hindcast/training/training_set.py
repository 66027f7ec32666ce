"""The training set: split entities with their features as known then, in the lake under the hash of its content.

How models read it is in `training_data`; which row belongs to which split is SQL.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from hindcast.errors import HindcastError
from hindcast.features.store import asked_columns, feature_names, historical_features
from hindcast.lake import Lake, check_columns, current_snapshot
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.sql import identifier, identifiers, table_identifier
from hindcast.tables.schemas import split_schema

if TYPE_CHECKING:
    from pandera.api.polars.types import PolarsData
    from pandera.polars import DataFrameSchema

TABLE = "training_set"
"""In the problem's own schema."""
SPLIT = "split"


@dataclass(frozen=True)
class TrainingSet:
    """What stands in `the training set`: one row per split entity, in the order of its key.

    Attributes:
        snapshot: Of the lake that rows and features were read at.
        rows: Per split.
        features: In the order of the feature service.
        content_hash: Of all rows and columns in their order; the same content has the same one in every home.
        written: False where the lake held just this.
    """

    snapshot: int
    rows: dict[str, int]
    features: list[str]
    content_hash: str
    written: bool


def build(settings: Settings, problem: Problem, lake: Lake) -> TrainingSet:
    """Joins the features of the problem's service to the split entities and writes the result, if it is another.

    Raises:
        HindcastError: The split table lacks a column that the problem or a feature view needs, or has no rows.
    """
    snapshot, entities = _split_entities(problem, lake, asked_columns(settings, problem.feature_service))
    frame = historical_features(settings, problem, entities, snapshot)
    found = content_hash(frame)
    written = _held_hash(problem, lake) != found
    if written:
        with lake.writing() as connection:
            connection.register("training_set", frame.to_arrow())
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier(problem.name)}")
            connection.execute(f"CREATE OR REPLACE TABLE {table_identifier(problem.table(TABLE))} AS FROM training_set")
    counts = entities.group_by(SPLIT, maintain_order=True).len().sort(SPLIT)
    features = feature_names(settings, problem.feature_service)
    return TrainingSet(snapshot, dict(counts.iter_rows()), features, found, written)


def read(problem: Problem, lake: Lake, snapshot: int | None = None) -> pl.DataFrame:
    """The training set as it was at a snapshot, or at the newest one, in the order of its key."""
    with lake.reading(snapshot) as connection:
        table, key = table_identifier(problem.table(TABLE)), identifier(problem.entity.key)
        return connection.execute(f"FROM {table} ORDER BY {key}").pl()


def content_hash(frame: pl.DataFrame) -> str:
    """SHA-256 of a frame's names, types, nulls and values, in order; how they lie in memory makes no difference."""
    digest = hashlib.sha256()
    for column in frame.get_columns():
        values = column.to_arrow()
        digest.update(f"{column.name}\0{_kind(values)}\0{len(values)}\0".encode())
        digest.update(np.packbits(np.asarray(pc.is_null(values))).tobytes())
        for buffer in _dense(values):
            digest.update(buffer)
    return digest.hexdigest()


def training_schema(problem: Problem, features: Sequence[str]) -> "DataFrameSchema":
    """What must hold of the training set before anything is trained on it (Pandera, over Polars).

    All that holds of the split table, and that no feature is without any value or holds NaN or infinity.
    """
    from pandera.polars import Check, Column

    def has_values(data: "PolarsData") -> pl.LazyFrame:
        return data.lazyframe.select(pl.col(data.key).is_not_null().any())

    def finite(data: "PolarsData") -> pl.LazyFrame:
        is_float = data.lazyframe.collect_schema()[data.key].is_float()
        return data.lazyframe.select(pl.col(data.key).is_finite() if is_float else pl.lit(True))

    return split_schema(problem).add_columns(
        {
            feature: Column(
                checks=[
                    Check(has_values, error=f"{feature} has no value at all"),
                    Check(finite, error=f"{feature} must be finite"),
                ],
                nullable=True,
            )
            for feature in features
        }
    )


def _held_hash(problem: Problem, lake: Lake) -> str | None:
    try:
        return content_hash(read(problem, lake))
    except (duckdb.CatalogException, duckdb.BinderException):  # there is none yet, or one of another problem
        return None


def _split_entities(problem: Problem, lake: Lake, keys: Sequence[str]) -> tuple[int, pl.DataFrame]:
    """The newest snapshot's number, and the split entities in it."""
    label, at = problem.label, problem.prediction_time.column
    wanted = [problem.entity.key, at, label.known_at, label.column, SPLIT]
    wanted += [*problem.slices.columns, *problem.baseline.columns, *keys]
    table = problem.split_table
    with lake.reading() as connection:
        connection.execute("BEGIN")
        snapshot = current_snapshot(connection)
        check_columns(connection, table, wanted, problem.name)
        of = f"FROM {table_identifier(table)} ORDER BY {identifier(problem.entity.key)}"
        frame = connection.execute(f"SELECT {identifiers(dict.fromkeys(wanted))} {of}").pl()
    if frame.is_empty():
        raise HindcastError(f"{table} has no rows: no label of {problem.name} was known in its windows.")
    return snapshot, frame


def _kind(values: pa.Array) -> str:
    """One name for all widths of a kind of type."""
    kinds = {
        "boolean": pa.types.is_boolean,
        "integer": pa.types.is_integer,
        "float": pa.types.is_floating,
        "instant": pa.types.is_timestamp,
        "date": pa.types.is_date,
    }
    return next((kind for kind, matches in kinds.items() if matches(values.type)), "text")


def _dense(values: pa.Array) -> list[bytes]:
    """The bytes of the values, zero or empty where they are null."""
    kind = _kind(values)
    if kind == "text":
        text = pc.fill_null(pc.cast(values, pa.large_string()), "")
        return [np.asarray(pc.binary_length(text)).tobytes(), "".join(text.to_pylist()).encode()]
    if kind == "instant":
        values = pc.cast(values, pa.timestamp("us"))
    if kind == "float":
        values = pc.cast(values, pa.float64())
    else:
        values = pc.cast(values, pa.int32() if kind == "date" else pa.int64())
    return [np.asarray(pc.fill_null(values, 0)).tobytes()]
