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
    `previous` version, and the `history` of all promotions, oldest first. None before the first one.
    """
    path = settings.champion_file
    return json.loads(path.read_text()) if path.exists() else None


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
    """The promotion before the present one; None if there is none."""
    champion = current(settings)
    return champion["history"][-2] if champion and len(champion["history"]) > 1 else None


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
        # The history is in the same file, so that no kill can part the two.
        history = [*(champion["history"] if champion else []), entry]
        champion = entry | {"history": history}
        write_atomically(settings.champion_file, json.dumps(champion, indent=2) + "\n")
        shadow = current_shadow(settings)
        if shadow and shadow["version"] == version:
            settings.shadow_file.unlink()  # it isn't beside the champion any more
        return champion


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
    if verdict and verdict["promoted"]:
        return promote(settings, challenger, promoted_at, file)
    champion = current(settings)
    if champion is None:
        failed = ", ".join(check["name"] for check in verdict["checks"] if not check["holds"]) if verdict else ""
        reason = f"was refused ({failed})" if verdict else "was never judged"
        raise HindcastError(f"{challenger} {reason}, and there is no earlier champion; see {file}.")
    return champion
