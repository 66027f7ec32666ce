"""What a delivery does to a raw table's versions: it adds, corrects, completes, withdraws and returns rows.

The form of a version is in `raw_tables`. How files become rows is `ingest`'s work; what a delivery means is declared in
`sources`.
"""

from collections.abc import Collection
from datetime import date, datetime

import duckdb

from hindcast.errors import HindcastError
from hindcast.lake import has_table
from hindcast.sources import SourceTable
from hindcast.sql import identifier
from hindcast.tables.declared_history import load_history
from hindcast.tables.raw_tables import Changes, RawColumns, equal, month_condition, plain_name
from hindcast.tables.windows import BUILT_UNTIL, CORRECTIONS


def update(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    declared: SourceTable,
    clock: datetime,
    within: str,
    ingested: dict[date | None, datetime],
    redeclared: bool,
    made_from_it: Collection[str] | None = None,
) -> Changes:
    """Brings `raw.<table>` to what a delivery says, within the caller's transaction.

    Args:
        connection: With the temporary table `fresh`: the delivered rows that are known at the clock.
        table: Its name, without the schema.
        declared: The declaration.
        clock: The instant of the delivery (UTC, without a zone).
        within: SQL condition on `_month`: what the delivery is about.
        ingested: Per month (None for a table without months) the instant (UTC, without a zone) of the delivery before.
        redeclared: Whether the table is declared otherwise than at the delivery before; then `within` is all of it.
        made_from_it: dbt's nodes that are made from the table, which may have to be made afresh; None for all.

    Raises:
        HindcastError: It is, and holds rows that were corrected.
    """
    name, columns = f"raw.{identifier(table)}", RawColumns.of(declared)
    if redeclared:
        _begin_anew(connection, name)
    history = declared.known.corrections == "declared"
    differing = within if history else _differing(connection, name, declared, columns, within)
    if differing == "false":
        return Changes()
    if history:
        changes, earliest = load_history(connection, name, declared, columns, clock, differing)
    else:
        changes, earliest = _deliver(connection, name, declared, columns, clock, differing, ingested)
    if redeclared:
        earliest = datetime.min
    if earliest is not None:
        _forget_what_was_built(connection, earliest, made_from_it)
    return changes


