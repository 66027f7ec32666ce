"""Pictures, tables and HTML pages that need no other file. What they show is measured elsewhere."""

import base64
import html
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#1a202c}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{padding:.2rem .7rem;border-bottom:1px solid #e2e8f0;text-align:left}img{max-width:100%}"
)


def markdown_table(rows: Iterable[Mapping[str, Any]], digits: str = ".4g") -> str:
    """Rows as a Markdown table, by heading; what is None is left empty, fractions are written with `digits`."""
    rows = list(rows)

    def cell(value: Any) -> str:
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{value:,}"
        return "" if value is None else format(value, digits) if isinstance(value, float) else str(value)

    lines = [list(rows[0]), ["---"] * len(rows[0]), *(map(cell, row.values()) for row in rows)] if rows else []
    return "\n".join(f"| {' | '.join(text.replace('|', '¦') for text in line)} |" for line in lines)


def as_markdown(pictures: Mapping[str, bytes]) -> dict[str, str]:
    """Pictures inside Markdown, by title: what the orchestrator's screen can show without a file server."""
    return {title: f"![{title}]({_data_uri(picture)})" for title, picture in pictures.items()}


def as_page(
    title: str,
    lead: str,
    tables: Mapping[str, str],
    pictures: Mapping[str, bytes],
    more: Mapping[str, str] | None = None,
) -> str:
    """One HTML page that needs no other file.

    Args:
        title: Its heading.
        lead: A sentence below it.
        tables: Markdown tables by heading.
        pictures: PNG bytes by heading.
        more: HTML by heading.
    """
    parts = {name: _html_table(table) for name, table in tables.items()}
    parts |= {name: f'<img alt="{html.escape(name)}" src="{_data_uri(picture)}">' for name, picture in pictures.items()}
    body = "".join(f"<h2>{html.escape(name)}</h2>{part}" for name, part in (parts | dict(more or {})).items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>{body}</html>\n"
    )


def draw(on_axes: Callable[[Any], None], columns: int = 1, size: tuple[float, float] = (5.5, 4)) -> bytes:
    """Runs a drawing function on one pair of axes, or several, off screen; `size` is of each, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * columns, size[1]), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns)
    on_axes(axes)
    for each in np.ravel(axes):
        each.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _html_table(markdown: str) -> str:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    head = "".join(f"<th>{html.escape(cell)}</th>" for row in rows[:1] for cell in row)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[2:])
    return f"<table><tr>{head}</tr>{body}</table>"
