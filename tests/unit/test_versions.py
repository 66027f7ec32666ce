"""Raw tables keep every version of a row: named cases by hand, and random deliveries against plain Python."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.sources import Sources
from hindcast.tables import versions
from hindcast.tables.ingest import IngestResult, ingest
from hindcast.tables.raw_tables import Changes
from hindcast.tables.windows import BUILT_UNTIL
from tests.control import write_control
from tests.made_up_problem import parcels_problem

COLUMNS = {"id": "INTEGER", "v": "INTEGER"}


def day(number: int) -> datetime:
    """The n-th day of 2024, UTC without saying so."""
    return datetime(2024, 1, 1) + timedelta(days=number - 1)


class World:
    """A home, and deliveries of one table `t` of made-up rows."""

    def __init__(self, folder: Path, **declared: Any) -> None:
        self.folder = folder
        (folder / "files").mkdir(parents=True, exist_ok=True)
        self.settings = Settings(folder, folder / "home")
        self.lake = Lake(self.settings)
        self.declared = {"file": "t.csv", "format": "csv", "columns": COLUMNS} | declared

    def deliver(
        self, number: int, *rows: tuple, months: list[date] | None = None, made_from_it: list[str] | None = None
    ) -> IngestResult:
        """The n-th day's delivery."""
        names = ",".join(self.declared["columns"])
        lines = [",".join("" if cell is None else str(cell) for cell in row) for row in rows]
        (self.folder / "files" / "t.csv").write_text("\n".join([names, *lines]) + "\n")
        sources = Sources.model_validate(
            {"folder": "files", "starts": date(2024, 1, 1), "tables": {"t": self.declared}}
        )
        now = day(number).replace(tzinfo=UTC)
        return ingest(self.lake, sources, "t", now, self.settings, months, made_from_it)

    def query(self, sql: str) -> list[tuple]:
        with self.lake.reading() as connection:
            return connection.execute(sql).fetchall()

    def versions(self, columns: str = "id, v") -> list[tuple]:
        """All versions: the columns, and the days from and until which they were known."""
        return self.query(
            f"SELECT {columns}, dayofyear(_known_at), dayofyear(_known_until) FROM raw.t ORDER BY ALL NULLS LAST"
        )

    def known(self, number: float, columns: str = "id, v") -> list[tuple]:
        """What was known at the noon of a day, by the view that the SQL reads."""
        at = (day(1) + timedelta(days=number - 1)).replace(tzinfo=UTC)
        with self.lake.writing() as connection:
            connection.execute("DELETE FROM control.instants")
            connection.execute("INSERT INTO control.instants VALUES ('raw.t', ?)", [at.replace(tzinfo=None)])
        return self.query(f"SELECT {columns} FROM known.t ORDER BY ALL NULLS LAST")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("key", [[], ["id"]])