def _begin_anew(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Empties a table whose declaration has changed: what its files hold is placed and dated anew.

    Raises:
        HindcastError: It holds what the files no longer do.
    """
    corrected = connection.execute(
        f"SELECT count(*) FROM {CORRECTIONS} WHERE table_name = ?", [plain_name(name)]
    ).fetchall()[0][0]
    if corrected:
        raise HindcastError(
            f"raw.{plain_name(name)} is declared otherwise than before (key, month, lookups, derived or known), and "
            "holds rows that were corrected, withdrawn or late: their history can't be made again from the files. Put "
            "the declaration back, or work in a new HINDCAST_HOME."
        )
    connection.execute(f"DELETE FROM {name}")


def _differing(
    connection: duckdb.DuckDBPyConnection, name: str, declared: SourceTable, columns: RawColumns, within: str
) -> str:
    """A condition for the months in which the delivery says something else than the lake; `false` where none does."""
    month = "_month" if declared.month else "NULL::DATE"
    content = ", ".join(columns.content)
    summary = f"SELECT {month} AS month, count(*) AS n, sum(CAST(hash({content}) AS HUGEINT)) AS content"
    differing = connection.execute(
        f"""
        SELECT coalesce(new.month, old.month)
        FROM ({summary} FROM fresh GROUP BY ALL) AS new
        FULL JOIN ({summary} FROM {name} WHERE _known_until IS NULL AND {within} GROUP BY ALL) AS old
            ON new.month IS NOT DISTINCT FROM old.month
        WHERE (new.n, new.content) IS DISTINCT FROM (old.n, old.content)
        """
    ).fetchall()
    months = [month for (month,) in differing]
    return "true" if None in months else month_condition(months)


def _deliver(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    declared: SourceTable,
    columns: RawColumns,
    clock: datetime,
    differing: str,
    ingested: dict[date | None, datetime],
) -> tuple[Changes, datetime | None]:
    """A delivery whose corrections are known from its arrival.

    Returns:
        What changed, and the earliest instant of which something else is known now than before; None if of none.
    """
    now = f"TIMESTAMP '{clock}'"
    identity = ", ".join(columns.identity)
    # Without a key, rows of one content are told apart by counting them.
    nth = "1" if declared.key else f"row_number() OVER (PARTITION BY {identity} ORDER BY _source_file, _source_line)"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE delivered AS SELECT row_number() OVER () AS _n, *, {nth} AS _nth "
        f"FROM fresh WHERE {differing}"
    )
    elsewhere = f" OR ({identity}) IN (SELECT ({identity}) FROM delivered)" if declared.key else ""
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE standing AS SELECT rowid AS _row, *, {nth} AS _nth, {differing} AS _asked "
        f"FROM {name} WHERE _known_until IS NULL AND ({differing}{elsewhere})"
    )
    others = (
        f"SELECT * FROM placed WHERE NOT _faulty AND NOT ({differing})" if declared.month else "FROM placed WHERE false"
    )
    moved = f"EXISTS (SELECT 1 FROM ({others}) AS other WHERE {columns.match('other', 'old')})"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE compared AS
        SELECT
            new._n,
            old._row,
            CASE
                WHEN old._row IS NULL THEN 'new'
                WHEN new._n IS NULL AND old._asked AND NOT {moved} THEN 'missing'
                WHEN new._n IS NULL THEN 'elsewhere'
                WHEN NOT ({columns.agree("new", "old")}) THEN 'corrected'
                WHEN {columns.completes("new", "old")} THEN 'completed'
                ELSE 'same'
            END AS what
        FROM delivered AS new FULL JOIN standing AS old
            ON {columns.match("new", "old")} AND new._nth = old._nth
        """
    )
    counts = dict(connection.execute("SELECT what, count(*) FROM compared GROUP BY what").fetchall())
    withdraws = counts.get("missing", 0) if declared.delivery == "whole" else 0
    replaced = withdraws or counts.get("corrected", 0)
    _set_arrivals(connection, name, declared, columns, now, ingested, may_replace=bool(replaced))
    ended = ["corrected", "missing"] if withdraws else ["corrected"]
    # What was known from this very instant on has been known for no time at all.
    rows = f"SELECT _row FROM compared WHERE what IN ({', '.join(map(repr, ended))})"
    connection.execute(f"DELETE FROM {name} WHERE _known_at = {now} AND rowid IN ({rows})")
    connection.execute(f"UPDATE {name} SET _known_until = {now} WHERE rowid IN ({rows})")
    if declared.month:  # by a lookup that was corrected, say
        connection.execute(
            f"UPDATE {name} SET _month = d._month FROM compared c JOIN delivered d USING (_n) "
            f"WHERE {name}.rowid = c._row AND c.what IN ('same', 'completed') AND {name}._month <> d._month"
        )
    late = _complete(connection, name, columns, now, ingested, declared)
    returned = connection.execute("SELECT count(*), min(_ended) FROM arrivals WHERE _former IS NOT NULL").fetchall()[0]
    if returned[0]:
        connection.execute(
            f"UPDATE {name} SET _known_until = NULL "
            "WHERE rowid IN (SELECT _former FROM arrivals WHERE _former IS NOT NULL)"
        )
    connection.execute(
        f"INSERT INTO {name} BY NAME SELECT * EXCLUDE (_n, _nth, _first, _former, _ended) FROM arrivals "
        "WHERE _former IS NULL ORDER BY _source_file, _source_line"
    )
    added = connection.execute("SELECT count(*) FROM arrivals WHERE _former IS NULL AND _first").fetchall()[0][0]
    corrected = connection.execute("SELECT count(*) FROM arrivals WHERE NOT _first").fetchall()[0][0]
    if counts.get("corrected", 0) or withdraws or late or corrected:
        connection.execute(
            f"INSERT INTO {CORRECTIONS} SELECT ?, {now} WHERE NOT EXISTS "
            f'(FROM {CORRECTIONS} c WHERE c.table_name = ? AND c."at" = {now})',
            [plain_name(name), plain_name(name)],
        )
    instants = ["_known_at", *columns.groups]
    earliest = connection.execute(
        f"""
        SELECT least(
            (SELECT min(CASE WHEN _first THEN least({", ".join(instants)}) ELSE _known_at END)
                FROM arrivals WHERE _former IS NULL),
            (SELECT min(_ended) FROM arrivals),
            (SELECT min("at") FROM completions),
            CASE WHEN {bool(replaced or late)} THEN {now} END
        )
        """
    ).fetchall()[0][0]
    return Changes(
        added=int(added),
        corrected=int(corrected),
        completed=counts.get("completed", 0),
        withdrawn=withdraws,
        returned=int(returned[0]),
    ), earliest


