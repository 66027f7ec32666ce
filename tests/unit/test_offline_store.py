"""The offline store: which row of a history an entity row may see, and what Feast's API makes of it.

Most cases run on a history in memory through `Retrieval`; a few through Feast over a lake.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, ValueType
from feast.data_source import DataSource
from feast.types import Int32, String
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hindcast.errors import HindcastError
from hindcast.features import retrieval
from hindcast.features.asof import AT, FeatureTable, as_of_join, latest_rows
from hindcast.features.lake_source import LakeSource, SavedDatasetLakeStorage, feature_table
from hindcast.features.offline_store import LakeOfflineStore
from hindcast.features.retrieval import Retrieval, to_arrow
from hindcast.features.store import open_store
from hindcast.lake import Lake
from hindcast.settings import Settings
from tests.feature_world import at, make_world, register, shared_world

Row = tuple[str | None, datetime | None, datetime | None, int | None]  # key, timestamp, created, value


def view(ttl: timedelta | None = None, created: bool = False, table: str = "features.history") -> FeatureView:
    return FeatureView(
        name="history",
        entities=[Entity(name="k", value_type=ValueType.STRING)],
        ttl=ttl,
        schema=[Field(name="k", dtype=String), Field(name="value", dtype=Int32)],
        source=LakeSource(name="history", table=table, created_timestamp_column="created" if created else None),
    )


def connect(history: Sequence[Row], kind: str = "TIMESTAMP") -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("LOAD icu; SET TimeZone = 'UTC'; SET threads = 1; CREATE SCHEMA features")
    connection.execute(
        f"CREATE TABLE features.history (k VARCHAR, event_timestamp {kind}, created TIMESTAMP, value INTEGER)"
    )
    for key, told, created, value in history:
        naive = created and created.replace(tzinfo=None)
        connection.execute("INSERT INTO features.history VALUES (?, ?, ?, ?)", [key, told, naive, value])
    return connection


def ask(
    history: Sequence[Row], rows: Any, ttl: timedelta | None = None, created: bool = False, kind: str = "TIMESTAMP"
) -> pa.Table:
    """The rows with the history's value as known then. Rows: (key, instant) or an Arrow table."""
    if not isinstance(rows, pa.Table):
        keys, instants = zip(*rows, strict=True)
        rows = pa.table({"k": pa.array(keys, pa.string()), "event_timestamp": pa.array(instants)})
    return Retrieval([view(ttl, created)], [], ["history:value"], False).run(connect(history, kind), rows)


def zoned(zone: str, *clock: datetime) -> pa.Array:
    """What the clock shows in a zone, as instants of that zone."""
    utc = [shown.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None) for shown in clock]
    return pa.array(utc, pa.timestamp("us")).cast(pa.timestamp("us", zone))


def values(*arguments: Any, **options: Any) -> list[Any]:
    return ask(*arguments, **options)["value"].to_pylist()


# Read at 10:00 on the 5th and once more on the 6th; the second reading came in two days late.
LATE = [("A", at("05 10:00"), None, 1), ("A", at("08 12:00"), None, 2)]


@pytest.mark.parametrize(
    ("instant", "expected"),
    [("05 09:59", None), ("05 10:00", 1), ("07 10:00", 1), ("08 11:59", 1), ("08 12:00", 2), ("30 00:00", 2)],
)
def test_a_late_row_counts_from_when_it_was_known(instant: str, expected: int | None) -> None:
    assert values(LATE, [("A", at(instant))]) == [expected]


def test_a_correction_counts_from_when_it_was_known_also_where_something_newer_was_known_before() -> None:
    # 1 and then 2 become known; at noon word comes that the first was 9: from then on that is what is known last.
    history = [("A", at("05 10:00"), None, 1), ("A", at("05 11:00"), None, 2), ("A", at("05 12:00"), None, 9)]
    asked = [("A", at(f"05 {clock}")) for clock in ("10:30", "11:30", "12:30")]
    assert values(history, asked) == [1, 2, 9]


