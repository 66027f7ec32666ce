"""What everything works on: one problem or one domain of a home, opened once and handed down. No logic of the loop."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from hindcast.clock import Clock, domain_clock
from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.problem import Problem, load_problem
from hindcast.settings import BUILT_IN, Settings
from hindcast.sources import Sources, load_sources


@dataclass(frozen=True)
class Domain:
    """A family of source tables, in one home.

    Attributes:
        name: Of its sources file, and of its folders of SQL.
        settings: Of the home.
        sources: The tables and the clock as they are declared.
        problems: The questions that are asked of it, by name.
    """

    name: str
    settings: Settings
    sources: Sources
    problems: tuple[Problem, ...]

    @property
    def lake(self) -> Lake:
        return Lake(self.settings)

    @property
    def clock(self) -> Clock:
        return domain_clock(self.settings, self.name, self.sources)


@dataclass(frozen=True)
class Workspace:
    """One problem of a domain, in one home.

    Attributes:
        settings: Of the home and this problem.
        problem: What is predicted.
        domain: What it is asked of.
    """

    settings: Settings
    problem: Problem
    domain: Domain

    @property
    def sources(self) -> Sources:
        return self.domain.sources

    @property
    def lake(self) -> Lake:
        return self.domain.lake

    @property
    def clock(self) -> Clock:
        return self.domain.clock


@dataclass(frozen=True)
class Catalogue:
    """All domains and problems that a checkout declares, and that they agree with each other."""

    domains: dict[str, Domain]
    workspaces: dict[str, Workspace]


def load_catalogue(settings: Settings) -> Catalogue:
    """Reads every sources file and problem file of the checkout.

    Raises:
        HindcastError: A file breaks its form, a problem's domain has no sources file, two domains or problems claim the
            same table, or a problem's labels take longer than its domain settles; both files are named.
    """
    files = sorted(settings.problems_folder.glob("*.yaml"))
    problems = [_read_problem(file) for file in files]
    declared = {path.stem: load_sources(path) for path in sorted(settings.sources_folder.glob("*.yaml"))}
    for problem in problems:
        if problem.domain not in declared:
            raise HindcastError(
                f"{settings.of(problem.name).problem_file}: domain: there is no file {problem.domain}.yaml in "
                f"{settings.sources_folder}; there are: {', '.join(declared) or 'none'}."
            )
    check_names(settings, [*declared, *(problem.name for problem in problems)])
    _check_claims(settings, declared, problems)
    domains = {
        name: Domain(name, settings, sources, tuple(each for each in problems if each.domain == name))
        for name, sources in declared.items()
    }
    workspaces = {each.name: Workspace(settings.of(each.name), each, domains[each.domain]) for each in problems}
    return Catalogue(domains, workspaces)


def open_workspace(settings: Settings) -> Workspace:
    """The problem that the settings name, with its domain; other problems' files aren't read.

    Raises:
        HindcastError: A file is missing or breaks its form.
    """
    problem = _read_problem(settings.problem_file)
    sources = load_sources(settings.sources_file(problem.domain))
    return Workspace(settings, problem, Domain(problem.domain, settings, sources, (problem,)))


def choose_problem(settings: Settings, asked: str | None) -> Settings:
    """The settings for the problem that is meant: the asked one, else the only one of the home, else of the checkout.

    Raises:
        HindcastError: There is no such problem, or several could be meant.
    """
    there = sorted(path.stem for path in settings.problems_folder.glob("*.yaml"))
    held = sorted(path.name for path in settings.problem_homes.glob("*") if path.name in there)
    if asked and asked not in there:
        raise HindcastError(
            f"There is no problem {asked} in {settings.problems_folder}; there are: {', '.join(there) or 'none'}."
        )
    if asked:
        return settings.of(asked)
    for candidates in (held, there):
        if len(candidates) == 1:
            return settings.of(candidates[0])
        if len(candidates) > 1:
            break
    if not held and BUILT_IN in there:
        return settings.of(BUILT_IN)
    where = f"The home {settings.home} holds several problems" if held else f"{settings.problems_folder} has no default"
    raise HindcastError(f"{where}: name one of {', '.join(held or there) or 'none'}.")


def _read_problem(file: Path) -> Problem:
    from hindcast.tasks import check_problem  # brings numpy, which must be loaded in the home's environment

    problem = load_problem(file)
    try:
        check_problem(problem)
    except HindcastError as error:
        raise HindcastError(f"{file}: {error}") from error
    return problem


def check_names(settings: Settings, names: Sequence[str]) -> None:
    """Names become those of schemas and of Dagster's jobs."""
    words = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
    taken = {word for (word,) in duckdb.connect().execute(words).fetchall()} | {"lake", "memory", "temp", "system"}
    for name in names:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in taken:
            raise HindcastError(
                f"{settings.problems_folder}: {name} can't be the name of a domain or a problem: write small letters, "
                "digits and underscores, and no word of SQL."
            )


def _check_claims(settings: Settings, declared: dict[str, Sources], problems: Sequence[Problem]) -> None:
    """No table has two owners, and a domain waits for the labels of each of its problems."""
    claimed: dict[str, str] = {}
    claims = [(f"raw.{table}", name) for name, sources in declared.items() for table in sources.tables]
    files = {name: str(settings.sources_file(name)) for name in declared}
    _claim(claimed, [(table.casefold(), files[name]) for table, name in claims])
    for problem in problems:
        file = str(settings.of(problem.name).problem_file)
        _claim(claimed, [(table.casefold(), file) for table in (problem.labeled_table, problem.split_table)])
        settles, matures = declared[problem.domain].settles_within, problem.label.matures_within
        by_month = any(table.month for table in declared[problem.domain].tables.values())
        if by_month and settles < matures:
            raise HindcastError(
                f"{file}: label.matures_within: labels take {matures}, and by {files[problem.domain]} a month "
                f"has settled after {settles}: write settles_within there, at least as long."
            )


def _claim(claimed: dict[str, str], tables: Sequence[tuple[str, str]]) -> None:
    for table, file in tables:
        if table in claimed:
            raise HindcastError(f"{claimed[table]} and {file} both claim the table {table}: rename one.")
        claimed[table] = file
