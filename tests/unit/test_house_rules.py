"""Rules that hold for the whole repository: who imports whom, and that only a problem's own files know its words."""

import ast
import re
import statistics
import subprocess
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml

from hindcast.settings import Settings

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "hindcast").rglob("*.py"))
GENERAL = [*LIBRARY, *sorted((ROOT / "assets").rglob("*.py")), *sorted((ROOT / "bentos").rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
def test_the_library_never_imports_the_orchestrator(path: Path) -> None:
    assert imported(path).isdisjoint({"dagster", "dagster_dbt", "assets"})


def test_feast_is_imported_in_one_place() -> None:
    assert [path.stem for path in GENERAL if "feast" in imported(path)] == ["feast_imports"]


def words_of_the_problems() -> set[str]:
    """Every column, table and place that the built-in domains' own files name, less what every problem may have."""
    words = {"EWR", "JFK", "LGA", "flight_id", "is_late", "tail_number", "flight_number", "destination"}
    words |= {"scheduled_hour", "flight_delay", "flight_outcomes", "dengue", "township", "county", "township_weeks"}
    words |= {"arrival_delay", "arrival_delay_minutes", "flight_outcome", "on_time", "cancelled_or_diverted"}
    for path in (ROOT / "problems" / "sources").glob("*.yaml"):
        sources = yaml.safe_load(path.read_text())
        words |= {sources["package"], *sources["tables"]}
        words |= {column for table in sources["tables"].values() for column in table["columns"]}
    # Words that are also the field's or Python's own.
    common = {
        "year",
        "month",
        "day",
        "hour",
        "minute",
        "name",
        "type",
        "model",
        "alt",
        "lat",
        "lon",
        "origin",
        "speed",
        "distance",
    }
    return words - common - {"engine", "temp"}


@pytest.mark.parametrize("path", GENERAL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_general_code_knows_no_word_of_a_problem(path: Path) -> None:
    text = re.sub(r"problems/[\w/]+\.yaml", "", path.read_text())  # a pointer to the commented example
    if path.stem == "settings":
        text = text.replace('"flight_delay"', "")  # the problem that is worked on where none is named
    found = {word for word in words_of_the_problems() if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", text)}
    assert found == set()


def modules_imported(path: Path) -> set[str]:
    """The house's own modules that a module imports, at its beginning or inside a function, by their names."""
    known = {module_name(each) for each in GENERAL}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= modules or {node.module}
    return found & known


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import one another in turn; nothing if there are none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})) == {"a", "b", "c"}
    imports = {module_name(path): modules_imported(path) for path in GENERAL}
    assert {"hindcast.features.store", "hindcast.lake"} <= imports["hindcast.features.materialise"]
    assert "hindcast.features.feature_service" in imports["hindcast.features.store"]  # inside a function
    assert circle(imports) == []


@pytest.mark.parametrize("path", GENERAL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_module_is_short_enough_to_be_read_at_once(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 350


def asks_for_the_task(source: str) -> set[str]:
    """Names of tasks that code has as a text, and their classes that it uses."""
    named = {"binary", "multiclass", "regression"}
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in named:
            found.add(node.value)
        name = getattr(node, "id", None) or getattr(node, "name", None) or getattr(node, "attr", None)
        found |= {name} & {each.capitalize() for each in named}
    return found


def test_who_asks_for_the_task_is_found() -> None:
    source = "from a import Binary\nimport b\nif x == 'regression' or isinstance(x, b.Multiclass): 'binary search'"
    assert asks_for_the_task(source) == {"Binary", "regression", "Multiclass"}


@pytest.mark.parametrize("path", GENERAL, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_no_module_asks_which_task_a_problem_has(path: Path) -> None:
    if path.parent == ROOT / "hindcast" / "tasks":
        return
    text = path.read_text()
    if path == ROOT / "hindcast" / "problem.py":  # the form says which there are
        assert text.count('Literal["binary", "multiclass", "regression"]') == 1
        text = text.replace('Literal["binary", "multiclass", "regression"]', "str")
    assert asks_for_the_task(text) == set()


def names_of(module: ast.Module) -> set[str]:
    """What a module defines or imports outside of functions and classes."""
    found: set[str] = set()
    todo: list[ast.AST] = [*module.body]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        else:
            found |= {node.id} if isinstance(node, ast.Name) else set()
            todo += ast.iter_child_nodes(node)
    return found


def test_what_is_imported_from_the_house_is_there() -> None:
    """Benchmarks and tools are run rarely, and import much inside of functions."""
    trees = {module_name(path): ast.parse(path.read_text()) for path in GENERAL}
    packages = {name.rpartition(".")[0] for name in trees}
    lost = []
    for folder in ("assets", "bench", "bentos", "hindcast", "tests", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "hindcast":
                    there = names_of(trees[node.module]) if node.module in trees else set()
                    there |= {name.rpartition(".")[2] for name in trees if name.rpartition(".")[0] == node.module}
                    there |= {name.rpartition(".")[2] for name in packages if name.rpartition(".")[0] == node.module}
                    lost += [
                        f"{path.name}: {node.module}.{alias.name}" for alias in node.names if alias.name not in there
                    ]
    assert lost == []


def private_names(source: str) -> set[str]:
    """Names with an underscore in front, or out of a module with one, that code takes from elsewhere than the house."""
    tree = ast.parse(source)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] not in ("hindcast", "assets"):
            hidden = any(re.match(r"_[a-z]", part) for part in node.module.split("."))
            found |= {alias.name for alias in node.names if hidden or alias.name.startswith("_")}
        if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
            found.add(node.attr)
    named = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    own = {node.name for node in ast.walk(tree) if isinstance(node, named)}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    imported_names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return found - (own - imported_names)


def test_private_names_of_libraries_are_found() -> None:
    source = "from a._b import c\nfrom d import _e\nx._f\nself._g = 1\nself._g\ndef _h(): _e()\nself._h()\nx.__len__"
    assert private_names(source) == {"c", "_e", "_f"}


def test_private_names_of_libraries_that_are_used_are_listed_with_their_reason() -> None:
    listed = set(re.findall(r"`(\w+)`", (ROOT / "CONTRIBUTING.md").read_text().partition("## Private names")[2]))
    used = {name: path.name for path in GENERAL for name in private_names(path.read_text())}
    assert used.keys() - listed - {"_exit"} == set()  # os._exit is documented


def test_every_module_says_what_belongs_there() -> None:
    silent = [path.name for path in GENERAL if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


@pytest.mark.parametrize("path", sorted((ROOT / "bentos").glob("*.py")), ids=lambda path: path.stem)
def test_the_service_uses_no_private_name_of_what_serves_it(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert [name for name in modules if any(part.startswith("_") for part in name.split("."))] == []
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
    assert [name for name in map(ast.unparse, attributes) if not name.startswith("self._")] == []
    assert imported(path).isdisjoint({"uvicorn", "opentelemetry"})
    assert "setattr(" not in path.read_text()


LOCKS = {path: (ROOT / path).read_text() for path in ("requirements.lock", "bentos/requirements.lock", "data.lock")}


def locked(text: str) -> dict[str, set[str]]:
    """`name==version` -> its hashes."""
    found = re.findall(
        r"^([\w.-]+==[^\s;]+)[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", text, re.MULTILINE
    )
    return {pin: set(re.findall("sha256:[0-9a-f]{64}", hashes)) for pin, hashes in found}


@pytest.mark.parametrize("path", LOCKS)
def test_a_lock_names_no_index_and_every_package_has_hashes(path: str) -> None:
    assert "://" not in LOCKS[path]
    assert len(locked(LOCKS[path])) == len(re.findall(r"^[\w.-]+==", LOCKS[path], re.MULTILINE))


def test_the_service_locks_a_part_of_what_the_project_locks() -> None:
    whole, part = locked(LOCKS["requirements.lock"]), locked(LOCKS["bentos/requirements.lock"])
    assert {pin: whole.get(pin) for pin in part} == part
    names = {pin.split("==")[0] for pin in part}
    wanted = re.findall(r"^[\w-]+", (ROOT / "bentos" / "requirements.in").read_text(), re.MULTILINE)
    assert {*wanted, "starlette", "uvicorn"} <= names
    assert names.isdisjoint({"dagster", "dbt-core", "duckdb", "evidently", "polars", "scikit-learn"})


def test_no_generated_file_is_tracked() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [path for path in tracked if path.startswith((".hindcast/", ".venv/", "dbt_project/target/"))] == []


def lines_of_asset_bodies() -> dict[str, int]:
    """Per asset or check its body's lines, the docstring left out."""
    found = {}
    for path in sorted((ROOT / "assets").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            decorators = [ast.unparse(each) for each in getattr(node, "decorator_list", ())]
            if isinstance(node, ast.FunctionDef) and any("asset" in each for each in decorators):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                found[f"{path.stem}.{node.name}"] = (body[-1].end_lineno or 0) - body[0].lineno + 1
    return found


def test_assets_are_adapters_of_a_few_lines() -> None:
    bodies = lines_of_asset_bodies()
    assert len(bodies) > 20
    assert {name: lines for name, lines in bodies.items() if lines > 15} == {}
    assert statistics.median(bodies.values()) <= 10


def test_the_code_that_makes_a_model_is_there_and_holds_every_task() -> None:
    """What is fingerprinted, so that other code is a change and not a refresh; a file that is gone would go unseen."""
    named = Settings(ROOT, ROOT / "home").training_code
    assert [path for path in named if not path.is_file()] == []
    assert set((ROOT / "hindcast" / "tasks").glob("*.py")) <= set(named)
