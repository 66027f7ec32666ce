"""Stage control: until when data is known, and the splits' windows. Written after ingestion, before dbt."""

from collections.abc import Iterator

from dagster import AssetExecutionContext, AssetKey, AssetSpec, Config, DataVersion, MaterializeResult, multi_asset
from pydantic import Field

from assets.resources import HindcastResource
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tables.sources import Sources, load_sources
from hindcast.tables.transform import tables_of_labels
from hindcast.tables.windows import ingested_until, instant_as_of, tables_until, windows_as_of, write_control

_INSTANTS, _WINDOWS = AssetKey(["control", "instants"]), AssetKey(["control", "windows"])


class AsOf(Config):
    """For which instant the split is made."""

    as_of: str | None = Field(
        default=None,
        description="As 2013-11-01T00:00:00Z. Left out: the one that was used last; at first, the clock's.",
    )


def _sources(settings: Settings) -> Sources:
    return load_sources(settings.sources_folder / f"{load_problem(settings.problem_file).sources}.yaml")


def _raw_tables() -> list[AssetKey]:
    return [AssetKey(["raw", name]) for name in _sources(Settings.from_environment()).tables]


@multi_asset(
    name="control",
    specs=[
        AssetSpec(_INSTANTS, deps=_raw_tables(), description="Until when data is known, and what the split is as of."),
        AssetSpec(_WINDOWS, deps=_raw_tables(), description="The prediction times that each split admits."),
    ],
)
def control(context: AssetExecutionContext, config: AsOf, hindcast: HindcastResource) -> Iterator[MaterializeResult]:  # type: ignore[type-arg]
    settings, problem, lake, now = hindcast.settings, hindcast.problem, hindcast.lake, hindcast.clock.now()
    ends = _sources(settings).ends
    known_until = ingested_until(lake, problem, now, ends)
    as_of = instant_as_of(lake, config.as_of, known_until)
    written = write_control(lake, problem, now, as_of, tables_of_labels(settings, problem.labeled_table), ends)
    version, windows = DataVersion(written), windows_as_of(problem.splits, as_of)
    complete = {name: at.isoformat() for name, at in tables_until(lake, problem, ends).items()}
    yield MaterializeResult(
        asset_key=_INSTANTS,
        metadata={
            "known_until": known_until.isoformat(),
            "as_of": as_of.isoformat(),
            "ingested_until": complete,
        },
        data_version=version,
    )
    yield MaterializeResult(
        asset_key=_WINDOWS,
        metadata={name: f"{start.isoformat()} to {end.isoformat()}" for name, (start, end) in windows.items()},
        data_version=version,
    )
