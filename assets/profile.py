"""What is in the raw and the labeled tables, as a lake table and as a page. Measuring: `hindcast.tables.profile`."""

from dagster import AssetKey, AssetsDefinition, DataVersion, MaterializeResult, MetadataValue, TableRecord, asset

from assets.resources import HindcastResource
from assets.tables import table_key
from hindcast.pipeline import write_profile
from hindcast.workspace import Workspace


def build_profile(workspace: Workspace) -> AssetsDefinition:
    """The asset `<problem>/profile`."""
    of = workspace.problem.name
    tables = [AssetKey(["raw", name]) for name in workspace.sources.tables]

    @asset(
        key=[of, "profile"],
        deps=[*tables, table_key(of, workspace.problem.labeled_table)],
        kinds={"duckdb", "matplotlib"},
    )
    def profile(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """One row per column of each raw table and of the labeled table: what to see before trusting them."""
        from hindcast.tables.profile_page import as_markdown, cells

        found = hindcast.problem(of)
        measured, drawn, version = write_profile(found)
        columns = {
            f"columns of {table.schema}.{table.name}": MetadataValue.table(
                [TableRecord(cells(c)) for c in table.columns]
            )
            for table in measured.tables
        }
        pictures = {name: MetadataValue.md(as_markdown(picture, name)) for name, picture in drawn.items()}
        rows = {f"{table.schema}.{table.name}": table.rows for table in measured.tables}
        page = MetadataValue.path(str(found.settings.reports / "profile.html"))
        return MaterializeResult(
            metadata={"page": page, "rows": rows, **pictures, **columns}, data_version=DataVersion(version)
        )

    return profile
