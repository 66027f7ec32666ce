"""Rolls back to the champion before, once it is shown to answer as it did. Which one that is: `champion`."""

from dataclasses import dataclass
from datetime import datetime

from hindcast.errors import HindcastError
from hindcast.features.materialise import fill_for
from hindcast.lake import Lake
from hindcast.monitoring.parity import SKEWED, measure_model
from hindcast.package.model import ServedModel
from hindcast.promotion import champion
from hindcast.settings import Settings


@dataclass(frozen=True)
class Rollback:
    """What was gone back to.

    Attributes:
        version: Of the model in use now.
        rolled_back: Of the one that was left.
        as_of: The instant (UTC, ISO 8601) that the model was made as of.
        snapshot: Of the lake, that it was trained from.
        logged: Requests that it has ever answered.
        replayed: Of these, those that could be answered again, from the lake as it then was.
        max_difference: Largest difference between a probability of then and of now; None where nothing was replayed.
        refilled: Whether the online store had to be filled for the model's own definitions of its features.
        code_version: Of the code that the model was made with.
    """

    version: str
    rolled_back: str
    as_of: str | None
    snapshot: int | None
    logged: int
    replayed: int
    max_difference: float | None
    refilled: bool
    code_version: str | None


def roll_back(settings: Settings, lake: Lake, now: datetime) -> Rollback:
    """Puts the champion before the present one in use, after its logged requests were answered once more.

    Features are those of then, from the lake as it was known; whether it answers as it did is judged as in `parity`.
    Before the model is put in use, the online store gets its features by its own definitions, which its package holds.

    Raises:
        HindcastError: There is none before, its package is missing or damaged, or it answers otherwise than it did;
            the present champion stays.
    """
    before = champion.previous(settings)
    if before is None:
        raise HindcastError("There is no champion before the present one to go back to.")
    version = before["version"]
    model = ServedModel.load(settings.models / version)
    replayed = measure_model(settings, lake, version, now)
    if replayed.status == SKEWED:
        raise HindcastError(f"{version} no longer answers as it did, so the champion stays: {replayed.summary}")
    refilled = fill_for(settings, model.folder, now)
    entry = champion.roll_back(settings, now)
    predictions = replayed.predictions
    return Rollback(
        version=version,
        rolled_back=entry["rolled_back"],
        as_of=model.metadata.get("as_of"),
        snapshot=model.metadata.get("snapshot"),
        logged=replayed.requests,
        replayed=replayed.checked,
        max_difference=predictions["max_difference"] if replayed.checked else None,
        refilled=refilled,
        code_version=model.metadata.get("code_version"),
    )
