"""Loads a delivery in which each row, a correction too, says since when it is known (`known.corrections: declared`).

Deliveries whose corrections are known from their arrival are `versions`' work.
"""

from datetime import datetime

import duckdb

from hindcast.sources import SourceTable
from hindcast.tables.raw_tables import Changes, RawColumns, plain_name
from hindcast.tables.windows import CORRECTIONS


def load_history(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    declared: SourceTable,
    columns: RawColumns,
    clock: datetime,
    differing: str,
) -> tuple[Changes, datetime | None]:
    """A delivery in which each row, a correction too, was known at its own declared instant.

    Returns:
        As `_deliver`.
    """
    now, identity = f"TIMESTAMP '{clock}'", ", ".join(columns.identity)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE compared AS
        SELECT old.rowid AS _row, {", ".join(f"new.{column}" for column in columns.identity)}, new._known_at
        FROM (FROM fresh WHERE {differing}) AS new
        LEFT JOIN {name} AS old ON {columns.match("new", "old")} AND new._known_at = old._known_at
        WHERE old.rowid IS NULL OR NOT ({columns.agree("new", "old")}) OR {columns.completes("new", "old")}
        """
    )
    gone = f"_known_until IS NULL AND {differing} AND ({identity}) NOT IN (SELECT ({identity}) FROM fresh)"
    withdrawn = 0
    if declared.delivery == "whole":
        withdrawn = connection.execute(f"SELECT count(*) FROM {name} WHERE {gone}").fetchall()[0][0]
        connection.execute(f"UPDATE {name} SET _known_until = {now} WHERE {gone}")
    returned = connection.execute(
        f"SELECT count(*) FROM {name} AS old WHERE _known_until IS NOT NULL "
        f"AND ({identity}) IN (SELECT ({identity}) FROM fresh) AND NOT EXISTS "
        f"(SELECT 1 FROM {name} AS next WHERE {columns.match('next', 'old')} AND next._known_at > old._known_at)"
    ).fetchall()[0][0]
    ended = connection.execute(f"SELECT min(_known_until) FROM {name}").fetchall()[0][0] if returned else None
    seen = f"({identity}) IN (SELECT ({identity}) FROM {name})"
    added, corrected, earliest = connection.execute(
        f"SELECT count(*) FILTER (NOT {seen}), count(*) FILTER ({seen}), min(_known_at) FROM compared"
    ).fetchall()[0]
    connection.execute(f"DELETE FROM {name} WHERE rowid IN (SELECT _row FROM compared WHERE _row IS NOT NULL)")
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE arrivals AS SELECT row_number() OVER () AS _n, new.* FROM fresh AS new "
        f"SEMI JOIN compared AS c ON {columns.match('new', 'c')} AND new._known_at = c._known_at"
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE following AS
        SELECT _row, _n, lead(_known_at) OVER (PARTITION BY {identity} ORDER BY _known_at) AS _until
        FROM (
            SELECT rowid AS _row, NULL AS _n, _known_at, {identity} FROM {name}
            WHERE ({identity}) IN (SELECT ({identity}) FROM fresh)
            UNION ALL SELECT NULL, _n, _known_at, {identity} FROM arrivals
        )
        """
    )
    # Rows that are updated in the transaction that inserts them would keep their provisional row ids in DuckLake for
    # good, and the next transaction's new rows have the same: so the new rows are inserted as they are to stay.
    connection.execute(
        f"UPDATE {name} SET _known_until = following._until FROM following "
        f"WHERE {name}.rowid = following._row AND _known_until IS DISTINCT FROM following._until"
    )
    connection.execute(
        f"INSERT INTO {name} BY NAME SELECT new.* EXCLUDE (_n), new._known_at AS _row_known_at, "
        "following._until AS _known_until FROM arrivals AS new JOIN following USING (_n) "
        "ORDER BY _source_file, _source_line"
    )
    if withdrawn:
        connection.execute(f"INSERT INTO {CORRECTIONS} VALUES (?, {now})", [plain_name(name)])
    changes = Changes(added=added, corrected=corrected, withdrawn=withdrawn, returned=returned)
    return changes, min(filter(None, (earliest, ended, clock if withdrawn else None)), default=None)
