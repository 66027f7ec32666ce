"""The SQL from raw tables to feature tables, as the graph runs it: models of the stages cleaned, labeled and features,
with their tests, in one call (the graph makes one per stage). The models alone are told as well. Most of a month's
build is what any build costs: dbt's start, and some 30 nodes of 0.1 s.

Bars: all of 2013 into an empty lake takes at most 60 s of CPU; one month more (December, onto a lake that was built as
of 1 December) at most a quarter of what all of the year takes. The year's files, delivered once more a day later, add
less than 1 % to the files of the raw tables.
"""

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import homes
from bench.measure import Case, Row, Work, in_turn, once, say
from hindcast.settings import Settings

STAGES = {"cleaned", "labeled", "features"}
BEFORE_DECEMBER = "2013-12-01T00:00:00+00:00"
YEAR, MONTH = "the year", "December on top"


def run(settings: Settings, rounds: int) -> list[Row]:
    folder = settings.benchmarks / "feature_build"
    shutil.rmtree(folder, ignore_errors=True)
    cases = {}
    for name, built_until in ((YEAR, None), (MONTH, BEFORE_DECEMBER)):
        say(f"raw tables, and what is built of them before, for {name}")
        home = folder / name.replace(" ", "_")
        once(Case("bench.feature_build:preparing", (str(home), built_until)))
        before = home.with_name(f"{home.name}_before")
        home.rename(before)
        cases[name] = Case("bench.feature_build:building", (str(home), str(before), True))
        cases[f"{name}, models"] = Case("bench.feature_build:building", (str(home), str(before), False))
    taken = in_turn(cases, rounds)
    year, month = taken[YEAR], taken[MONTH]
    models, months_models = taken[f"{YEAR}, models"], taken[f"{MONTH}, models"]
    counted, tested = models.results[0], year.results[0] - models.results[0]
    return [
        Row(f"CPU, {YEAR} ({counted} models, {tested} tests)", "s", year.cpu, 60, "limit", at_most=1),
        Row(f"CPU, {MONTH}", "s", month.cpu, year.cpu, YEAR, at_most=0.25),
        Row(f"CPU, {YEAR}, models alone", "s", models.cpu),
        Row(f"CPU, {MONTH}, models alone", "s", months_models.cpu, models.cpu, YEAR),
        Row("raw tables, the same delivered again", "MB", *_delivered_again(folder), "once", at_most=1.01),
        Row(f"peak memory, {YEAR}", "MB", year.peak / 1e6),
        Row(f"peak memory, {MONTH}", "MB", month.peak / 1e6),
    ]


def _delivered_again(folder: Path) -> tuple[float, float]:
    """Size (MB) of the raw tables' files after the year's files were delivered twice, and after once."""
    home = folder / "delivered_again"
    shutil.copytree(folder / f"{YEAR.replace(' ', '_')}_before", home, symlinks=True)
    before = sum(_sizes(home))
    once(Case("bench.feature_build:delivering", (str(home), "2014-01-03T00:00:00+00:00")))
    return sum(_sizes(home)) / 1e6, before / 1e6


def _sizes(home: Path) -> list[int]:
    return [path.stat().st_size for path in (home / "lake" / "data" / "raw").rglob("*.parquet")]


def delivering(home: str, until: str) -> Work:
    """One more delivery of the year's files."""
    settings = homes.at(home)
    return lambda: _deliver(settings, datetime.fromisoformat(until))


def _deliver(settings: Settings, until: datetime) -> None:
    from hindcast.lake import Lake
    from hindcast.problem import load_problem
    from hindcast.sources import load_sources
    from hindcast.tables.ingest import ingest

    sources = load_sources(settings.sources_file(load_problem(settings.problem_file).domain))
    for table in sources.tables:
        ingest(Lake(settings), sources, table, until, settings)


def preparing(home: str, built_until: str | None) -> Work:
    """A home with the raw tables of the year, built as of an instant before its end or not at all."""
    settings = homes.at(home)
    from hindcast.home import prepare
    from hindcast.lake import Lake
    from hindcast.problem import load_problem
    from hindcast.sources import load_sources
    from hindcast.tables.transform import manifest
    from hindcast.tables.windows import write_instants, write_windows

    problem = load_problem(settings.problem_file)

    def bring_in(until: datetime) -> None:
        _deliver(settings, until)
        sources = load_sources(settings.sources_file(problem.domain))
        assert sources.clock
        write_instants(Lake(settings), sources, until)
        write_windows(Lake(settings), problem, sources, sources.clock.start, until)

    def work() -> None:
        prepare(settings)
        if built_until:
            bring_in(datetime.fromisoformat(built_until))
            _build(settings, with_tests=True)
        bring_in(datetime.fromisoformat(homes.END_OF_YEAR))
        manifest(settings)  # kept in the home: the graph parses the SQL once

    return work


def building(home: str, before: str, with_tests: bool) -> Work:
    """One build, on the home as it was before. Returns how many models and tests it ran."""
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(before, home, symlinks=True)
    settings = homes.at(home)
    # Imports aren't measured. DuckDB imports pandas at its first parameter.
    import dbt.adapters.duckdb
    import dbt.task.build  # noqa: F401
    import pandas  # noqa: F401

    return lambda: _build(settings, with_tests)


def _build(settings: Settings, with_tests: bool) -> int:
    from hindcast.tables.transform import build, manifest

    described = manifest(settings)
    nodes = described["nodes"].values()
    models = {node["unique_id"]: node["name"] for node in nodes if STAGES & set(node["tags"]) and not _is_test(node)}
    names = list(models.values())
    if with_tests:
        names += [node["name"] for node in nodes if _is_test(node) and node["attached_node"] in models]
        names += [test["name"] for test in described["unit_tests"].values() if test["depends_on"]["nodes"][0] in models]
    results = build(settings, names)
    if failed := [f"{result.unique_id}: {result.message}" for result in results if result.failed]:
        raise RuntimeError("These failed: " + "\n".join(failed))
    return len(results)


def _is_test(node: dict[str, Any]) -> bool:
    return bool(node["resource_type"] == "test")
