"""Stage monitor: what was served is computed again, labels join it, and a report judges it.

Recomputing is `hindcast.monitoring.parity`'s work, judging `hindcast.monitoring.report`'s.
"""

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    TableRecord,
    asset,
)

from assets.resources import HindcastResource
from hindcast.checks import explain
from hindcast.files import write_atomically
from hindcast.fingerprint import fingerprint
from hindcast.problem import load_problem
from hindcast.promotion.champion import champion_folder
from hindcast.settings import Settings

LABELED_TABLE = load_problem(Settings.from_environment().problem_file).labeled_table


@asset(
    key=["monitor", "labeled_requests"],
    deps=[AssetKey(["log", "requests"]), AssetKey(LABELED_TABLE.split("."))],
    description="One row per logged request, with its label and since when that is known; both null while unknown.",
    kinds={"duckdb"},
)
def labeled_requests(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    from hindcast.monitoring.periods import label_requests

    counts = label_requests(hindcast.problem, hindcast.lake)
    return MaterializeResult(
        metadata={
            "dagster/row_count": counts.requests,
            "labeled": counts.labeled,
            "changed": counts.written,
            "snapshot": hindcast.lake.snapshot(),
        },
        data_version=DataVersion(counts.version),
    )


@asset(
    deps=[AssetKey(["log", "requests"]), AssetKey("feature_views")],
    description="What was served, computed again from the lake: as of the state that the online store was in (what "
    "differs is skew, a defect), and as of the request (what differs is staleness).",
    check_specs=[
        AssetCheckSpec(
            "no_skew",
            asset="serving_parity",
            blocking=True,
            description="No served feature or prediction differs from what is computed from the lake.",
        )
    ],
    kinds={"feast", "duckdb"},
)
def serving_parity(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    from hindcast.monitoring.parity import SKEWED, UNPROVEN, measure, write
    from hindcast.monitoring.parity_page import page, pictures, tables
    from hindcast.pages import as_markdown

    reports = hindcast.settings.reports
    parity = measure(hindcast.settings, hindcast.problem, hindcast.lake, hindcast.clock.now())
    drawn = pictures(parity)
    write_atomically(reports / "parity.html", page(parity, hindcast.problem.name, drawn))
    written = write(parity, reports / "parity.json")
    return MaterializeResult(
        metadata={
            "status": parity.status,
            "summary": MetadataValue.md(parity.summary),
            "requests": parity.requests,
            "checked": parity.checked,
            "skewed_cells": parity.skew["cells"],
            "report": MetadataValue.path(reports / "parity.html"),
            **{title: MetadataValue.md(table) for title, table in tables(parity).items()},
            **{title: MetadataValue.md(picture) for title, picture in as_markdown(drawn).items()},
        },
        data_version=DataVersion(fingerprint(values=[written])),
        check_results=[
            AssetCheckResult(
                check_name="no_skew",
                passed=parity.status not in (SKEWED, UNPROVEN),
                # What proves nothing doesn't pass; but it is no fault either that would have to stop the rest.
                severity=AssetCheckSeverity.WARN if parity.status == UNPROVEN else AssetCheckSeverity.ERROR,
                description=explain(parity.summary, look_at=str(reports / "parity.html")),
                metadata={"skewed_cells": parity.skew["cells"], "unchecked": parity.requests - parity.checked},
            )
        ],
    )


@asset(
    deps=[labeled_requests, serving_parity, AssetKey("champion")],
    description="The verdict on the last window of requests: drift and realised performance, against the period that "
    "the champion was held against. `retrain_on_report` reads it.",
    check_specs=[
        AssetCheckSpec("no_alarm", asset="monitoring_report", description="Neither drift nor a loss of skill.")
    ],
    kinds={"evidently"},
)
def monitoring_report(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    from hindcast.monitoring.evidently_report import write_page
    from hindcast.monitoring.periods import load
    from hindcast.monitoring.report import judge, performance_table, write
    from hindcast.package.model import ServedModel

    reports = hindcast.settings.reports
    model = ServedModel.load(champion_folder(hindcast.settings))
    periods = load(hindcast.problem, hindcast.lake, model, hindcast.clock.now())
    report = judge(hindcast.problem, periods)
    page = write_page(hindcast.problem, periods, report, reports / "monitoring.html")
    written = write(report, reports / "monitoring.json")
    metadata = {
        "status": report.status,
        "causes": report.causes,
        "cause_id": report.cause_id,
        "model_version": report.model_version,
        "summary": MetadataValue.md(report.summary),
        "requests": report.requests,
        "labeled": report.labeled,
        "matured": report.matured,
        "performance": MetadataValue.md(performance_table(report)),
        "verdict": MetadataValue.path(reports / "monitoring.json"),
    }
    if page is not None:
        metadata |= {
            "report": MetadataValue.path(page.path),
            "report_rows": {"reference": page.reference_rows, "current": page.current_rows},
            "not_drawn": page.left_out,
            "by_evidently": {"drifted_columns": page.drifted, "performance": page.realised},
            "columns": MetadataValue.table([TableRecord(column) for column in report.drift["columns"]]),
        }
    return MaterializeResult(
        metadata=metadata,
        data_version=DataVersion(fingerprint(values=[written])),
        check_results=[
            AssetCheckResult(
                check_name="no_alarm",
                passed=report.status != "alarm",
                severity=AssetCheckSeverity.WARN,
                description=explain(report.summary, look_at=str(reports / "monitoring.html")),
            )
        ],
    )
