"""The versions of a raw table's rows: what a delivery adds, corrects, completes, withdraws and returns.

A row of `raw.<table>` is one version: it is what was known from `_known_at` until `_known_until` (excluded; NULL while
it is the known one). `_row_known_at` is since when the row itself is known, in whatever version. How files become rows
is `ingest`'s work; what a delivery means is declared in `sources`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import duckdb

from hindcast.errors import HindcastError
from hindcast.lake import has_table
from hindcast.sources import SourceTable
from hindcast.tables.readers import identifier
from hindcast.tables.windows import BUILT_UNTIL, CAP, CORRECTIONS, INSTANTS

KNOWN = "known"
"""The schema of views that show the raw tables as known at the control instants. dbt reads these: macros/known.sql."""


@dataclass(frozen=True)
class Changes:
    """What a delivery changed, in rows.

    Attributes:
        added: Rows that had never been delivered.
        corrected: Rows whose content was replaced by another; the old one stays as a version that has ended.
        completed: Rows of which a group of columns became known.
        withdrawn: Rows that a whole delivery no longer holds.
        returned: Withdrawn rows that were delivered again; they count as known since they were first known.
    """

    added: int = 0
    corrected: int = 0
    completed: int = 0
    withdrawn: int = 0
    returned: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())


@dataclass(frozen=True)
class _Columns:
    """The columns of a raw table by what they are for. Names are quoted.

    Attributes:
        identity: Names the row: the declared key, else all columns that are known with the row itself.
        own: What becomes known with the row itself.
        groups: What becomes known later, by the column of the instant.
    """

    identity: tuple[str, ...]
    own: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, declared: SourceTable) -> "_Columns":
        groups = {
            f"_{name}_known_at": tuple(map(identifier, group.columns)) for name, group in declared.known.later.items()
        }
        later = {column for columns in groups.values() for column in columns}
        own = tuple(column for column in map(identifier, declared.columns) if column not in later)
        return cls(tuple(map(identifier, declared.key)) or own, own, groups)

    @property
    def content(self) -> list[str]:
        """SQL of what a version says; when it became known is no part of it, but whether a group is known is."""
        later = [column for columns in self.groups.values() for column in columns]
        return [*self.own, *later, *(f"{instant} IS NOT NULL" for instant in self.groups)]

    def match(self, one: str, other: str) -> str:
        return " AND ".join(f"{one}.{column} IS NOT DISTINCT FROM {other}.{column}" for column in self.identity)

    def agree(self, new: str, old: str) -> str:
        """SQL: a delivered row says what the old one says. What the old one doesn't know yet isn't compared."""
        parts = [_equal(self.own, new, old)]
        parts += [
            f"({old}.{instant} IS NULL OR ({new}.{instant} IS NOT NULL AND {_equal(columns, new, old)}))"
            for instant, columns in self.groups.items()
        ]
        return " AND ".join(parts)

    def completes(self, new: str, old: str) -> str:
        """SQL: a delivered row knows a group that the old one doesn't."""
        each = [f"({old}.{instant} IS NULL AND {new}.{instant} IS NOT NULL)" for instant in self.groups]
        return f"({' OR '.join(each) or 'false'})"


def _equal(columns: tuple[str, ...], one: str, other: str) -> str:
    sides = [f"row({', '.join(f'{side}.{column}' for column in columns)})" for side in (one, other)]
    return f"({' IS NOT DISTINCT FROM '.join(sides)})" if columns else "true"


def create(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable) -> None:
    """Makes an empty `raw.<table>` of the columns of the temporary table `fresh`."""
    name = f"raw.{identifier(table)}"
    connection.execute(
        f"CREATE TABLE {name} AS SELECT *, _known_at AS _row_known_at, CAST(NULL AS TIMESTAMP) AS _known_until "
        "FROM fresh WHERE false"
    )
    if declared.month:
        connection.execute(f"ALTER TABLE {name} SET PARTITIONED BY (_month)")


def show_known(connection: duckdb.DuckDBPyConnection, table: str, declared: SourceTable) -> None:
    """Makes the view `known.<table>`: the versions that were known at the instant that `control.instants` has for the
    table, without what became known of them later. Where there is no such instant yet, all that is known.

    Its `_known_at` is since when the row itself is known: a corrected hour of the past is no news of the present.
    """
    instants = f"SELECT min(i.\"at\") FROM lake.{INSTANTS} i WHERE i.name IN ('raw.{table}', '{CAP}')"
    at = f"coalesce(({instants}), CAST('infinity' AS TIMESTAMP))"
    later = {
        column: instant for instant, columns in _Columns.of(declared).groups.items() for column in (*columns, instant)
    }
    replaced = ["_row_known_at AS _known_at"]
    replaced += [f"CASE WHEN {instant} <= {at} THEN {column} END AS {column}" for column, instant in later.items()]
    columns = f"* EXCLUDE (_row_known_at, _known_until) REPLACE ({', '.join(replaced)})"
    select = (
        f"SELECT {columns} FROM lake.raw.{identifier(table)} "
        f"WHERE _known_at <= {at} AND (_known_until IS NULL OR _known_until > {at})"
    )
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {KNOWN}")
    connection.execute(f"CREATE OR REPLACE VIEW {KNOWN}.{identifier(table)} AS {select}")