def test_the_edge_of_the_ttl_counts() -> None:
    edge = at("05 12:00")
    asked = [("A", edge), ("A", edge + timedelta(microseconds=1))]
    assert values([("A", at("05 10:00"), None, 1)], asked, ttl=timedelta(hours=2)) == [1, None]


def test_no_older_row_stands_in_for_one_that_is_too_old() -> None:
    history = [("A", at("05 10:00"), None, 1), ("A", at("05 11:00"), None, None)]
    assert values(history, [("A", at("05 11:30"))], ttl=timedelta(hours=2)) == [None]  # known last: that it's null


def test_a_ttl_of_zero_is_none() -> None:
    assert values(LATE, [("A", at("31 00:00"))], ttl=timedelta(0)) == [2]


def test_of_rows_known_at_one_instant_the_one_created_last_counts() -> None:
    same = at("05 10:00")
    history = [("A", same, at("05 09:00"), 9), ("A", same, None, 10), ("A", same, at("05 07:00"), 7)]
    assert values(history, [("A", same)], created=True) == [10]  # without a word on it, created when it says


# The level of 06:00 came in at once, that of 07:00 two hours late; at 10:00 that of 06:00 was corrected, at 11:00
# that of 07:00.
CORRECTED = [
    ("A", at("05 06:00"), at("05 06:00"), 6),
    ("A", at("05 07:00"), at("05 09:00"), 7),
    ("A", at("05 06:00"), at("05 10:00"), 60),
    ("A", at("05 07:00"), at("05 11:00"), 70),
]


@pytest.mark.parametrize(
    ("instant", "expected"),
    [
        ("05 05:59", None),
        ("05 08:59", 6),  # that of 07:00 isn't known yet
        ("05 09:00", 7),
        ("05 10:30", 7),  # what was corrected is older than what is known
        ("05 10:59", 7),
        ("05 11:00", 70),
    ],
)
def test_a_value_counts_from_when_it_was_created(instant: str, expected: int | None) -> None:
    assert values(CORRECTED, [("A", at(instant))], created=True) == [expected]


def test_a_correction_of_the_newest_row_counts_at_once_though_the_row_is_old() -> None:
    history = [CORRECTED[0], CORRECTED[2]]
    assert values(history, [("A", at(f"05 {clock}")) for clock in ("09:59", "10:00")], created=True) == [6, 60]


def test_the_ttl_counts_from_what_a_row_tells_of_and_not_from_when_it_came_in() -> None:
    asked = [("A", at(f"05 {clock}")) for clock in ("08:59", "09:00", "10:00", "10:01")]
    assert values(CORRECTED, asked, created=True, ttl=timedelta(hours=3)) == [6, 7, 7, None]


def test_created_in_another_zone_is_the_same_instant() -> None:
    connection = connect([])
    connection.execute("ALTER TABLE features.history ALTER created TYPE TIMESTAMPTZ")
    connection.execute("INSERT INTO features.history VALUES ('A', '2020-01-05 06:00', '2020-01-05 17:00:00+09', 6)")
    rows = pa.table({"k": ["A", "A"], "event_timestamp": [at("05 07:59"), at("05 08:00")]})
    found = Retrieval([view(created=True)], [], ["history:value"], False).run(connection, rows)
    assert found["value"].to_pylist() == [None, 6]


def test_what_became_known_past_a_given_instant_is_not_used_while_the_ttl_counts_from_the_rows_own() -> None:
    # Asked at noon of a store that was filled at 11:00 with a reading each of 10:00 and 11:30.
    history = [("A", at("05 10:00"), None, 10), ("A", at("05 11:30"), None, 11)]
    rows = pa.table({"k": ["A"] * 3, "event_timestamp": [at("05 12:00"), at("05 12:01"), at("05 12:00")]})
    rows = rows.append_column("filled", pa.array([at("05 11:00"), at("05 11:00"), at("05 11:30")]))
    retrieval = Retrieval([view(timedelta(hours=2))], [], ["history:value"], False, known_by="filled")
    assert retrieval.run(connect(history), rows)["value"].to_pylist() == [10, None, 11]


