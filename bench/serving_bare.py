"""The least that can answer as the service does: an ASGI app written by hand, without framework, check or guard.

It reads by the same `FeatureReader`, predicts by the same `ServedModel` and writes the same record to a `RequestLog`.
"""

import json
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

from hindcast.package.model import ServedModel
from hindcast.promotion.champion import champion_folder
from hindcast.serving.log_record import RECORD
from hindcast.serving.request_log import RequestLog
from hindcast.settings import Settings

_as_json = json.JSONEncoder(separators=(",", ":")).encode

Message = MutableMapping[str, Any]


class Bare:
    """Model, reader and log, and nothing between them.

    Args:
        settings: Of the home.
        connect: Makes what reads the features of a service, as a `FeatureReader` does.
    """

    def __init__(self, settings: Settings, connect: Callable[[Settings, str], Any]) -> None:
        self.model = ServedModel.load(champion_folder(settings))
        self.reader = connect(settings, self.model.signature.feature_service)
        self.log = RequestLog(settings.request_log)

    def answer(self, entity: dict[str, Any], at: datetime) -> dict[str, Any]:
        """As `hindcast.serving.predict.answer`, for one request."""
        began = time.perf_counter()
        received_at = datetime.now(UTC)
        model, calibration = self.model, self.model.signature.calibration
        found = self.reader.read([entity], [at])
        (prediction,) = model.predict(model.matrix(found.values))
        answered = model.task.answer(prediction, calibration)
        said = {
            "id": uuid.uuid4().hex,
            "prediction_time": at.isoformat(),
            "model_version": model.version,
            "snapshot": model.metadata["snapshot"],
            "feature_times": {view: known and known.isoformat() for view, (known,) in found.known_at.items()},
            "missing_or_stale": found.stale[0],
            "unknown_categories": model.unknown_categories(found.values)[0],
        }
        record = said | {
            "record": RECORD,
            "prediction": prediction.tolist(),
            "decision": str(answered["decision"]),
            "received_at": received_at.isoformat(),
            "entity": entity,
            "features": {name: column[0] for name, column in found.values.items()},
            "features_as_of": found.as_of and found.as_of.isoformat(),
            "features_snapshot": found.snapshot,
            "latency_ms": round((time.perf_counter() - began) * 1000, 3),
        }
        self.log.append([record])
        return said | answered


def _connect(settings: Settings, service: str) -> Any:
    from hindcast.features.online import FeatureReader

    return FeatureReader(settings, service)


def make_app() -> Callable[..., Awaitable[None]]:
    bare = Bare(Settings.from_environment(), _connect)

    async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[..., Any]) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if scope["method"] != "POST":
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        entity = json.loads(body)
        at = datetime.fromisoformat(entity.pop("prediction_time")).astimezone(UTC)
        said = _as_json(bare.answer(entity, at)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(said)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    return app
