"""The champion as a bento: its package, the service, just the code and locked packages these need, and a Dockerfile.

Serving a bento is in `serving`; what the service does is in `bentos/service.py`.
"""

import ast
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from hindcast.clock import clock_of
from hindcast.errors import HindcastError
from hindcast.files import exclusive, write_atomically
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake
from hindcast.models.champion import champion_folder
from hindcast.problem import Problem
from hindcast.serving.server import FIELDS, MODEL_ALIAS, PACKAGE, bento_folder, built_bentos
from hindcast.settings import Settings

_PIN = re.compile(r"^(([\w.-]+==[^\\\n]+?)(?: \\\n +--hash=\S+)*\n)", re.MULTILINE)
"""A package in the lock: all its lines, and of these what stands before the hashes."""
_MACHINES = ("x86_64", "aarch64")


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
        problem: Its name is the bento's; its labeled table says of which type a request's fields are.
        lake: Holds that table.

    Raises:
        HindcastError: There is no champion, or BentoML can't build (with what it said).
    """
    package = champion_folder(settings)
    config = yaml.safe_load((settings.bentos / "bentofile.yaml").read_text())
    packages = locked(settings.root / "requirements.lock", config["python"].pop("packages"))
    image = config["docker"]["base_image"].format(python=platform.python_version())
    config["docker"]["base_image"] = image  # the packages are those of this Python
    files = _sources(settings)
    types = _column_types(problem, lake)
    # Each by itself: files are taken in the order of their paths, and the home may lie anywhere.
    of_package = fingerprint(package.iterdir())
    wanted = fingerprint(files.values(), [of_package, package.name, config, packages, types, *files])
    # A server may be running from the folder of an earlier build: other content, other tag, other folder.
    tag = f"{problem.name}:{package.name}-{wanted[:8]}".lower()
    path = bento_folder(settings, tag)
    with exclusive(settings.locks / "bento"):
        others = built_bentos(settings)
        if others.pop(tag, None) and path.exists():
            write_atomically(settings.built_bentos, json.dumps(others | {tag: package.name}))  # it is the newest again
            return Built(tag, path, False, tuple(packages), wanted)
        for store in ("bentos", "models"):
            shutil.rmtree(settings.bento_store / store / tag.replace(":", "/"), ignore_errors=True)
        # Not in the home: BentoML takes no file from below a hidden folder, and the default home is one.
        with tempfile.TemporaryDirectory(prefix="hindcast-bento-") as folder:
            for name, source in files.items():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            Path(folder, "requirements.txt").write_text("".join(packages.values()))
            example = _example(problem, lake, clock_of(settings, problem).now())
            Path(folder, FIELDS).write_text(json.dumps({"types": types, "example": example}))
            config["name"] = problem.name.lower()
            config["envs"].append({"name": "HINDCAST_PROBLEM", "value": settings.problem})
            config["models"] = [{"tag": tag, "alias": MODEL_ALIAS}]
            Path(folder, "bentofile.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            _run(settings, tag, folder, str(package))
        write_atomically(settings.built_bentos, json.dumps(others | {tag: package.name}))
    return Built(tag, path, True, tuple(packages), wanted)


def locked(lock: Path, names: list[str]) -> dict[str, str]:
    """What a Linux container needs of a lock file: some packages and everything that they need.

    What a package needs is read from the installed one; its markers are those of this Python, on either kind of
    machine that containers run on.

    Args:
        lock: As uv writes it, with hashes.
        names: Of packages, with extras where these are wanted.

    Returns:
        `name==version` -> its lines in the lock: markers and hashes, without comments. In the order of names.

    Raises:
        HindcastError: The lock doesn't hold one of them.
    """
    from packaging.markers import Marker, default_environment
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    here: dict[str, Any] = {
        **default_environment(),
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
    }

    def applies(marker: Marker | None, extra: str = "") -> bool:
        if marker is None:
            return True
        return any(marker.evaluate({**here, "platform_machine": kind, "extra": extra}) for kind in _MACHINES)

    pins: dict[str, tuple[str, str]] = {}
    for lines, pin in _PIN.findall(lock.read_text()):
        requirement = Requirement(pin)
        if applies(requirement.marker):
            name = canonicalize_name(requirement.name)
            pins[name] = f"{name}{requirement.specifier}", lines
    wanted = [Requirement(name) for name in names]
    seen: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name not in pins:
            raise HindcastError(f"{lock} doesn't hold {name}, which the bento needs; write it again with `make lock`.")
        with suppress(metadata.PackageNotFoundError):  # it isn't for the platform that this is
            needs = [Requirement(text) for text in metadata.requires(name) or ()]
            for extra in {"", *requirement.extras}:
                if (name, extra) not in seen:
                    wanted += [need for need in needs if applies(need.marker, extra)]
        seen |= {(name, extra) for extra in ("", *requirement.extras)}
    return dict(pins[name] for name in sorted({name for name, _ in seen}))


def _sources(settings: Settings) -> dict[str, Path]:
    """What the bento is made from, by path: the service, the modules of the library that it needs, the problem."""
    code = {path.name: path for path in settings.bentos.glob("*.py")}
    wanted = set().union(*map(_imports, code.values()))
    files = code | {path.name: path for path in settings.bentos.glob("*.html")}
    files["Dockerfile.template"] = settings.bentos / "Dockerfile.template"
    files[f"problems/{settings.problem}.yaml"] = settings.problem_file
    files["feature_repo/feature_store.yaml"] = settings.feature_repo / "feature_store.yaml"
    library = settings.root / "hindcast"
    modules: set[Path] = {library / "__init__.py"}
    while wanted:
        module = library.joinpath(*wanted.pop().split(".")).with_suffix(".py")
        if module not in modules and module.exists():  # else it is a name in a module, or a package
            modules |= {module, module.parent / "__init__.py"}
            wanted |= _imports(module)
    files |= {f"hindcast/{module.relative_to(library).as_posix()}": module for module in modules}
    return dict(sorted(files.items()))


def _column_types(problem: Problem, lake: Lake) -> dict[str, str]:
    """Types of the labeled table's columns, from which requests get theirs."""
    with lake.reading() as connection:
        columns = connection.execute(f"DESCRIBE {problem.labeled_table}").fetchall()
    return {name: kind for name, kind, *_ in columns}


