"""Whether what the feature tables held as of an instant has changed since, by content. The joins are in `retrieval`."""

from datetime import UTC, datetime

from hindcast.features.asof import instant
from hindcast.features.store import open_store
from hindcast.lake import Lake, version_of
from hindcast.settings import Settings
from hindcast.sql import identifier, table_identifier


def versions_as_of(settings: Settings, lake: Lake, service: str, as_of: datetime) -> dict[str, str]:
    """Per feature view of a service, a version of the rows that were known at an instant.

    Rows that become known later leave it as it is; history that is corrected changes it.

    Args:
        settings: Of the home.
        lake: Holds the tables.
        service: Names the views.
        as_of: UTC.

    Raises:
        HindcastError: There is no such service.
    """
    from hindcast.features.feature_service import find_service, service_views
    from hindcast.features.retrieval import feature_table

    store = open_store(settings)
    views, _ = service_views(store, find_service(store, service))
    at = instant(as_of.astimezone(UTC))
    found = {}
    with lake.reading() as connection:
        connection.execute("BEGIN")
        for view in views:
            table = feature_table(view, [field.name for field in view.features])
            instants = [identifier(column) for column in (table.timestamp, table.created) if column]
            listed = ", ".join([*map(identifier, (*table.keys, *table.features)), *instants])
            known = " AND ".join(f"CAST({column} AS TIMESTAMP) <= {at}" for column in instants)
            rows = f"SELECT {listed} FROM {table_identifier(table.table)} WHERE {known}"
            found[view.name] = version_of(connection, rows)
    return found
