"""The guard where tables enter Python finds what would go wrong there, and says so in words."""

from typing import Any

import pytest

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings
from hindcast.tables.schemas import explain_faults, faults_of, labeled_schema, split_schema

GOOD = "('a', TIMESTAMP '2013-06-01 08:00', 0, TIMESTAMP '2013-06-01 12:00', 'train')"
PENDING = "('b', TIMESTAMP '2013-06-01 08:00', NULL, NULL, 'train')"


@pytest.fixture
def problem(settings: Settings) -> Problem:
    return load_problem(settings.problem_file)


def table_of(settings: Settings, problem: Problem, *rows: str) -> Lake:
    lake = Lake(settings)
    label = problem.label
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute(
            f"CREATE TABLE s.t ({problem.entity.key} VARCHAR, {problem.prediction_time.column} TIMESTAMP, "
            f"{label.column} INTEGER, {label.known_at} TIMESTAMP, split VARCHAR)"
        )
        connection.execute(f"INSERT INTO s.t VALUES {', '.join(rows)}")
    return lake


def test_a_table_as_it_should_be(settings: Settings, problem: Problem) -> None:
    lake = table_of(settings, problem, GOOD, PENDING)
    assert faults_of(lake, problem, "s.t", labeled_schema(problem)) == (2, [])


def test_a_split_holds_no_pending_label(settings: Settings, problem: Problem) -> None:
    lake = table_of(settings, problem, GOOD, PENDING)
    rows, faults = faults_of(lake, problem, "s.t", split_schema(problem))
    assert rows == 2
    assert {fault.split(":")[0] for fault in faults} == {problem.label.column, problem.label.known_at}


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("('a', TIMESTAMP '2013-06-02', 0, TIMESTAMP '2013-06-03', 'train')", "is not unique (2 rows"),
        ("(NULL, TIMESTAMP '2013-06-02', 0, TIMESTAMP '2013-06-03', 'train')", "is null (1 row"),
        ("('c', NULL, 0, TIMESTAMP '2013-06-03', 'train')", "is null (1 row"),
        ("('c', TIMESTAMP '2013-06-02', 2, TIMESTAMP '2013-06-03', 'train')", "isin([0, 1]) (1 row"),
        ("('c', TIMESTAMP '2013-06-02', 1, NULL, 'train')", "known together"),
        ("('c', TIMESTAMP '2013-06-02', NULL, TIMESTAMP '2013-06-03', 'train')", "known together"),
        ("('c', TIMESTAMP '2013-06-02', 1, TIMESTAMP '2013-06-02', 'train')", "must lie before"),
    ],
)
def test_each_fault_is_found_and_named(settings: Settings, problem: Problem, row: str, word: str) -> None:
    lake = table_of(settings, problem, GOOD, row)
    _, faults = faults_of(lake, problem, "s.t", labeled_schema(problem))
    assert len(faults) == 1
    assert word in faults[0]
    assert f"limit 0, e.g. {problem.entity.key} {'None' if row.startswith('(NULL') else row[2]}" in faults[0]


def test_what_is_wrong_is_told_with_where_to_look(settings: Settings, problem: Problem) -> None:
    lake = table_of(settings, problem, GOOD, "('c', TIMESTAMP '2013-06-02', 2, TIMESTAMP '2013-06-03', 'train')")
    _, faults = faults_of(lake, problem, "s.t", labeled_schema(problem))
    assert explain_faults(problem, "s.t", faults) == (
        "s.t: is_late: isin([0, 1]) (1 row, limit 0, e.g. flight_id c: is_late 2). "
        "Look at problems/flight_delay.yaml: entity, prediction_time, label and splits."
    )


def test_an_unknown_split_is_found(settings: Settings, problem: Problem) -> None:
    lake = table_of(settings, problem, GOOD, GOOD.replace("'a'", "'b'").replace("train", "training"))
    _, faults = faults_of(lake, problem, "s.t", split_schema(problem))
    assert len(faults) == 1
    assert faults[0].startswith("split: ")


def test_a_missing_column_is_named(settings: Settings, problem: Problem) -> None:
    lake = table_of(settings, problem, GOOD)
    with lake.writing() as connection:
        connection.execute(f"ALTER TABLE s.t DROP COLUMN {problem.label.column}")
    with pytest.raises(HindcastError, match=f"s.t has no column {problem.label.column}"):
        faults_of(lake, problem, "s.t", labeled_schema(problem))


# Labels of the other tasks


def with_labels(settings: Settings, problem: Problem, kind: str, *values: str) -> tuple[Lake, Problem]:
    """A table with a label of a SQL type, one row per value."""
    lake, label = Lake(settings), problem.label
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute(
            f"CREATE TABLE s.t AS SELECT 'k' || row_number() OVER () AS {problem.entity.key}, "
            f"TIMESTAMP '2013-06-01' AS {problem.prediction_time.column}, v::{kind} AS {label.column}, "
            f"CASE WHEN v IS NOT NULL THEN TIMESTAMP '2013-06-02' END AS {label.known_at} "
            f"FROM (VALUES {', '.join(f'({value})' for value in values)}) t(v)"
        )
    return lake, problem


@pytest.mark.parametrize(
    ("declared", "kind", "values", "said"),
    [
        ({"task": "multiclass", "classes": ("a", "b")}, "VARCHAR", ["'a'", "'b'", "NULL"], None),
        ({"task": "multiclass", "classes": ("1", "2")}, "INTEGER", ["1", "2"], None),
        ({"task": "multiclass", "classes": ("a", "b")}, "VARCHAR", ["'a'", "'c'"], "is_late: isin(['a', 'b']) (1 row"),
        ({"task": "multiclass", "classes": ("1", "2")}, "INTEGER", ["1", "3"], "is_late: isin(['1', '2']) (1 row"),
        ({"task": "regression"}, "DOUBLE", ["1.5", "-2", "NULL"], None),
        ({"task": "regression"}, "INTEGER", ["1", "2", "NULL"], None),
        ({"task": "regression"}, "DECIMAL(9, 2)", ["1.25", "2"], None),
        ({"task": "regression"}, "DOUBLE", ["1", "'inf'::DOUBLE"], "is_late: is_late must be a finite number (1 row"),
        ({"task": "regression"}, "DOUBLE", ["1", "'nan'::DOUBLE"], "is_late: is_late must be a finite number (1 row"),
        ({"task": "regression"}, "VARCHAR", ["'1'", "'x'"], "is_late: is_late must be a finite number"),
        ({"task": "binary"}, "BOOLEAN", ["true", "false", "NULL"], None),
        ({"task": "binary"}, "DOUBLE", ["1", "0.5"], "is_late: isin([0, 1]) (1 row"),
        ({"task": "binary"}, "VARCHAR", ["'1'", "'late'"], "is_late: isin([0, 1]) (1 row"),
    ],
)
def test_labels_are_held_to_their_task(
    settings: Settings, problem: Problem, declared: dict[str, Any], kind: str, values: list[str], said: str | None
) -> None:
    label = problem.label.model_copy(update={"classes": declared.get("classes", ())})
    problem = problem.model_copy(update={"task": declared["task"], "label": label})
    lake, problem = with_labels(settings, problem, kind, *values)
    rows, faults = faults_of(lake, problem, "s.t", labeled_schema(problem))
    assert rows == len(values)
    if said is None:
        assert faults == []
    else:
        assert len(faults) == 1 and faults[0].startswith(said)
