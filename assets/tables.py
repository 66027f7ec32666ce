"""Stages cleaned, features, labeled and split: tables that dbt makes, and the guard where they enter Python."""

from collections.abc import Callable
from typing import Any

from dagster import AssetCheckResult, AssetChecksDefinition, AssetKey, AssetsDefinition, asset_check

from assets.dbt import dbt_stage
from assets.resources import HindcastResource
from hindcast.problem import Problem
from hindcast.tables.schemas import explain_faults, faults_of, labeled_schema, split_schema
from hindcast.workspace import Domain, Workspace


def table_key(problem: str, table: str) -> AssetKey:
    """The key of a problem's labeled or split table (`schema.table`)."""
    return AssetKey([problem, *table.split(".")])


def build_stage(domain: Domain, stage: str) -> list[AssetsDefinition]:
    """A domain's tables of a stage that its problems share: cleaned or features."""
    return dbt_stage(f"{domain.name}_{stage}", domain, stage)


def build_labeled_and_split(workspace: Workspace) -> list[AssetsDefinition | AssetChecksDefinition]:
    """A problem's labeled and split tables, each with its guard."""
    problem, domain = workspace.problem, workspace.domain
    return [
        *dbt_stage(f"{problem.name}_labeled", domain, "labeled", problem),
        *dbt_stage(f"{problem.name}_split", domain, "split", problem),
        _guard(problem, problem.labeled_table, labeled_schema),
        _guard(problem, problem.split_table, split_schema),
    ]


def _guard(problem: Problem, table: str, schema_of: Callable[[Problem], Any]) -> AssetChecksDefinition:
    of = problem.name

    @asset_check(
        asset=table_key(of, table),
        name="schema",
        description="Unique keys, instants in order, labels that are known when they say so.",
        blocking=True,
    )
    def guard(hindcast: HindcastResource) -> AssetCheckResult:
        found = hindcast.problem(of)
        rows, faults = faults_of(found.lake, found.problem, table, schema_of(found.problem))
        text = explain_faults(found.problem, table, faults) if faults else None
        return AssetCheckResult(passed=not faults, description=text, metadata={"rows": rows, "faults": len(faults)})

    return guard
