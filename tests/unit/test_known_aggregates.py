"""The macro known_aggregates against plain Python: at instants, on a grid, and in steps as at once."""

import random
from datetime import datetime, timedelta
from typing import Any

import duckdb
import jinja2
import pyarrow as pa
import pytest

from hindcast.errors import HindcastError
from tests.conftest import ROOT

START = datetime(2024, 1, 1)
MINUTE = timedelta(minutes=1)
WINDOWS: dict[str, int | None] = {"6h": 360, "2d": 2880, "ever": None}
TEXT = {"type": "varchar"}
VALUES: list[dict[str, Any]] = [
    {"name": "rows", "aggregate": "count", "windows": WINDOWS},
    {"name": "told", "aggregate": "count", "of": "v", "windows": WINDOWS},
    {"name": "total", "aggregate": "sum", "of": "v", "windows": WINDOWS},
    {"name": "average", "aggregate": "mean", "of": "v", "windows": WINDOWS},
    {"name": "share", "aggregate": "rate", "of": "cast(v > 0 as integer)", "windows": WINDOWS},
    {"name": "drawn", "aggregate": "smoothed", "of": "v", "windows": WINDOWS, "towards": 0.25, "weight": 4},
    {"name": "lowest", "aggregate": "min", "of": "v", "windows": WINDOWS},
    {"name": "highest", "aggregate": "max", "of": "v", "windows": WINDOWS},
    {"name": "newest", "aggregate": "last", "of": "v", "windows": WINDOWS},
    {"name": "sign", "aggregate": "last", "of": "case when v > 0 then '+' else '-' end", "windows": WINDOWS} | TEXT,
]
SINCE = {"name": "hours", "aggregate": "since", "windows": WINDOWS}


def rendered(known_until: datetime, held: datetime | None = None, **arguments: Any) -> str:
    """The macro's SQL, as of an instant, for a table that is built at once or holds all until `held`."""

    def since_held(instant: str, days_before: int = 0) -> str:
        return f"{instant} > timestamp '{held - timedelta(days=days_before)}'" if held else "true"

    def grid_starts(news: str, keys: list[str], step: int) -> str:
        named = ", ".join([*keys, "event_timestamp"])
        more = f" union all select {named} from made where event_timestamp > timestamp '{held}' - to_minutes({step})"
        return f"(select {named} from {news}{more if held else ''}) as starts"

    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    text = "".join((ROOT / f"dbt_project/macros/{name}.sql").read_text() for name in ("time", "known_aggregates"))

    class Adapter:
        @staticmethod
        def dispatch(name: str) -> Any:
            return getattr(module, f"duckdb__{name}")

    def refuse(text: str) -> None:
        raise HindcastError(text)

    environment.globals |= {
        "exceptions": {"raise_compiler_error": refuse},
        "model": {"name": "shop_orders"},
        "adapter": Adapter,
        "return": lambda value: value,
        "since_held": since_held,
        "known_until": lambda: f"timestamp '{known_until}'",
        "grid_starts": grid_starts,
    }
    module = environment.from_string(text).module
    return str(module.known_aggregates(**({"rows": "told_rows", "keys": ["k"]} | arguments)))  # type: ignore[attr-defined]


def made_up_rows(seed: int, numbers: int = 400) -> list[tuple[str | None, datetime | None, float | None]]:
    draw = random.Random(seed)
    rows: list[tuple[str | None, datetime | None, float | None]] = []
    for _ in range(numbers):
        at = START + MINUTE * draw.randrange(0, 12 * 1440, 7)  # instants come twice, and fall on the grid
        value = None if draw.random() < 0.15 else draw.choice([-3.1, 0.1, 0.2, 0.7, 5.0, 1e6 + 0.3])
        rows.append((draw.choice("abc"), at, value))
    return [*rows, (None, START, 1.0), ("a", None, 1.0)]


def by_hand(rows: list[Any], key: str, at: datetime, window: int | None) -> dict[str, float | None]:
    known = [(t, v) for k, t, v in rows if k == key and t and t <= at and (not window or t > at - window * MINUTE)]
    values = [v for _, v in known if v is not None]
    newest = max(((t, v) for t, v in known if v is not None), default=(None, None))[1]
    return {
        "rows": len(known),
        "told": len(values),
        "total": sum(values),
        "average": sum(values) / len(values) if values else None,
        "share": sum(v > 0 for v in values) / len(values) if values else None,
        "drawn": (sum(values) + 1.0) / (len(values) + 4),
        "lowest": min(values, default=None),
        "highest": max(values, default=None),
        "newest": newest,
        "sign": max(((t, "-" if v is None or v <= 0 else "+") for t, v in known), default=(None, None))[1],
    }


def run(rows: list[Any], sql: str, made: Any = None) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        connection.execute("SET timezone = 'UTC'; CREATE TABLE told_rows (k VARCHAR, known_at TIMESTAMP, v DOUBLE)")
        connection.executemany("INSERT INTO told_rows VALUES (?, ?, ?)", rows)
        if made is not None:
            connection.register("made", made)
        return connection.execute(f"SELECT * FROM ({sql}) ORDER BY k, event_timestamp").to_arrow_table().to_pylist()