def test_null_keys_match_nothing() -> None:
    history = [(None, at("05 10:00"), None, 1), ("A", at("05 10:00"), None, 2)]
    assert values(history, [(None, at("05 11:00")), ("A", at("05 11:00"))]) == [None, 2]


def test_a_column_of_nothing_but_null_keys_matches_nothing() -> None:
    rows = pa.table({"k": pa.nulls(2), "event_timestamp": [at("05 11:00")] * 2})
    assert values([("A", at("05 10:00"), None, 2)], rows) == [None, None]


def test_a_null_instant_matches_nothing_on_either_side() -> None:
    history = [("A", None, None, 1), ("A", at("05 10:00"), None, 2)]
    assert values(history, [("A", at("05 11:00")), ("A", None)]) == [2, None]


def test_order_and_duplicates_of_the_entity_rows_are_kept() -> None:
    history = [(key, at("05 10:00"), None, value) for key, value in (("A", 1), ("B", 2), ("C", 3))]
    keys = ["C", "A", "Z", "C", "B", "A"] * 500
    rows = pa.table({"n": range(3000), "k": keys, "event_timestamp": [at("05 11:00")] * 3000})
    result = ask(history, rows)
    assert result["n"].to_pylist() == list(range(3000))
    assert result["value"].to_pylist() == [3, 1, None, 3, 2, 1] * 500


def test_slices_in_the_order_of_time_give_every_row_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    hours = [(7 * number) % 24 for number in range(22)]  # each another one, in no order
    history = [(key, at(f"05 {hour:02}:00"), None, hour) for key in "AB" for hour in range(24)]
    keys = ["A", "B", None, "C"] * 6
    rows = pa.table({"k": keys, "event_timestamp": [*(at(f"05 {hour:02}:30") for hour in hours), None, None]})
    rows = pa.concat_tables([rows.slice(0, 5), rows.slice(5)])  # in chunks
    joined: list[list[datetime]] = []

    def watched(connection: Any, table: FeatureTable, asked: pl.DataFrame, known_by: str) -> pa.Table:
        joined.append(asked.sort("__row")[AT].drop_nulls().to_list())
        return as_of_join(connection, table, asked, known_by)

    monkeypatch.setattr(retrieval, "as_of_join", watched)
    whole = ask(history, rows, ttl=timedelta(hours=1))
    assert whole["value"].to_pylist() == [
        hour if key in ("A", "B") else None for hour, key in zip([*hours, None, None], keys, strict=True)
    ]
    monkeypatch.setattr(retrieval, "SLICE", 5)
    assert ask(history, rows, ttl=timedelta(hours=1)).equals(whole)
    first, *slices = joined
    assert [instant.hour for instant in first] == hours  # as they were given
    assert [len(instants) for instants in slices] == [5, 5, 5, 5, 2]
    assert [instant for instants in slices for instant in sorted(instants)] == sorted(first)
    joined.clear()
    nearly = pa.table({"k": ["A"] * 8, "event_timestamp": [at(f"05 0{hour}:30") for hour in (1, 0, 2, 3, 4, 6, 5, 7)]})
    assert ask(history, nearly)["value"].to_pylist() == [1, 0, 2, 3, 4, 6, 5, 7]
    assert [[instant.hour for instant in instants] for instants in joined] == [
        [1, 0, 2, 3, 4],
        [6, 5, 7],
    ]  # as they come


def test_on_demand_features_are_computed_slice_by_slice_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(shared_world())
    rows = pa.Table.from_pandas(pd.concat([ASKED, ASKED.iloc[::-1]]), preserve_index=False)
    whole = store.get_historical_features(rows, store.get_feature_service("floods")).to_arrow()
    assert whole["share"].to_pylist() == EXPECTED["share"] + EXPECTED["share"][::-1]
    monkeypatch.setattr(retrieval, "SLICE", 3)
    sliced = store.get_historical_features(rows, store.get_feature_service("floods")).to_arrow()
    assert sliced.equals(whole)


