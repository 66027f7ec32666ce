"""What was served is computed again, labels join it, and a report judges it.

Recomputing is `hindcast.monitoring.parity`'s work, judging `hindcast.monitoring.report`'s.
"""

from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    TableRecord,
    asset,
)

from assets.resources import HindcastResource
from assets.tables import table_key
from hindcast.checks import explain
from hindcast.fingerprint import fingerprint
from hindcast.pipeline import measure_parity, report_monitoring
from hindcast.workspace import Workspace

if TYPE_CHECKING:
    from hindcast.monitoring.evidently_report import Page


def report_key(problem: str) -> AssetKey:
    return AssetKey([problem, "monitoring_report"])


def build_monitoring(workspace: Workspace) -> list[AssetsDefinition]:
    """The assets `<problem>/labeled_requests`, `<problem>/serving_parity` and `<problem>/monitoring_report`."""
    of = workspace.problem.name
    requests, parity_key = AssetKey([of, "requests"]), AssetKey([of, "serving_parity"])
    labeled_table = table_key(of, workspace.problem.labeled_table)

    @asset(
        key=[of, "labeled_requests"],
        deps=[requests, labeled_table],
        description="One row per logged request, with its label and since when that is known; both null while unknown.",
        kinds={"duckdb"},
    )
    def labeled_requests(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        from hindcast.monitoring.periods import label_requests

        found = hindcast.problem(of)
        counts = label_requests(found.problem, found.lake)
        shown = {"dagster/row_count": counts.requests, "labeled": counts.labeled, "changed": counts.written}
        return MaterializeResult(
            metadata=shown | {"snapshot": found.lake.snapshot()}, data_version=DataVersion(counts.version)
        )

    @asset(
        key=parity_key,
        deps=[requests, AssetKey([of, "feature_history"])],
        description="What was served, computed again from the lake: as of the state that the online store was in (what "
        "differs is skew, a defect), and as of the request (what differs is staleness).",
        check_specs=[
            AssetCheckSpec(
                "no_skew",
                asset=parity_key,
                blocking=True,
                description="No served feature or prediction differs from what is computed from the lake.",
            )
        ],
        kinds={"feast", "duckdb"},
    )
    def serving_parity(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        found = hindcast.problem(of)
        parity, drawn, written = measure_parity(found)
        return MaterializeResult(
            metadata=_of_parity(found, parity, drawn),
            data_version=DataVersion(fingerprint(values=[written])),
            check_results=[_no_skew(found, parity)],
        )

    @asset(
        key=report_key(of),
        deps=[AssetKey([of, "labeled_requests"]), parity_key, AssetKey([of, "champion"])],
        description="The verdict on the last window of requests: drift and realised performance, against the period "
        "that the champion was held against. The sensor reads it.",
        check_specs=[
            AssetCheckSpec(
                "no_alarm",
                asset=report_key(of),
                description="Neither drift, nor a loss of skill, nor a broken promise.",
            )
        ],
        kinds={"evidently"},
    )
    def monitoring_report(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        found = hindcast.problem(of)
        report, page, written = report_monitoring(found)
        return MaterializeResult(
            metadata=_of_report(found, report) | (_of_page(report, page) if page else {}),
            data_version=DataVersion(fingerprint(values=[written])),
            check_results=[
                AssetCheckResult(
                    check_name="no_alarm",
                    passed=report.status != "alarm",
                    severity=AssetCheckSeverity.WARN,
                    description=explain(report.summary, look_at=str(found.settings.reports / "monitoring.html")),
                )
            ],
        )

    return [labeled_requests, serving_parity, monitoring_report]


def _of_parity(workspace: Workspace, parity: Any, drawn: dict[str, bytes]) -> dict[str, Any]:
    from hindcast.monitoring.parity_page import tables
    from hindcast.pages import as_markdown

    return {
        "status": parity.status,
        "summary": MetadataValue.md(parity.summary),
        "requests": parity.requests,
        "checked": parity.checked,
        "skewed_cells": parity.skew["cells"],
        "report": MetadataValue.path(workspace.settings.reports / "parity.html"),
        **{title: MetadataValue.md(text) for title, text in (tables(parity) | as_markdown(drawn)).items()},
    }


def _no_skew(workspace: Workspace, parity: Any) -> AssetCheckResult:
    from hindcast.monitoring.parity import SKEWED, UNPROVEN

    return AssetCheckResult(
        check_name="no_skew",
        passed=parity.status not in (SKEWED, UNPROVEN),
        # What proves nothing doesn't pass; but it is no fault either that would have to stop the rest.
        severity=AssetCheckSeverity.WARN if parity.status == UNPROVEN else AssetCheckSeverity.ERROR,
        description=explain(parity.summary, look_at=str(workspace.settings.reports / "parity.html")),
        metadata={"skewed_cells": parity.skew["cells"], "unchecked": parity.requests - parity.checked},
    )


def _of_report(workspace: Workspace, report: Any) -> dict[str, Any]:
    from hindcast.monitoring.report import performance_table

    return {
        "status": report.status,
        "causes": report.causes,
        "cause_id": report.cause_id,
        "model_version": report.model_version,
        "summary": MetadataValue.md(report.summary),
        "requests": report.requests,
        "labeled": report.labeled,
        "matured": report.matured,
        "performance": MetadataValue.md(performance_table(report)),
        "verdict": MetadataValue.path(workspace.settings.reports / "monitoring.json"),
    }


def _of_page(report: Any, page: "Page") -> dict[str, Any]:
    return {
        "report": MetadataValue.path(page.path),
        "report_rows": {"reference": page.reference_rows, "current": page.current_rows},
        "not_drawn": page.left_out,
        "by_evidently": {"drifted_columns": page.drifted, "performance": page.realised},
        "columns": MetadataValue.table([TableRecord(column) for column in report.drift["columns"]]),
    }
