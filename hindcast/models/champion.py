"""Which package is in use: one small file, replaced atomically, that a running service may poll.

Whether a model may be in use is decided in `gate`.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from hindcast.errors import HindcastError
from hindcast.files import exclusive, write_atomically
from hindcast.models.model import read_package
from hindcast.settings import Settings


def current(settings: Settings) -> dict[str, Any] | None:
    """What `champion.json` says: `version`, `path` of the package, `promoted_at` (UTC), file of the `verdict`,
    `previous` version, and the `history` of all promotions and rollbacks, oldest first. None before the first one.
    """
    path = settings.champion_file
    if not path.exists():
        return None
    champion: dict[str, Any] = json.loads(path.read_text())
    history = [_with_paths(settings, entry) for entry in champion.get("history", ())]
    return _with_paths(settings, champion) | {"history": history}


def _with_paths(settings: Settings, entry: dict[str, Any]) -> dict[str, Any]:
    """An entry with its package and its verdict where they are now: the home may have been moved."""
    paths = {"path": str(settings.models / entry["version"])}
    if entry.get("verdict"):
        paths["verdict"] = str(settings.verdicts / Path(entry["verdict"]).name)
    return entry | paths


def _without_paths(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry as it is kept: by names, as the home may be moved."""
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
    return Path(champion["path"])


def previous(settings: Settings) -> dict[str, Any] | None:
    """The promotion that a rollback goes back to; None if there is none."""
    standing = _standing(current(settings))
    return standing[-2] if len(standing) > 1 else None


def promote(settings: Settings, version: str, promoted_at: datetime, verdict: Path) -> dict[str, Any]:
    """Puts a package in use. One that is in use already stays as it is.

    Args:
        settings: Where packages and `champion.json` are.
        version: Of a whole package in `settings.models`.
        promoted_at: The clock, with its time zone.
        verdict: File of the gate's verdict on it.

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
            "path": str(folder),
            "promoted_at": promoted_at.isoformat(),
            "verdict": str(verdict),
            "previous": champion["version"] if champion else None,
        }
        return _put_in_use(settings, champion, entry)


def roll_back(settings: Settings, at: datetime) -> dict[str, Any]:
    """Puts the champion before the present one in use again. A second time goes back one further.

    Args:
        settings: Where packages and `champion.json` are.
        at: The clock, with its time zone.

    Returns:
        As `current`, afterwards: an entry of its own, with `rolled_back` naming the version that was left.

    Raises:
        HindcastError: There is no champion before the present one, or its package is missing or damaged.
    """
    with exclusive(settings.locks / "champion"):
        champion = current(settings)
        standing = _standing(champion)
        if champion is None or len(standing) < 2:
            raise HindcastError("There is no champion before the present one to go back to.")
        back = standing[-2]
        read_package(settings.models / back["version"])
        entry = {
            "version": back["version"],
            "path": str(settings.models / back["version"]),
            "promoted_at": at.isoformat(),
            "verdict": back["verdict"],
            "previous": back["previous"],
            "rolled_back": champion["version"],
        }
        return _put_in_use(settings, champion, entry)


def current_shadow(settings: Settings) -> dict[str, Any] | None:
    """What `shadow.json` says: `version` of the challenger that is asked beside the champion, and `since` (UTC)."""
    path = settings.shadow_file
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return found


def set_shadow(settings: Settings, version: str | None, since: datetime) -> None:
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
        entry = {"version": version, "since": since.isoformat()}
        write_atomically(settings.shadow_file, json.dumps(entry, indent=2) + "\n")


def settle(settings: Settings, challenger: str, promoted_at: datetime) -> dict[str, Any]:
    """Promotes a challenger if its verdict says so; else the champion stays. As `current`, afterwards.

    Raises:
        HindcastError: The challenger was refused or never judged, and there is no champion to go on with.
    """
    file = settings.verdicts / f"{challenger}.json"
    verdict = json.loads(file.read_text()) if file.exists() else None
    champion = current(settings)
    left = {entry.get("rolled_back") for entry in champion["history"]} if champion else set()
    # What people went back from isn't put in use again by the verdict that it had before.
    if verdict and verdict["promoted"] and challenger not in left:
        return promote(settings, challenger, promoted_at, file)
    if champion is None:
        failed = ", ".join(check["name"] for check in verdict["checks"] if not check["holds"]) if verdict else ""
        reason = f"was refused ({failed})" if verdict else "was never judged"
        raise HindcastError(f"{challenger} {reason}, and there is no earlier champion; see {file}.")
    return champion


def _standing(champion: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The promotions that were not gone back from, oldest first; the last is of the model in use."""
    standing: list[dict[str, Any]] = []
    for entry in champion["history"] if champion else []:
        if "rolled_back" in entry:
            standing.pop()
        else:
            standing.append(entry)
    return standing


def _put_in_use(settings: Settings, champion: dict[str, Any] | None, entry: dict[str, Any]) -> dict[str, Any]:
    # The history is in the same file, so that no kill can part the two.
    history = [*(champion["history"] if champion else []), entry]
    named = _without_paths(entry) | {"history": [_without_paths(each) for each in history]}
    write_atomically(settings.champion_file, json.dumps(named, indent=2) + "\n")
    shadow = current_shadow(settings)
    if shadow and shadow["version"] == entry["version"]:
        settings.shadow_file.unlink()  # it isn't beside the champion any more
    return entry | {"history": history}
