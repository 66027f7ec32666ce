"""What is in the raw and the labeled tables, as a lake table and as a page. Measuring: `hindcast.tables.profile`."""

from dagster import AssetKey, AssetsDefinition, DataVersion, MaterializeResult, MetadataValue, asset

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
        kinds={"duckdb", "skrub"},
    )
    def profile(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """One row per column of each raw table and of the labeled table: what to see before trusting them."""
        from hindcast.pages import as_markdown
        from hindcast.tables.profile_page import TARGET, figures, target_picture

        found = hindcast.problem(of)
        measured, version = write_profile(found)
        return MaterializeResult(
            metadata={
                "page": MetadataValue.path(str(found.settings.reports / "profile.html")),
                "rows": {table: measured.rows(table) for table in measured.samples},
                TARGET: MetadataValue.md(as_markdown({TARGET: target_picture(measured)})[TARGET]),
                **{f"columns of {table}": MetadataValue.md(figures(measured, table)) for table in measured.samples},
            },
            data_version=DataVersion(version),
        )

    return profile
