"""Stage raw: one asset per table that the sources file declares. Reading them is `hindcast.tables.ingest`'s work."""

import hashlib
from datetime import date

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    BackfillPolicy,
    DataVersion,
    MaterializeResult,
    MonthlyPartitionsDefinition,
    asset,
)

from assets.resources import HindcastResource
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.tables.ingest import IngestResult, ingest
from hindcast.tables.rejected import explain_rejected
from hindcast.tables.sources import Sources, SourceTable, load_sources


def build_assets(sources: Sources) -> list[AssetsDefinition]:
    """One asset per declared table, with key `raw/<table>`, in the order of declaration."""
    return [_table_asset(sources, name, table) for name, table in sources.tables.items()]


def _table_asset(sources: Sources, name: str, table: SourceTable) -> AssetsDefinition:
    key = AssetKey(["raw", name])

    @asset(
        key=key,
        description=f"{table.description} As known at the clock, from {table.file}.".strip(),
        deps=[AssetKey(["raw", lookup]) for lookup in dict.fromkeys(lookup.table for lookup in table.lookups.values())],
        partitions_def=_months(sources) if table.month else None,
        backfill_policy=BackfillPolicy.single_run() if table.month else None,
        check_specs=[
            AssetCheckSpec("rejected_share", asset=key, blocking=True, description="Rows that couldn't be read.")
        ],
        code_version=hashlib.sha256(table.model_dump_json().encode()).hexdigest()[:12],
        kinds={"duckdb", table.format},
    )
    def ingest_table(context: AssetExecutionContext, hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        months = [date.fromisoformat(month) for month in context.partition_keys] if table.month else None
        result = ingest(hindcast.lake, sources, name, hindcast.clock.now(), hindcast.settings, months)
        return MaterializeResult(
            metadata={
                "dagster/row_count": result.rows_in_table,
                "rows_ingested": result.rows,
                "rows_read": result.rows_read,
                "rejected": result.rejected,
                "not_yet_known": result.not_yet_known,
                **vars(result.changes),
                "changed": result.changed,
                "snapshot": hindcast.lake.snapshot(),
                "source_files": list(result.files),
                "columns_not_read": list(result.undeclared),
            },
            data_version=DataVersion(result.data_version),
            check_results=[_rejected_share(hindcast, result, table.max_rejected_share)],
        )

    return ingest_table


def _months(sources: Sources) -> MonthlyPartitionsDefinition:
    assert sources.starts is not None  # the sources file was checked for it
    # The running month is a partition too, and the next: what is known of them by now can be ingested.
    return MonthlyPartitionsDefinition(
        sources.starts.isoformat(),
        sources.ends.isoformat() if sources.ends else None,
        end_offset=0 if sources.ends else 2,
    )


def _rejected_share(hindcast: HindcastResource, result: IngestResult, limit: float) -> AssetCheckResult:
    """Any rejected row warns; a share past the declared limit stops what comes after."""
    too_many = result.rejected_share > limit
    return AssetCheckResult(
        check_name="rejected_share",
        passed=result.rejected == 0,
        severity=AssetCheckSeverity.ERROR if too_many else AssetCheckSeverity.WARN,
        description=explain_rejected(hindcast.lake, result.table, result.rows_read, limit, hindcast.problem.sources),
        metadata={"rejected": result.rejected, "share": result.rejected_share, "limit": limit},
    )


def _declared_sources() -> Sources:
    settings = Settings.from_environment()
    problem = load_problem(settings.problem_file)
    return load_sources(settings.sources_folder / f"{problem.sources}.yaml")


raw_assets = build_assets(_declared_sources())
