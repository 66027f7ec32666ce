"""From files to raw tables: every format, every way a row can be unreadable, and what is known when."""

import gzip
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.sources import Sources, load_sources
from hindcast.tables.ingest import IngestResult, ingest
from hindcast.tables.readers import append

NOW = datetime(2024, 3, 1, tzinfo=UTC)
COLUMNS = {"id": "INTEGER", "name": "VARCHAR", "size": "DOUBLE", "moment": "TIMESTAMP", "day": "DATE"}
HEADER = "moment,id,extra,name,size,day\n"  # not in the order of declaration, and with one column more
ROWS = ["2024-01-31T23:30:00-01:00,1,x,plain,1.5,2024-01-01\n", '2024-02-01 12:00:00,2,x,"a, ""b""",NA,NA\n']
EXPECTED = [
    (1, "plain", 1.5, datetime(2024, 2, 1, 0, 30), date(2024, 1, 1)),
    (2, 'a, "b"', None, datetime(2024, 2, 1, 12), None),
]


class World:
    """A home, a folder of source files, and a declaration of one table `readings`."""

    def __init__(self, folder: Path) -> None:
        self.stack = ExitStack()
        self.reader: duckdb.DuckDBPyConnection | None = None
        self.files = folder / "files"
        self.files.mkdir()
        self.settings = Settings(folder, folder / "home")
        self.lake = Lake(self.settings)
        self.table: dict = {"file": "readings.csv", "format": "csv", "nulls": ["NA", ""], "columns": COLUMNS}
        self.other: dict = {}

    def sources(self) -> Sources:
        return Sources.model_validate(
            {"folder": "files", "starts": date(2024, 1, 1), "tables": self.other | {"readings": self.table}}
        )

    def ingest(self, now: datetime = NOW, months: list[date] | None = None, table: str = "readings") -> IngestResult:
        return ingest(self.lake, self.sources(), table, now, self.settings, months)

    def write(self, *rows: str, header: str = HEADER) -> None:
        (self.files / "readings.csv").write_text(header + "".join(rows))

    def query(self, sql: str) -> list[tuple]:
        """Over one open reader, which sees what was written since: opening one is what takes time."""
        self.reader = self.reader or self.stack.enter_context(self.lake.reading())
        return self.reader.execute(sql).fetchall()

    def snapshot(self) -> int:
        return self.query("SELECT id FROM lake.current_snapshot()")[0][0]

    def rejected(self) -> list[tuple]:
        return self.query("SELECT line, column_name, reason, text FROM raw.rejected ORDER BY line")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    with world.stack:
        yield world


# Formats


def test_csv_plain_gzip_and_zip_give_the_same_rows(world: World) -> None:
    text = HEADER + "".join(ROWS)
    (world.files / "readings.csv").write_text(text)
    (world.files / "readings.csv.gz").write_bytes(gzip.compress(text.encode()))
    with zipfile.ZipFile(world.files / "readings.csv.zip", "w") as archive:
        archive.writestr("inside.csv", text)
    for file in ["readings.csv", "readings.csv.gz", "readings.csv.zip"]:
        world.table["file"] = file
        if world.lake.exists("raw.readings"):
            with world.lake.writing() as connection:
                connection.execute("DROP TABLE raw.readings")
        result = world.ingest()
        assert world.query("SELECT id, name, size, moment, day FROM raw.readings ORDER BY id") == EXPECTED
        assert world.query("SELECT DISTINCT _source_file, _ingested_at FROM raw.readings") == [
            (f"files/{file}", datetime(2024, 3, 1))
        ]
        assert (result.rows_read, result.rows, result.rejected, result.undeclared) == (2, 2, 0, ("extra",))
    assert list(world.settings.scratch.iterdir()) == []


