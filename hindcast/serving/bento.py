"""The champion as a bento: its package, the service and just the code and the locked packages that these need.

Serving a bento is in `serving`; what the service does is in `bentos/service.py`.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import yaml

from hindcast.errors import HindcastError
from hindcast.files import exclusive, write_atomically
from hindcast.fingerprint import fingerprint
from hindcast.lake import Lake
from hindcast.models.champion import champion_folder
from hindcast.problem import Problem
from hindcast.serving.server import MODEL_ALIAS, PACKAGE, TYPES, bento_folder, built_bentos
from hindcast.settings import Settings


@dataclass(frozen=True)
class Built:
    """A bento in the home's store.

    Attributes:
        tag: `problem:version-fingerprint`.
        path: Its folder.
        built: False where it was there already, of the same model and code.
        packages: Python packages that it asks for, each with its locked version.
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
    files = _sources(settings)
    types = _column_types(problem, lake)
    wanted = fingerprint([*files.values(), *package.iterdir()], [package.name, config, packages, types, *files])
    # A server may be running from the folder of an earlier build: other content, other tag, other folder.
    tag = f"{problem.name}:{package.name}-{wanted[:8]}".lower()
    path = bento_folder(settings, tag)
    with exclusive(settings.locks / "bento"):
        others = built_bentos(settings)
        if others.pop(tag, None) and path.exists():
            write_atomically(settings.built_bentos, json.dumps(others | {tag: package.name}))  # it is the newest again
            return Built(tag, path, False, packages, wanted)
        for store in ("bentos", "models"):
            shutil.rmtree(settings.bento_store / store / tag.replace(":", "/"), ignore_errors=True)
        # Not in the home: BentoML takes no file from below a hidden folder, and the default home is one.
        with tempfile.TemporaryDirectory(prefix="hindcast-bento-") as folder:
            for name, source in files.items():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            Path(folder, "requirements.txt").write_text("\n".join(packages) + "\n")
            Path(folder, TYPES).write_text(json.dumps(types))
            config["name"] = problem.name.lower()
            config["envs"].append({"name": "HINDCAST_PROBLEM", "value": settings.problem})
            config["models"] = [{"tag": tag, "alias": MODEL_ALIAS}]
            Path(folder, "bentofile.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
            _run(settings, tag, folder, str(package))
        write_atomically(settings.built_bentos, json.dumps(others | {tag: package.name}))
    return Built(tag, path, True, packages, wanted)


def locked(lock: Path, names: list[str]) -> tuple[str, ...]:
    """Names and everything that they need, as `name==version` of the lock file, in the order of names.

    What a package needs is read from the installed one; its markers are those of this interpreter.

    Raises:
        HindcastError: The lock doesn't hold one of them.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    for line in lock.read_text().splitlines():
        if line[:1].isalnum():
            pin = Requirement(line.rstrip("\\ "))
            if pin.marker is None or pin.marker.evaluate():
                pins[canonicalize_name(pin.name)] = str(pin.specifier)
    wanted = [Requirement(name) for name in names]
    seen: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name not in pins:
            raise HindcastError(f"{lock} doesn't hold {name}, which the bento needs; write it again with `make lock`.")
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                needs = (Requirement(text) for text in metadata.requires(name) or ())
                wanted += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
    return tuple(sorted({f"{name}{pins[name]}" for name, _ in seen}))


def _sources(settings: Settings) -> dict[str, Path]:
    """What goes into the bento, by path in it: the service, the modules of the library that it needs, the problem."""
    files = {path.name: path for path in settings.bentos.glob("*.py")}
    wanted = set().union(*map(_imports, files.values()))
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

    with bentoml.models.create(tag) as model:
        shutil.copytree(package, model.path_of(PACKAGE))
    bentoml.bentos.build_bentofile(str(Path(folder, "bentofile.yaml")), version=tag.split(":")[1], build_ctx=folder)


if __name__ == "__main__":
    _build(*sys.argv[1:])