def test_naive_instants_are_utc_and_zoned_ones_are_converted() -> None:
    history = [("A", at("05 10:00"), None, 1)]
    naive = pa.array([datetime(2020, 1, 5, 9, 59), datetime(2020, 1, 5, 10)], pa.timestamp("us"))
    assert values(history, pa.table({"k": ["A", "A"], "event_timestamp": naive})) == [None, 1]
    tokyo = zoned("Asia/Tokyo", datetime(2020, 1, 5, 18, 59), datetime(2020, 1, 5, 19))
    assert values(history, pa.table({"k": ["A", "A"], "event_timestamp": tokyo})) == [None, 1]


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMPTZ"])
def test_the_hour_that_comes_twice_when_clocks_go_back(kind: str) -> None:
    # In New York 01:30 came at 05:30 UTC and again at 06:30 UTC; the row was known at 06:00 UTC.
    history = [("A", datetime(2013, 11, 3, 6, tzinfo=UTC), None, 1)]
    twice = [datetime(2013, 11, 3, 1, 30, fold=fold) for fold in (0, 1)]
    rows = pa.table({"k": ["A", "A"], "event_timestamp": zoned("America/New_York", *twice)})
    assert values(history, rows, kind=kind) == [None, 1]


def test_nanoseconds_and_dates_are_instants_too() -> None:
    history = [("A", at("05 00:00"), None, 1)]
    fine = pa.array([pd.Timestamp("2020-01-05T00:00:00.000000999")], pa.timestamp("ns"))
    assert values(history, pa.table({"k": ["A"], "event_timestamp": fine})) == [1]
    assert values(history, pa.table({"k": ["A"], "event_timestamp": [at("05 00:00").date()]})) == [1]


def test_zoned_datetimes_are_converted_whatever_else_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYARROW_IGNORE_TIMEZONE", "1")  # as Pandera sets it
    clock = [datetime(2020, 1, 5, hour, 30, tzinfo=ZoneInfo("Asia/Tokyo")) for hour in (18, 19)]
    rows = pd.DataFrame({"k": ["A", "A"], "event_timestamp": pd.Series(clock, dtype=object)})
    assert values([("A", at("05 10:00"), None, 1)], to_arrow(duckdb.connect(), rows)) == [None, 1]


def test_an_empty_history_and_a_key_without_a_row_give_nothing() -> None:
    assert values([], [("A", at("05 10:00"))]) == [None]
    assert values([("A", at("05 10:00"), None, 1)], [("B", at("05 11:00"))]) == [None]


def test_no_entity_rows_give_no_rows() -> None:
    rows = pa.table({"k": pa.array([], pa.string()), "event_timestamp": pa.array([], pa.timestamp("us"))})
    assert ask([("A", at("05 10:00"), None, 1)], rows).num_rows == 0


def test_types_and_further_columns_are_kept() -> None:
    rows = pa.table(
        {
            "note": pa.array(["x", None]).dictionary_encode(),
            "k": ["A", "B"],
            "small": pa.array([1, None], pa.int8()),
            "event_timestamp": pa.array([at("05 11:00")] * 2, pa.timestamp("ms", "UTC")),
        }
    )
    result = ask([("A", at("05 10:00"), None, 1)], rows)
    assert result.select(rows.column_names).equals(rows)
    assert result.column_names == [*rows.column_names, "value"]
    assert result.schema.field("value").type == pa.int32()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pa.table({"event_timestamp": [at("05 10:00")]}), "no column k, the join key of feature view history"),
        (pa.table({"k": ["A"], "when": ["2020-01-05"]}), r"need a timestamp event_timestamp .* k \(string\), when"),
        (pa.table({"k": ["A"], "event_timestamp": ["2020-01-05"]}), "need a timestamp event_timestamp"),
        (pa.table({"k": [1], "event_timestamp": [at("05 10:00")]}), "join key k of history must be string, not int64"),
        (pa.table({"k": ["A"], "value": [1], "event_timestamp": [at("05 10:00")]}), "Two columns would be named value"),
    ],
)
def test_what_is_wrong_with_entity_rows_is_said_in_one_sentence(rows: pa.Table, message: str) -> None:
    with pytest.raises(HindcastError, match=message) as error:
        values([], rows)
    assert "\n" not in str(error.value)


