"""A profile drawn: pictures for the orchestrator's screen, and one HTML page that needs no other file."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from hindcast.tables.profile import QUANTILES, Column, Profile, Table, TargetDay

_BLUE, _GREY, _ORANGE = "#2b6cb0", "#a0aec0", "#dd6b20"
_ACROSS = 5
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#1a202c}"
    "table{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto;white-space:nowrap}"
    "td,th{padding:.2rem .6rem;border-bottom:1px solid #e2e8f0;text-align:left}"
    "td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}h2{margin-top:3rem}img{max-width:100%}"
    "td:last-child{white-space:normal;min-width:22rem}nav a{margin-right:1rem}"
)


def pictures(profile: Profile) -> dict[str, bytes]:
    """PNG bytes by title: the target over time, missing values, and per table histograms and correlations."""
    drawn: dict[str, bytes] = {}
    if profile.target:
        drawn["target over time"] = _draw(lambda figure: _target(figure, profile.target), 9, 3.2)
    missing = [(table, column) for table in profile.tables for column in table.columns if column.nulls]
    if missing:
        drawn["missing values"] = _draw(lambda figure: _missing(figure, missing), 9, 0.6 + 0.24 * len(missing))
    for table in profile.tables:
        if table.rows:
            drawn[f"{_title(table)}: columns"] = _columns(table)
        if table.correlations:
            drawn[f"{_title(table)}: correlations"] = _heatmap(table)
    return drawn


def page(profile: Profile, drawn: dict[str, bytes], title: str, lead: str, now: datetime) -> str:
    """The page: for each table its figures, then its pictures.

    Args:
        profile: The figures.
        drawn: What `pictures` gave.
        title: The page's heading.
        lead: A sentence below it.
        now: The clock when the tables were read.
    """
    links = "".join(
        f'<a href="#{html.escape(_title(table))}">{html.escape(_title(table))}</a>' for table in profile.tables
    )
    stood = f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC, lake snapshot {profile.snapshot}"
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p><p>As the tables stood at {stood}. "
        "Histograms reach from the 1st to the 99th percentile; what lies beyond is in their outer bars.</p>"
        f"<nav>{links}</nav>",
        *(_image(name, drawn[name]) for name in ("target over time", "missing values") if name in drawn),
    ]
    for table in profile.tables:
        name = _title(table)
        parts.append(
            f'<h2 id="{html.escape(name)}">{html.escape(name)}</h2><p>{table.rows:,} rows</p>{_figures(table)}'
        )
        parts += [_image(key, picture) for key, picture in drawn.items() if key.startswith(f"{name}: ")]
    return "\n".join(parts) + "\n</html>\n"


def as_markdown(picture: bytes, title: str) -> str:
    """A picture inside Markdown, for a screen that has no file server."""
    return f"![{title}]({_data_uri(picture)})"


def cells(column: Column) -> dict[str, str]:
    """One column's figures as short texts, by heading."""
    quantiles = column.quantiles or (None,) * len(QUANTILES)
    return {
        "column": column.name,
        "type": column.type,
        "nulls": f"{column.nulls:,}",
        "null share": f"{column.null_share:.1%}",
        "distinct": f"{column.distinct:,}",
        "min": _short(column.min),
        "max": _short(column.max),
        "mean": _number(column.mean),
        "std": _number(column.deviation),
        **{f"{quantile:.0%}": _number(value) for quantile, value in zip(QUANTILES, quantiles, strict=True)},
        "top values": ", ".join(f"{_short(value)} ({count:,})" for value, count in column.top),
    }


