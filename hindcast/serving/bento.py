"""The champion as a bento: its package, the service, this project's wheel, locked packages and a Dockerfile.

Serving a bento is in `serving`; what the service does is in `bentos/service.py`.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from hindcast.artefacts import require_json, to_json, write_json
from hindcast.clock import clock_of
from hindcast.errors import HindcastError
from hindcast.files import exclusive
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake, columns_of
from hindcast.package.model import CHECKSUMS, FEATURES, REFERENCE, SIGNATURE, Signature
from hindcast.problem import Problem
from hindcast.promotion.champion import champion_folder
from hindcast.serving.predict import choose_example
from hindcast.serving.server import FIELDS, MODEL_ALIAS, PACKAGE, bento_folder, built_bentos
from hindcast.settings import Settings
from hindcast.sql import identifier, table_identifier, without_zone

LOCK = "requirements.lock"
"""File in the bento: the packages that the service needs, with hashes."""
_PIN = re.compile(r"^([\w.-]+==[^\s;]+)", re.MULTILINE)
_CANDIDATES = 50  # for the example, of past entities, and of those ahead


@dataclass(frozen=True)
class Built:
    """A bento in the home's store.

    Attributes:
        tag: `problem:version-fingerprint`.
        path: Its folder.
        built: False where it was there already, of the same model and code.
        packages: Python packages that it asks for, each as `name==version`.
        fingerprint: Of the model, the code and the packages.
    """

    tag: str
    path: Path
    built: bool
    packages: tuple[str, ...]
    fingerprint: str


def build_bento(settings: Settings, problem: Problem, lake: Lake) -> Built:
    """Builds the champion's bento, unless it stands already. Needs no network.

    Args:
        settings: The home.
        problem: Its name is the bento's; its labeled table says of which type a request's fields are, and holds the
            entity that is shown as an example.
        lake: Holds that table.

    Raises:
        HindcastError: There is no champion, or BentoML can't build (with what it said).
    """
    package = champion_folder(settings)
    files = _sources(settings, problem)
    types = _column_types(problem, lake)
    python = platform.python_version()
    # Each by itself: files are taken in the order of their paths, and the home may lie anywhere.
    contents = [fingerprint(package.iterdir()), fingerprint((settings.root / "hindcast").rglob("*.py"))]
    wanted = fingerprint(files.values(), [*contents, package.name, python, types, *files])
    packages = tuple(_PIN.findall(files[LOCK].read_text()))
    # A server may be running from the folder of an earlier build: other content, other tag, other folder.
    tag = f"{problem.name}:{package.name}-{wanted[:8]}".lower()
    path = bento_folder(settings, tag)
    with exclusive(settings.locks / "bento"):
        others = built_bentos(settings)
        if others.pop(tag, None) and path.exists():
            write_json(settings.built_bentos, others | {tag: package.name})  # it is the newest again
            return Built(tag, path, False, packages, wanted)
        for store in ("bentos", "models"):
            shutil.rmtree(settings.bento_store / store / tag.replace(":", "/"), ignore_errors=True)
        # Not in the home: BentoML takes no file from below a hidden folder, and the default home is one.
        with tempfile.TemporaryDirectory(prefix="hindcast-bento-") as folder:
            for name, source in files.items():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            _install_library(settings, folder)
            examples = _examples(settings, problem, lake, package)
            Path(folder, FIELDS).write_text(to_json({"types": types} | examples))
            config = yaml.safe_load(files["bentofile.yaml"].read_text())
            config["docker"]["base_image"] = config["docker"]["base_image"].format(python=python)
            config["name"] = problem.name.lower()
            config["envs"].append({"name": "HINDCAST_PROBLEM", "value": settings.problem})
            config["models"] = [{"tag": tag, "alias": MODEL_ALIAS}]
            Path(folder, "bentofile.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            # BentoML changes the folder, the path and the modules of the process it builds in.
            _run(settings, tag, "-m", "hindcast.serving.bento", tag, folder, str(package))
        write_json(settings.built_bentos, others | {tag: package.name})
    return Built(tag, path, True, packages, wanted)


def _sources(settings: Settings, problem: Problem) -> dict[str, Path]:
    """Files of the bento by their paths in it: the service, its lock, the problem, its domain's clock and the online
    store's settings."""
    files = {path.name: path for path in sorted(settings.bentos.iterdir()) if path.is_file()}
    files[f"problems/{settings.problem}.yaml"] = settings.problem_file
    files[f"problems/sources/{problem.domain}.yaml"] = settings.sources_file(problem.domain)
    files["feature_repo/feature_store.yaml"] = settings.feature_repo / "feature_store.yaml"
    return files