def test_a_corrected_row_is_known_from_its_arrival(folder: Path, key: list[str]) -> None:
    world = World(folder, key=key, columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"})
    first = world.deliver(40, (1, 10, "2024-01-05"), (2, 20, "2024-01-06"))
    second = world.deliver(50, (1, 11, "2024-01-05"), (2, 20, "2024-01-06"))
    assert world.versions() == [(1, 10, 5, 50), (1, 11, 50, None), (2, 20, 6, None)]
    assert first.changes == Changes(added=2)
    assert second.changes == (Changes(corrected=1) if key else Changes(corrected=1, withdrawn=1))
    assert [world.known(n) for n in (4, 5, 49, 50)] == [
        [],
        [(1, 10)],
        [(1, 10), (2, 20)],
        [(1, 11), (2, 20)],
    ]
    assert world.query('SELECT table_name, "at" FROM control.corrections') == [("t", day(50))]


def test_the_view_says_since_when_the_row_itself_is_known(folder: Path) -> None:
    """A corrected hour of the past is no news of the present."""
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"})
    world.deliver(40, (1, 10, "2024-01-05"))
    world.deliver(50, (1, 11, "2024-01-05"))
    assert world.known(60, "v, _known_at") == [(11, day(5))]
    without = World(folder / "b", key=["id"])
    without.deliver(40, (1, 10))
    without.deliver(50, (1, 11))
    without.deliver(60, (1, 12))
    assert without.known(70, "v, _known_at") == [(12, day(40))]
    assert "_known_until" not in [name for name, *_ in without.query("DESCRIBE known.t")]


def test_a_row_that_is_missing_is_withdrawn_or_kept(folder: Path) -> None:
    whole, append = World(folder / "a", key=["id"]), World(folder / "b", key=["id"], delivery="append")
    for world in (whole, append):
        world.deliver(40, (1, 10), (2, 20))
        result = world.deliver(50, (2, 20), (3, 30))
        assert result.changes == Changes(added=1, withdrawn=1 if world is whole else 0)
    assert whole.versions() == [(1, 10, 40, 50), (2, 20, 40, None), (3, 30, 50, None)]
    assert append.versions() == [(1, 10, 40, None), (2, 20, 40, None), (3, 30, 50, None)]
    assert append.query("SELECT count(*) FROM control.corrections") == [(0,)]
    append.deliver(60, (1, 11))
    assert append.versions() == [(1, 10, 40, 60), (1, 11, 60, None), (2, 20, 40, None), (3, 30, 50, None)]


@pytest.mark.parametrize("key", [[], ["id"]])
def test_a_short_delivery_then_the_whole_one_moves_nothing(folder: Path, key: list[str]) -> None:
    world = World(folder, key=key)
    world.deliver(32, (1, 10), (2, 20))
    assert world.deliver(40, (1, 10)).changes == Changes(withdrawn=1)
    assert world.known(45) == [(1, 10)]
    assert world.deliver(50, (1, 10), (2, 20)).changes == Changes(returned=1)
    assert world.versions() == [(1, 10, 32, None), (2, 20, 32, None)]
    assert world.deliver(60, (1, 10), (2, 20)).changes == Changes()


def test_a_value_that_comes_back_was_not_known_in_between(folder: Path) -> None:
    for number, key in enumerate(([], ["id"])):
        world = World(folder / str(number), key=key)
        world.deliver(32, (1, 10))
        world.deliver(40, (1, 11))
        world.deliver(50, (1, 10))
        assert world.versions() == [(1, 10, 32, 40), (1, 10, 50, None), (1, 11, 40, 50)]
        assert [world.known(n) for n in (39, 40, 50)] == [[(1, 10)], [(1, 11)], [(1, 10)]]


def test_a_withdrawn_row_that_comes_back_changed(folder: Path) -> None:
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"})
    world.deliver(40, (1, 10, "2024-01-05"), (2, 20, "2024-01-05"))
    world.deliver(50, (2, 20, "2024-01-05"))
    assert world.deliver(60, (1, 11, "2024-01-05"), (2, 20, "2024-01-05")).changes == Changes(corrected=1)
    assert world.versions() == [(1, 10, 5, 50), (1, 11, 60, None), (2, 20, 5, None)]


def test_a_back_dated_row_takes_its_declared_instant(folder: Path) -> None:
    for number, key in enumerate(([], ["id"])):
        world = World(folder / str(number), key=key, columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"})
        world.deliver(40, (1, 10, "2024-01-05"))
        assert world.deliver(50, (1, 10, "2024-01-05"), (2, 20, "2024-01-07")).changes == Changes(added=1)
        assert world.versions() == [(1, 10, 5, None), (2, 20, 7, None)]
        assert world.query("SELECT count(*) FROM control.corrections") == [(0,)]


def test_without_a_key_what_comes_as_others_go_may_be_a_correction(folder: Path) -> None:
    """Unless it couldn't have come with the delivery before."""
    world = World(folder, columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"})
    world.deliver(40, (1, 10, "2024-01-05"), (2, 20, "2024-01-06"))
    result = world.deliver(50, (2, 20, "2024-01-06"), (3, 30, "2024-01-07"), (4, 40, "2024-02-10"))
    assert world.versions() == [(1, 10, 5, 50), (2, 20, 6, None), (3, 30, 50, None), (4, 40, 41, None)]
    assert result.changes == Changes(added=1, corrected=1, withdrawn=1)


def test_a_row_that_is_known_since_the_very_delivery_before_could_have_come_with_it(folder: Path) -> None:
    world = World(folder, columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"})
    world.deliver(40, (1, 10, "2024-01-05"))
    world.deliver(50, (2, 20, "2024-02-09 00:00:00"), (3, 30, "2024-02-09 00:00:01"))  # the 40th day
    assert world.versions() == [(1, 10, 5, 50), (2, 20, 50, None), (3, 30, 40, None)]


def test_equal_rows_without_a_key_are_counted(folder: Path) -> None:
    world = World(folder)
    world.deliver(40, (1, 10), (1, 10), (1, 10))
    assert world.deliver(50, (1, 10), (1, 10)).changes == Changes(withdrawn=1)
    assert world.deliver(60, (1, 10), (1, 10), (1, 10), (1, 10)).changes == Changes(added=1, returned=1)
    assert [len(world.known(n)) for n in (40, 50, 59, 60)] == [3, 3, 3, 4]


def test_nulls_are_values(folder: Path) -> None:
    for number, key in enumerate(([], ["id"])):
        world = World(folder / str(number), key=key)
        world.deliver(40, (1, None), (2, 20))
        assert not world.deliver(50, (1, None), (2, 20)).changed
        world.deliver(60, (1, 10), (2, None))
        assert world.known(60) == [(1, 10), (2, None)]
        assert world.known(59) == [(1, None), (2, 20)]


LATER = {
    "columns": COLUMNS | {"seen": "TIMESTAMP", "done": "TIMESTAMP", "result": "VARCHAR"},
    "known": {"at": "seen", "later": {"end": {"at": "done", "columns": ["done", "result"]}}},
}
SINCE = "result, dayofyear(_end_known_at)"


@pytest.mark.parametrize("key", [[], ["id"]])
def test_what_becomes_known_later_completes_the_row(folder: Path, key: list[str]) -> None:
    world = World(folder, key=key, **LATER)
    world.deliver(40, (1, 10, "2024-01-05", "2024-02-14", "good"))
    assert world.versions(SINCE) == [(None, None, 5, None)]
    assert world.deliver(50, (1, 10, "2024-01-05", "2024-02-14", "good")).changes == Changes(completed=1)
    assert world.versions(SINCE) == [("good", 45, 5, None)]
    assert [world.known(n, "result") for n in (44, 45)] == [[(None,)], [("good",)]]
    assert world.query("SELECT count(*) FROM control.corrections") == [(0,)]


@pytest.mark.parametrize("key", [[], ["id"]])
def test_what_could_have_come_before_is_known_from_its_arrival(folder: Path, key: list[str]) -> None:
    world = World(folder, key=key, **LATER)
    world.deliver(40, (1, 10, "2024-01-05", None, None))
    world.deliver(50, (1, 10, "2024-01-05", "2024-02-09", "good"))  # the 40th day
    assert world.versions(SINCE) == [("good", 50, 5, None)]
    assert world.query('SELECT "at" FROM control.corrections') == [(day(50),)]
    assert not world.deliver(60, (1, 10, "2024-01-05", "2024-02-09", "good")).changed


def test_a_group_that_was_known_stays_as_it_was_when_another_one_comes(folder: Path) -> None:
    later = {"a": {"at": "a_at", "columns": ["a_at", "a"]}, "b": {"at": "b_at", "columns": ["b_at", "b"]}}
    columns = {"id": "INTEGER", "seen": "TIMESTAMP", "a_at": "TIMESTAMP", "a": "INTEGER"}
    columns |= {"b_at": "TIMESTAMP", "b": "INTEGER"}
    world = World(folder, key=["id"], columns=columns, known={"at": "seen", "later": later})
    world.deliver(40, (1, "2024-01-05", None, None, None, None))
    world.deliver(50, (1, "2024-01-05", "2024-02-07", 7, None, None))  # the 38th day: known from the 50th
    assert world.deliver(60, (1, "2024-01-05", "2024-02-07", 7, "2024-02-24", 8)).changes == Changes(completed=1)
    since = "a, dayofyear(_a_known_at), b, dayofyear(_b_known_at)"
    assert world.versions(since) == [(7, 50, 8, 55, 5, None)]


@pytest.mark.parametrize("key", [[], ["id"]])
@pytest.mark.parametrize("new", [("2024-02-05", "bad"), (None, None), ("2024-02-06", "good")])
def test_a_group_that_was_known_is_corrected(folder: Path, key: list[str], new: tuple) -> None:
    world = World(folder, key=key, **LATER)
    world.deliver(40, (1, 10, "2024-01-05", "2024-02-05", "good"))
    assert world.deliver(50, (1, 10, "2024-01-05", *new)).changes == Changes(corrected=1)
    assert world.known(49, "result") == [("good",)]
    assert world.known(50, "result") == [(new[1],)]


def test_history_is_loaded_as_declared(folder: Path) -> None:
    known = {"at": "seen", "corrections": "declared"}
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known=known)
    world.deliver(40, (1, 10, "2024-01-05"), (1, 12, "2024-01-20"), (2, 20, "2024-01-06"))
    assert world.versions() == [(1, 10, 5, 20), (1, 12, 20, None), (2, 20, 6, None)]
    rows = [(1, 10, "2024-01-05"), (1, 11, "2024-01-10"), (1, 12, "2024-01-20")]
    assert world.deliver(50, *rows).changes == Changes(corrected=1, withdrawn=1)
    assert world.versions() == [(1, 10, 5, 10), (1, 11, 10, 20), (1, 12, 20, None), (2, 20, 6, 50)]
    assert [world.known(n) for n in (9, 10, 19, 20)] == [
        [(1, 10), (2, 20)],
        [(1, 11), (2, 20)],
        [(1, 11), (2, 20)],
        [(1, 12), (2, 20)],
    ]
    world.deliver(60, (1, 10, "2024-01-05"), (1, 11, "2024-01-10"), (1, 13, "2024-01-20"))  # as if it always had been
    assert world.versions()[2] == (1, 13, 20, None)
    assert not world.deliver(70, (1, 10, "2024-01-05"), (1, 11, "2024-01-10"), (1, 13, "2024-01-20")).changed


def test_each_delivery_of_declared_history_ends_the_versions_of_its_own_keys_alone(folder: Path) -> None:
    """DuckLake gives rows of a transaction provisional ids, which an update in it would make permanent: the next
    delivery's rows have the same."""
    known = {"at": "seen", "corrections": "declared"}
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known=known)
    ids, expected = range(1, 31), []
    rows: list[tuple] = []
    for delivery in range(3):
        first, second = day(10 * delivery + 1), day(10 * delivery + 5)
        for key in (each + 100 * delivery for each in ids):
            rows += [(key, 1, first), (key, 2, second)]
            expected += [(key, 1, 10 * delivery + 1, 10 * delivery + 5), (key, 2, 10 * delivery + 5, None)]
        world.deliver(40 + delivery, *rows)
        assert world.versions() == sorted(expected, key=lambda row: row[:2])


def test_another_declaration_dates_all_rows_anew(folder: Path) -> None:
    """Also those of months that the delivery isn't about; and a key that comes later doubles nothing."""
    seen = {"columns": COLUMNS | {"seen": "TIMESTAMP"}, "known": {"at": "seen"}, "month": "seen"}
    world = World(folder, **seen)
    rows = [(1, 10, "2024-01-05"), (2, 20, "2024-02-06")]
    world.deliver(100, *rows)
    world.declared |= {"known": {"at": "seen + INTERVAL 2 DAY"}, "key": ["id"]}
    world.deliver(110, *rows, months=[date(2024, 2, 1)])
    assert world.versions() == [(1, 10, 7, None), (2, 20, 39, None)]
    assert not world.deliver(120, *rows).changed


def test_another_declaration_of_rows_that_were_corrected_is_refused(folder: Path) -> None:
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"})
    world.deliver(40, (1, 10, "2024-01-05"))
    world.deliver(50, (1, 11, "2024-01-05"))
    before = world.versions()
    world.declared["known"] = {"at": "seen + INTERVAL 2 DAY"}
    with pytest.raises(HindcastError, match=r"raw\.t is declared otherwise .* new HINDCAST_HOME"):
        world.deliver(60, (1, 11, "2024-01-05"))
    assert world.versions() == before
    world.declared["known"] = {"at": "seen", "corrections": "declared"}  # how corrections are dated may change
    world.deliver(70, (1, 12, "2024-02-20"))
    assert world.versions() == [(1, 10, 5, 50), (1, 11, 50, 51), (1, 12, 51, None)]


def test_a_group_that_came_late_stays_late_when_the_row_is_corrected(folder: Path) -> None:
    world = World(folder, key=["id"], **LATER)
    world.deliver(40, (1, 10, "2024-01-05", None, None))
    world.deliver(50, (1, 10, "2024-01-05", "2024-02-09", "good"))
    world.deliver(60, (1, 11, "2024-01-05", "2024-02-09", "good"))
    assert world.versions(SINCE) == [("good", 50, 5, 60), ("good", 50, 60, None)]


def test_a_short_delivery_with_a_new_row_then_the_whole_one(folder: Path) -> None:
    """The new row is still there when the old one comes back: it didn't stand in its place."""
    world = World(folder)
    world.deliver(32, (1, 10), (2, 20))
    world.deliver(40, (2, 20), (3, 30))
    assert world.deliver(50, (1, 10), (2, 20), (3, 30)).changes == Changes(returned=1)
    assert world.versions() == [(1, 10, 32, None), (2, 20, 32, None), (3, 30, 40, None)]


def test_a_month_that_a_lookup_moved_withdraws_nothing(folder: Path) -> None:
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"}, month="seen")
    world.deliver(100, (1, 10, "2024-01-31"))
    with world.lake.writing() as connection:
        connection.execute("UPDATE raw.t SET _month = DATE '2024-02-01'")  # as by another zone
    world.deliver(110, (1, 10, "2024-01-31"), months=[date(2024, 2, 1)])
    assert world.versions() == [(1, 10, 31, None)]
    world.deliver(120, (1, 10, "2024-01-31"))
    assert world.query("SELECT id, _month FROM raw.t") == [(1, date(2024, 1, 1))]


def test_an_empty_delta_is_a_delivery(folder: Path) -> None:
    world = World(folder, key=["id"], delivery="append")
    world.deliver(40, (1, 10))
    assert not world.deliver(50).changed
    assert world.query("SELECT ingested_until FROM control.ingested") == [(day(50),)]


def test_a_home_of_before_is_named(folder: Path) -> None:
    world = World(folder)
    world.deliver(40, (1, 10))
    with world.lake.writing() as connection:
        connection.execute("CREATE OR REPLACE TABLE raw.t AS SELECT * EXCLUDE (_row_known_at, _known_until) FROM raw.t")
    with pytest.raises(HindcastError, match="earlier version of Hindcast: work in a new HINDCAST_HOME"):
        world.deliver(50, (1, 10))


def test_a_key_names_one_row(folder: Path) -> None:
    world = World(folder, key=["id"], max_rejected_share=1.0)
    result = world.deliver(40, (1, 10), (1, 11), (2, 20), (2, 20), (None, 5), (3, 30))
    assert world.versions() == [(2, 20, 40, None), (3, 30, 40, None)]
    assert result.rejected == 4
    assert world.query("SELECT line, column_name, reason FROM raw.rejected ORDER BY line") == [
        (2, "id", "the key (id) is also in files/t.csv, line 3"),
        (3, "id", "the key (id) is also in files/t.csv, line 2"),
        (5, "id", "the key (id) is also in files/t.csv, line 4"),
        (6, "id", "the key (id) is incomplete"),
    ]


def test_files_without_a_row_withdraw_nothing(folder: Path) -> None:
    world = World(folder)
    world.deliver(40, (1, 10))
    with pytest.raises(HindcastError, match=r"raw.t: its files hold no row, and the delivery before had 1"):
        world.deliver(50)
    assert world.versions() == [(1, 10, 40, None)]
    empty = World(folder / "b")
    assert empty.deliver(40).rows_in_table == 0
    assert empty.deliver(50, (1, 10)).changes == Changes(added=1)


def test_rows_that_can_not_be_read_withdraw_nothing_where_no_other_is_left(folder: Path) -> None:
    world = World(folder)
    world.deliver(40, (1, 10))
    assert world.deliver(50, ("x", 10)).rejected == 1
    assert world.versions() == [(1, 10, 40, None)]


def test_an_older_delivery_changes_nothing(folder: Path) -> None:
    world = World(folder, key=["id"])
    world.deliver(40, (1, 10))
    assert not world.deliver(39, (1, 11), (2, 20)).changed
    assert world.versions() == [(1, 10, 40, None)]
    world.deliver(40, (1, 11))  # at the same instant: it was known for no time at all
    assert world.versions() == [(1, 11, 40, None)]


def test_an_older_delivery_of_months_changes_nothing(folder: Path) -> None:
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"}, month="seen")
    rows = [(1, 10, "2024-01-05"), (2, 20, "2024-02-09")]
    world.deliver(50, *rows)
    assert not world.deliver(39, *rows).changed
    assert world.versions() == [(1, 10, 5, None), (2, 20, 40, None)]
    assert world.query("SELECT count(*) FROM control.corrections") == [(0,)]


def test_a_delivery_of_some_months_leaves_the_others(folder: Path) -> None:
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"}, month="seen")
    world.deliver(100, (1, 10, "2024-01-05"), (2, 20, "2024-02-05"))
    february = [date(2024, 2, 1)]
    changes = world.deliver(110, (1, 11, "2024-01-05"), (2, 21, "2024-02-05"), months=february).changes
    assert changes == Changes(corrected=1)
    assert world.versions() == [(1, 10, 5, None), (2, 20, 36, 110), (2, 21, 110, None)]
    # A row whose month was corrected leaves the month it was in.
    world.deliver(120, (1, 10, "2024-02-06"), (2, 21, "2024-02-05"), months=february)
    assert world.versions() == [(1, 10, 5, 120), (1, 10, 120, None), (2, 20, 36, 110), (2, 21, 110, None)]


def test_what_was_built_from_rows_of_the_past_is_forgotten(folder: Path) -> None:
    """A back-dated row was known at instants that tables hold already; a corrected one wasn't."""
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known={"at": "seen"})
    world.deliver(40, (1, 10, "2024-01-05"), (2, 20, "2024-01-06"))
    with world.lake.writing() as connection:
        connection.execute(f"CREATE TABLE {BUILT_UNTIL} (node VARCHAR, sql_version VARCHAR, known_until TIMESTAMP)")
        days = "SELECT 'day ' || d, '', TIMESTAMP '2023-12-31' + to_days(d) FROM range(1, 46) r(d)"
        connection.execute(f"INSERT INTO {BUILT_UNTIL} {days}")
    held = f"SELECT max(dayofyear(known_until)) FROM {BUILT_UNTIL}"
    world.deliver(50, (1, 11, "2024-01-05"), (2, 20, "2024-01-06"))
    assert world.query(held) == [(45,)]
    world.deliver(60, (1, 11, "2024-01-05"), (2, 20, "2024-01-06"), (3, 30, "2024-02-20"))  # the 51st day
    assert world.query(held) == [(45,)]
    world.deliver(70, (1, 11, "2024-01-05"), (2, 20, "2024-01-06"), (3, 30, "2024-02-20"), (4, 40, "2024-02-09"))
    assert world.query(held) == [(39,)]


# Random deliveries. The keyed table has no declared instant: a row is known from the delivery that brought it.


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=st.lists(st.dictionaries(st.integers(1, 3), st.integers(1, 2), min_size=1), min_size=1, max_size=6))
def test_every_delivery_is_read_as_it_was_known(
    tmp_path_factory: pytest.TempPathFactory, deliveries: list[dict[int, int]]
) -> None:
    world = World(tmp_path_factory.mktemp("random"), key=["id"])
    for number, delivery in enumerate(deliveries, 1):
        world.deliver(10 * number, *delivery.items())
    for number, delivery in enumerate(deliveries, 1):
        expected = dict(delivery)
        for key in {1, 2, 3} - delivery.keys():
            # A withdrawn row that comes back as it was, with nothing in its place before, was known all the time.
            before = next((each[key] for each in reversed(deliveries[: number - 1]) if key in each), None)
            after = next((each[key] for each in deliveries[number:] if key in each), None)
            if before is not None and before == after:
                expected[key] = before
        assert world.known(10 * number) == sorted(expected.items())
        assert world.known(10 * number + 9.5) == sorted(expected.items())
    current = world.query("SELECT id, v FROM raw.t WHERE _known_until IS NULL ORDER BY id")
    assert current == sorted(deliveries[-1].items())
    odd = world.query("SELECT count(*) FROM raw.t WHERE _known_until <= _known_at")
    assert odd == [(0,)]