def known_then(history: Sequence[Row], key: str | None, instant: datetime, ttl: timedelta | None) -> int | None:
    """The rule in plain Python, row by row: nothing of the SQL's way of doing it."""
    last: Row | None = None
    for row in history:
        if key is None or row[0] != key or row[1] > instant or row[2] > instant:
            continue
        if last is None or (row[1], row[2]) > (last[1], last[2]):
            last = row
    return None if last is None or (ttl and instant - last[1] > ttl) else last[3]


MINUTES = st.integers(0, 30)
KEYS = st.sampled_from(["A", "B", None])


@hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
@given(
    history=st.dictionaries(st.tuples(KEYS, MINUTES, MINUTES), st.integers(0, 99), max_size=12),
    asked=st.lists(st.tuples(KEYS, MINUTES), min_size=1, max_size=8),
    ttl=st.one_of(st.none(), st.integers(1, 10)),
)
def test_any_history_is_read_as_plain_python_reads_it(
    history: dict[tuple[str | None, int, int], int], asked: list[tuple[str | None, int]], ttl: int | None
) -> None:
    start, age = at("05 00:00"), timedelta(minutes=ttl) if ttl else None

    def minute(number: int) -> datetime:
        return start + timedelta(minutes=number)

    rows = [(key, minute(told), minute(created), value) for (key, told, created), value in history.items()]
    asks = [(key, minute(number)) for key, number in asked]
    expected = [known_then(rows, key, instant, age) for key, instant in asks]
    assert values(rows, asks, ttl=age, created=True) == expected


def test_the_latest_row_of_a_key_is_the_one_that_the_join_takes() -> None:
    same = at("05 10:00")
    connection = connect([("A", same, at("05 09:00"), 9), ("A", same, None, 10), ("A", same, at("05 11:00"), 11)])
    table = feature_table(view(created=True), ["value"])
    for clock, expected in (("10:00", 10), ("10:59", 10), ("11:00", 11)):
        latest = connection.execute(latest_rows(table, None, at(f"05 {clock}"))).to_arrow_table()
        assert latest["value"].to_pylist() == [expected]


# Through Feast, over a lake.


@pytest.fixture
def world() -> Settings:
    return shared_world()


ASKED = pd.DataFrame(
    {
        "gauge": ["A", "A", "B", None],
        "river_id": [1, 1, 2, 1],
        "reach": [4, 4, 4, 4],
        "event_timestamp": pd.to_datetime(
            ["2020-01-05 07:00", "2020-01-05 09:30", "2020-01-05 12:00", "2020-01-05 09:30"]
        ),
    }
)
EXPECTED = {
    "level": [10, 31, 7, None],
    "state": ["low", "high", None, None],
    "boats": [5, None, 2, None],
    "phase": [0.25] * 4,
    "share": [0.4, 31 * 4 / 120, 0.56, None],
    "dry": [0, 0, 0, 1],
}


@pytest.mark.parametrize("form", ["pandas", "arrow", "polars", "sql"])
def test_entity_rows_of_any_form(world: Settings, form: str) -> None:
    store = open_store(world)
    sql = (
        "SELECT gauge, river_id, reach, asked_at AS event_timestamp FROM split.days WHERE day_id < 'd3' ORDER BY day_id"
    )
    rows = {"pandas": ASKED, "arrow": pa.Table.from_pandas(ASKED), "polars": pl.from_pandas(ASKED), "sql": sql}[form]
    result = store.get_historical_features(rows, store.get_feature_service("floods")).to_arrow()
    found = {name: result[name].to_pylist() for name in EXPECTED}
    expected = {name: [column[0], column[2]] if form == "sql" else column for name, column in EXPECTED.items()}
    assert found == expected
    assert [result.schema.field(name).type for name in ("level", "state", "dry")] == [
        pa.int32(),
        pa.string(),
        pa.int64(),
    ]
    given = to_arrow(duckdb.connect(), rows).schema.field("gauge").type if form != "sql" else pa.string()
    assert result.schema.field("gauge").type == given


