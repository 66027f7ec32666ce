"""Keeps the rows of the labeled table that corrections replaced, so that labels can be read as they were known.

They are kept beside it in `<labeled table>_superseded`: the columns as they were, `superseded_key` (the entity) and
`superseded_at`, the instant (UTC) at which the row turned out otherwise. A row of NULLs stands for an entity that had
been withdrawn and came again: it wasn't there. The table exists once a correction has been met. The SQL of splits reads
it by the macro `as_known_then`; Python by `entities_as_known`.
"""

from datetime import datetime

import duckdb

from hindcast.lake import Lake, columns_of, has_table
from hindcast.problem import Problem
from hindcast.sql import identifier, table_identifier

_FIRST, _LAST = "TIMESTAMP '0001-01-01'", "TIMESTAMP '9999-12-31'"


NOTED = "control.noted_corrections"


def noted_corrections(lake: Lake, problem: Problem) -> set[datetime]:
    """The corrections (UTC, without a zone) whose replaced rows are kept, also where there were none."""
    if not lake.exists(NOTED):
        return set()
    with lake.reading() as connection:
        rows = connection.execute(f'SELECT "at" FROM {NOTED} WHERE problem = ?', [problem.name]).fetchall()
        return {instant for (instant,) in rows}


def forget_superseded(lake: Lake, problem: Problem) -> None:
    """Before the labeled table is built from nothing, as known before its first correction."""
    with lake.writing() as connection:
        for ending in ("_superseded", "_former"):
            if has_table(connection, problem.labeled_table + ending):
                connection.execute(f"DROP TABLE {_named(problem, ending)}")
        if has_table(connection, NOTED):
            connection.execute(f"DELETE FROM {NOTED} WHERE problem = ?", [problem.name])


def keep_former(lake: Lake, problem: Problem) -> None:
    """Copies the labeled table, which holds what was known just before a correction."""
    with lake.writing() as connection:
        connection.execute(f"CREATE OR REPLACE TABLE {_named(problem, '_former')} AS FROM {_named(problem)}")


def note_superseded(lake: Lake, problem: Problem, correction: datetime) -> int:
    """Keeps the rows of the copy that the labeled table, as known at the correction, no longer holds; drops the copy.

    Args:
        lake: With the copy, or without one: then there is nothing to do.
        problem: Names the table and its key.
        correction: The instant (UTC, without a zone).

    Returns:
        How many rows.
    """
    key, former, superseded = identifier(problem.entity.key), _named(problem, "_former"), _named(problem, "_superseded")
    with lake.writing() as connection:
        if not has_table(connection, f"{problem.labeled_table}_former"):
            return 0
        columns = _columns(connection, problem)
        values = ", ".join(f"former.{column}" for column in columns)
        there = has_table(connection, f"{problem.labeled_table}_superseded")
        before = f"SELECT superseded_key FROM {superseded}" if there else "SELECT NULL WHERE false"
        same = " AND ".join(f"former.{column} IS NOT DISTINCT FROM now.{column}" for column in columns)
        changed = (
            f"SELECT {values}, coalesce(former.{key}, now.{key}) AS superseded_key, "
            f"TIMESTAMP '{correction}' AS superseded_at "
            f"FROM {former} AS former FULL JOIN {_named(problem)} AS now ON former.{key} = now.{key} "
            # An entity that is simply new was never otherwise: since when it may be used, its label says.
            f"WHERE NOT ({same}) AND (former.{key} IS NOT NULL OR now.{key} IN ({before}))"
        )
        connection.execute(f'CREATE TABLE IF NOT EXISTS {NOTED} (problem VARCHAR, "at" TIMESTAMP)')
        connection.execute(f"INSERT INTO {NOTED} VALUES (?, TIMESTAMP '{correction}')", [problem.name])
        if there:
            connection.execute(f"DELETE FROM {superseded} WHERE superseded_at = TIMESTAMP '{correction}'")
            connection.execute(f"INSERT INTO {superseded} BY NAME {changed}")
        else:
            connection.execute(f"CREATE TABLE {superseded} AS {changed}")
        connection.execute(f"DROP TABLE {former}")
        rows = f"SELECT count(*) FROM {superseded} WHERE superseded_at = TIMESTAMP '{correction}'"
        return int(connection.execute(rows).fetchall()[0][0])


def entities_as_known(connection: duckdb.DuckDBPyConnection, problem: Problem) -> str:
    """SQL of the labeled table's rows, each as it was known at its prediction time; its label as it is known now.

    Args:
        connection: To the lake.
        problem: Names the table, its key, prediction time and label.
    """
    if not has_table(connection, f"{problem.labeled_table}_superseded"):
        return f"(FROM {_named(problem)})"
    key, asked = identifier(problem.entity.key), identifier(problem.prediction_time.column)
    now = {identifier(problem.label.column), identifier(problem.label.known_at), asked}
    columns = _columns(connection, problem)
    superseded = _named(problem, "_superseded")
    taken = ", ".join(f"{'now' if column in now else 'known'}.{column}" for column in columns)
    listed = ", ".join(columns)
    return f"""(
        WITH versions AS (
            SELECT {listed}, superseded_key, superseded_at AS known_to,
                coalesce(lag(superseded_at) OVER (PARTITION BY superseded_key ORDER BY superseded_at), {_FIRST})
                    AS known_from
            FROM (
                SELECT {listed}, superseded_key, superseded_at FROM {superseded}
                UNION ALL
                SELECT {listed}, {key}, {_LAST} FROM {_named(problem)}
                WHERE {key} IN (SELECT superseded_key FROM {superseded})
            )
        )
        SELECT {listed} FROM {_named(problem)} WHERE {key} NOT IN (SELECT superseded_key FROM {superseded})
        UNION ALL
        SELECT {taken} FROM {_named(problem)} AS now JOIN versions AS known
            ON known.{key} = now.{key} AND now.{asked} >= known_from AND now.{asked} < known_to
    )"""


def _named(problem: Problem, ending: str = "") -> str:
    return table_identifier(problem.labeled_table + ending)


def _columns(connection: duckdb.DuckDBPyConnection, problem: Problem) -> list[str]:
    return [identifier(name) for name in columns_of(connection, _named(problem))]
