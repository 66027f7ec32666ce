"""One answer to one request: read the features, ask the champion, write the record, say what came out.

Knows no HTTP and no server (that is `bentos/service.py`), and needs only what a bento carries.
"""

import math
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hindcast.artefacts import read_json
from hindcast.clock import Clock, WallClock
from hindcast.errors import HindcastError
from hindcast.package.explain import SCORE_LIMIT, Explanation
from hindcast.package.model import CARD, METRICS, ServedModel
from hindcast.promotion.champion import current
from hindcast.serving.demands import Demands, Refused
from hindcast.serving.log_record import RECORD
from hindcast.serving.request_log import RequestLog
from hindcast.settings import Settings
from hindcast.tasks.task import Task

# By how much a prediction may differ from the one that was stored when the model was packaged.
_SMOKE_TOLERANCE = 1e-5


class Unavailable(Exception):  # noqa: N818 - it says what is so, not what went wrong
    """No answer can be given now, whatever the request says. The message is for the caller."""


class FeatureRows(Protocol):
    """What a reader found: feature values, the instants they became known, views without a usable row, unknown keys.

    And which state of the online store it was: until when what was known was in it, and the lake's snapshot that it
    was filled from (None where it doesn't say).
    """

    @property
    def values(self) -> Mapping[str, Sequence[Any]]: ...
    @property
    def known_at(self) -> Mapping[str, Sequence[datetime | None]]: ...
    @property
    def stale(self) -> Sequence[Sequence[str]]: ...
    @property
    def unknown(self) -> Mapping[str, Sequence[bool]]: ...
    @property
    def as_of(self) -> datetime | None: ...
    @property
    def snapshot(self) -> int | None: ...


class Reader(Protocol):
    """Where the features come from: `hindcast.features.online.FeatureReader`, or a test's."""

    def read(self, rows: list[dict[str, Any]], at: list[datetime]) -> FeatureRows: ...


@dataclass(frozen=True)
class LoadedModel:
    """Everything that an answer depends on, replaced as a whole.

    Attributes:
        model: The package.
        reader: Of the model's feature service.
        promoted_at: When it became the champion (UTC, ISO 8601); None for a model served as it was built in.
    """

    model: ServedModel
    reader: Reader
    promoted_at: str | None

    def describe(self) -> dict[str, Any]:
        """What a caller may know of it."""
        metrics, card = self.model.folder / METRICS, self.model.folder / CARD
        return {
            "problem": self.model.signature.problem,
            "version": self.model.version,
            "snapshot": self.model.metadata.get("snapshot"),
            "as_of": self.model.metadata.get("as_of"),
            "promoted_at": self.promoted_at,
            "label": self.model.signature.label_description,
            "feature_service": self.model.signature.feature_service,
            "metrics": read_json(metrics) or {},
            "card": card.read_text() if card.exists() else "",
        } | self.model.signature.calibration


def load_model(folder: Path, promoted_at: str | None, connect: Callable[[ServedModel], Reader]) -> LoadedModel:
    """A package, whole and predicting as it did when it was packaged, with the reader of its features.

    Raises:
        HindcastError: It is damaged or predicts otherwise, or its features can't be read.
    """
    model = ServedModel.load(folder)
    difference = model.smoke_test()
    if not difference <= _SMOKE_TOLERANCE:  # NaN must fail too
        raise HindcastError(
            f"{folder} predicts otherwise here than when it was packaged (by {difference:.2g}); package it again."
        )
    return LoadedModel(model, connect(model), promoted_at)