@pytest.mark.parametrize("step", [None, 60])
def test_every_aggregate_is_that_of_plain_python(step: int | None) -> None:
    rows, until = made_up_rows(1), START + timedelta(days=10)
    found = run(rows, rendered(until, values=[*VALUES, SINCE] if step else VALUES, step=step))
    assert len(found) > 500
    assert max(row["event_timestamp"] for row in found) <= until
    for row in found:
        for name, minutes in WINDOWS.items():
            expected = by_hand(rows, row["k"], row["event_timestamp"], minutes)
            if step:
                times = [t for k, t, _ in rows if k == row["k"] and t and t <= row["event_timestamp"]]
                hours = (row["event_timestamp"] - max(times)) / timedelta(hours=1)
                expected["hours"] = None if minutes and hours * 60 >= minutes else hours
            assert {value: row[f"{value}_{name}"] for value in expected} == pytest.approx(expected), row


def test_without_a_grid_the_last_row_holds_at_any_instant() -> None:
    rows = made_up_rows(2)
    found = run(rows, rendered(START + timedelta(days=20), values=VALUES))
    draw = random.Random(3)
    for _ in range(200):
        at, key = START + timedelta(seconds=draw.randrange(15 * 86400)), draw.choice("abc")
        held = [row for row in found if row["k"] == key and row["event_timestamp"] <= at]
        for name, minutes in WINDOWS.items():
            expected = by_hand(rows, key, at, minutes)
            row = held[-1] if held else {f"{value}_{name}": None for value in expected}
            shown = {value: row[f"{value}_{name}"] for value in expected}
            assert (not held and not expected["rows"]) or shown == pytest.approx(expected)


@pytest.mark.parametrize("step", [None, 120])
@pytest.mark.parametrize("windows", [{"6h": 360, "2d": 2880}, WINDOWS])
def test_in_steps_it_is_to_the_last_bit_what_it_is_at_once(step: int | None, windows: dict[str, int | None]) -> None:
    rows, values = made_up_rows(4), [value | {"windows": windows} for value in VALUES]
    until = [START + timedelta(days=3, hours=5), START + timedelta(days=7), START + timedelta(days=11, minutes=30)]
    at_once = run(rows, rendered(until[-1], values=values, step=step))
    made, held = [], None
    for instant in until:
        known = [row for row in rows if row[1] is None or row[1] <= instant]
        so_far = pa.Table.from_pylist(made) if made else None
        made += run(known, rendered(instant, held, values=values, step=step), so_far)
        held = instant
    assert sorted(made, key=lambda row: (row["k"], row["event_timestamp"])) == at_once


def test_what_no_number_can_be_made_of_counts_as_missing() -> None:
    values = [{"name": name, "aggregate": name, "of": "v", "windows": {"ever": None}} for name in ("sum", "mean")]
    rows = [("a", START, float(text)) for text in ("nan", "inf", "1e300", "2")]
    (found,) = run(rows, rendered(START, values=values))
    assert (found["sum_ever"], found["mean_ever"]) == (2, 2)


def test_windows_of_one_name_may_differ_between_values() -> None:
    values = [{"name": str(minutes), "aggregate": "count", "windows": {"w": minutes}} for minutes in (60, 1440)]
    rows = [("a", START, 1.0), ("a", START + 90 * MINUTE, 1.0)]
    found = run(
        rows, rendered(START + timedelta(days=9), values=[{**value, "name": "n" + value["name"]} for value in values])
    )
    assert [(row["n60_w"], row["n1440_w"]) for row in found] == [(1, 1), (0, 1), (1, 2), (0, 2), (0, 1), (0, 0)]


def test_rows_may_have_a_column_of_any_name() -> None:
    """Also one that the result has: it isn't taken for the instant at which something became known."""
    rows = f"(select k, known_at, v, timestamp '{START - timedelta(days=99)}' as event_timestamp from told_rows)"
    values = [{"name": "n", "aggregate": "count", "windows": {"ever": None}}]
    for step, first in ((None, START + MINUTE), (60, START + 60 * MINUTE)):
        sql = rendered(START + 60 * MINUTE, rows=rows, values=values, step=step)
        assert run([("a", START + MINUTE, 1.0)], sql) == [{"k": "a", "event_timestamp": first, "n_ever": 1}]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"aggregate": "median", "of": "v", "windows": {"3h": 180}}, "there is no aggregate median"),
        ({"aggregate": "sum", "windows": {"3h": 180}}, "a sum needs `of`"),
        ({"aggregate": "smoothed", "of": "v", "windows": {"3h": 180}, "weight": 8}, "a smoothed rate needs `towards`"),
        ({"aggregate": "count", "windows": {}}, "it needs windows"),
        ({"aggregate": "count", "windows": {"90m": 90}}, "the window 90m isn't a multiple of the step of 60 minutes"),
    ],
)
def test_what_cannot_be_computed_is_said(value: dict[str, Any], message: str) -> None:
    with pytest.raises(HindcastError, match=f"^shop_orders: the value odd of known_aggregates: {message}"):
        rendered(START, values=[{"name": "odd", **value}], step=60)
