"""Pandera's guard where the SQL's tables enter Python: what every problem's labels and splits must hold.

Only the shape that all problems share; what is special to one is tested in its SQL.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from hindcast.checks import explain
from hindcast.checks import rows as count_rows
from hindcast.lake import Lake, check_columns
from hindcast.problem import Problem
from hindcast.sql import identifiers, table_identifier
from hindcast.tasks import problem_task

if TYPE_CHECKING:
    from pandera.polars import DataFrameSchema

INSTANT = pl.Datetime("us")
SPLITS = ("train", "validation", "test")


def labeled_schema(problem: Problem) -> "DataFrameSchema":
    """Of the labeled table: a unique key, instants that are there, and a label exactly where it is known since when."""
    return _schema(problem, label_may_be_unknown=True)


def split_schema(problem: Problem) -> "DataFrameSchema":
    """Of the split table: the same, with every label known and every row in one of the three splits."""
    from pandera.polars import Check, Column

    return _schema(problem, label_may_be_unknown=False).add_columns(
        {"split": Column(pl.String, Check.isin(SPLITS), nullable=False)}
    )


def faults_of(lake: Lake, problem: Problem, table: str, schema: "DataFrameSchema") -> tuple[int, list[str]]:
    """Reads a table's columns that a schema names and holds them against it.

    Returns:
        How many rows were read, and what is wrong in words, with how many rows it holds for; nothing if all is well.

    Raises:
        HindcastError: The table lacks a column that the problem file names.
    """
    from pandera.errors import SchemaErrors

    with lake.reading() as connection:
        check_columns(connection, table, schema.columns, f"problem {problem.name}")
        rows = connection.execute(f"SELECT {identifiers(schema.columns)} FROM {table_identifier(table)}").pl()
    try:
        schema.validate(rows, lazy=True)
    except SchemaErrors as error:
        return len(rows), [_plain(fault, rows, problem.entity.key) for fault in error.schema_errors]
    return len(rows), []


def _schema(problem: Problem, label_may_be_unknown: bool) -> "DataFrameSchema":
    from pandera.polars import Check, Column, DataFrameSchema

    asked, known = problem.prediction_time.column, problem.label.known_at
    label = problem.label.column
    allowed = problem_task(problem).allowed
    values = Check(_finite, error=f"{label} must be a finite number")
    if allowed is not None:
        values = Check(_among(allowed), error=f"isin({[*allowed]})")
    agree = Check(
        lambda data: data.lazyframe.select(pl.col(label).is_null() == pl.col(known).is_null()),
        error=f"{label} and {known} must be known together",
    )
    after = Check(
        lambda data: data.lazyframe.select((pl.col(asked) < pl.col(known)).fill_null(True)),
        error=f"{asked} must lie before {known}",
    )
    return DataFrameSchema(
        {
            problem.entity.key: Column(nullable=False, unique=True),
            asked: Column(INSTANT, nullable=False),
            label: Column(checks=values, nullable=label_may_be_unknown),
            known: Column(INSTANT, nullable=label_may_be_unknown),
        },
        checks=[agree, after],
    )


def _among(allowed: Sequence[Any]) -> Callable[[Any], pl.LazyFrame]:
    """A check that a column holds only allowed values; numbers may be of any type."""
    values = pl.Series(allowed, dtype=pl.String if isinstance(allowed[0], str) else pl.Float64)

    def among(data: Any) -> pl.LazyFrame:
        column = pl.col(data.key)
        return data.lazyframe.select(
            column.cast(values.dtype, strict=False).is_in(values.implode()).fill_null(column.is_null())
        )

    return among


def _finite(data: Any) -> pl.LazyFrame:
    kind = data.lazyframe.collect_schema()[data.key]
    return data.lazyframe.select(pl.col(data.key).is_finite() if kind.is_float() else pl.lit(kind.is_numeric()))


def explain_faults(problem: Problem, table: str, faults: Sequence[str]) -> str:
    """What is wrong with a table, and which keys of the problem file say what it must hold."""
    keys = "entity, prediction_time, label and splits"
    return explain(f"{table}: {'; '.join(faults)}", look_at=f"problems/{problem.name}.yaml: {keys}")


def _plain(fault: Any, rows: pl.DataFrame, key: str) -> str:
    cases = fault.failure_cases
    if not isinstance(cases, pl.DataFrame):  # a type that differs
        return str(fault).splitlines()[0]
    check = fault.check if isinstance(fault.check, str) else fault.check.error
    words = {"not_nullable": "is null", "field_uniqueness": "is not unique"}.get(check, check)
    holds = fault.check_output.to_series() if isinstance(fault.check_output, pl.DataFrame) else pl.Series([True])
    at = (~holds).arg_true().to_list()
    whose = f"{key} {rows[key][at[0]]}: " if at else ""
    shown = ", ".join(f"{name} {value}" for name, value in cases.row(0, named=True).items() if name != key or not whose)
    found = count_rows(len(cases))
    return f"{fault.schema.name or 'row'}: {words} ({found}, limit 0, e.g. {(whose + shown).removesuffix(': ')})"
