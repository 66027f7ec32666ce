"""Stage control: until when data is known, and the splits' windows. Written after ingestion, before dbt."""

from dagster import AssetKey, AssetsDefinition, Config, DataVersion, MaterializeResult, asset
from pydantic import Field

from assets.resources import HindcastResource
from hindcast.pipeline import note_known_until, write_windows
from hindcast.workspace import Domain, Workspace


class AsOf(Config):
    """For which instant the split is made."""

    as_of: str | None = Field(
        default=None,
        description="As 2013-11-01T00:00:00Z. Left out: the one that was used last; at first, the clock's.",
    )


def control_key(domain: str) -> AssetKey:
    return AssetKey(["control", domain])


def windows_key(problem: str) -> AssetKey:
    return AssetKey([problem, "windows"])


def build_control(domain: Domain) -> AssetsDefinition:
    """The asset `control/<domain>`."""
    of, tables = domain.name, [AssetKey(["raw", name]) for name in domain.sources.tables]

    @asset(key=control_key(of), deps=tables, kinds={"duckdb"})
    def control(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """Until when all is known of each raw table."""
        version, until = note_known_until(hindcast.domain(of))
        metadata = {name: instant.isoformat() for name, instant in until.items()}
        return MaterializeResult(metadata=metadata, data_version=DataVersion(version))

    return control


def build_windows(workspace: Workspace) -> AssetsDefinition:
    """The asset `<problem>/windows`."""
    of = workspace.problem.name

    @asset(key=windows_key(of), deps=[control_key(workspace.problem.domain)], kinds={"duckdb"})
    def windows(config: AsOf, hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """The prediction times that each split admits, and the instant that they are as of."""
        written = write_windows(hindcast.problem(of), config.as_of)
        shown = {name: f"{start.isoformat()} to {end.isoformat()}" for name, (start, end) in written.windows.items()}
        return MaterializeResult(
            metadata={"as_of": written.as_of.isoformat(), **shown}, data_version=DataVersion(written.version)
        )

    return windows