def _figures(table: Table) -> str:
    if not table.columns:
        return ""
    texts = ("column", "type", "min", "max", "top values")
    rows = [cells(column) for column in table.columns]
    head = "".join(f"<th{'' if name in texts else ' class=n'}>{html.escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>"
        + "".join(f"<td{'' if name in texts else ' class=n'}>{html.escape(text)}</td>" for name, text in row.items())
        + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _draw(draw: Callable[[Any], None], width: float, height: float) -> bytes:
    """Runs a drawing function on a figure, off screen; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=80)
    FigureCanvasAgg(figure)
    draw(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, bbox_inches="tight")
    return buffer.getvalue()


def _target(figure: Any, days: Sequence[TargetDay]) -> None:
    """Each day's value, and the mean over the labels of the seven days up to it."""
    axes = figure.subplots()
    at = [datetime.fromisoformat(day.day) for day in days]
    names = sorted({name for day in days for name in day.values})
    colours = (_BLUE, _ORANGE, "#2f855a", "#805ad5", "#718096")
    for name, colour in zip(names, colours, strict=False):
        values = [day.values.get(name, 0.0) for day in days]
        axes.plot(at, values, color=colour, linewidth=0.6, alpha=0.6)
        smooth = []
        for place in range(len(days)):
            week = [n for n in range(max(0, place - 6), place + 1) if (at[place] - at[n]).days < 7]
            smooth.append(sum(values[n] * days[n].rows for n in week) / sum(days[n].rows for n in week))
        axes.plot(at, smooth, color=colour, linewidth=2, label=f"{name}, seven days")
    axes.set_title(f"Target by day of prediction ({sum(day.rows for day in days):,} known labels)")
    if all(value >= 0 for day in days for value in day.values.values()):
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _missing(figure: Any, missing: Sequence[tuple[Table, Column]]) -> None:
    axes = figure.subplots()
    shown = list(missing)[::-1]
    shares = [100 * column.null_share for _, column in shown]
    places = axes.barh([f"{_title(table)}.{column.name}" for table, column in shown], shares, color=_BLUE)
    axes.bar_label(places, labels=[f" {column.nulls:,}" for _, column in shown], fontsize=7)
    axes.tick_params(axis="y", labelsize=8)
    axes.set(title="Missing values, % of rows (count)", xlim=(0, max(*shares, 1) * 1.15))
    axes.margins(y=0.01)
    axes.spines[["top", "right"]].set_visible(False)


def _columns(table: Table) -> bytes:
    """A small picture per column: the histogram, or the most frequent values."""
    down = -(-len(table.columns) // _ACROSS)

    def draw(figure: Any) -> None:
        figure.subplots_adjust(wspace=0.25, hspace=0.75)
        for place, column in enumerate(table.columns, 1):
            axes = figure.add_subplot(down, _ACROSS, place)
            axes.set_title(column.name, fontsize=9)
            axes.set_yticks([])
            axes.spines[["top", "right", "left"]].set_visible(False)
            _one_column(axes, column)

    return _draw(draw, 2.4 * _ACROSS, 1.55 * down)


def _one_column(axes: Any, column: Column) -> None:
    shape = column.histogram
    if shape is not None:
        width = (shape.high - shape.low) / len(shape.counts)
        axes.stairs(shape.counts, [shape.low + n * width for n in range(len(shape.counts) + 1)], fill=True, color=_BLUE)
        inside = 0.5 if column.is_whole else 0.0  # a bin of whole numbers begins half way before its first
        ends = [shape.low + inside, shape.high - inside]
        shown = [f"{datetime.fromtimestamp(end, UTC):%Y-%m-%d}" if column.is_instant else _number(end) for end in ends]
        if ends[0] == ends[1]:
            axes.set_xticks(ends[:1], shown[:1])
        else:
            axes.set_xticks(ends, shown)
            for label, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
                label.set_horizontalalignment(side)
        axes.tick_params(axis="x", labelsize=7)
        return
    top = column.top[::-1]
    axes.barh(range(len(top)), [count for _, count in top], color=_GREY)
    for place, (value, _) in enumerate(top):
        axes.text(0, place, f" {_short(value, 22)}", va="center", fontsize=7)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _heatmap(table: Table) -> bytes:
    names = [column.name for column in table.columns if column.is_number and column.deviation]
    pairs = table.correlations
    values = [[1.0 if a == b else pairs.get((a, b), pairs.get((b, a), float("nan"))) for b in names] for a in names]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        for row, line in enumerate(values):
            for place, r in enumerate(line):
                if row != place and abs(r) >= 0.3:
                    shade = "white" if abs(r) > 0.6 else "black"
                    axes.text(place, row, f"{r:.1f}", ha="center", va="center", fontsize=6, color=shade)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_title(f"{_title(table)}: correlations", fontsize=9)
        figure.colorbar(image, shrink=0.7)

    size = 2.2 + 0.32 * len(names)
    return _draw(draw, size + 0.8, size)


def _title(table: Table) -> str:
    return f"{table.schema}.{table.name}"


def _short(value: str | None, length: int = 30) -> str:
    if value is None:
        return ""
    return value if len(value) <= length else f"{value[: length - 1]}…"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _image(title: str, picture: bytes) -> str:
    return f'<p><img alt="{html.escape(title)}" src="{_data_uri(picture)}"></p>'
