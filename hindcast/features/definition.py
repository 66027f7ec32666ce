"""What a feature service takes its values from, as one short name. Reads no features."""

from pathlib import Path

from hindcast.fingerprint import fingerprint
from hindcast.settings import Settings


def definition(settings: Settings, service: str, registry: Path | None = None) -> str:
    """Equal as long as the same features are taken from the same columns by the same rules.

    That is: the features in their order, each view's table, keys, timestamps and TTL, and the on-demand functions.
    Descriptions, tags and owners have no part in it, nor has what the tables hold.

    Args:
        settings: Of the home.
        service: Name of the feature service.
        registry: The one that defines it; None for the home's.

    Raises:
        HindcastError: Nothing is registered yet, or there is no such service.
    """
    from hindcast.features.feature_service import find_service, open_store, service_features, service_views
    from hindcast.features.lake_source import feature_table
    from hindcast.features.on_demand import input_features, request_fields

    store = open_store(settings, **({"registry": str(registry)} if registry else {}))
    found = find_service(store, service)
    views, on_demand = service_views(store, found)
    # Sorted: the order of views and of an on-demand view's inputs differs between processes.
    sources = [
        (view.projection.name_to_use(), feature_table(view, sorted(field.name for field in view.projection.features)))
        for view in views
    ]
    functions = [
        (
            view.projection.name_to_use(),
            view.feature_transformation and view.feature_transformation.udf_string,
            sorted(input_features(view)),
            sorted(request_fields(view)),
        )
        for view in on_demand
    ]
    return fingerprint(values=[service_features(found), *sorted(map(repr, sources)), *sorted(map(repr, functions))])
