"""The tables that tell the SQL about time, written for the tests as the graph writes them."""

from collections.abc import Collection
from datetime import date, datetime

from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.sources import SimulatedTime, Sources
from hindcast.tables.transform import domain_of, manifest
from hindcast.tables.windows import INGESTED, write_instants, write_windows
from hindcast.workspace import Domain, Workspace


def sources_of(lake: Lake, problem: Problem, ends: date | None = None) -> Sources:
    """A declaration of all tables that were ever ingested; labels take as long to settle as to mature."""
    tables: dict[str, None] = {}
    if lake.exists(INGESTED):
        with lake.reading() as connection:
            tables = dict.fromkeys(
                row[0] for row in connection.execute(f"SELECT table_name FROM {INGESTED}").fetchall()
            )
    return Sources.model_construct(
        tables=tables, ends=ends, starts=None, settles_within=problem.label.matures_within, clock=None
    )


def write_control(
    lake: Lake,
    problem: Problem,
    known_until: datetime,
    as_of: datetime,
    label_tables: Collection[str] | None = None,
    ends: date | None = None,
) -> str:
    """Writes instants and windows; returns a version of both."""
    sources = sources_of(lake, problem, ends)
    version = write_instants(lake, sources, known_until)
    return version + write_windows(lake, problem, sources, as_of, known_until, label_tables)


def workspace_of(settings: Settings, problem: Problem, clock: SimulatedTime | None = None) -> Workspace:
    """A workspace whose problem and clock stand in no file."""
    sources = sources_of(Lake(settings), problem).model_copy(update={"clock": clock})
    return Workspace(settings, problem, Domain(problem.domain, settings, sources, (problem,)))


def names_of(settings: Settings, domain: str, *kinds: str) -> list[str]:
    """Names of a domain's dbt nodes of some kinds: model, seed, test."""
    nodes = manifest(settings)["nodes"].values()
    return [node["name"] for node in nodes if node["resource_type"] in kinds and domain_of(node) == domain]
