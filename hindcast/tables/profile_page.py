"""The page of a profile: skrub's report on each table, which needs no other file and asks no network."""

from datetime import UTC, datetime
from typing import Any

import polars as pl

from hindcast.pages import as_page, draw, markdown_table
from hindcast.tables.profile import QUANTILES, SAMPLE_ROWS, Profile

_SHOWN = 30  # characters of a value
TARGET = "Target by day of prediction"


def figures(profile: Profile, table: str) -> str:
    """A Markdown table of the figures of a table (`schema.table`), one row per column."""
    return markdown_table(
        {
            "column": column["column_name"],
            "type": column["type"],
            "nulls": f"{column['nulls']:,} ({column['nulls'] / max(column['rows'], 1):.1%})",
            "distinct": column["distinct_values"],
            "min": _short(column["min"]),
            "max": _short(column["max"]),
            "mean": column["mean"],
            "std": column["standard_deviation"],
            **{f"{quantile:.0%}": column[name] for name, quantile in QUANTILES.items()},
            "top values": ", ".join(f"{_short(top['value'])} ({top['rows']:,})" for top in column["top_values"]),
        }
        for column in profile.columns(table).iter_rows(named=True)
    )


def target_picture(profile: Profile) -> bytes:
    """Each day's value as PNG, and the mean over the labels of the seven days up to it."""
    days = profile.target.sort("day")

    def lines(axes: Any) -> None:
        for name in days.columns[2:]:
            (line,) = axes.plot(days["day"], days[name], linewidth=0.6, alpha=0.6)
            mean = (pl.col(name) * pl.col("rows")).sum() / pl.col("rows").sum()
            week = days.rolling("day", period="7d").agg(mean.alias("mean"))
            axes.plot(week["day"], week["mean"], color=line.get_color(), linewidth=2, label=f"{name}, seven days")
        axes.set_title(f"{TARGET} ({days['rows'].sum():,} known labels)")
        axes.legend(frameon=False)

    return draw(lines, size=(9, 3.2))


def page(profile: Profile, title: str, question: str, now: datetime) -> str:
    """The page as HTML.

    Args:
        profile: What was measured.
        title: The page's heading.
        question: The problem's.
        now: The clock when the tables were read.
    """
    from skrub import TableReport

    lead = (
        f"{question} As the tables stood at {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC, lake snapshot "
        f"{profile.snapshot}. The reports show samples of at most {SAMPLE_ROWS:,} rows; the tables of figures are of "
        "all rows."
    )
    reports = {}
    for table, sample in profile.samples.items():
        rows = profile.rows(table)
        of = f"a sample of {sample.height:,} of {rows:,} rows" if sample.height < rows else f"all {rows:,} rows"
        report = TableReport(
            sample, verbose=0, plot_distributions=True, compute_associations=True, open_tab="distributions"
        )
        reports[f"{table}: {of}"] = report.html_snippet() if rows else "<p>No rows.</p>"
    tables = {f"{table}: figures of all rows": figures(profile, table) for table in profile.samples}
    pictures = {TARGET: target_picture(profile)} if profile.target.height else {}
    return as_page(title, lead, tables, pictures, reports)


def _short(value: str | None) -> str | None:
    return value if value is None or len(value) <= _SHOWN else f"{value[: _SHOWN - 1]}…"
