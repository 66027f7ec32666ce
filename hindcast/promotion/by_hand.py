"""Decisions of a person about packages: to promote one, or to import one from another home.

What the gate decides is in `gate`; which package is in use is kept in `champion`.
"""

import getpass
import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from hindcast.artefacts import to_json
from hindcast.errors import HindcastError
from hindcast.evaluation.scoring import check_task
from hindcast.lake import Lake, check_columns
from hindcast.package.build import write
from hindcast.package.model import CHECKSUMS, ORIGIN, PARITY_LIMIT, REFERENCE, ServedModel, read_package
from hindcast.problem import Problem
from hindcast.promotion import champion
from hindcast.promotion.verdict import keep_decision, verdict_file
from hindcast.settings import Settings


@dataclass(frozen=True)
class Promotion:
    """What was put in use by hand.

    Attributes:
        version: Of the champion now.
        previous: Of the one before; None where there was none.
        because: Why.
        by: The operating system's user who decided.
        at: The clock, ISO 8601 in UTC.
        smoke_difference: Largest difference between what the package says and what it said when it was made.
        filled: Whether the online store had to be filled for its features.
    """

    version: str
    previous: str | None
    because: str
    by: str
    at: str
    smoke_difference: float
    filled: bool


@dataclass(frozen=True)
class Import:
    """What was brought in.

    Attributes:
        version: Of the package.
        origin: Folder that it came from.
        lake: Identity of the lake that it was trained from; None where it doesn't say.
        at: The clock, ISO 8601 in UTC.
        by: The operating system's user who brought it in.
        smoke_difference: Largest difference between what the package says and what it said when it was made.
    """

    version: str
    origin: str
    lake: str | None
    at: str
    by: str
    smoke_difference: float


def promote_by_hand(settings: Settings, problem: Problem, version: str, because: str, now: datetime) -> Promotion:
    """Puts a package in use because a person says so; who, when and why is recorded.

    The online store is filled for it first. The gate's later verdicts on what it replaces change nothing.

    Args:
        settings: The home.
        problem: What must be predicted.
        version: Of a package of this home.
        because: The reason.
        now: The clock (UTC).

    Raises:
        HindcastError: There is no reason or no such package, it is in use already, damaged, of another problem,
            predicts otherwise than when it was made, or can't get its features; the champion stays.
    """
    from hindcast.features.materialise import fill_for  # Feast takes seconds to import

    if not because.strip():
        raise HindcastError("Say why the model is to be used: --because must not be empty.")
    present = champion.current(settings)
    if present and present["version"] == version:
        raise HindcastError(f"{version} is the champion already.")
    model = ServedModel.load(_known_folder(settings, version))
    difference = _check(model, problem)
    by, at = getpass.getuser(), now.isoformat()
    file, filled = verdict_file(settings, version), False

    def prepare(folder: Path) -> None:
        nonlocal filled
        filled = fill_for(settings, folder, now)
        keep_decision(file, version, {"decision": "promote", "because": because, "by": by, "at": at})

    entry = champion.promote(settings, version, now, file, prepare, {"because": because, "by": by})
    return Promotion(version, entry["previous"], because, by, at, difference, filled)


def import_package(settings: Settings, problem: Problem, folder: Path, now: datetime) -> Import:
    """Copies a package of another home into this one, whole or not at all, once it is shown to work here.

    Its features' functions are code: it must come from somebody whose code one would run.

    Args:
        settings: The home.
        problem: What it must predict.
        folder: The package.
        now: The clock (UTC).

    Raises:
        HindcastError: It is damaged, a bento's copy, of another problem or task, predicts otherwise than when it was
            made, is here already, or the lake lacks a table or column that it takes features from.
    """
    from hindcast.features.store import check_package  # Feast takes seconds to import

    folder = folder.resolve()
    try:
        _check_names(folder)
        files, model = read_package(folder), ServedModel.load(folder)
        difference = _check(model, problem)
    except HindcastError:
        raise
    except Exception as error:  # its files can hold anything
        raise HindcastError(f"{folder} is no model package: {type(error).__name__}: {error}.") from error
    version = model.version
    if not re.fullmatch(r"\w[\w.-]*", version):
        raise HindcastError(f"{folder}: {version!r} is no version's name.")
    if REFERENCE not in files:
        raise HindcastError(f"{folder} has no {REFERENCE}: it is a bento's copy. Import the package that it is of.")
    if (settings.models / version).exists():
        raise HindcastError(f"{version} is in this home already ({settings.models / version}).")
    try:
        check_package(settings, folder)
    except HindcastError as error:
        raise HindcastError(f"{version} can't be used here: {error}") from error
    _check_entities(settings, problem, model)
    done = Import(version, str(folder), model.metadata.get("lake"), now.isoformat(), getpass.getuser(), difference)
    files[ORIGIN] = to_json({"from": done.origin, "at": done.at, "by": done.by}).encode()
    write(settings, version, files)
    return done


def _known_folder(settings: Settings, version: str) -> Path:
    known = sorted(path.parent.name for path in settings.models.glob(f"[!.]*/{CHECKSUMS}"))
    if version not in known:
        raise HindcastError(
            f"There is no package {version} in {settings.models}; there are: {', '.join(known) or 'none'}."
        )
    return settings.models / version


def _check(model: ServedModel, problem: Problem) -> float:
    """That a package answers the problem's question, and as it did when it was made; by how much it differs."""
    signature = model.signature
    if signature.problem != problem.name:
        raise HindcastError(f"{model.version} is a model of {signature.problem}, not of {problem.name}.")
    check_task(problem, model)
    difference = model.smoke_test()
    if not difference <= PARITY_LIMIT:  # NaN must fail too
        raise HindcastError(
            f"{model.version} predicts otherwise here than when it was packaged (by {difference:.2g}); package it "
            "again."
        )
    return difference


def _check_names(folder: Path) -> None:
    """That a stranger's checksums name files of the folder, and nothing beyond it."""
    if not (folder / CHECKSUMS).is_file():
        raise HindcastError(f"{folder} is no model package: it has no {CHECKSUMS}.")
    for name in json.loads((folder / CHECKSUMS).read_text()):
        if Path(name).name != name or (folder / name).is_symlink():
            raise HindcastError(f"{folder / CHECKSUMS} names {name!r}, which isn't a file of the package.")


def _check_entities(settings: Settings, problem: Problem, model: ServedModel) -> None:
    """That the labeled table has what the package's features are found by."""
    wanted = [model.signature.entity_key, *model.signature.join_keys, *model.signature.request_fields]
    with Lake(settings).reading() as connection:
        check_columns(connection, problem.labeled_table, wanted, model.version)
