"""The macro known_aggregates against plain Python, on a grid and without one, in steps and at once."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.sources import Sources
from hindcast.tables.ingest import ingest
from hindcast.tables.transform import build
from tests.conftest import ROOT
from tests.control import write_control
from tests.made_up_problem import parcels_problem

START = datetime(2024, 3, 1)
DAYS = 12
SOURCES = "version: 2\nsources: [{name: raw, database: lake, schema: raw, tables: [{name: orders}]}]\n"
COLUMNS = {"id": "INTEGER", "shop": "VARCHAR", "known_at": "TIMESTAMP", "price": "DOUBLE", "is_late": "BOOLEAN"}
STEP = 60
LATELY, EVER = {"3h": 180, "2d": 2880}, {"2d": 2880, "ever": None}
# Where a window is open, all rows are read in each step; else those of the longest window.
TABLES: dict[str, tuple[int | None, dict[str, Any]]] = {
    "lately_on_grid": (STEP, LATELY),
    "lately": (None, LATELY),
    "ever_on_grid": (STEP, EVER),
    "ever": (None, EVER),
}
VALUES: list[dict[str, Any]] = [
    {"name": "orders", "aggregate": "count"},
    {"name": "priced", "aggregate": "count", "of": "price"},
    {"name": "spent", "aggregate": "sum", "of": "price"},
    {"name": "price", "aggregate": "mean", "of": "price"},
    {"name": "late", "aggregate": "rate", "of": "is_late"},
    {"name": "drawn", "aggregate": "smoothed", "of": "is_late", "towards": 0.25, "weight": 8},
    {"name": "cheapest", "aggregate": "min", "of": "price"},
    {"name": "dearest", "aggregate": "max", "of": "price"},
    {"name": "newest", "aggregate": "last", "of": "price"},
    {"name": "kind", "aggregate": "last", "of": "case when price < 50 then 'small' else 'big' end", "type": "varchar"},
]
SINCE = {"name": "hours", "aggregate": "since"}

Row = tuple[int, str, datetime, float | None, bool | None]


def made_up_rows() -> list[Row]:
    """Per shop bursts and gaps, several rows at one instant, some at points of the grid, NULLs."""
    random, rows = Random(7), []
    for number in range(500):
        shop = random.choice(["ark", "bay", "cove"])
        at = START + timedelta(minutes=random.randrange(DAYS * 24 * (20 if shop == "cove" else 60)))
        at = (
            at.replace(minute=0)
            if random.random() < 0.3
            else at + timedelta(microseconds=random.choice([0, 1, 250_000]))
        )
        price = None if random.random() < 0.1 else round(random.uniform(-5, 100), random.choice([0, 2, 7]))
        late = None if random.random() < 0.1 else random.random() < 0.3
        rows.append((number, shop, at, price, late))
        if random.random() < 0.3:
            rows.append((1000 + number, shop, at, price and price + random.choice([-1, 0, 1]), True))
    return rows


ROWS = made_up_rows()


class World:
    """A home of one raw table and the tables of aggregates made from it."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(folder / "checkout", folder / "home")
        project = self.settings.dbt_project
        shutil.copytree(ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("models", "seeds"))
        (project / "seeds").mkdir()
        features = project / "models" / "flights" / "features"
        features.mkdir(parents=True)
        shutil.copy(ROOT / "dbt_project" / "models" / "control.yml", project / "models")
        (features / "sources.yml").write_text(SOURCES)
        for name, (step, windows) in TABLES.items():
            of_table = VALUES + [SINCE] * bool(step)
            listed = repr([value | {"windows": windows} for value in of_table])
            (features / f"{name}.sql").write_text(
                "{{ config(contract={'enforced': false}, meta={'entity_keys': ['shop']}) }}\n"
                "{{ known_aggregates(rows=source('raw', 'orders'), keys=['shop'], "
                f"values={listed}, step={step}) }}}}\n"
            )
        self.lake = Lake(self.settings)

    def bring_up_to(self, until: datetime) -> None:
        """Delivers what is known by then, and builds the tables."""
        known = [row for row in ROWS if row[2] <= until]
        lines = [",".join("" if value is None else str(value) for value in row) for row in known]
        lines = ["id,shop,known_at,price,is_late", f"-1,,{START},1,true", *lines]
        files = self.settings.root / "files"
        files.mkdir(exist_ok=True)
        (files / "orders.csv").write_text("\n".join(lines) + "\n")
        table = {"file": "orders.csv", "format": "csv", "columns": COLUMNS, "key": ["id"]}
        sources = Sources.model_validate({"folder": "files", "tables": {"orders": table}})
        ingest(self.lake, sources, "orders", until.replace(tzinfo=UTC), self.settings)
        write_control(self.lake, parcels_problem(), until.replace(tzinfo=UTC), until.replace(tzinfo=UTC))
        assert [result.message for result in build(self.settings, TABLES) if result.failed] == []

    def table(self, name: str) -> list[dict[str, Any]]:
        with self.lake.reading() as connection:
            found = connection.execute(f"SELECT * FROM features.{name} ORDER BY shop, event_timestamp")
            columns = [column[0] for column in found.description]
            return [dict(zip(columns, row, strict=True)) for row in found.fetchall()]


