"""The homes that benchmarks measure in, under `$HINDCAST_HOME/bench`: made once, and again where they are outdated.

The user's own home is neither read nor written.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from bench.measure import Case, once, say
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake
from hindcast.settings import Settings

# By then the last label of the year is known.
END_OF_YEAR = "2014-01-02T00:00:00+00:00"
ENTITIES = "labeled.flight_outcomes"
KEYS = ["flight_id", "origin", "carrier", "destination", "flight_number", "tail_number"]
ENTITY_ROWS = f"SELECT {', '.join(KEYS)}, prediction_time AS event_timestamp FROM {ENTITIES} ORDER BY flight_id"


@cache
def year(settings: Settings) -> Settings:
    """The home whose lake holds the data and features of all of 2013; only what has changed is made again.

    Raises:
        RuntimeError: They can't be made.
    """
    home = replace(settings, home=settings.benchmarks / "home")
    say(f"data and features of the year, in {home.home}")
    once(Case("bench.homes:building", (str(home.home),)))
    return home


def building(home: str) -> Callable[[], Any]:
    """Builds the year's data, as the graph does, where the clock stands at the year's end."""
    settings = at(home)
    # Here, as Feast's own store is measured in an environment that hasn't all of this.
    from hindcast.clock import SimulatedClock
    from hindcast.home import prepare
    from hindcast.pipeline import build_data
    from hindcast.workspace import open_workspace

    def work() -> None:
        prepare(settings)
        workspace = open_workspace(settings)
        assert isinstance(workspace.clock, SimulatedClock)
        workspace.clock.move_to(datetime.fromisoformat(END_OF_YEAR))
        build_data(workspace, say)

    return work


def years(settings: Settings, count: int) -> Settings:
    """A home with so many years: all feature tables and entities of 2013, and again 1, 2, … years later.

    Raises:
        RuntimeError: As `year`.
    """
    source = year(settings)
    home = replace(settings, home=settings.benchmarks / f"years_{count}")
    made_from = fingerprint(source.feature_repo.glob("*.py"), [source.home, Lake(source).snapshot()])
    stamp = home.home / "made_from"
    if not stamp.exists() or stamp.read_text() != made_from:
        say(f"{count} year{'s' if count > 1 else ''} of history, in {home.home}")
        shutil.rmtree(home.home, ignore_errors=True)
        once(Case("bench.homes:repeating", (str(source.home), str(home.home), count)))
        stamp.write_text(made_from)
    return home


def at(home: str) -> Settings:
    """The settings of a home, for a measuring process, with what libraries look for in the environment."""
    settings = replace(Settings.from_environment(), home=Path(home))
    os.environ.update(settings.environment())
    return settings


def repeating(source: str, target: str, count: int) -> Callable[[], Any]:
    """Copies feature tables and entities `count` times, each time a year later; a flight's key begins with it."""
    settings = at(target)

    def work() -> None:
        from hindcast.features.store import apply

        with Lake(settings).writing() as writer, Lake(replace(settings, home=Path(source))).reading() as reader:
            reader.execute("BEGIN")
            tables = reader.execute(
                "SELECT table_schema || '.' || table_name FROM information_schema.tables WHERE table_catalog = 'lake' "
                "AND table_schema IN ('features', 'labeled') ORDER BY ALL"
            ).fetchall()
            for (table,) in tables:
                rows = reader.execute(f"FROM {table}").to_arrow_table()
                writer.register("year", rows)
                writer.execute(f"CREATE SCHEMA IF NOT EXISTS {table.split('.')[0]}")
                instants = [field.name for field in rows.schema if str(field.type).startswith("timestamp")]
                for number in range(count):
                    changed = {column: f"{column} + INTERVAL {number} YEAR" for column in instants}
                    if "flight_id" in rows.column_names:
                        changed["flight_id"] = f"{2013 + number} || flight_id[5:]"
                    replaced = ", ".join(f"{sql} AS {column}" for column, sql in changed.items())
                    into = f"INSERT INTO {table}" if number else f"CREATE TABLE {table} AS"
                    writer.execute(f"{into} SELECT * REPLACE ({replaced}) FROM year")
        apply(settings, "flights")

    return work