def test_json_lines(world: World) -> None:
    world.table |= {"file": "readings.jsonl", "format": "jsonl"}
    lines = [
        '{"id": 1, "name": "plain", "size": 1.5, "moment": "2024-01-31T23:30:00-01:00", "day": "2024-01-01"}',
        '{"day": null, "moment": "2024-02-01 12:00:00", "name": "a, \\"b\\"", "id": 2, "size": "NA", "extra": [1]}',
        '{"id": 3, "name": "open',
        "[4]",
        "",
        '{"id": 5.5}',
        '{"id": 6, "name": null}',
    ]
    (world.files / "readings.jsonl").write_text("\n".join(lines))
    result = world.ingest()
    assert world.query("SELECT id, name, size, moment, day FROM raw.readings ORDER BY id") == [
        *EXPECTED,
        (6, None, None, None, None),
    ]
    assert world.query("SELECT _source_line FROM raw.readings ORDER BY id") == [(1,), (2,), (7,)]
    assert world.rejected() == [
        (3, None, "not a JSON object", lines[2]),
        (4, None, "not a JSON object", "[4]"),
        (6, "id", '"5.5" is not INTEGER', '{"id": 5.5}'),
    ]
    assert (result.rows_read, result.rejected, result.undeclared) == (6, 3, ("extra",))


@pytest.mark.parametrize("packed", [False, True])
def test_parquet_with_other_types_and_a_row_that_does_not_fit(world: World, packed: bool) -> None:
    file = world.files / "readings.parquet"
    duckdb.execute(
        f"""
        COPY (
            SELECT * FROM (VALUES
                ('1', 'plain', 1.5, TIMESTAMPTZ '2024-01-31 23:30:00-01', DATE '2024-01-01'),
                ('x', 'bad', 2.5, NULL, NULL),
                ('2', 'a, "b"', NULL, TIMESTAMPTZ '2024-02-01 12:00:00Z', NULL)
            ) t(id, name, size, moment, day)
        ) TO '{file}'
        """
    )
    world.table |= {"file": file.name, "format": "parquet"}
    if packed:
        with zipfile.ZipFile(f"{file}.zip", "w") as archive:
            archive.write(file, "inside")
        world.table["file"] += ".zip"
    world.ingest()
    assert world.query("SELECT id, name, size, moment, day FROM raw.readings ORDER BY id") == EXPECTED
    assert world.query("SELECT _source_line FROM raw.readings ORDER BY id") == [(1,), (3,)]
    assert world.rejected()[0][:3] == (2, "id", '"x" is not INTEGER')
    assert world.rejected()[0][3].startswith('{"id":"x","name":"bad"')


def test_a_glob_reads_every_file_whatever_its_column_order(world: World) -> None:
    world.table["file"] = "*.csv"
    (world.files / "a.csv").write_text(HEADER + ROWS[0])
    (world.files / "b.csv").write_text("id,name,size,moment,day\n2,b,,,\nx,c,,,\n")
    result = world.ingest()
    assert world.query("SELECT id, _source_file, _source_line FROM raw.readings ORDER BY id") == [
        (1, "files/a.csv", 2),
        (2, "files/b.csv", 2),
    ]
    assert world.query("SELECT source_file, line FROM raw.rejected") == [("files/b.csv", 3)]
    assert result.files == ("files/a.csv", "files/b.csv")


# Rows that can't be read