class Champions:
    """The model that serves, and its successor as soon as there is one that can.

    Args:
        settings: Where `champion.json` and the packages lie.
        bundled: A package to serve while there is no `champion.json`.
        connect: Makes the reader of a model's features.

    Attributes:
        serving: Read it once per answer: the next one may come from another model.
        refused: Why the newest champion isn't served, or None.

    Raises:
        HindcastError: There is neither a champion nor a bundled model, or it can't be served.
    """

    def __init__(self, settings: Settings, bundled: Path | None, connect: Callable[[ServedModel], Reader]) -> None:
        self._settings = settings
        self._connect = connect
        self._seen = self._state()
        entry = current(settings)
        if entry is not None:
            folder, promoted_at = settings.models / entry["version"], entry.get("promoted_at")
        elif bundled is not None:
            folder, promoted_at = bundled, None
        else:
            raise HindcastError(f"There is no champion to serve in {settings.home}: `hindcast run` makes one.")
        self.serving = load_model(folder, promoted_at, self._connect)
        self.refused: str | None = None

    def refresh(self) -> bool:
        """Swaps to a new champion if there is one and it passes the checks; says whether it swapped.

        A champion that fails them is refused, and tried again only when `champion.json` changes.
        """
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        try:
            entry = current(self._settings)
            if entry is None:
                return False
            folder = self._settings.models / entry["version"]
            successor = load_model(folder, entry.get("promoted_at"), self._connect)
            self._check_forms(successor.model)
        except Exception as error:
            self.refused = str(error) if isinstance(error, HindcastError) else f"{type(error).__name__}: {error}"
            return False
        self.serving, self.refused = successor, None
        return True

    def _state(self) -> tuple[int, int] | None:
        try:
            state = self._settings.champion_file.stat()
        except FileNotFoundError:
            return None
        return state.st_ino, state.st_mtime_ns

    def _check_forms(self, model: ServedModel) -> None:
        old, new = self.serving.model.signature, model.signature
        for what, names in (
            ("wants other request fields", ("entity_key", "join_keys", "request_fields")),
            ("gives other answers", ("task", "classes", "scale")),
        ):
            for name in names:
                if getattr(old, name) != getattr(new, name):
                    raise HindcastError(
                        f"{model.version} {what} ({name}) than the running service says; start the service again with "
                        "its bento."
                    )


def answer(
    champion: LoadedModel,
    requests: Sequence[Mapping[str, Any]],
    log: RequestLog,
    clock: Clock,
    explained: bool = False,
    demands: Demands | None = None,
) -> list[dict[str, Any] | Refused]:
    """Answers requests by one model, each logged durably before this returns.

    Args:
        champion: Who answers.
        requests: Checked by `request_form`'s form: the entity's fields, and `prediction_time` (aware; None for
            the clock's now) and `request_id` (None for a new one).
        log: Gets one record per request.
        clock: The home's.
        explained: Whether each answer also says what every feature adds to the raw scores, most moving first.
        demands: Which keys must be known; None for none. What is refused isn't logged.

    Raises:
        Unavailable: Features can't be read, the model gives no finite number, or the records can't be written.
    """
    began = time.perf_counter()
    received_at = WallClock().now()
    model, signature = champion.model, champion.model.signature
    times = [(request["prediction_time"] or clock.now()).astimezone(UTC) for request in requests]
    entities = [
        {name: value for name, value in request.items() if name not in ("prediction_time", "request_id")}
        for request in requests
    ]
    try:
        found = champion.reader.read(entities, times)
    except (HindcastError, OSError, sqlite3.Error) as error:
        raise Unavailable(f"Features can't be read: {error}") from error
    matrix = model.matrix(found.values)
    explanation = model.explain(matrix) if explained else None
    predictions = explanation.predictions if explanation else model.predict(matrix)
    if not np.isfinite(predictions).all():
        raise Unavailable(f"{model.version} gives no finite number here: features are far beyond what it has learned.")
    task, codes = model.task, model.task.decide(predictions, signature.calibration)
    unknown = model.unknown_categories(found.values)
    columns = [(name, found.values[name]) for name in signature.names]
    answers: list[dict[str, Any] | Refused] = []
    records = []
    for row, request in enumerate(requests):
        unknown_keys = [key for key, rows in found.unknown.items() if rows[row]]
        if refused := (demands or Demands()).refusal(unknown_keys, len(found.unknown), entities[row]):
            answers.append(refused)
            continue
        asked = {"id": request["request_id"] or uuid.uuid4().hex, "prediction_time": times[row].isoformat()}
        rests_on = {
            "model_version": model.version,
            "snapshot": model.metadata.get("snapshot"),
            "feature_times": {view: _text(instants[row]) for view, instants in found.known_at.items()},
            "missing_or_stale": list(found.stale[row]),
            "unknown_categories": unknown[row],
        }
        warning = _warning(found.stale[row], len(found.known_at), times[row], found.as_of)
        said = task.answer(predictions[row], signature.calibration)
        one = {**asked, **said, **rests_on, "unknown_keys": unknown_keys, "warning": warning}
        features = {name: _plain(column[row]) for name, column in columns}
        if explanation:
            one |= _contributions(explanation, task, features, row)
        answers.append(one)
        records.append(
            {
                "record": RECORD,
                **asked,
                **rests_on,
                "prediction": predictions[row].tolist(),
                "decision": None if codes is None else str(task.decision(int(codes[row]))),
                "received_at": received_at.isoformat(),
                "entity": entities[row],
                "features": features,
                "features_as_of": _text(found.as_of),
                "features_snapshot": found.snapshot,
                "latency_ms": round((time.perf_counter() - began) * 1000, 3),
            }
        )
    try:
        log.append(records)
    except OSError as error:
        raise Unavailable(f"The request can't be logged, so it isn't answered: {error.strerror or error}.") from error
    return answers


