"""Runs benchmarks, prints a table of each and writes it to `$HINDCAST_HOME/bench/<name>.json`.

    python -m bench [--rounds N] [name …]

The exit code is 1 where a bar doesn't hold or a benchmark fails; the others are run all the same.
"""

import argparse
import importlib
import json
import os
import sys
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.measure import Row
from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.settings import Settings

NAMES = (
    "training_set",
    "scaling",
    "online",
    "feature_build",
    "breadth",
    "serving",
    "swap",
    "durability",
    "kills",
    "quality",
    "own_data",
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Benchmarks; all of them without a name.")
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=5, help="how often each measurement is taken (default: 5)")
    asked = parser.parse_args(arguments)
    if asked.rounds < 1:
        parser.error("--rounds must be 1 at least")
    if unknown := [name for name in asked.names if name not in NAMES]:
        print(f"bench: No benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}.", file=sys.stderr)
        return 1
    settings = Settings.from_environment()
    os.environ.update(settings.environment())
    missed, failed = [], []
    for name in asked.names or NAMES:
        try:
            if not run(name, settings, asked.rounds):
                missed.append(name)
        except (HindcastError, RuntimeError) as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            failed.append(name)
    for what, names in (("Bars were missed in", missed), ("Could not be measured", failed)):
        if names:
            print(f"{what}: {', '.join(names)}.")
    return 1 if missed or failed else 0


def run(name: str, settings: Settings, rounds: int) -> bool:
    """Runs one benchmark, shows and keeps its rows; says whether its bars hold."""
    print(f"{name} …", file=sys.stderr, flush=True)
    module = load(name)
    began = time.monotonic()
    rows = module.run(settings, rounds)
    took = timedelta(seconds=round(time.monotonic() - began))
    how = getattr(module, "ONCE", f"medians of {rounds}")
    show(name, module.__doc__, rows, f"{how}, {took}")
    keep(settings.benchmarks / f"{name}.json", name, rounds, rows)
    return held(rows)


def load(name: str) -> Any:
    """The module of a benchmark: `run(settings, rounds)` returns its rows, its docstring says what they compare.

    One that knows no rounds says in `ONCE` what it does instead.
    """
    return importlib.import_module(f"bench.{name}")


def held(rows: list[Row]) -> bool:
    """Whether every bar holds that isn't only to strive for."""
    return all(row.holds is not False or row.stretch for row in rows)


def show(name: str, says: str, rows: list[Row], how: str, console: Console | None = None) -> None:
    table = Table(title=f"{name} ({how})", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for heading in ("what", "ours", "peer or limit", "ratio", "bar", "holds"):
        table.add_column(heading, justify="right" if heading in {"ours", "ratio", "bar"} else "left")
    for row in rows:
        table.add_row(
            row.what,
            _quantity(row.ours, row.unit),
            "" if row.peer is None else f"{_quantity(row.peer, row.unit)} {row.against}",
            "" if row.ratio is None else f"{row.ratio:.3g}",
            row.bar,
            {True: "yes", False: "no", None: "-"}[row.holds],
        )
    console = console or Console(width=max(120, Console().width))
    console.print(f"\n{says.strip()}\n", highlight=False, markup=False)
    console.print(table, highlight=False)


def keep(path: Path, name: str, rounds: int, rows: list[Row]) -> None:
    """Writes the rows as the table shows them."""
    content = [asdict(row) | {"ratio": row.ratio, "holds": row.holds} for row in rows]
    write_atomically(path, json.dumps({"name": name, "rounds": rounds, "rows": content}, indent=2) + "\n")


def _quantity(value: float, unit: str) -> str:
    shown = f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.{3 if unit else 4}g}"
    return f"{shown} {unit}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
