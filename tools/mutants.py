"""Mutation testing of what must not err: how many small faults, put into a module one at a time, do its tests find?

    python tools/mutants.py [--sample N] [--seed N] [module …]

The faults in Python are cosmic-ray's (an environment of its own, made by uv), those inside SQL are the list below. A
sample takes one fault per place before it takes a second one. Left out is what can't show (`==` for `is`) and what any
test would find: another operator for `|` (of annotations and dictionaries), and `<<`, `>>`, `&`, `^`, `%`, `**` for
arithmetic.
It works on a copy of the checkout. A fault counts as found too where the tests take five times as long as without.
The exit code is 1 where a module's tests find less than the bar, or fail without any fault.
"""

import argparse
import ast
import difflib
import importlib.util
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COSMIC_RAY = "cosmic-ray==8.7.0"
BAR = 0.85
MODULES = {
    "asof": ("hindcast/features/asof.py", "tests/unit/test_asof.py", "tests/unit/test_offline_store.py"),
    "versions": ("hindcast/tables/versions.py", "tests/unit/test_versions.py -k 'not every_delivery'"),
    "raw_tables": ("hindcast/tables/raw_tables.py", "tests/unit/test_versions.py -k 'not every_delivery'"),
    "history": ("hindcast/tables/declared_history.py", "tests/unit/test_versions.py -k 'not every_delivery'"),
    "control": ("hindcast/tables/windows.py", "tests/unit/test_windows.py"),
    "gate": ("hindcast/promotion/gate.py", "tests/unit/test_gate.py"),
    "intervals": ("hindcast/evaluation/intervals.py", "tests/unit/test_gate.py", "tests/unit/test_leak_meter.py"),
    "verdict": ("hindcast/promotion/verdict.py", "tests/unit/test_gate.py"),
    "champion": ("hindcast/promotion/champion.py", "tests/unit/test_champion.py"),
    "drift": ("hindcast/monitoring/drift.py", "tests/unit/test_drift.py"),
}
"""Module and its tests (for pytest; quick ones first), by the short name. Random deliveries take too long for this."""
LEFT_OUT = re.compile(
    r"core/Replace(BinaryOperator_(BitOr_.*|(?!Bit).*_(LShift|RShift|Bit.*|Mod|Pow))"
    r"|ComparisonOperator_(Is_Eq|Eq_Is|IsNot_NotEq|NotEq_IsNot))$"
)
SQL = {
    r"<=": "<",
    r">=": ">",
    r"<(?![=>])": "<=",
    r"(?<![<=])>(?!=)": ">=",
    r"\bAND\b": "OR",
    r"\bOR\b(?! REPLACE)": "AND",
    r"\bIS NULL": "IS NOT NULL",
    r"\bIS NOT NULL": "IS NULL",
    r"\bIS NOT DISTINCT": "IS DISTINCT",
    r"\bIS DISTINCT": "IS NOT DISTINCT",
    r"(?<!IS )(?<!IF )\bNOT ": "",
    r"\bDESC\b": "ASC",
    r"\bmin\(": "max(",
    r"\bmax\(": "min(",
    r"\bleast\(": "greatest(",
    r"\bgreatest\(": "least(",
    r"\bWHERE ": "WHERE true OR ",
    r"\bLEFT JOIN": "JOIN",
    r"\bFULL JOIN": "LEFT JOIN",
    r"\btrue\b": "false",
    r"\bfalse\b": "true",
    r"'-infinity'": "'infinity'",
    r"'infinity'": "'-infinity'",
}
"""Pattern inside SQL -> what takes its place, one occurrence at a time."""