def choose_example(
    candidates: Sequence[Mapping[str, Any]], reader: Reader, otherwise: datetime | None = None
) -> dict[str, Any]:
    """Of some real entities the one that most is known of, asked at the instant until which the store is filled.

    Chosen anew as the store goes on: it holds the newest row per key, and gives nothing of older instants.

    Args:
        candidates: Request fields of each; of several that are equally well known, the first is taken.
        reader: Of the features.
        otherwise: The instant to ask at where the store doesn't say until when it is filled.

    Returns:
        The fields that aren't null, and `prediction_time`; nothing where nothing is known of any.
    """
    try:
        at = reader.read([], []).as_of or otherwise
        if at is None or not candidates:
            return {}
        found = reader.read([dict(each) for each in candidates], [at] * len(candidates))
    except (HindcastError, OSError, sqlite3.Error):
        return {}
    best = min(range(len(candidates)), key=lambda number: len(found.stale[number]))
    if len(found.stale[best]) == len(found.known_at):
        return {}
    fields = {name: value for name, value in candidates[best].items() if value is not None}
    return fields | {"prediction_time": _text(at)}


def _warning(stale: Sequence[str], views: int, at: datetime, as_of: datetime | None) -> str | None:
    """What must not be overlooked: an answer from (nearly) no features looks like any other."""
    if 2 * len(stale) <= views:
        return None
    filled = f"; the online store is filled until {_text(as_of)}" if as_of else ""
    return (
        f"{len(stale)} of {views} feature views have no usable row for this entity at {_text(at)} "
        f"({', '.join(stale)}){filled}. The answer rests on little or nothing."
    )


def _contributions(explanation: Explanation, task: Task, features: Mapping[str, Any], row: int) -> dict[str, Any]:
    """What an explained answer says besides; most moving is what moves any of the scores most."""

    def per_score(numbers: Sequence[float]) -> float | dict[str, float]:
        return numbers[0] if len(numbers) == 1 else dict(zip(task.scores, numbers, strict=True))

    added = explanation.contributions[row]
    each = [
        {"feature": name, "value": value, "contribution": per_score(numbers)}
        for (name, value), numbers in zip(features.items(), added.tolist(), strict=True)
    ]
    return {
        "base": per_score(explanation.base.tolist()),
        "raw_score": per_score(explanation.scores[row].tolist()),
        "tolerance": SCORE_LIMIT,
        "contributions": [each[number] for number in np.argsort(-np.abs(added).max(axis=1), kind="stable").tolist()],
    }


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: what isn't a finite number is missing."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.item() if hasattr(value, "item") else value
