"""Collects the faults of problems, and keeps a mark of what was found sound, so that it is checked once."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hindcast.artefacts import read_json, write_json
from hindcast.checking.fault import Fault
from hindcast.errors import HindcastError
from hindcast.fingerprint import fingerprint
from hindcast.problem import load_problem
from hindcast.settings import Settings
from hindcast.sources import Sources, load_sources

_KEPT = 20  # marks


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        problems: Names of the problems that were looked at.
        faults: None where all is sound.
    """

    problems: tuple[str, ...]
    faults: tuple[Fault, ...]


def check(settings: Settings, names: Iterable[str]) -> Checked:
    """Looks at the files of problems and their domains. Runs nothing, writes nothing.

    Args:
        settings: Of the checkout.
        names: Of the problems.

    Returns:
        The faults of all of them, each once.
    """
    from hindcast.checking.files_faults import FilesCheck
    from hindcast.checking.settings_faults import find_faults
    from hindcast.checking.sql_faults import Models, check_models, check_problem_tables
    from hindcast.checking.views_faults import Views

    faults: list[Fault] = []
    domains: dict[str, tuple[Sources, Models, FilesCheck, Views] | None] = {}
    names = tuple(names)
    for name in names:
        file = settings.of(name).problem_file
        try:
            problem = load_problem(file)
        except HindcastError as error:
            faults.append(_of_loading(file, error))
            continue
        faults += find_faults(file, problem)
        if problem.domain not in domains:
            sources_file = settings.sources_file(problem.domain)
            try:
                sources = load_sources(sources_file)
            except HindcastError as error:
                faults.append(_of_loading(sources_file, error))
                domains[problem.domain] = None
                continue
            models = Models(settings, problem.domain)
            files, views = FilesCheck(sources_file, settings.root, sources), Views(settings, problem.domain, models)
            faults += [*files.faults, *check_models(settings, problem.domain, sources, models), *views.faults]
            domains[problem.domain] = (sources, models, files, views)
        if (of_domain := domains[problem.domain]) is not None:
            _, models, files, views = of_domain
            labeled = models.columns(problem.labeled_table.partition(".")[2])
            faults += check_problem_tables(file, problem, models)
            faults += files.check_windows(file, problem)
            faults += views.check_problem(file, problem, labeled)
    if not faults:
        faults += _of_all(settings)
    return Checked(names, tuple(dict.fromkeys(faults)))


def check_once(settings: Settings) -> None:
    """Checks a problem before a run, where a file of it has changed since it was found sound.

    Raises:
        HindcastError: All faults, a line each.
    """
    mark = _mark(settings)
    found = read_json(settings.checked_file) or {"sound": []}
    if mark in found["sound"]:
        return
    checked = check(settings, [settings.problem])
    if checked.faults:
        count = f"{len(checked.faults)} faults" if len(checked.faults) > 1 else "A fault"
        listed = "\n".join(f"  {fault}" for fault in checked.faults)
        raise HindcastError(f"{count}, found before anything ran:\n{listed}")
    write_json(settings.checked_file, {"sound": [*found["sound"], mark][-_KEPT:]})


def _mark(settings: Settings) -> str:
    """Of the content of what is written by hand, and of the data files' names, sizes and times."""
    files = [settings.problem_file]
    stamps: list[object] = []
    try:
        problem = load_problem(settings.problem_file)
        files += [settings.sources_file(problem.domain), *settings.feature_files(problem.domain)]
        files += sorted((settings.dbt_project / "models" / problem.domain).rglob("*.[sy][qm]l"))
        sources = load_sources(settings.sources_file(problem.domain))
        for table in sources.tables:
            for path in sources.files(table, settings.root).values():
                stamps += [str(path), path.stat().st_size, path.stat().st_mtime_ns]
    except HindcastError as error:
        stamps.append(str(error))
    files += sorted(settings.problems_folder.glob("*.yaml"))
    return fingerprint([path for path in dict.fromkeys(files) if path.exists()], stamps)


def _of_loading(file: Path, error: HindcastError) -> Fault:
    return Fault(file, "", str(error).removeprefix(f"{file}: "))


def _of_all(settings: Settings) -> list[Fault]:
    """What two files claim at once."""
    from hindcast.workspace import load_catalogue

    try:
        load_catalogue(settings)
    except HindcastError as error:
        return [Fault(settings.problems_folder, "", str(error))]
    return []