def test_each_unreadable_row_is_kept_with_line_reason_and_text(world: World) -> None:
    world.table["columns"] = {"id": "INTEGER", "name": "VARCHAR", "size": "DOUBLE"}
    lines = [
        "id,name,size",  # 1
        "1,good,1",
        "x,two faults,y",
        "",
        "2,good after a blank line,2",  # 5
        "3,too few",
        "4,too,many,values",
        '5,"over two',
        'lines",5',
        '6,"never closed,6',  # 10
        "7,good,7",
        '8,"text "beside,8',
        '9,5" of snow,9',
        "10.5,lossy,10",
        "11.0,whole,11",  # 15
        "99999999999,too big,12",
        "13,good,13",
    ]
    (world.files / "readings.csv").write_text("\n".join(lines))
    result = world.ingest()
    assert world.query("SELECT id, name, size, _source_line FROM raw.readings ORDER BY _source_line") == [
        (1, "good", 1, 2),
        (2, "good after a blank line", 2, 5),
        (5, "over two\nlines", 5, 8),
        (7, "good", 7, 11),
        (9, '5" of snow', 9, 13),
        (11, "whole", 11, 15),
        (13, "good", 13, 17),
    ]
    assert world.rejected() == [
        (3, "id, size", '"x" is not INTEGER; "y" is not DOUBLE', lines[2]),
        (6, None, "too few values", lines[5]),
        (7, None, "too many values", lines[6]),
        (10, None, "a quoted value is never closed", lines[9]),
        (12, None, "a quoted value has text beside it", lines[11]),
        (14, "id", '"10.5" is not INTEGER', lines[13]),
        (16, "id", '"99999999999" is not INTEGER', lines[15]),
    ]
    assert (result.rows_read, result.rows, result.rejected, result.rejected_share) == (14, 7, 7, 0.5)


def test_bytes_that_are_not_text_and_lines_without_end_are_rejected(world: World) -> None:
    world.table["columns"] = {"id": "INTEGER", "name": "VARCHAR"}
    (world.files / "readings.csv").write_bytes(
        b"\xef\xbb\xbfid,name\r\n1,\xff\r\n2," + b"a" * 1_000_001 + b"\r\n3,caf\xc3\xa9\r\n"
    )
    world.ingest()
    assert world.query("SELECT id, name, _source_line FROM raw.readings") == [(3, "café", 4)]
    assert [(line, reason) for line, _, reason, _ in world.rejected()] == [
        (2, "not UTF-8"),
        (3, "longer than a line may be"),
    ]


def test_lines_are_true_in_a_file_that_is_read_in_parallel(world: World) -> None:
    world.table["columns"] = {"id": "INTEGER", "name": "VARCHAR"}
    bad = set(range(1_000, 200_000, 7_919))
    lines = [f"{'x' if line in bad else ''}{line},{'n' * 60}" for line in range(2, 200_001)]
    (world.files / "readings.csv").write_text("\n".join(["id,name", *lines]))
    result = world.ingest()
    assert result.rejected == len(bad)
    assert {line for line, *_ in world.rejected()} == bad
    assert world.query("SELECT count(*) FILTER (id <> _source_line), count(*) FROM raw.readings") == [
        (0, 199_999 - len(bad))
    ]


def test_a_row_whose_month_or_known_instant_has_no_value_is_rejected(world: World) -> None:
    world.table |= {
        "month": "moment",
        "known": {
            "at": "moment + to_minutes(size::INTEGER)",
            "later": {"end": {"at": "TIMESTAMP '2024-01-01' + to_days(id)", "columns": ["name"]}},
        },
    }
    world.write(",1,x,a,1,\n", "2024-01-01,1,x,a,,\n", "2024-01-01,,x,a,1,\n", "2024-01-01,,x,,1,\n")
    result = world.ingest()
    assert world.query("SELECT _source_line FROM raw.readings") == [(5,)]
    assert [(line, reason) for line, _, reason, _ in world.rejected()] == [
        (2, "known.at has no value; month has no value"),
        (3, "known.at has no value"),
        (4, "known.later.end.at has no value, while there is one in name"),
    ]
    assert result.rows_read == 4


def test_rejected_rows_are_replaced_with_their_file_and_other_tables_keep_theirs(world: World) -> None:
    world.other = {"others": {"file": "others.csv", "format": "csv", "columns": {"id": "INTEGER"}}}
    (world.files / "others.csv").write_text("id\nx\n")
    world.write(*ROWS, "bad\n")
    world.ingest(table="others")
    world.ingest()
    assert world.query("SELECT table_name, line FROM raw.rejected ORDER BY 1") == [("others", 2), ("readings", 4)]
    world.write(*ROWS)
    assert world.ingest().changed
    assert world.query("SELECT table_name, line FROM raw.rejected") == [("others", 2)]