def _set_arrivals(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    declared: SourceTable,
    columns: RawColumns,
    now: str,
    ingested: dict[date | None, datetime],
    may_replace: bool,
) -> None:
    """Makes `arrivals`: delivered rows that are no version yet, with since when they are known.

    `_former` is the ended version that a row returns to, `_ended` when it had ended; `_first` tells a row that had
    never been delivered from one that replaces another.

    A row without a key that comes while others go may be one of these, corrected: if it could have come with the
    delivery before, it is known from now.
    """
    identity = ", ".join(columns.identity)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE former AS
        SELECT rowid AS _row, *,
            row_number() OVER (PARTITION BY {identity} ORDER BY _known_until DESC, _known_at DESC) AS _nth
        FROM {name} WHERE _known_until IS NOT NULL
        """
    )
    if declared.key:
        connection.execute("DELETE FROM former WHERE _nth > 1")  # a row returns to its last version or to none
        returns = columns.agree("new", "old")
        replaces = "old._row IS NOT NULL"
    else:
        # What came with the delivery that withdrew it, and is gone again, may have stood in its place.
        gone = "other._known_until IS NOT NULL OR other.rowid IN (SELECT _row FROM compared WHERE what = 'missing')"
        mixed = f"EXISTS (SELECT 1 FROM {name} other WHERE other._ingested_at = old._known_until AND ({gone}))"
        returns = f"{columns.agree('new', 'old')} AND NOT {mixed}"
        early = f"new._known_at <= {_before(ingested, declared, 'new')}"
        replaces = f"old._row IS NOT NULL OR ({str(may_replace).lower()} AND {early})"
    # Where nothing declares since when a row is known, a row of the same key is known since the first one.
    row_known_at = (
        "new._known_at" if declared.known.at or not declared.key else "ifnull(old._row_known_at, new._known_at)"
    )
    # A group that isn't corrected stays known since when it was.
    kept = [
        f"CASE WHEN old.{instant} IS NOT NULL AND {equal(group, 'new', 'old')} AND new.{instant} IS NOT NULL "
        f"THEN old.{instant} ELSE new.{instant} END AS {instant}"
        for instant, group in columns.groups.items()
    ]
    new = (
        f"SELECT d.* REPLACE (row_number() OVER (PARTITION BY {identity} ORDER BY d._nth) AS _nth) "
        "FROM delivered d JOIN compared c USING (_n) WHERE c.what = 'new'"
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE arrivals AS
        SELECT
            new.* REPLACE (CASE WHEN {replaces} THEN {now} ELSE new._known_at END AS _known_at),
            {row_known_at} AS _row_known_at,
            NOT ({replaces}) AS _first,
            CASE WHEN {returns} THEN old._row END AS _former,
            CASE WHEN {returns} THEN old._known_until END AS _ended
        FROM ({new}) AS new LEFT JOIN former AS old ON {columns.match("new", "old")} AND new._nth = old._nth
        UNION ALL BY NAME
        SELECT new.* REPLACE ({", ".join([f"{now} AS _known_at", *kept])}), {row_known_at} AS _row_known_at,
            false AS _first, NULL AS _former, NULL AS _ended
        FROM delivered AS new JOIN compared c USING (_n) JOIN standing AS old USING (_row) WHERE c.what = 'corrected'
        """
    )
    connection.execute("UPDATE arrivals SET _first = true WHERE _former IS NOT NULL")


def _complete(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    columns: RawColumns,
    now: str,
    ingested: dict[date | None, datetime],
    declared: SourceTable,
) -> int:
    """Fills in groups of columns that have become known, also of rows that return.

    A group that could have come with the delivery before, and didn't, is known from now.

    Returns:
        How many groups came late.
    """
    connection.execute('CREATE OR REPLACE TEMP TABLE completions ("at" TIMESTAMP)')
    late = 0
    pairs = (
        "(SELECT _n, _row FROM compared WHERE what = 'completed' "
        "UNION ALL SELECT _n, _former AS _row FROM arrivals WHERE _former IS NOT NULL)"
    )
    for instant, group in columns.groups.items():
        came_late = f"d.{instant} <= {_before(ingested, declared, 'd')}"
        connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE completing AS
            SELECT p._row, {", ".join(f"d.{column}" for column in group)},
                CASE WHEN {came_late} THEN {now} ELSE d.{instant} END AS {instant}, {came_late} AS _late
            FROM {pairs} p JOIN delivered d USING (_n) JOIN {name} old ON old.rowid = p._row
            WHERE old.{instant} IS NULL AND d.{instant} IS NOT NULL
            """
        )
        assigned = ", ".join(f"{column} = completing.{column}" for column in (*group, instant))
        connection.execute(f"UPDATE {name} SET {assigned} FROM completing WHERE {name}.rowid = completing._row")
        connection.execute(f"INSERT INTO completions SELECT min({instant}) FROM completing")
        late += connection.execute("SELECT count(*) FROM completing WHERE _late").fetchall()[0][0]
    return late


def _forget_what_was_built(
    connection: duckdb.DuckDBPyConnection, earliest: datetime, made_from_it: Collection[str] | None
) -> None:
    """Takes out the entries of tables that hold what was known at an instant of which something else is known now.

    Without an entry a table is made afresh: `dbt_project/macros/increments.sql`.
    """
    if has_table(connection, BUILT_UNTIL):
        nodes = None if made_from_it is None else list(made_from_it)
        connection.execute(
            f"DELETE FROM {BUILT_UNTIL} WHERE known_until >= $earliest "
            "AND ($nodes::VARCHAR[] IS NULL OR list_contains($nodes::VARCHAR[], node))",
            {"earliest": earliest, "nodes": nodes},
        )


def _before(ingested: dict[date | None, datetime], declared: SourceTable, row: str) -> str:
    """SQL: the instant of the delivery before, of a row's month."""
    never = "CAST('-infinity' AS TIMESTAMP)"
    if not declared.month:
        return f"TIMESTAMP '{ingested[None]}'" if None in ingested else never
    cases = " ".join(
        f"WHEN {row}._month = DATE '{month}' THEN TIMESTAMP '{instant}'" for month, instant in ingested.items()
    )
    return f"CASE {cases} ELSE {never} END" if cases else never