def _install_library(settings: Settings, folder: str) -> None:
    """Builds this project's wheel and installs it into a folder: one of pure Python is installed by unpacking it.

    Raises:
        HindcastError: It can't be built (with what was said).
    """
    with tempfile.TemporaryDirectory(prefix="hindcast-wheel-") as built:
        _run(settings, "The project's wheel", "-m", "hatchling", "build", "--target", "wheel", "--directory", built)
        (wheel,) = Path(built).glob("*.whl")
        shutil.unpack_archive(wheel, folder, "zip")


def _column_types(problem: Problem, lake: Lake) -> dict[str, str]:
    """Types of the labeled table's columns, from which requests get theirs."""
    with lake.reading() as connection:
        return columns_of(connection, table_identifier(problem.labeled_table))


def _examples(settings: Settings, problem: Problem, lake: Lake, package: Path) -> dict[str, Any]:
    """`example`, of which most is known now, and the `candidates` from which the service takes one later on."""
    from hindcast.features.online import FeatureReader  # Feast takes seconds to import

    signature = Signature.from_json((package / SIGNATURE).read_text())
    fields = list(dict.fromkeys((signature.entity_key, *signature.join_keys, *signature.request_fields)))
    now = clock_of(settings, problem).now()
    try:
        reader = FeatureReader(settings, signature.feature_service, package / FEATURES)
        at = reader.read([], []).as_of or now
    except HindcastError:
        return {"example": {}, "candidates": []}  # nothing is registered, or the store has never been filled
    candidates = _candidates(problem, lake, fields, at)
    return {"example": choose_example(candidates, reader, now), "candidates": candidates}


def _candidates(problem: Problem, lake: Lake, fields: list[str], at: datetime) -> list[dict[str, Any]]:
    """Request fields of the last entities up to an instant, and of some later ones, spread evenly over what is known
    ahead; None for what JSON can't hold."""
    moment, key = identifier(problem.prediction_time.column), identifier(problem.entity.key)
    numbered = (
        f"SELECT *, {moment} > $at AS _later, count(*) OVER (PARTITION BY {moment} > $at) AS _rows, row_number() OVER "
        f"(PARTITION BY {moment} > $at ORDER BY abs(epoch({moment}) - epoch($at::TIMESTAMP)), {key}) AS _number "
        f"FROM {problem.labeled_table} WHERE {moment} IS NOT NULL"
    )
    with lake.reading() as connection:
        found = connection.execute(
            f"FROM ({numbered}) WHERE CASE WHEN _later THEN (_number - 1) % greatest(_rows // {_CANDIDATES}, 1) = 0 "
            f"ELSE _number <= {_CANDIDATES} END ORDER BY _later, _number",
            {"at": without_zone(at)},
        ).pl()
    rows = [{name: row.get(name) for name in fields} for row in found.iter_rows(named=True)]
    return [
        {name: value if isinstance(value, str | int | float | bool) else None for name, value in row.items()}
        for row in rows
    ]


def _run(settings: Settings, what: str, *arguments: str) -> None:
    """Runs Python in a process of its own, to build something."""
    environment = os.environ | settings.environment()
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=settings.root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise HindcastError(f"{what} couldn't be built:\n{(done.stdout + done.stderr)[-3000:]}")


def _build(tag: str, folder: str, package: str) -> None:
    """Puts the package into BentoML's store of models and builds the bento from a prepared folder."""
    import bentoml
    from bentoml.models import BentoModel

    with bentoml.models.create(tag) as model:
        _copy_package(Path(package), Path(model.path_of(PACKAGE)))
    os.chdir(folder)  # BentoML reads the files that a bentofile names from below the working directory alone
    bento = bentoml.bentos.build_bentofile(
        str(Path(folder, "bentofile.yaml")), version=tag.split(":")[1], build_ctx=folder
    )
    BentoModel(tag).resolve(Path(bento.path, "models"))  # whole by itself: an image can be built from its folder alone


def _copy_package(package: Path, to: Path) -> None:
    """Copies what a service needs of a package: not the rows that only monitoring reads."""
    shutil.copytree(package, to, ignore=shutil.ignore_patterns(REFERENCE))
    checksums = require_json(package / CHECKSUMS)
    checksums.pop(REFERENCE, None)
    (to / CHECKSUMS).write_text(to_json(checksums, sort_keys=True))


if __name__ == "__main__":
    _build(*sys.argv[1:])