# Files that can't be read


def test_a_missing_file_is_named(world: World) -> None:
    with pytest.raises(HindcastError, match=r"raw\.readings: the file .*files/readings\.csv is missing"):
        world.ingest()


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_a_lost_column_is_named_with_its_file(world: World, format: str) -> None:
    world.table |= {"file": f"readings.{format}", "format": format}
    path = world.files / f"readings.{format}"
    kind = {"csv": "(FORMAT csv)", "jsonl": "(FORMAT json)", "parquet": "(FORMAT parquet)"}[format]
    duckdb.execute(f"COPY (SELECT 1 AS id, 'a' AS name, 2.5 AS size, DATE '2024-01-01' AS day) TO '{path}' {kind}")
    with pytest.raises(HindcastError, match=rf"readings\.{format} has lost the column moment; it has [a-z, ]*day"):
        world.ingest()


@pytest.mark.parametrize(
    ("file", "format"), [("readings.csv.zip", "csv"), ("readings.csv.gz", "csv"), ("readings.parquet", "parquet")]
)
def test_a_damaged_file_is_named(world: World, file: str, format: str) -> None:
    world.table |= {"file": file, "format": format}
    (world.files / file).write_bytes(b"not what its name says")
    with pytest.raises(HindcastError, match=file.replace(".", r"\.")):
        world.ingest()


def test_nothing_is_written_when_a_file_fails(world: World) -> None:
    world.write(*ROWS)
    world.ingest()
    before = world.snapshot()
    world.write("1,2\n", header="id,name\n")
    with pytest.raises(HindcastError, match="has lost the columns size, moment, day"):
        world.ingest()
    assert world.snapshot() == before


def test_an_expression_that_fails_is_an_error_of_the_declaration(world: World) -> None:
    world.table["known"] = {"at": "moment + nonsense"}
    world.write(*ROWS)
    with pytest.raises(HindcastError, match=r"raw\.readings has an expression that fails: .*nonsense"):
        world.ingest()


# What is known when

LATER = {
    "month": "moment",
    "known": {
        "at": "moment - INTERVAL 1 DAY",
        "later": {"end": {"at": "moment + to_hours(size::INTEGER)", "columns": ["size", "day"]}},
    },
}


def test_the_clock_masks_what_is_known_later(world: World) -> None:
    world.table |= LATER
    world.write(
        "2024-02-10T00:00:00Z,1,,known wholly,24,2024-02-11\n",
        "2024-02-11T00:00:00Z,2,,known in part,1,2024-02-11\n",
        "2024-02-12T00:00:00Z,3,,known at this very instant,1,\n",
        "2024-02-12T00:00:01Z,4,,a second too late,1,\n",
        "2024-02-10T00:00:00Z,5,,never,,\n",
    )
    clock = datetime(2024, 2, 11, tzinfo=UTC)
    result = world.ingest(clock)
    assert world.query("SELECT id, size, day, _known_at, _end_known_at, _month FROM raw.readings ORDER BY id") == [
        (1, 24, date(2024, 2, 11), datetime(2024, 2, 9), datetime(2024, 2, 11), date(2024, 2, 1)),
        (2, None, None, datetime(2024, 2, 10), None, date(2024, 2, 1)),
        (3, None, None, datetime(2024, 2, 11), None, date(2024, 2, 1)),
        (5, None, None, datetime(2024, 2, 9), None, date(2024, 2, 1)),
    ]
    assert (result.rows, result.not_yet_known, result.rejected) == (4, 1, 0)

    later = world.ingest(datetime(2024, 2, 20, tzinfo=UTC))
    assert later.changed and later.data_version != result.data_version
    assert world.query("SELECT id, size FROM raw.readings ORDER BY id") == [(1, 24), (2, 1), (3, 1), (4, 1), (5, None)]


