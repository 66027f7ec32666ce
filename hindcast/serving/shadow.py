"""Shadow deployment: a challenger that gets each request too, and whose answers are logged and never returned.

It answers after the champion and in a thread of its own: what it takes, and whether it fails, changes no answer.
"""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hindcast.clock import Clock
from hindcast.package.model import ServedModel
from hindcast.promotion.champion import current_shadow
from hindcast.serving.predict import LoadedModel, Reader, answer, load_model
from hindcast.serving.request_log import RequestLog
from hindcast.settings import Settings

_MOST_WAITING = 10_000
_AT_ONCE = 64
_REST_SECONDS = 0.05
_NICENESS = 10


class Shadow:
    """Follows `shadow.json`, and asks the challenger that it names what the champion was asked.

    Args:
        settings: Where packages, `shadow.json` and the challenger's log are.
        connect: Makes the reader of a model's features.
        clock: The home's.
        most_waiting: Requests kept for it; what comes while so many wait is dropped, and counted.

    Attributes:
        answered: Requests that it has answered; each is a record of its own in its log, by the request's id.
        dropped: Requests that it wasn't asked because too many waited.
        failed: Requests that it couldn't answer.
        failure: Why it can't be asked, or couldn't answer last; None where nothing is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        connect: Callable[[ServedModel], Reader],
        clock: Clock,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._clock = clock
        self._log = RequestLog(settings.shadow_log)
        self._waiting: queue.Queue[dict[str, Any]] = queue.Queue(most_waiting)
        self._version: str | None = None
        self._challenger: LoadedModel | None = None
        self.answered = self.dropped = self.failed = 0
        self.failure: str | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def offer(self, requests: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]]) -> None:
        """Keeps what the champion has answered for the challenger. Returns at once, and never raises.

        Args:
            requests: As `predict.answer` takes them.
            answers: The champion's, which say under which id and as of when each was answered.
        """
        if self._version is None:
            return
        for request, said in zip(requests, answers, strict=True):
            at = datetime.fromisoformat(said["prediction_time"])
            try:
                self._waiting.put_nowait({**request, "request_id": said["id"], "prediction_time": at})
            except queue.Full:
                self.dropped += 1

    def refresh(self) -> None:
        """Takes another challenger, or none, where `shadow.json` says so now."""
        entry = current_shadow(self._settings)
        version = entry["version"] if entry else None
        if version == self._version:
            return
        self._challenger, self.failure = None, None
        if version is not None:
            try:
                self._challenger = load_model(self._settings.models / version, None, self._connect)
            except Exception as error:
                self.failure = f"{type(error).__name__}: {error}"
        self._version = version

    def describe(self) -> dict[str, Any] | None:
        """What a caller may know of it; None where there is none."""
        if self._version is None:
            return None
        counts = {"answered": self.answered, "dropped": self.dropped, "failed": self.failed}
        return {"version": self._version, "waiting": self._waiting.qsize(), **counts, "failure": self.failure}

    def _work(self) -> None:
        if sys.platform == "linux":  # there, a thread has a priority of its own: the champion's comes first
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            requests = [self._waiting.get()]
            while len(requests) < _AT_ONCE and not self._waiting.empty():
                requests.append(self._waiting.get())
            challenger = self._challenger
            if challenger is None:
                self.failed += len(requests)
                continue
            try:
                answer(challenger, requests, self._log, self._clock)
                self.answered += len(requests)
                self.failure = None
            except Exception as error:
                self.failed += len(requests)
                self.failure = f"{type(error).__name__}: {error}"
            time.sleep(_REST_SECONDS)  # so that it takes few turns of the interpreter, each for several requests