LAST = START + timedelta(days=DAYS)


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("at_once"))
    world.bring_up_to(LAST)
    yield world


def of_row(value: dict[str, Any], row: Row) -> Any:
    """What the value's SQL takes from a row."""
    price, is_late = row[3:]
    if value["name"] == "kind":
        return "small" if price is not None and price < 50 else "big"
    return {"price": price, "is_late": is_late}.get(value.get("of", ""), 1)


def expected(value: dict[str, Any], minutes: int | None, shop: str, at: datetime) -> object:
    """The value in a few lines of Python, over all rows."""
    after = datetime.min if minutes is None else at - timedelta(minutes=minutes)
    window = [row for row in ROWS if row[1] == shop and after < row[2] <= at]
    there = [(row[2], of_row(value, row)) for row in window if of_row(value, row) is not None]
    numbers = [Decimal(str(float(each))) for _, each in there if not isinstance(each, str)]
    total = float(sum(numbers, Decimal(0)))
    match value["aggregate"]:
        case "count":
            return len(there)
        case "sum":
            return total
        case "smoothed":
            return (total + value["towards"] * value["weight"]) / (len(there) + value["weight"])
    if not there:
        return None
    match value["aggregate"]:
        case "since":
            return (at - max(there)[0]) / timedelta(hours=1)
        case "last":
            return max(there)[1]
        case "min" | "max":
            return float(min(numbers) if value["aggregate"] == "min" else max(numbers))
    return total / len(there)


@pytest.mark.parametrize("name", TABLES)
def test_every_aggregate_is_that_of_plain_python(at_once: World, name: str) -> None:
    """At random instants: the row that a join as known then finds there."""
    table, random = at_once.table(name), Random(1)
    step, windows = TABLES[name]
    values = VALUES + [SINCE] * bool(step)
    for shop in ("ark", "bay", "cove"):
        of_shop = [row for row in table if row["shop"] == shop]
        first = min(row["event_timestamp"] for row in of_shop)
        for _ in range(60):
            at = first + timedelta(microseconds=random.randrange(int((LAST - first) / timedelta(microseconds=1))))
            found = [row for row in of_shop if row["event_timestamp"] <= at][-1]
            if step:
                at = at.replace(minute=0, second=0, microsecond=0)
                assert found["event_timestamp"] == at
            for value in values:
                for window, minutes in windows.items():
                    want, got = expected(value, minutes, shop, at), found[f"{value['name']}_{window}"]
                    assert got == (pytest.approx(want, abs=1e-12) if isinstance(want, float) else want), (
                        value,
                        window,
                        at,
                    )


def test_the_table_is_the_same_in_steps_to_the_last_bit(at_once: World, tmp_path: Path) -> None:
    world = World(tmp_path)
    for hours in (31.5, 160, 24 * DAYS):
        world.bring_up_to(START + timedelta(hours=hours))
    for name in TABLES:
        assert world.table(name) == at_once.table(name)
        assert {row["shop"] for row in world.table(name)} == {"ark", "bay", "cove"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"aggregate": "median", "of": "price", "windows": {"3h": 180}}, "there is no aggregate median"),
        ({"aggregate": "sum", "windows": {"3h": 180}}, "a sum needs `of`"),
        ({"aggregate": "smoothed", "of": "is_late", "windows": {"3h": 180}}, "a smoothed rate needs `towards`"),
        ({"aggregate": "count", "windows": {}}, "it needs windows"),
        ({"aggregate": "count", "windows": {"90m": 90}}, "the window 90m isn't a multiple of the step of 60 minutes"),
    ],
)
def test_what_cannot_be_computed_is_said(value: dict[str, Any], message: str) -> None:
    def refuse(text: str) -> None:
        raise HindcastError(text)

    macros = Environment(loader=FileSystemLoader(ROOT / "dbt_project" / "macros"), extensions=["jinja2.ext.do"])
    names = {"exceptions": {"raise_compiler_error": refuse}, "model": {"name": "shop_orders"}}
    macro = macros.get_template("known_aggregates.sql", globals=names).module
    with pytest.raises(HindcastError, match=f"^shop_orders: the value odd of known_aggregates: {message}"):
        macro.known_aggregates(rows="orders", keys=["shop"], values=[{"name": "odd", **value}], step=60)  # type: ignore[attr-defined]
