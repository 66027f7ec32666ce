"""Fills the online store with what has become known, for each definition of a feature view that a model in use reads.

What an online store promises is in `online_store`; reading for the service is `online`'s work.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hindcast.errors import HindcastError
from hindcast.features.store import check_package, open_store, package_views
from hindcast.lake import Lake, current_snapshot
from hindcast.package.model import FEATURES
from hindcast.settings import Settings
from hindcast.sql import identifier

# Feast takes most of a second to import: only the functions that need it do.
if TYPE_CHECKING:
    from hindcast.features.feast_imports import FeatureView


def materialise(
    settings: Settings, start: datetime | None, end: datetime, service: str | None = None
) -> dict[str, int]:
    """Brings what became known up to `end` into the online store, for every definition of a view that is in use.

    In use are those of the home's registry and those of the packages of the champion and of its shadow. What the store
    holds of others, and no other problem uses, is removed. Rows that nothing may use at `end` or later because of their
    view's TTL are left out. What the store knows already isn't replaced by anything older.

    Args:
        settings: Of the home.
        start: From when on rows became known (UTC); None fills the store afresh. What isn't in the store up to here
            yet is filled afresh, too.
        end: Until when, included (UTC).
        service: Of the home's registry, takes its views alone; None takes all.

    Returns:
        Keys written per view, over all its definitions.

    Raises:
        HindcastError: `end` has no time zone, the online store can't be reached, or the lake lacks what a view takes
            (whatever else is in use has been filled then).
    """
    from hindcast.promotion.champion import packages_in_use

    used: dict[str, FeatureView] = {}
    missing = []
    for package in [None, *packages_in_use(settings)]:
        try:
            used = used_views(settings, package, service) | used
        except HindcastError as error:
            missing.append(str(error))
    written = _fill(settings, used, start, end, remove_others=True)
    if missing:
        raise HindcastError(" ".join(missing))
    return written


def fill_for(settings: Settings, package: Path, now: datetime) -> bool:
    """Fills the online store for a package that is about to be put in use, so that it never reads an empty one.

    Up to the instant until which the store is filled already, or to `now` where it is empty.

    Args:
        settings: Of the home.
        package: Its folder.
        now: The clock (UTC).

    Returns:
        Whether anything had to be filled.

    Raises:
        HindcastError: The lake lacks what one of its views takes, or the online store can't be reached.
    """
    from hindcast.features.feature_service import open_online_store
    from hindcast.promotion.champion import packages_in_use

    used = used_views(settings, package)
    config = open_store(settings).config
    filled = open_online_store(config).filled(config)
    # Of this problem alone: another domain's views are filled up to another clock.
    names = set(used).union(*(package_names(settings, each) for each in packages_in_use(settings)))
    until = max((filled[name] for name in names if name in filled), default=now)
    wanted = {name: view for name, view in used.items() if filled.get(name) != until}
    if wanted:
        _fill(settings, wanted, None, until)
    return bool(wanted)


def used_views(settings: Settings, package: Path | None, service: str | None = None) -> dict[str, "FeatureView"]:
    """What a package reads online, by the name under which the online store holds it; of None, what is registered: all,
    or a service's.

    Raises:
        HindcastError: The lake no longer has what one of its views takes.
    """
    from hindcast.features.feature_service import find_service, service_views
    from hindcast.features.online_store import online_name

    store = open_store(settings)
    if package is None:
        views = service_views(store, find_service(store, service))[0] if service else store.list_feature_views()
    else:
        check_package(settings, package)
        views = package_views(settings, package)
    return {online_name(store.config, view): view for view in views if view.online}


def _fill(
    settings: Settings,
    used: Mapping[str, "FeatureView"],
    start: datetime | None,
    end: datetime,
    remove_others: bool = False,
) -> dict[str, int]:
    """Reads all views at one snapshot of the lake and brings them into the online store at once."""
    from hindcast.features.asof import instant, latest_rows
    from hindcast.features.feature_service import open_online_store
    from hindcast.features.lake_source import feature_table
    from hindcast.features.online_store import Filling, online_rows

    if end.tzinfo is None:
        raise HindcastError(f"Materialising needs instants with a time zone: {end.isoformat()} has none.")
    config = open_store(settings).config
    online = open_online_store(config)
    filled = online.filled(config)
    fillings, written = [], dict.fromkeys((view.name for view in used.values()), 0)
    with Lake(settings).reading() as connection:
        connection.execute("BEGIN")  # all views are read at one snapshot
        for held_as, view in used.items():
            since = start if start and held_as in filled and filled[held_as] >= start else None
            table = feature_table(view, [field.name for field in view.features])
            oldest = end - view.ttl if view.ttl else None
            sql = latest_rows(table, max(filter(None, (since, oldest)), default=None), end)
            if oldest:  # what came in later than it may still be of an event before it
                sql = f"FROM ({sql}) WHERE CAST({identifier(table.timestamp)} AS TIMESTAMP) >= {instant(oldest)}"
            found = connection.execute(sql).to_arrow_table()
            written[view.name] += found.num_rows
            fillings.append(Filling(view, online_rows(view, table, found), afresh=since is None))
        snapshot = current_snapshot(connection)
    online.fill(config, fillings, known_until=end, snapshot=snapshot)
    if remove_others:
        online.keep_only(config, set(used).union(*_used_by_others(settings)))
    return written


def _used_by_others(settings: Settings) -> Iterator[set[str]]:
    """What the online store holds for the home's other problems: all that is registered, and what their models read.

    Of a problem that was taken out of the checkout, nothing.
    """
    from hindcast.promotion.champion import packages_in_use

    yield set(used_views(settings, None))
    for folder in settings.problem_homes.glob("*"):
        other = settings.of(folder.name)
        if folder.name != settings.problem and other.problem_file.exists():
            for package in packages_in_use(other):
                yield package_names(other, package)


def package_names(settings: Settings, package: Path) -> set[str]:
    """The names under which the online store holds what a package reads, whether or not the lake still has it."""
    from hindcast.features.online_store import online_name

    if not (package / FEATURES).exists():
        return set()
    config = open_store(settings).config
    return {online_name(config, view) for view in package_views(settings, package) if view.online}
