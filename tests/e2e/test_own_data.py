"""From a folder of files to a served, monitored model without a line written by hand: the tutorial as it stands."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import ROOT
from tests.own_data import DATA
from tests.redis_server import free_port


class Checkout:
    """A checkout whose problems are its own, with nothing in its home."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        for name in ("assets", "hindcast", "bentos", "tests", "workspace.yaml", "requirements.lock", "pyproject.toml"):
            (root / name).symlink_to(ROOT / name)
        (root / "README.md").symlink_to(ROOT / "README.md")
        (root / ".venv").symlink_to(sys.prefix)
        for name in ("problems", "dbt_project", "feature_repo"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HINDCAST_")}
        return kept | {"HINDCAST_ROOT": str(self.root), "HINDCAST_HOME": str(self.root / ".hindcast"), "COLUMNS": "200"}

    def run(self, line: str) -> str:
        done = subprocess.run(
            shlex.split(line), cwd=self.root, env=self.environment, capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout

    def report(self, problem: str) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.run(f".venv/bin/hindcast status {problem} --json"))
        return state


def tutorial() -> list[str]:
    """The lines of code in the first section of the document."""
    text = (ROOT / "docs" / "own-tables.md").read_text().split("\n## ")[1]
    return [line for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) for line in block.splitlines() if line]


def test_the_tutorial_runs_as_it_stands(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout")
    lines = tutorial()
    make, new, check, run, serve, known, unknown, further = lines
    assert "Wrote orders.csv, products.csv" in checkout.run(make)
    said = checkout.run(new)
    assert "known later     returned: the label is made of it" in said
    assert "Next: hindcast run returns" in said
    assert checkout.run(check) == "No faults in returns.\n"
    said = checkout.run(run)
    assert "promoted" in said
    assert re.search(r"usual_way +0\.\d", said)
    assert re.search(r"as it was made +0\.\d", said)
    port = free_port()
    log = (tmp_path / "serve.log").open("w")
    service = subprocess.Popen(
        [*shlex.split(serve), "--port", str(port)], cwd=checkout.root, env=checkout.environment, stdout=log, stderr=log
    )
    try:
        answers = [ask(line, port, tmp_path / "serve.log") for line in (known, unknown)]
    finally:
        service.terminate()
        service.wait(60)
    assert [answer["unknown_keys"] for answer in answers] == [[], ["customer_id"]]
    assert all(0 < answer["probability"] < 1 for answer in answers)
    assert answers[0]["probability"] != answers[1]["probability"]
    assert "Next: hindcast run big_orders" in checkout.run(further)
    assert checkout.run(".venv/bin/hindcast check big_orders") == "No faults in big_orders.\n"


def ask(line: str, port: int, log: Path) -> dict[str, Any]:
    """Sends what a line of curl would."""
    _, _, url, _, header, _, body = shlex.split(line)
    name, _, value = header.partition(": ")
    ends = time.monotonic() + 120
    while True:
        try:
            answer = httpx.post(url.replace("3001", str(port)), headers={name: value}, content=body, timeout=30)
            if answer.status_code != 503:
                break
        except httpx.TransportError:
            pass
        assert time.monotonic() < ends, log.read_text()[-3000:]
        time.sleep(0.5)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


@pytest.mark.parametrize("name", ["sales", "tickets", "loads"])
def test_each_kind_of_data_becomes_a_served_and_monitored_model(tmp_path: Path, name: str) -> None:
    checkout = Checkout(tmp_path / "checkout")
    (checkout.root / "files").mkdir()
    DATA[name].write(checkout.root / "files")
    checkout.run(f".venv/bin/hindcast new mine --from files {shlex.join(DATA[name].options)} --yes")
    said = checkout.run(".venv/bin/hindcast run mine")
    assert "promoted" in said
    assert re.search(r"parity +0 of [\d,]+ cells skewed", said), said[-3000:]
    assert re.search(r"report +(OK|ALARM)", said)
    assert re.search(r"as it was made +0\.\d", said)
    if name == "loads":
        assert "nothing was computed again" in checkout.run(".venv/bin/hindcast run mine")