def test_as_of_an_instant_is_what_control_says(folder: Path) -> None:
    """The view follows the instant of its own table, whatever else is known by then."""
    world = World(folder, key=["id"])
    world.deliver(40, (1, 10))
    world.deliver(50, (1, 11))
    problem = parcels_problem()
    write_control(world.lake, problem, day(49).replace(tzinfo=UTC), day(45).replace(tzinfo=UTC))
    assert world.query("SELECT v FROM known.t") == [(10,)]
    write_control(world.lake, problem, day(60).replace(tzinfo=UTC), day(45).replace(tzinfo=UTC))
    assert world.query("SELECT v FROM known.t") == [(11,)]


def test_a_withdrawn_row_of_declared_history_returns(folder: Path) -> None:
    known = {"at": "seen", "corrections": "declared"}
    world = World(folder, key=["id"], columns=COLUMNS | {"seen": "TIMESTAMP"}, known=known)
    whole = [(1, 10, "2024-01-05"), (1, 11, "2024-01-10"), (2, 20, "2024-01-06")]
    world.deliver(40, *whole)
    assert world.deliver(50, whole[2]).changes == Changes(withdrawn=1)
    assert world.versions() == [(1, 10, 5, 10), (1, 11, 10, 50), (2, 20, 6, None)]
    assert world.deliver(60, *whole).changes == Changes(returned=1)
    assert world.versions() == [(1, 10, 5, 10), (1, 11, 10, None), (2, 20, 6, None)]
    assert not world.deliver(70, *whole).changed