def test_ingesting_again_writes_nothing(world: World) -> None:
    world.table |= LATER
    world.write(*ROWS, "bad\n")
    first = world.ingest()
    snapshot, april = world.snapshot(), datetime(2024, 4, 1, tzinfo=UTC)
    again = world.ingest(april, [date(2024, 2, 1)])
    assert first.changed and not again.changed
    assert again.data_version == first.data_version
    # That nothing more came until April is news, noted beside the table.
    assert world.query("SELECT month, ingested_until FROM control.ingested WHERE month > '2024-01-01' ORDER BY 1") == [
        (date(2024, 2, 1), datetime(2024, 4, 1)),
        (date(2024, 3, 1), datetime(2024, 3, 1)),
        (date(2024, 4, 1), datetime(2024, 3, 1)),
    ]
    assert world.snapshot() == snapshot + 1
    snapshot = world.snapshot()
    world.ingest(april, [date(2024, 2, 1)])
    assert world.snapshot() == snapshot
    assert world.query("SELECT count(*), max(_ingested_at) FROM raw.readings") == [(2, datetime(2024, 3, 1))]
    assert world.query("SELECT count(*) FROM raw.rejected") == [(1,)]


def test_only_the_asked_months_that_differ_are_replaced(world: World) -> None:
    world.table |= {"month": "moment"}
    world.write("2024-01-05,1,,a,,\n", "2024-02-05,2,,a,,\n", "2024-03-05,3,,a,,\n")
    world.ingest()
    world.write("2024-01-05,1,,b,,\n", "2024-02-05,2,,a,,\n", "2024-03-05,3,,b,,\n")
    later = datetime(2024, 4, 1, tzinfo=UTC)
    result = world.ingest(later, [date(2024, 1, 1), date(2024, 2, 1)])
    march, april = datetime(2024, 3, 1), datetime(2024, 4, 1)
    versions = "SELECT id, name, _known_at, _known_until FROM raw.readings ORDER BY id, _known_at"
    assert world.query(versions) == [
        (1, "a", march, april),
        (1, "b", april, None),
        (2, "a", march, None),
        (3, "a", march, None),
    ]
    assert (result.rows, result.rows_in_table) == (2, 3)
    world.write("2024-02-05,2,,a,,\n", "2024-03-05,3,,b,,\n")
    world.ingest(later, [date(2024, 1, 1)])
    assert world.query(versions) == [(1, "a", march, april), (2, "a", march, None), (3, "a", march, None)]


def test_without_a_declared_instant_a_row_is_known_when_first_ingested(world: World) -> None:
    world.table["columns"] = {"id": "INTEGER", "name": "VARCHAR"}
    world.write("1,a\n", header="id,name\n")
    world.ingest()
    world.write("2,b\n", "1,a\n", header="id,name\n")
    world.ingest(datetime(2024, 4, 1, tzinfo=UTC))
    assert world.query("SELECT id, _known_at FROM raw.readings ORDER BY id") == [
        (1, datetime(2024, 3, 1)),
        (2, datetime(2024, 4, 1)),
    ]
    assert not world.ingest(datetime(2024, 5, 1, tzinfo=UTC)).changed


def test_a_lookup_reads_another_raw_table_and_must_be_unique(world: World) -> None:
    world.other = {"places": {"file": "places.csv", "format": "csv", "columns": {"id": "INTEGER", "zone": "VARCHAR"}}}
    world.table |= {
        "lookups": {"zone": {"table": "places", "column": "zone", "match": {"id": "id"}}},
        "derived": {"there": "moment AT TIME ZONE zone AT TIME ZONE 'UTC'"},
        "known": {"at": "there"},
    }
    (world.files / "places.csv").write_text("id,zone\n1,America/New_York\n")
    world.write("2024-01-05 12:00:00,1,,a,,\n", "2024-01-05 12:00:00,2,,no such place,,\n")
    with pytest.raises(HindcastError, match=r"looks up raw\.places, which is to be ingested before"):
        world.ingest()
    world.ingest(table="places")
    world.ingest()
    assert world.query("SELECT id, _known_at FROM raw.readings") == [(1, datetime(2024, 1, 5, 17))]
    assert world.rejected()[0][:3] == (3, None, "known.at has no value")
    (world.files / "places.csv").write_text("id,zone\n1,America/New_York\n1,America/Chicago\n")
    world.ingest(table="places")
    with pytest.raises(HindcastError, match=r"finds \"id\" = \(1,\) more than once"):
        world.ingest()


