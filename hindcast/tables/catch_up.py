"""Builds the SQL's tables as they were known at each correction, one after the other, where they don't hold that yet.

A history can't be computed from what is known today alone: before a correction, the old value was the known one. So the
tables are built as of just before each correction, then as of the correction, and only then as of now. Usually there
is no correction that the tables don't hold yet, and nothing to do.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.settings import Settings
from hindcast.tables.freshness import raw_tables
from hindcast.tables.labels import forget_superseded, keep_former, note_superseded, noted_corrections
from hindcast.tables.transform import build, built_until, domain_of, find_model, is_stage, manifest
from hindcast.tables.windows import CORRECTIONS, known_until, read_instants, set_cap
from hindcast.workspace import Domain

_TABLES = ("model", "seed")
_FIRST = datetime.min
_INSTANT = timedelta(microseconds=1)  # the lake's instants are no finer


def catch_up(domain: Domain, on_progress: Callable[[str], None] = lambda text: None) -> int:
    """Brings a domain's histories and superseded labels past every correction up to the instants of `control`.

    In the end all tables hold what is known at these instants. Killed at any point, it does the rest next time.

    Args:
        domain: Names the lake, the SQL and the labeled tables.
        on_progress: Gets a line per step.

    Returns:
        How many corrections were passed.

    Raises:
        HindcastError: A model fails.
    """
    settings, lake = domain.settings, domain.lake
    set_cap(lake, None)  # a killed process may have left one
    corrections = [each for each in _corrections(lake) if each[0] in domain.sources.tables]
    if not corrections:
        return 0
    described = manifest(settings)
    nodes = {
        name: node
        for name, node in described["nodes"].items()
        if node["resource_type"] in _TABLES and domain_of(node) == domain.name
    }
    instants, entries, made_from = read_instants(lake), built_until(settings), raw_tables(described)
    labeled = {find_model(settings, problem.labeled_table): problem for problem in domain.problems}
    histories = [name for name, node in nodes.items() if is_stage(node, "features")]
    states = [node["name"] for name, node in nodes.items() if name not in histories and not is_stage(node, "split")]

    def corrections_of(unique_id: str) -> set[datetime]:
        return {at for table, at in corrections if table in made_from[unique_id]}

    pending: dict[str, set[datetime]] = {}  # per history the corrections that it hasn't been built past
    lagging: dict[datetime, list[str]] = {}  # histories by the instant until which all of their tables are ingested
    for name in histories:
        until, entry = known_until(made_from[name], instants), entries.get(name, _FIRST)
        pending[name] = {at for at in corrections_of(name) if entry < at <= until}
        if entry < until and any(at > until for at in corrections_of(name)):
            lagging.setdefault(until, []).append(nodes[name]["name"])
        if corrections_of(name):
            _check_history(nodes[name])
    of_labels: dict[str, set[datetime]] = {}  # per labeled table the corrections whose replaced rows aren't kept
    for name, problem in labeled.items():
        if name not in entries:
            forget_superseded(lake, problem)  # it is built from nothing
        of_labels[name] = corrections_of(name) - noted_corrections(lake, problem)
    passed = sorted(set().union(*of_labels.values(), *pending.values()))
    for correction in passed:
        names = [*states, *(nodes[name]["name"] for name, each in pending.items() if correction in each)]
        for instant in (correction - _INSTANT, correction):
            on_progress(f"building the tables as they were known at {instant} UTC, for a correction")
            set_cap(lake, instant)
            _build(settings, names)
            for problem in (labeled[name] for name, each in of_labels.items() if correction in each):
                keep_former(lake, problem) if instant < correction else note_superseded(lake, problem, correction)
    for instant in sorted(lagging):
        # Of one table more is known already, corrections among it; up to here, the others are as they were then.
        on_progress(f"building the tables as they were known at {instant} UTC, until which all are ingested")
        set_cap(lake, instant)
        _build(settings, [*states, *lagging[instant]])
    if passed or lagging:
        set_cap(lake, None)
        _build(settings, [*states, *(nodes[name]["name"] for name in histories)])
    return len(passed)


def _check_history(node: dict[str, Any]) -> None:
    """Raises:
    HindcastError: Rows were corrected, and a table of features can't keep what was known before.
    """
    config, where = node["config"], f"dbt_project/{node['original_file_path']}"
    if config.get("materialized") != "incremental" or config.get("incremental_strategy") != "history":
        raise HindcastError(
            f"{where}: rows that {node['name']} is made from were corrected, and a table that is rebuilt as a whole "
            "forgets what was known before: leave its `materialized` out, or write incremental."
        )
    keys = (config.get("meta") or {}).get("entity_keys")
    if not keys:
        raise HindcastError(
            f"{where}: rows that {node['name']} is made from were corrected: write in its description which columns "
            "are its key, as `config: {meta: {entity_keys: [column]}}`."
        )
    for name, column in node["columns"].items():
        never_null = any(constraint["type"] == "not_null" for constraint in column.get("constraints") or ())
        if never_null and name not in (*keys, "event_timestamp"):
            raise HindcastError(
                f"{where}: a key of {node['name']} of which nothing is left after a correction gets a row of NULLs: "
                f"take the constraint not_null of {name} out of its description."
            )


def _build(settings: Settings, names: list[str]) -> None:
    failed = [result for result in build(settings, names) if result.failed]
    if failed:
        faults = "; ".join(f"{fault.unique_id}: {fault.status} {fault.message}".strip() for fault in failed)
        raise HindcastError(f"A table can't be built as it was known at a correction: {faults}")


def _corrections(lake: Lake) -> list[tuple[str, datetime]]:
    """Raw tables, and the instants (UTC, without a zone) at which something in them turned out otherwise."""
    if not lake.exists(CORRECTIONS):
        return []
    with lake.reading() as connection:
        return connection.execute(f'SELECT DISTINCT table_name, "at" FROM {CORRECTIONS} ORDER BY ALL').fetchall()