SEEN = {"columns": COLUMNS | {"seen": "TIMESTAMP"}, "known": {"at": "seen"}}


def build_all(world: World) -> None:
    """Pretends that tables hold what was known at the beginning of each of the first hundred days."""
    with world.lake.writing() as connection:
        connection.execute(
            f"CREATE OR REPLACE TABLE {BUILT_UNTIL} AS SELECT 'day ' || d AS node, '' AS sql_version, "
            "TIMESTAMP '2023-12-31' + to_days(d::INTEGER) AS known_until FROM range(1, 101) r(d)"
        )


def built_until(world: World) -> int:
    return world.query(f"SELECT max(dayofyear(known_until)) FROM {BUILT_UNTIL}")[0][0]


def test_what_is_made_from_other_tables_stays_built(folder: Path) -> None:
    """Another domain's tables, say, whose clock stands later."""
    world = World(folder, key=["id"])
    world.deliver(40, (1, 10))
    build_all(world)
    world.deliver(50, (1, 10), (2, 20), made_from_it=["day 60", "day 70"])
    left = {node for (node,) in world.query(f"SELECT node FROM {BUILT_UNTIL}")}
    assert {f"day {number}" for number in range(1, 101)} - left == {"day 60", "day 70"}


@pytest.mark.parametrize("key", [[], ["id"]])
def test_what_was_built_is_forgotten_from_the_first_instant_of_which_something_else_is_known(
    folder: Path, key: list[str]
) -> None:
    world = World(folder, key=key, **LATER)
    one, two = (1, 10, "2024-01-05", None, None), (2, 20, "2024-01-06", None, None)
    world.deliver(40, one, two)
    for number, rows, until in (
        (50, [one, two], 100),
        (52, [one], 51),  # withdrawn from then
        (60, [one, two], 51),  # returned: it was known all the time
        (62, [one, (*two[:3], "2024-03-01", "good")], 60),  # the 61st day: it couldn't have come before
        (64, [(*one[:3], "2024-02-20", "bad"), (*two[:3], "2024-03-01", "good")], 63),  # it could: known from now
        (66, [(*one[:3], "2024-02-20", "bad"), (*two[:3], "2024-03-01", "fine")], 65),  # corrected
        (70, [(*one[:3], "2024-02-20", "bad"), (*two[:3], "2024-03-01", "fine"), (3, 30, "2024-01-09", None, None)], 8),
    ):
        build_all(world)
        world.deliver(number, *rows)
        assert (number, built_until(world)) == (number, until)