def test_two_homes_give_one_data_version(tmp_path: Path) -> None:
    versions = set()
    for name, months in [("a", None), ("b", [date(2024, 2, 1)])]:
        (tmp_path / name).mkdir()
        world = World(tmp_path / name)
        world.table |= LATER
        world.write(*ROWS)
        versions.add(world.ingest(months=months).data_version)
    assert len(versions) == 1


def test_a_changed_declaration_is_not_mixed_with_old_rows(world: World) -> None:
    world.write(*ROWS)
    world.ingest()
    world.table["columns"] = COLUMNS | {"size": "INTEGER"}
    world.write("2024-01-05,1,,a,3,\n")
    with pytest.raises(HindcastError, match="other columns than are declared"):
        world.ingest()


# The real data


def test_a_month_of_the_real_flights(tmp_path: Path) -> None:
    settings = Settings(Settings.from_environment().root, tmp_path)
    sources = load_sources(settings.sources_folder / "flights.yaml")
    lake = Lake(settings)
    clock = datetime(2013, 2, 1, tzinfo=UTC)
    ingest(lake, sources, "airports", clock, settings)
    result = ingest(lake, sources, "flights", clock, settings, [date(2013, 1, 1), date(2013, 2, 1)])
    assert (result.rows_read, result.rejected) == (336_776, 0)
    with lake.reading() as connection:
        january, february, departed, seen_later = connection.execute(
            """
            SELECT
                count(*) FILTER (month_of = 1),
                count(*) FILTER (month_of = 2),
                count(dep_time) FILTER (month_of = 2),
                count(*) FILTER (list_max([_known_at, _departure_known_at, _arrival_known_at]) > TIMESTAMP '2013-02-01')
            FROM (SELECT *, month(_month) AS month_of FROM raw.flights)
            """
        ).fetchall()[0]
        # Between departure and arrival an aircraft flies and taxies: no zone and no midnight takes that away.
        taxi, arrived = connection.execute(
            """
            SELECT min(date_diff('minute', _departure_known_at, _arrival_known_at) - air_time), count(arr_delay)
            FROM raw.flights WHERE arr_delay IS NOT NULL
            """
        ).fetchall()[0]
        first = connection.execute(
            """
            SELECT flight, _source_line, _known_at, _departure_known_at, _arrival_known_at
            FROM raw.flights ORDER BY _source_line LIMIT 1
            """
        ).fetchall()
    assert january > 26_000 and february > 6_000
    assert departed < 10 and seen_later == 0  # some leave a few minutes early, before midnight UTC
    assert taxi >= 5 and arrived > 25_000
    # UA 1545 to Houston: due 05:15 in New York (10:15 UTC), left 2 minutes late; due 08:19 there (14:19 UTC), 11 late.
    instants = (datetime(2012, 12, 25, 10, 15), datetime(2013, 1, 1, 10, 17), datetime(2013, 1, 1, 14, 30))
    assert first == [(1545, 2, *instants)]


def test_nothing_is_lost_after_an_addition_of_no_rows() -> None:
    connection = duckdb.connect()
    connection.execute("BEGIN")
    connection.execute("CREATE TEMP TABLE many AS SELECT i FROM range(200000) t(i)")
    connection.execute("CREATE TEMP TABLE total (i BIGINT)")
    append(connection, "total", "SELECT i FROM many WHERE i < ?", [0])
    append(connection, "total", "FROM many")
    append(connection, "total", "SELECT i FROM many WHERE i < ?", [5])
    assert connection.execute("SELECT count(*) FROM total").fetchall() == [(200_005,)]