def _example(problem: Problem, lake: Lake, now: datetime) -> dict[str, Any]:
    """The entity that is to be asked about next, else the last one, column by column; none of an empty table."""
    at, key = f'"{problem.prediction_time.column}"', f'"{problem.entity.key}"'
    with lake.reading() as connection:
        found = connection.execute(
            f"FROM {problem.labeled_table} "
            f"ORDER BY {at} < $now, CASE WHEN {at} >= $now THEN {at} END, {at} DESC, {key} LIMIT 1",
            {"now": now.astimezone(UTC).replace(tzinfo=None)},
        ).pl()
    row = found.row(0, named=True) if found.height else {}
    return {name: value for name, value in row.items() if isinstance(value, str | int | float | bool)}


def _imports(path: Path) -> set[str]:
    """What a file imports of the library when it is run, wherever in it, as dotted names below `hindcast`."""
    tree = ast.parse(path.read_text())
    unused = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in unused:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name.removeprefix("hindcast.") for name in found if name.startswith("hindcast.")}


def _run(settings: Settings, *arguments: str) -> None:
    """Builds in a process of its own: BentoML changes the folder, the path and the modules of the one it runs in."""
    command = [sys.executable, "-m", "hindcast.serving.bento", *arguments]
    environment = os.environ | settings.environment()
    done = subprocess.run(command, env=environment, cwd=settings.root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise HindcastError(f"BentoML couldn't build {arguments[0]}:\n{(done.stdout + done.stderr)[-3000:]}")


def _build(tag: str, folder: str, package: str) -> None:
    """Puts the package into BentoML's store of models and builds the bento from a prepared folder."""
    import bentoml
    from bentoml.models import BentoModel

    with bentoml.models.create(tag) as model:
        shutil.copytree(package, model.path_of(PACKAGE))
    os.chdir(folder)  # BentoML reads the files that a bentofile names from below the working directory alone
    bento = bentoml.bentos.build_bentofile(
        str(Path(folder, "bentofile.yaml")), version=tag.split(":")[1], build_ctx=folder
    )
    BentoModel(tag).resolve(Path(bento.path, "models"))  # whole by itself: an image can be built from its folder alone


if __name__ == "__main__":
    _build(*sys.argv[1:])
