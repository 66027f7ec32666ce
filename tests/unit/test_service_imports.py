"""What the service imports is what its lock holds, and what it reads is in its bento."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pathspec
import yaml

from hindcast.problem import load_problem
from hindcast.serving.bento import _sources
from hindcast.settings import Settings

ROOT = Path(__file__).parents[2]

LIST = """
import importlib.metadata, json, sys
import hindcast.clock, hindcast.features.online, hindcast.promotion.champion, hindcast.serving.predict
import hindcast.serving.request_form, hindcast.serving.request_log, hindcast.serving.shadow
packages = importlib.metadata.packages_distributions()
print(json.dumps({name: packages[name] for name in {m.split(".")[0] for m in sys.modules} if name in packages}))
"""


def test_the_service_imports_nothing_that_its_lock_lacks() -> None:
    done = subprocess.run([sys.executable, "-c", LIST], cwd=ROOT, capture_output=True, text=True, check=True)
    lock = (ROOT / "bentos" / "requirements.lock").read_text()
    locked = {name.lower().replace("_", "-") for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}
    heavy = {"duckdb", "polars", "pandas", "scikit-learn", "scipy", "joblib", "dagster", "matplotlib", "skrub"}
    found = {package.lower().replace("_", "-") for each in json.loads(done.stdout).values() for package in each}
    assert {"numpy", "feast"} <= found  # what is imported is seen
    assert found & (heavy - locked) == set()


def test_every_file_that_the_service_reads_is_taken_into_its_bento() -> None:
    settings = Settings.from_environment()
    problem = load_problem(settings.problem_file)
    read = {name for name in _sources(settings, problem) if "/" in name}
    assert read == {
        f"problems/{problem.name}.yaml", f"problems/sources/{problem.domain}.yaml", "feature_repo/feature_store.yaml",
    }  # fmt: skip
    included = yaml.safe_load((settings.bentos / "bentofile.yaml").read_text())["include"]
    taken = pathspec.PathSpec.from_lines("gitwildmatch", included)
    assert [name for name in read if not taken.match_file(name)] == []
