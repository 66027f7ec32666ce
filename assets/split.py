"""Stage split: the labeled rows that each window admits, and the guard where tables enter Python. The SQL is dbt's."""

from collections.abc import Callable
from typing import Any

from dagster import AssetCheckResult, AssetChecksDefinition, AssetKey, asset_check

from assets.dbt import dbt_stage
from assets.resources import HindcastResource
from hindcast.problem import Problem, load_problem
from hindcast.settings import Settings
from hindcast.tables.schemas import explain_faults, faults_of, labeled_schema, split_schema

split_tables = dbt_stage("split", select="tag:split")

_PROBLEM = load_problem(Settings.from_environment().problem_file)


def _guard(table: str, schema_of: Callable[[Problem], Any]) -> AssetChecksDefinition:
    """A blocking check that a table holds what Python takes for granted."""

    @asset_check(
        asset=AssetKey(table.split(".")),
        name="schema",
        description="Unique keys, instants in order, labels that are known when they say so.",
        blocking=True,
    )
    def guard(hindcast: HindcastResource) -> AssetCheckResult:
        rows, faults = faults_of(hindcast.lake, hindcast.problem, table, schema_of(hindcast.problem))
        told = explain_faults(hindcast.problem, table, faults) if faults else None
        return AssetCheckResult(passed=not faults, description=told, metadata={"rows": rows, "faults": len(faults)})

    return guard


labeled_guard = _guard(_PROBLEM.labeled_table, labeled_schema)
split_guard = _guard(_PROBLEM.split_table, split_schema)
