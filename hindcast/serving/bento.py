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
from hindcast.package.model import CHECKSUMS, FEATURES, REFERENCE, SIGNATURE, Signature
from hindcast.problem import Problem
from hindcast.promotion.champion import champion_folder
from hindcast.serving.predict import choose_example
from hindcast.serving.server import FIELDS, MODEL_ALIAS, PACKAGE, bento_folder, built_bentos
from hindcast.settings import Settings

_PIN = re.compile(r"^(([\w.-]+==[^\\\n]+?)(?: \\\n +--hash=\S+)*\n)", re.MULTILINE)
"""A package in the lock: all its lines, and of these what stands before the hashes."""
_MACHINES = ("x86_64", "aarch64")
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
            examples = _examples(settings, problem, lake, package)
            Path(folder, FIELDS).write_text(json.dumps({"types": types} | examples))
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


def _examples(settings: Settings, problem: Problem, lake: Lake, package: Path) -> dict[str, Any]:
    """`example`, of which most is known now, and the `candidates` from which the service takes one later on."""
    from hindcast.features.online import FeatureReader  # Feast takes seconds to import

    signature, registry = Signature.from_json((package / SIGNATURE).read_text()), package / FEATURES
    fields = list(dict.fromkeys((signature.entity_key, *signature.join_keys, *signature.request_fields)))
    now = clock_of(settings, problem).now()
    try:
        reader = FeatureReader(settings, signature.feature_service, registry if registry.exists() else None)
        at = reader.read([], []).as_of or now
    except HindcastError:
        return {"example": {}, "candidates": []}  # nothing is registered, or the store has never been filled
    candidates = _candidates(problem, lake, fields, at)
    return {"example": choose_example(candidates, reader, now), "candidates": candidates}


def _candidates(problem: Problem, lake: Lake, fields: list[str], at: datetime) -> list[dict[str, Any]]:
    """Request fields of the last entities up to an instant, and of some later ones, spread evenly over what is known
    ahead; None for what JSON can't hold."""
    moment, key = f'"{problem.prediction_time.column}"', f'"{problem.entity.key}"'
    numbered = (
        f"SELECT *, {moment} > $at AS _later, count(*) OVER (PARTITION BY {moment} > $at) AS _rows, row_number() OVER "
        f"(PARTITION BY {moment} > $at ORDER BY abs(epoch({moment}) - epoch($at::TIMESTAMP)), {key}) AS _number "
        f"FROM {problem.labeled_table} WHERE {moment} IS NOT NULL"
    )
    with lake.reading() as connection:
        found = connection.execute(
            f"FROM ({numbered}) WHERE CASE WHEN _later THEN (_number - 1) % greatest(_rows // {_CANDIDATES}, 1) = 0 "
            f"ELSE _number <= {_CANDIDATES} END ORDER BY _later, _number",
            {"at": at.astimezone(UTC).replace(tzinfo=None)},
        ).pl()
    rows = [{name: row.get(name) for name in fields} for row in found.iter_rows(named=True)]
    return [
        {name: value if isinstance(value, str | int | float | bool) else None for name, value in row.items()}
        for row in rows
    ]


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
        _copy_package(Path(package), Path(model.path_of(PACKAGE)))
    os.chdir(folder)  # BentoML reads the files that a bentofile names from below the working directory alone
    bento = bentoml.bentos.build_bentofile(
        str(Path(folder, "bentofile.yaml")), version=tag.split(":")[1], build_ctx=folder
    )
    BentoModel(tag).resolve(Path(bento.path, "models"))  # whole by itself: an image can be built from its folder alone


def _copy_package(package: Path, to: Path) -> None:
    """Copies what a service needs of a package: not the rows that only monitoring reads."""
    shutil.copytree(package, to, ignore=shutil.ignore_patterns(REFERENCE))
    checksums = json.loads((package / CHECKSUMS).read_text())
    checksums.pop(REFERENCE, None)
    (to / CHECKSUMS).write_text(json.dumps(checksums, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    _build(*sys.argv[1:])
