"""What the service imports is what its lock holds: a bento's environment has nothing else."""

import json
import re
import subprocess
import sys
from pathlib import Path

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