def update(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    declared: SourceTable,
    clock: datetime,
    within: str,
    ingested: dict[date | None, datetime],
    redeclared: bool,
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

    Raises:
        HindcastError: It is, and holds rows that were corrected.
    """
    name, columns = f"raw.{identifier(table)}", _Columns.of(declared)
    if redeclared:
        _begin_anew(connection, name)
    history = declared.known.corrections == "declared"
    differing = within if history else _differing(connection, name, declared, columns, within)
    if differing == "false":
        return Changes()
    if history:
        changes, earliest = _load_history(connection, name, declared, columns, clock, differing)
    else:
        changes, earliest = _deliver(connection, name, declared, columns, clock, differing, ingested)
    if redeclared:
        earliest = datetime.min
    if earliest is not None:
        _forget_what_was_built(connection, earliest)
    return changes


def _begin_anew(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Empties a table whose declaration has changed: what its files hold is placed and dated anew.

    Raises:
        HindcastError: It holds what the files no longer do.
    """
    corrected = connection.execute(
        f"SELECT count(*) FROM {CORRECTIONS} WHERE table_name = ?", [_plain(name)]
    ).fetchall()[0][0]
    if corrected:
        raise HindcastError(
            f"raw.{_plain(name)} is declared otherwise than before (key, month, lookups, derived or known), and holds "
            "rows that were corrected, withdrawn or late: their history can't be made again from the files. Put the "
            "declaration back, or work in a new HINDCAST_HOME."
        )
    connection.execute(f"DELETE FROM {name}")


def _differing(
    connection: duckdb.DuckDBPyConnection, name: str, declared: SourceTable, columns: _Columns, within: str
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


def month_condition(months: Sequence[date | None] | None) -> str:
    """A condition on `_month`; None means every one."""
    if months is None:
        return "true"
    each = " OR ".join(f"_month = DATE '{month}'" for month in months)
    return f"({each})" if months else "false"


def _deliver(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    declared: SourceTable,
    columns: _Columns,
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
            [_plain(name), _plain(name)],
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
    columns: _Columns,
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
        f"CASE WHEN old.{instant} IS NOT NULL AND {_equal(group, 'new', 'old')} AND new.{instant} IS NOT NULL "
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
    columns: _Columns,
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


def _load_history(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    declared: SourceTable,
    columns: _Columns,
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
        f"INSERT INTO {name} BY NAME SELECT new.*, new._known_at AS _row_known_at "
        "FROM fresh AS new SEMI JOIN compared AS c "
        f"ON {columns.match('new', 'c')} AND new._known_at = c._known_at ORDER BY _source_file, _source_line"
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE following AS
        SELECT rowid AS _row, lead(_known_at) OVER (PARTITION BY {identity} ORDER BY _known_at) AS _until
        FROM {name} WHERE ({identity}) IN (SELECT ({identity}) FROM fresh)
        """
    )
    connection.execute(
        f"UPDATE {name} SET _known_until = following._until FROM following "
        f"WHERE {name}.rowid = following._row AND _known_until IS DISTINCT FROM following._until"
    )
    if withdrawn:
        connection.execute(f"INSERT INTO {CORRECTIONS} VALUES (?, {now})", [_plain(name)])
    changes = Changes(added=added, corrected=corrected, withdrawn=withdrawn, returned=returned)
    return changes, min(filter(None, (earliest, ended, clock if withdrawn else None)), default=None)


def _forget_what_was_built(connection: duckdb.DuckDBPyConnection, earliest: datetime) -> None:
    """Takes out the entries of tables that hold what was known at an instant of which something else is known now.

    Without an entry a table is made afresh: `dbt_project/macros/increments.sql`.
    """
    if has_table(connection, BUILT_UNTIL):
        connection.execute(f"DELETE FROM {BUILT_UNTIL} WHERE known_until >= ?", [earliest])


def _before(ingested: dict[date | None, datetime], declared: SourceTable, row: str) -> str:
    """SQL: the instant of the delivery before, of a row's month."""
    never = "CAST('-infinity' AS TIMESTAMP)"
    if not declared.month:
        return f"TIMESTAMP '{ingested[None]}'" if None in ingested else never
    cases = " ".join(
        f"WHEN {row}._month = DATE '{month}' THEN TIMESTAMP '{instant}'" for month, instant in ingested.items()
    )
    return f"CASE {cases} ELSE {never} END" if cases else never


def _plain(name: str) -> str:
    return name.replace('"', "").removeprefix("raw.")