def test_a_row_that_comes_with_a_group_known_before_it_counts_from_the_first_of_both(folder: Path) -> None:
    world = World(folder, key=["id"], **LATER)
    world.deliver(40, (1, 10, "2024-01-05", None, None))
    build_all(world)
    world.deliver(50, (1, 10, "2024-01-05", None, None), (2, 20, "2024-01-20", "2024-01-12", "early"))
    assert built_until(world) == 11


def test_another_declaration_has_everything_built_afresh(folder: Path) -> None:
    world = World(folder, key=["id"], **SEEN)
    world.deliver(40, (1, 10, "2024-01-05"))
    build_all(world)
    world.declared["known"] = {"at": "seen + INTERVAL 2 DAY"}
    world.deliver(60, (1, 10, "2024-01-05"))
    assert built_until(world) is None


def test_declared_history_has_built_afresh_from_its_first_new_instant(folder: Path) -> None:
    world = World(folder, key=["id"], **SEEN | {"known": {"at": "seen", "corrections": "declared"}})
    one, two = (1, 10, "2024-01-05"), (2, 20, "2024-01-06")
    world.deliver(40, one, two)
    for number, rows, until in (
        (50, [one], 49),  # withdrawn from then
        (60, [one, two], 49),  # returned
        (70, [one, two, (1, 11, "2024-01-20")], 19),
        (80, [one, two, (1, 12, "2024-01-20"), (3, 30, "2024-02-20")], 19),
        (90, [two, (3, 30, "2024-02-20"), (4, 40, "2024-01-09")], 8),
    ):
        build_all(world)
        world.deliver(number, *rows)
        assert (number, built_until(world)) == (number, until)
    assert world.query('SELECT "at" FROM control.corrections ORDER BY 1') == [(day(50),), (day(90),)]
    assert world.versions("id, v, dayofyear(_row_known_at)") == [
        (1, 10, 5, 5, 20),
        (1, 12, 20, 20, 90),
        (2, 20, 6, 6, None),
        (3, 30, 51, 51, None),
        (4, 40, 9, 9, None),
    ]


