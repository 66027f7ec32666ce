"""The champion, which is the package in use: kept in one small file, replaced atomically, that a service may poll.

It names packages by their versions and verdicts by their files' names, so that a home can be moved. Whether a model may
be in use is decided in `gate`, or by a person in `promotion`.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from hindcast.artefacts import read_json, write_json
from hindcast.errors import HindcastError
from hindcast.files import exclusive
from hindcast.package.model import read_package
from hindcast.settings import Settings

Prepare = Callable[[Path], Any]
"""Called with a package's folder before the package is put in use; where it raises, the champion stays."""


def current(settings: Settings) -> dict[str, Any] | None:
    """What `champion.json` says: `version`, `promoted_at` (UTC), name of the `verdict`'s file, `previous` version, and
    the `history` of all promotions and rollbacks, oldest first. None before the first one.

    An entry has `because` and `by` where a person decided, and `rolled_back` where it is a rollback.
    """
    kept = read_json(settings.champion_file)
    return _by_names(kept) if kept else None


def _by_names(kept: dict[str, Any]) -> dict[str, Any]:
    """The file's content, its history too, by names."""
    return _without_paths(kept) | {"history": [_without_paths(entry) for entry in kept.get("history", ())]}


def _without_paths(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry by names, as the home may be moved; files of before held paths."""
    kept = {name: value for name, value in entry.items() if name not in ("path", "history")}
    return kept | ({"verdict": Path(entry["verdict"]).name} if entry.get("verdict") else {})


def champion_folder(settings: Settings) -> Path:
    """The package in use.

    Raises:
        HindcastError: There is no champion yet.
    """
    champion = current(settings)
    if champion is None:
        raise HindcastError(f"There is no champion yet ({settings.champion_file}): `hindcast run` makes one.")
    return settings.models / champion["version"]


def previous(settings: Settings) -> dict[str, Any] | None:
    """The promotion that a rollback goes back to; None if there is none."""
    active = _active_promotions(current(settings))
    return active[-2] if len(active) > 1 else None


def promote(
    settings: Settings,
    version: str,
    promoted_at: datetime,
    verdict: Path,
    prepare: Prepare | None = None,
    decided: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Puts a package in use. One that is in use already stays as it is.

    Args:
        settings: Where packages and `champion.json` are.
        version: Of a whole package in `settings.models`.
        promoted_at: The clock, with its time zone.
        verdict: File of the gate's verdict on it.
        prepare: What has to be done first.
        decided: `because` and `by`, where a person decided.

    Returns:
        As `current`, after the promotion.

    Raises:
        HindcastError: The package is missing or damaged.
    """
    folder = settings.models / version
    read_package(folder)
    with exclusive(settings.locks / "champion"):
        champion = current(settings)
        if champion and champion["version"] == version:
            return champion
        entry: dict[str, Any] = {
            "version": version,
            "promoted_at": promoted_at.isoformat(),
            "verdict": verdict.name,
            "previous": champion["version"] if champion else None,
        }
        return _put_in_use(settings, champion, entry | (decided or {}), prepare)


def roll_back(settings: Settings, at: datetime, prepare: Prepare | None = None) -> dict[str, Any]:
    """Puts the champion before the present one in use again. A second time goes back one further.

    Args:
        settings: Where packages and `champion.json` are.
        at: The clock, with its time zone.
        prepare: What has to be done first.

    Returns:
        As `current`, afterwards: an entry of its own, with `rolled_back` naming the version that was left.

    Raises:
        HindcastError: There is no champion before the present one, or its package is missing or damaged.
    """
    with exclusive(settings.locks / "champion"):
        champion = current(settings)
        active = _active_promotions(champion)
        if champion is None or len(active) < 2:
            raise HindcastError("There is no champion before the present one to go back to.")
        back = active[-2]
        read_package(settings.models / back["version"])
        entry = {
            "version": back["version"],
            "promoted_at": at.isoformat(),
            "verdict": Path(back["verdict"]).name,
            "previous": back["previous"],
            "rolled_back": champion["version"],
        }
        return _put_in_use(settings, champion, entry, prepare)


def packages_in_use(settings: Settings) -> list[Path]:
    """The packages of the models that answer: the champion's, then its shadow's."""
    entries = filter(None, (current(settings), current_shadow(settings)))
    return [settings.models / entry["version"] for entry in entries]


def current_shadow(settings: Settings) -> dict[str, Any] | None:
    """What `shadow.json` says: `version` of the challenger that is asked beside the champion, and `since` (UTC)."""
    return read_json(settings.shadow_file)


def set_shadow(settings: Settings, version: str | None, since: datetime, prepare: Prepare | None = None) -> None:
    """Has a package be asked beside the champion; None ends that.

    Raises:
        HindcastError: The package is missing or damaged, or it is the champion.
    """
    with exclusive(settings.locks / "champion"):
        if version is None:
            settings.shadow_file.unlink(missing_ok=True)
            return
        read_package(settings.models / version)
        champion = current(settings)
        if champion and champion["version"] == version:
            raise HindcastError(f"{version} is the champion; a shadow is another model beside it.")
        if prepare:
            prepare(settings.models / version)
        write_json(settings.shadow_file, {"version": version, "since": since.isoformat()})


def apply_verdict(
    settings: Settings, challenger: str, promoted_at: datetime, prepare: Prepare | None = None
) -> dict[str, Any]:
    """Promotes a challenger if its verdict says so; else the champion stays. As `current`, afterwards.

    Raises:
        HindcastError: The challenger was refused or never judged, and there is no champion to go on with.
    """
    file = settings.verdicts / f"{challenger}.json"
    verdict = read_json(file)
    champion = current(settings)
    # What people went back from, or put another model in the place of, isn't put in use again by an old verdict.
    if verdict and verdict["promoted"] and challenger not in _put_out_of_use(champion):
        return promote(settings, challenger, promoted_at, file, prepare)
    if champion is None:
        failed = ", ".join(check["name"] for check in verdict["checks"] if not check["holds"]) if verdict else ""
        reason = f"was refused ({failed})" if verdict else "was never judged"
        raise HindcastError(f"{challenger} {reason}, and there is no earlier champion; see {file}.")
    return champion


def _put_out_of_use(champion: dict[str, Any] | None) -> set[str | None]:
    """The versions that a person has put out of use."""
    versions: set[str | None] = set()
    for entry in champion["history"] if champion else []:
        if "rolled_back" in entry:
            versions.add(entry["rolled_back"])
        elif "because" in entry:
            versions.add(entry["previous"])
    return versions


def _active_promotions(champion: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The promotions that were not gone back from, oldest first; the last is of the model in use."""
    active: list[dict[str, Any]] = []
    for entry in champion["history"] if champion else []:
        if "rolled_back" in entry:
            active.pop()
        else:
            active.append(entry)
    return active


def _put_in_use(
    settings: Settings, champion: dict[str, Any] | None, entry: dict[str, Any], prepare: Prepare | None
) -> dict[str, Any]:
    if prepare:
        prepare(settings.models / entry["version"])
    # The history is in the same file, so that no kill can part the two.
    history = [*(champion["history"] if champion else []), entry]
    champion = _by_names(entry | {"history": history})
    write_json(settings.champion_file, champion)
    shadow = current_shadow(settings)
    if shadow and shadow["version"] == entry["version"]:
        settings.shadow_file.unlink()  # it isn't beside the champion any more
    return champion
