"""How measured leaks are shown: on a terminal, and as a page that stands by itself beside `leaks.json`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from hindcast.artefacts import write_json
from hindcast.files import write_atomically
from hindcast.leaks.measure import LeakReport, Outcome
from hindcast.leaks.variants import RANDOM_SPLIT, READ_LATE
from hindcast.pages import as_page, draw, markdown_table

_ALARMS = {
    "single_feature_roc_auc": "single feature",
    "null_pattern_label_rate": "null pattern",
    "known_at_violations": "label known too late",
    "model_roc_auc": "model",
}
_HEAD = {
    "variant": "what leaks",
    "offline": "trained and tested with the leak, as its maker would report it",
    "served": "the same model, asked with what is known at the prediction time",
    "gap": "offline less served, ± half of its 95 % interval over days",
    "alarms": "those of the gate that would have seen it offline",
}


def write(report: LeakReport, folder: Path) -> Path:
    """Writes `leaks.json` and `leaks.html`; returns the page."""
    write_json(folder / "leaks.json", asdict(report))
    page = as_page(
        f"{report.problem}: what leaks are worth", _lead(report), _tables(report), {"ROC AUC": _picture(report)}
    )
    write_atomically(folder / "leaks.html", page)
    return folder / "leaks.html"


def render(report: LeakReport) -> None:
    """Prints the figures."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print()
    console.rule(f"[bold]{report.problem}: what leaks are worth", align="left")
    console.print(f"{_lead(report)}\n")
    table = Table(*_HEAD, box=None, header_style="bold", pad_edge=False)
    table.add_row("(no leak)", "", _area(report, report.honest), "", _alarms(report.checks))
    for outcome in report.variants:
        table.add_row(
            outcome.name,
            _area(report, outcome.offline),
            _area(report, outcome.served),
            _gap(outcome),
            _alarms(outcome.checks),
        )
        for step, figures in _steps(report, outcome):
            table.add_row(f"  {step}", "", _area(report, figures))
    console.print(table)
    console.print()
    for word, meaning in _HEAD.items():
        console.print(f"{word:8} {meaning}")
    shown = {outcome.name: outcome.description for outcome in report.variants}
    for name in (RANDOM_SPLIT, READ_LATE):
        if name in shown:
            console.print(f"\n{name}: {shown[name]}")
    console.rule()


def render_summary(report: LeakReport, page: Path) -> None:
    """Prints what a careless model of the same data would have claimed, beside what it would have been worth."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"Had it been made carelessly, what would its maker have claimed? ({report.area})\n")
    table = Table("the same data, but", "claimed", "when served", box=None, header_style="bold", pad_edge=False)
    for outcome in report.variants:
        table.add_row(outcome.name, _area(report, outcome.offline), _area(report, outcome.served))
    table.add_row("as it was made", _area(report, report.honest), _area(report, report.honest))
    console.print(table)
    console.print(f"\n{page} says what each of them is; `hindcast leaks` measures them on all rows.")
    console.rule()


def caught_by(checks: tuple[Any, ...]) -> list[str]:
    """Names of the alarms that ring."""
    return [check.name for check in checks if not check.holds]


def _lead(report: LeakReport) -> str:
    (train, trained), (test, tested) = (
        tuple(instant[:10] for instant in report.windows[split]) for split in ("train", "test")
    )
    fitted = f"{report.rows['fitted']:,} of " if report.rows["fitted"] < report.rows["train"] else ""
    return (
        f"Areas under the ROC curve (`{report.area}`) of {report.model['name']}, fitted to "
        f"{fitted}{report.rows['train']:,} rows from "
        f"{train} to {trained}, tested on {report.rows['test']:,} from {test} to {tested} (UTC, ends excluded). "
        f"Without a leak: {_area(report, report.honest)}."
    )


def _steps(report: LeakReport, outcome: Outcome) -> list[tuple[str, dict[str, Any]]]:
    """What lies between offline and served, where the variant has figures of its own."""
    if outcome.without == report.honest:
        return []
    steps = [("its columns, split by time", outcome.by_time)] if outcome.by_time else []
    return [*steps, ("trained on what is known", outcome.without)]


def _tables(report: LeakReport) -> dict[str, str]:
    figures = [
        {
            "variant": each.name,
            "offline": _area(report, each.offline),
            "split by time": _area(report, each.by_time or each.offline),
            "served": _area(report, each.served),
            "gap": f"{each.gap['difference']:+.3f}",
            "95 % of day resamples": f"{each.gap['low']:+.3f} to {each.gap['high']:+.3f}",
            "without the leak": _area(report, each.without),
            f"{report.shown} offline": f"{each.offline[report.shown]:.3f}",
            f"{report.shown} served": f"{each.served[report.shown]:.3f}",
            "alarms": _alarms(each.checks),
        }
        for each in report.variants
    ]
    without = {"without the leak": "the same model, trained and asked with what is known at the prediction time"}
    return {
        "Figures": markdown_table(figures),
        "What the columns say": markdown_table({"column": c, "meaning": m} for c, m in (_HEAD | without).items()),
        "Variants": markdown_table({"variant": v.name, "what leaks": v.description} for v in report.variants),
    }


def _picture(report: LeakReport) -> bytes:
    """A pair of dots per variant: offline, and as served."""
    shown = report.variants[::-1]

    def dots(axes: Any) -> None:
        heights = list(range(len(shown)))
        offline, served = ([getattr(each, kind)[report.area] for each in shown] for kind in ("offline", "served"))
        axes.hlines(heights, served, offline, color="#a0aec0", linewidth=2)
        axes.plot(offline, heights, "o", color="#dd6b20", label="offline")
        axes.plot(served, heights, "o", color="#2b6cb0", label="served honestly")
        own = [(each.without[report.area], y) for y, each in enumerate(shown) if _steps(report, each)]
        if own:
            axes.plot(*zip(*own, strict=True), "D", color="#2f855a", label="trained on what is known")
        axes.axvline(report.honest[report.area], color="#1a202c", linestyle="--", label="no leak")
        axes.set_yticks(heights, [each.name for each in shown], fontsize=7)
        axes.set(xlabel="area under the ROC curve")
        axes.legend(frameon=False, fontsize=7, loc="lower right")

    return draw(dots, size=(9, 1.5 + 0.25 * len(shown)))


def _area(report: LeakReport, figures: dict[str, Any]) -> str:
    return f"{figures[report.area]:.3f}"


def _gap(outcome: Outcome) -> str:
    return f"{outcome.gap['difference']:+.3f} ± {(outcome.gap['high'] - outcome.gap['low']) / 2:.3f}"


def _alarms(checks: tuple[Any, ...]) -> str:
    return ", ".join(_ALARMS[each] for each in caught_by(checks)) or "none"