def test_the_view_shows_what_is_known_at_the_first_of_the_tables_instant_and_the_cap(folder: Path) -> None:
    world = World(folder, key=["id"], **LATER)
    world.deliver(40, (1, 10, "2024-01-05", "2024-01-30", "good"))
    world.deliver(50, (1, 11, "2024-01-05", "2024-01-30", "good"))
    with world.lake.writing() as connection:
        connection.execute("DELETE FROM control.instants")
    assert world.query("SELECT v, result FROM known.t") == [(11, "good")]  # without any instant, all that is known
    for table, cap, expected in (
        (60, 45, (10, "good")),
        (45, 60, (10, "good")),
        (60, 29, (10, None)),
        (60, 50, (11, "good")),
    ):
        with world.lake.writing() as connection:
            connection.execute("DELETE FROM control.instants")
            connection.executemany(
                "INSERT INTO control.instants VALUES (?, ?)",
                [("raw.t", day(table)), ("cap", day(cap)), ("raw.u", day(1)), ("as_of", day(1))],
            )
        assert world.query("SELECT v, result FROM known.t") == [expected]


def test_two_corrections_at_one_instant_are_noted_once(folder: Path) -> None:
    world = World(folder, key=["id"])
    world.deliver(40, (1, 10), (2, 20))
    world.deliver(50, (1, 11), (2, 20))
    world.deliver(50, (1, 12), (2, 20))
    assert world.versions() == [(1, 10, 40, 50), (1, 12, 50, None), (2, 20, 40, None)]
    assert world.query('SELECT table_name, "at" FROM control.corrections') == [("t", day(50))]
    world.deliver(60, (1, 12), (2, 21))
    assert world.query('SELECT "at" FROM control.corrections ORDER BY 1') == [(day(50),), (day(60),)]