def test_full_feature_names_and_an_alias(world: Settings) -> None:
    store = open_store(world)
    service = store.get_feature_service("floods")
    service.feature_view_projections = [service.feature_view_projections[0]]
    projection = service.feature_view_projections[0]
    projection.name_alias, projection.join_key_map = "upstream", {"gauge": "gauge_above"}
    job = LakeOfflineStore.get_historical_features(
        store.config,
        [store.get_feature_view("levels").with_projection(projection)],
        ["upstream:level"],
        ASKED.rename(columns={"gauge": "gauge_above"}),
        store.registry,
        store.project,
        full_feature_names=True,
    )
    assert job.to_arrow()["upstream__level"].to_pylist() == EXPECTED["level"]


def test_every_key_where_no_entity_rows_are_given(world: Settings) -> None:
    job = open_store(world).get_historical_features(
        features=["levels:level"], start_date=at("05 00:00"), end_date=at("05 13:00")
    )
    found = job.to_arrow()
    # B's row is seven hours old by then.
    assert found.select(["gauge", "level"]).to_pydict() == {"gauge": ["A", "B"], "level": [31, None]}


def test_a_snapshot_is_read_as_it_was(world: Settings, tmp_path: Path) -> None:
    settings = register(make_world(tmp_path))
    before = Lake(settings).snapshot()
    with Lake(settings).writing() as connection:
        connection.execute("UPDATE features.levels SET level = 1000")
    found = [
        open_store(settings, snapshot).get_historical_features(ASKED, ["levels:level"]).to_arrow()["level"].to_pylist()
        for snapshot in (before, None)
    ]
    assert found == [EXPECTED["level"], [1000, 1000, 1000, None]]


def test_pulling_rows_for_materialising(world: Settings) -> None:
    config = open_store(world).config
    source: DataSource = LakeSource(name="levels", table="features.levels", created_timestamp_column="created")
    arguments = (config, source, ["gauge"], ["level"], "event_timestamp", "created")
    latest = LakeOfflineStore.pull_latest_from_table_or_query(*arguments, at("05 06:00"), at("05 09:05")).to_arrow()
    assert sorted(zip(latest["gauge"].to_pylist(), latest["level"].to_pylist(), strict=True)) == [("A", 31), ("B", 7)]
    before = LakeOfflineStore.pull_latest_from_table_or_query(*arguments, at("05 06:00"), at("05 09:04")).to_arrow()
    assert sorted(before["level"].to_pylist()) == [7, 30]  # what came in at 09:05 isn't known yet
    every = LakeOfflineStore.pull_all_from_table_or_query(*arguments, None, at("05 08:00")).to_arrow()
    assert sorted(every["level"].to_pylist()) == [7, 10, 99]


def test_a_saved_dataset_is_a_table_of_the_lake(world: Settings) -> None:
    store = open_store(world)
    job = store.get_historical_features(ASKED, ["levels:level", "rivers:boats"])
    storage = SavedDatasetLakeStorage("train.saved")
    store.create_saved_dataset(job, "saved", storage)
    found = store.get_saved_dataset("saved").to_df().sort_values(["event_timestamp", "river_id", "level"])
    assert found["level"].astype("Int64").tolist()[:2] == [10, 31]
    with pytest.raises(HindcastError, match=r"has a table train\.saved"):
        job.persist(storage)


def test_a_source_survives_the_registry_and_knows_its_table(world: Settings) -> None:
    store = open_store(world)
    source = store.get_feature_view("rivers").batch_source
    declared = LakeSource(name="rivers", table="features.rivers", field_mapping={"n_boats": "boats"})
    assert source == declared
    assert list(source.get_table_column_names_and_types(store.config))[:2] == [
        ("river_id", "INTEGER"),
        ("event_timestamp", "TIMESTAMP"),
    ]
    with pytest.raises(HindcastError, match=r"the lake has no table features\.lakes"):
        LakeSource(name="lakes", table="features.lakes").validate(store.config)
    with pytest.raises(HindcastError, match="has no column length of type TIMESTAMP"):
        LakeSource(name="rivers", table="features.rivers", timestamp_field="length").validate(store.config)
    with pytest.raises(HindcastError, match=r"must be written schema\.table"):
        LakeSource(name="rivers", table="rivers")
