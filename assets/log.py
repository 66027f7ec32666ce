"""Stage log: what the service wrote to its files, as rows. How is in `hindcast.serving.request_log`."""

from dagster import AssetKey, DataVersion, MaterializeResult, asset

from assets.resources import HindcastResource
from hindcast.serving.request_log import compact


@asset(key=AssetKey(["log", "requests"]), deps=["served_requests"], pool="lake", kinds={"duckdb"})
def log_requests(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """One row per answered request, with the features it was answered from: each record of the log exactly once."""
    keep = hindcast.problem.serving.log_keep
    done = compact(hindcast.settings.request_log, hindcast.lake, hindcast.problem.entity.key, keep)
    return MaterializeResult(
        metadata={
            "dagster/row_count": done.rows,
            "added": done.added,
            "duplicates": done.duplicates,
            "torn_lines": done.torn,
            "files_deleted": done.deleted,
            "snapshot": hindcast.lake.snapshot(),
        },
        data_version=DataVersion(str(done.rows)),
    )