@dataclass(frozen=True)
class Mutant:
    """A fault: at which place, of which kind, and the module's text with it. Faults of one kind share a place."""

    place: tuple[int, int, str]
    change: str
    text: Callable[[], str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tools/mutants.py", description="Mutation testing.")
    parser.add_argument("modules", nargs="*", metavar="module", help=f"of {', '.join(MODULES)}; without: all of them")
    parser.add_argument("--sample", type=int, default=60, help="faults per module, 0 for all (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default: 0)")
    asked = parser.parse_args()
    if unknown := set(asked.modules) - MODULES.keys():
        parser.error(f"no module {', '.join(sorted(unknown))}; there are: {', '.join(MODULES)}")
    lines = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "checkout"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        for name in asked.modules or MODULES:
            tried, survivors = try_module(copy, name, asked.sample, asked.seed)
            share = 1 - survivors / tried
            verdict = "holds" if share >= BAR else "FAILS"
            lines.append(f"{name:9} {tried:7} {tried - survivors:6} {share:6.0%} {BAR:5.0%}  {verdict}")
    print("\n".join([f"{'module':9} mutants killed  share   bar", *lines]))
    return int(any(line.endswith("FAILS") for line in lines))


def try_module(copy: Path, name: str, size: int, seed: int) -> tuple[int, int]:
    """How many faults were tried in a module, and how many no test found; of these it prints the lines as well."""
    module, *tests = MODULES[name]
    path = copy / module
    source = path.read_text()
    start = time.monotonic()
    if not run_tests(copy, tests, None):
        sys.exit(f"mutants: the tests of {module} fail without any fault: {' '.join(tests)}.")
    limit = 30 + 5 * (time.monotonic() - start)
    mutants = sample([*python_mutants(copy, module), *sql_mutants(source)], size, seed)
    survivors = 0
    for number, mutant in enumerate(mutants, 1):
        text = mutant.text()
        write(path, text)
        survived = run_tests(copy, tests, limit)
        write(path, source)
        shown = f"{number}/{len(mutants)} {module}:{mutant.place[0]}: {mutant.change}"
        print(f"{'SURVIVED' if survived else 'killed'} {shown}", flush=True)
        if survived:
            survivors += 1
            print(difference(source, text), flush=True)
    return len(mutants), survivors


def sample(mutants: list[Mutant], size: int, seed: int) -> list[Mutant]:
    """A seeded sample, one mutant of each place before a second one of any; all where the size is 0."""
    random.Random(seed).shuffle(mutants)
    seen: Counter[tuple[int, int, str]] = Counter()
    turns = []
    for mutant in mutants:
        turns.append(seen[mutant.place])
        seen[mutant.place] += 1
    ordered = [mutants[index] for index in sorted(range(len(mutants)), key=turns.__getitem__)]
    return ordered[: size or None]


def python_mutants(copy: Path, module: str) -> Iterator[Mutant]:
    """Cosmic-ray's mutants of a module."""
    settings, session = copy.parent / "cosmic-ray.toml", copy.parent / "session.sqlite"
    settings.write_text(
        f'[cosmic-ray]\nmodule-path = "{module}"\ntimeout = 1.0\nexcluded-modules = []\ntest-command = "true"\n'
        '[cosmic-ray.distributor]\nname = "local"\n'
    )
    session.unlink(missing_ok=True)
    cosmic_ray(copy, "init", str(settings), str(session))
    items = [json.loads(line)[0]["mutations"][0] for line in cosmic_ray(copy, "dump", str(session)).splitlines()]
    for item in sorted(items, key=lambda item: (item["operator_name"], item["occurrence"])):
        operator, occurrence = item["operator_name"], item["occurrence"]
        if not LEFT_OUT.match(operator):
            place = (*item["start_pos"], operator.split("_")[0])
            yield Mutant(place, operator.removeprefix("core/"), applied(copy, module, operator, occurrence))


def applied(copy: Path, module: str, operator: str, occurrence: int) -> Callable[[], str]:
    def text() -> str:
        cosmic_ray(copy, "apply", module, operator, str(occurrence))
        return (copy / module).read_text()

    return text


def sql_mutants(source: str) -> Iterator[Mutant]:
    """Our own mutants of what a module's texts say in SQL."""
    content = source.encode()  # positions are of bytes
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for text in sql_texts(ast.parse(source)):
        start = starts[text.lineno - 1] + text.col_offset
        end = starts[text.end_lineno - 1] + text.end_col_offset
        for pattern, other in SQL.items():
            for match in re.finditer(pattern.encode(), content[start:end]):
                first, last = start + match.start(), start + match.end()
                changed = (content[:first] + other.encode() + content[last:]).decode()
                place = (content.count(b"\n", 0, first) + 1, first, "SQL")
                yield Mutant(place, f"SQL {match.group().decode()} -> {other}", lambda changed=changed: changed)


def sql_texts(node: ast.AST) -> Iterator[ast.expr]:
    """The outermost texts below a node, without docstrings."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr) or (isinstance(child, ast.Constant) and isinstance(child.value, str)):
            if not isinstance(node, ast.Expr):
                yield child
        else:
            yield from sql_texts(child)


def cosmic_ray(copy: Path, *arguments: str) -> str:
    uv = Path(sys.executable).parent / "uv"
    command = [uv, "tool", "run", "--quiet", "--from", COSMIC_RAY, "cosmic-ray", *arguments]
    return subprocess.run(command, cwd=copy, check=True, stdout=subprocess.PIPE, text=True).stdout


def run_tests(copy: Path, tests: Iterable[str], limit: float | None) -> bool:
    """Whether a module's tests hold, each within the limit (seconds)."""
    environment = os.environ | {"PYTHONPATH": str(copy), "HINDCAST_HOME": str(copy.parent / "home")}
    options = ["-x", "-n", "0", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
    for test in tests:
        command = [sys.executable, "-m", "pytest", *options, *shlex.split(test)]
        try:
            run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return False
        if run.returncode:
            return False
    return True


def write(path: Path, text: str) -> None:
    """Writes a module; Python would take a compiled file of the same second and size for it."""
    path.write_text(text)
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def difference(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(f"    {line}" for line in lines if not line.startswith(("---", "+++", "@@")))


if __name__ == "__main__":
    sys.exit(main())
