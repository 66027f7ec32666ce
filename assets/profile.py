"""Stage profile: what is in the raw and the labeled tables, as a lake table and as a page.

Measuring is `hindcast.tables.profile`'s work, drawing `hindcast.tables.profile_page`'s.
"""

from dagster import AssetKey, DataVersion, MaterializeResult, MetadataValue, asset

from assets.resources import HindcastResource
from hindcast.files import write_atomically
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tables.profile import keep, measure
from hindcast.tables.sources import load_sources

_SETTINGS = Settings.from_environment()
_PROBLEM = load_problem(_SETTINGS.problem_file)
_TABLES = [f"raw.{name}" for name in load_sources(_SETTINGS.sources_folder / f"{_PROBLEM.sources}.yaml").tables]
_TABLES.append(_PROBLEM.labeled_table)


@asset(
    key=["profile", "columns"],
    deps=[AssetKey(table.split(".")) for table in _TABLES],
    kinds={"duckdb", "skrub"},
)
def profile_columns(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per column of each raw table and of the labeled table: what a reader should see before trusting them."""
    from hindcast.pages import as_markdown
    from hindcast.tables.profile_page import TARGET, figures, page, target_picture

    profile = measure(hindcast.lake, hindcast.problem, _TABLES)
    file = hindcast.settings.reports / "profile.html"
    title = f"What is in the data of {hindcast.problem.name}"
    write_atomically(file, page(profile, title, hindcast.problem.question, hindcast.clock.now()))
    return MaterializeResult(
        metadata={
            "page": MetadataValue.path(str(file)),
            "rows": {table: profile.rows(table) for table in profile.samples},
            TARGET: MetadataValue.md(as_markdown({TARGET: target_picture(profile)})[TARGET]),
            **{f"columns of {table}": MetadataValue.md(figures(profile, table)) for table in profile.samples},
        },
        data_version=DataVersion(keep(hindcast.lake, profile)),
    )