@pytest.mark.parametrize(("key", "corrections"), [([], "arrival"), (["id"], "arrival"), (["id"], "declared")])
def test_a_month_without_any_row_left_is_withdrawn(folder: Path, key: list[str], corrections: str) -> None:
    declared = SEEN | {"known": {"at": "seen", "corrections": corrections}}
    world = World(folder, key=key, month="seen", **declared)
    months = [date(2024, 1, 1), date(2024, 2, 1), date(2024, 3, 1)]
    rows = [(1, 10, "2024-01-05"), (2, 20, "2024-02-05"), (3, 30, "2024-03-05")]
    world.deliver(100, *rows, months=months)
    assert world.deliver(105, *rows, months=months).changes == Changes()
    assert world.deliver(110, rows[0], rows[2], months=months).changes == Changes(withdrawn=1)
    assert world.deliver(120, rows[0], months=months[:2]).changes == Changes()  # March wasn't asked for
    assert world.versions() == [(1, 10, 5, None), (2, 20, 36, 110), (3, 30, 65, None)]


def test_without_a_key_each_month_has_its_delivery_before(folder: Path) -> None:
    """A row may be another one, corrected, where it could have come with its own month's delivery before."""
    world = World(folder, month="seen", **SEEN)
    january, february = [date(2024, 1, 1)], [date(2024, 2, 1)]
    world.deliver(40, (1, 10, "2024-01-05"), months=january)
    world.deliver(37, (2, 20, "2024-02-05"), months=february)
    world.deliver(70, (1, 11, "2024-01-06"), months=january)
    assert world.versions() == [(1, 10, 5, 70), (1, 11, 70, None), (2, 20, 36, None)]
    world.deliver(80, (3, 30, "2024-02-08"), months=february)  # the 39th day, after February's delivery before
    assert world.versions()[2:] == [(2, 20, 36, 80), (3, 30, 39, None)]


