"""Nothing that we run tells anybody. Tools that leave a device's name behind are caught by the home they write to."""

import os
import subprocess
import sys
from pathlib import Path

from hindcast.settings import Settings
from tests.tiny_model import write_package


def test_loading_a_package_leaves_no_device_id(tmp_path: Path) -> None:
    package = write_package(tmp_path / "models", "v1")
    imports = "from pathlib import Path; from hindcast.package.model import ServedModel"
    code = f"{imports}; ServedModel.load(Path({str(package)!r}))"
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "ORT_DISABLE_TELEMETRY"}}
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=kept | {"HOME": str(home), "XDG_CACHE_HOME": str(home)}
    )
    assert list(home.rglob("*deviceid*")) == []


def test_every_tool_is_told(settings: Settings) -> None:
    environment = settings.environment()
    assert environment["BENTOML_DO_NOT_TRACK"] == "True"  # it ignores "1"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["DBT_SEND_ANONYMOUS_USAGE_STATS"] == "false"
    assert environment["DAGSTER_DISABLE_TELEMETRY"] == "yes"
    assert environment["DO_NOT_TRACK"] == "1"
