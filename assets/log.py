"""Stage log: what the service wrote to its files, as rows. How is in `hindcast.serving.request_log`."""

from pathlib import Path

from dagster import AssetKey, DataVersion, MaterializeResult, asset

from assets.resources import HindcastResource
from hindcast.serving.request_log import REQUESTS, SHADOW, compact


@asset(key=AssetKey(REQUESTS.split(".")), deps=["served_requests"], kinds={"duckdb"})
def log_requests(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per answered request, with the features it was answered from: each record of the log exactly once."""
    return _compacted(hindcast, hindcast.settings.request_log, REQUESTS)


@asset(key=AssetKey(SHADOW.split(".")), deps=["served_requests"], kinds={"duckdb"})
def log_shadow(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per request that a challenger was asked beside the champion; `hindcast shadow` compares the two."""
    return _compacted(hindcast, hindcast.settings.shadow_log, SHADOW)


def _compacted(hindcast: HindcastResource, folder: Path, table: str) -> MaterializeResult:  # type: ignore[type-arg]
    problem, lake = hindcast.problem, hindcast.lake
    done = compact(folder, lake, problem.entity.key, problem.serving.log_keep, table)
    return MaterializeResult(
        metadata={
            "dagster/row_count": done.rows,
            "added": done.added,
            "duplicates": done.duplicates,
            "torn_lines": done.torn,
            "files_deleted": done.deleted,
            "snapshot": lake.snapshot(),
        },
        data_version=DataVersion(str(done.rows)),
    )