def test_a_month_that_was_never_delivered_corrects_none(folder: Path) -> None:
    world = World(folder, month="seen", **SEEN)
    world.deliver(40, (1, 10, "2024-01-05"), months=[date(2024, 1, 1)])
    rows = [(1, 11, "2024-01-06"), (2, 20, "2024-02-05")]
    world.deliver(70, *rows, months=[date(2024, 1, 1), date(2024, 2, 1)])
    assert world.versions() == [(1, 10, 5, 70), (1, 11, 70, None), (2, 20, 36, None)]


def test_only_months_that_differ_are_compared_row_by_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of deliveries whose corrections arrive; a declared history is compared as a whole."""
    asked: list[str] = []
    real = versions._deliver

    def spy(*arguments: Any) -> Any:
        asked.append(arguments[5])
        return real(*arguments)

    monkeypatch.setattr(versions, "_deliver", spy)
    world = World(folder, key=["id"], month="seen", **SEEN)
    january, february = (1, 10, "2024-01-05"), (2, 20, "2024-02-05")
    world.deliver(70, january, february)
    asked.clear()
    world.deliver(80, january, february)
    assert asked == []
    world.deliver(90, january, (2, 21, "2024-02-06"))
    world.deliver(95, january, (2, 21, "2024-02-06"))
    assert asked == ["(_month = DATE '2024-02-01')"]


def test_a_row_returns_to_its_last_version_or_to_none(folder: Path) -> None:
    world = World(folder, key=["id"])
    for number, rows in ((10, [(1, 10)]), (20, [(1, 11)]), (30, [(2, 20)]), (40, [(1, 10), (2, 20)])):
        world.deliver(number, *rows)
    assert world.versions() == [(1, 10, 10, 20), (1, 10, 40, None), (1, 11, 20, 30), (2, 20, 30, None)]
    assert world.query("SELECT dayofyear(_row_known_at) FROM raw.t WHERE id = 1") == [(10,)] * 3


def test_without_a_key_the_version_that_ended_last_returns(folder: Path) -> None:
    world = World(folder)
    world.deliver(10, (1, 10), (1, 10), (9, 9))
    world.deliver(20, (1, 10), (9, 9))
    world.deliver(30, (9, 9))
    assert world.versions() == [(1, 10, 10, 20), (1, 10, 10, 30), (9, 9, 10, None)]
    assert world.deliver(40, (1, 10), (9, 9)).changes == Changes(returned=1)
    assert world.versions() == [(1, 10, 10, 20), (1, 10, 10, None), (9, 9, 10, None)]


def test_a_group_that_a_returning_row_brings_is_filled_in(folder: Path) -> None:
    world = World(folder, key=["id"], **LATER)
    one = (1, 10, "2024-01-05", None, None)
    world.deliver(40, one, (2, 20, "2024-01-06", None, None))
    world.deliver(50, one)
    changes = world.deliver(60, one, (2, 20, "2024-01-06", "2024-02-25", "good")).changes
    assert changes == Changes(returned=1)
    assert world.versions(f"id, {SINCE}") == [(1, None, None, 5, None), (2, "good", 56, 6, None)]
