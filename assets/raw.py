"""Stage raw: one asset per table that a domain's sources file declares. Reading them: `hindcast.tables.ingest`."""

import hashlib
from datetime import date
from typing import Any

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
from hindcast.lake import Lake
from hindcast.pipeline import ingest_table
from hindcast.sources import Sources, SourceTable
from hindcast.tables.ingest import IngestResult
from hindcast.tables.rejected import explain_rejected
from hindcast.workspace import Domain


def build_raw(domain: Domain) -> list[AssetsDefinition]:
    """One asset per declared table, with key `raw/<table>`, in the order of declaration."""
    return [_table_asset(domain, name, table) for name, table in domain.sources.tables.items()]


def _table_asset(domain: Domain, name: str, table: SourceTable) -> AssetsDefinition:
    key, of = AssetKey(["raw", name]), domain.name

    @asset(
        key=key,
        description=f"{table.description} As known at the clock, from {table.file}.".strip(),
        deps=[AssetKey(["raw", lookup]) for lookup in dict.fromkeys(lookup.table for lookup in table.lookups.values())],
        partitions_def=_months(domain.sources) if table.month else None,
        backfill_policy=BackfillPolicy.single_run() if table.month else None,
        check_specs=[
            AssetCheckSpec("rejected_share", asset=key, blocking=True, description="Rows that couldn't be read.")
        ],
        code_version=hashlib.sha256(table.model_dump_json().encode()).hexdigest()[:12],
        kinds={"duckdb", table.format},
    )
    def ingest(context: AssetExecutionContext, hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        months = [date.fromisoformat(month) for month in context.partition_keys] if table.month else None
        found = hindcast.domain(of)
        result = ingest_table(found, name, months)
        return MaterializeResult(
            metadata=_metadata(result) | {"snapshot": found.lake.snapshot()},
            data_version=DataVersion(result.data_version),
            check_results=[_rejected_share(found.lake, of, result, table.max_rejected_share)],
        )

    return ingest


def _metadata(result: IngestResult) -> dict[str, Any]:
    return {
        "dagster/row_count": result.rows_in_table,
        "rows_ingested": result.rows,
        "rows_read": result.rows_read,
        "rejected": result.rejected,
        "not_yet_known": result.not_yet_known,
        **vars(result.changes),
        "changed": result.changed,
        "source_files": list(result.files),
        "columns_not_read": list(result.undeclared),
    }


def _months(sources: Sources) -> MonthlyPartitionsDefinition:
    assert sources.starts is not None  # the sources file was checked for it
    # The running month is a partition too, and the next: what is known of them by now can be ingested.
    return MonthlyPartitionsDefinition(
        sources.starts.isoformat(),
        sources.ends.isoformat() if sources.ends else None,
        end_offset=0 if sources.ends else 2,
    )


def _rejected_share(lake: Lake, domain: str, result: IngestResult, limit: float) -> AssetCheckResult:
    """Any rejected row warns; a share past the declared limit stops what comes after."""
    too_many = result.rejected_share > limit
    return AssetCheckResult(
        check_name="rejected_share",
        passed=result.rejected == 0,
        severity=AssetCheckSeverity.ERROR if too_many else AssetCheckSeverity.WARN,
        description=explain_rejected(lake, result.table, result.rows_read, limit, domain),
        metadata={"rejected": result.rejected, "share": result.rejected_share, "limit": limit},
    )
