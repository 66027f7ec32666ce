"""A training set of 1, 3 and 10 years: flights and history both, the year 2013 again and again, each time a year later
(at 10: 3.4 million entity rows, 36 million feature rows). The whole service `flight_delay`, its on-demand view
included, through Feast's interface to an Arrow table.

Bars: CPU and peak memory per flight are those of one year at most (1.1 times, for noise), and at ten years the process
never holds more than 2.5 GB, with DuckDB's `memory_limit` at 2 GB; of these 2.5 GB the result itself takes 1.7.
"""

from typing import Any

from bench import homes
from bench.measure import Case, Row, Work, in_turn
from bench.training_set import SERVICE
from hindcast.settings import Settings

YEARS = (1, 3, 10)
MEMORY_LIMIT = "2GB"


def run(settings: Settings, rounds: int) -> list[Row]:
    cases = {}
    for count in YEARS:
        home = str(homes.years(settings, count).home)
        cases[f"{count} years"] = Case("bench.scaling:training_set", (home,))
    taken = in_turn(cases, rounds)
    first = taken["1 years"]
    flights = first.results[0]["rows"]
    table = []
    for count in YEARS[1:]:
        more = taken[f"{count} years"]
        rows = more.results[0]["rows"]
        what = f"{rows:,} flights"
        cpu, peak = more.cpu / rows, more.peak / rows
        against = f"{flights:,} flights"
        table += [
            Row(f"CPU per flight, {what}", "µs", 1e6 * cpu, 1e6 * first.cpu / flights, against, at_most=1.1),
            Row(f"peak memory per flight, {what}", "bytes", peak, first.peak / flights, against, at_most=1.1),
        ]
    last = taken[f"{YEARS[-1]} years"]
    what = f"{last.results[0]['rows']:,} flights"
    table += [
        Row(f"CPU, {what}", "s", last.cpu),
        Row(f"peak memory, {what}", "MB", last.peak / 1e6, 2500, "limit", at_most=1),
        Row(f"of it the result ({last.results[0]['columns']} columns)", "MB", last.results[0]["bytes"] / 1e6),
    ]
    return table


def training_set(home: str) -> Work:
    """Entity rows with the service's features, in the order of the rows."""
    settings = homes.at(home)
    import hindcast.features.offline_store  # noqa: F401 - Feast imports it when it opens the store
    from hindcast.features.feature_service import find_service, open_store
    from hindcast.lake import Lake

    with Lake(settings).reading() as connection:
        entity_rows = connection.execute(homes.ENTITY_ROWS).to_arrow_table()

    def work() -> dict[str, Any]:
        store = open_store(settings, offline_store={"memory_limit": MEMORY_LIMIT})
        result = store.get_historical_features(entity_rows, find_service(store, SERVICE)).to_arrow()
        return {"rows": result.num_rows, "columns": result.num_columns, "bytes": result.nbytes}

    return work
