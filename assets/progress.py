"""What a run says on a terminal: one line when a step begins, one when it ends, and what the step itself tells."""

import logging
import sys
from collections.abc import Iterable

from dagster import AssetCheckSeverity, DagsterEvent, DagsterEventType, InitLoggerContext, logger


class _Terse(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        step = str(meta.get("step_key") or "").replace("__", "/")
        event: DagsterEvent | None = meta.get("dagster_event")
        if event is None:
            return f"      {meta.get('orig_message') or record.getMessage()}"
        if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION:
            return f"    {'✗' if _stops(event) else '!'} {_failed_check(event)}"
        if event.is_step_success:
            return f"    ✓ {step}  {event.step_success_data.duration_ms / 1000:.1f} s"
        return f"    ✗ {step}  {failure_of(event)}"


def failures_of(events: Iterable[DagsterEvent]) -> list[str]:
    """What stopped a run: each failed check that stops what follows, and each failed step, in its own words."""
    events = list(events)
    stopped = [_failed_check(event) for event in events if _is_failed_check(event) and _stops(event)]
    # That its checks failed is all that such a step says.
    steps = [event for event in events if event.is_step_failure and not _failed_by_checks(event)]
    return [*stopped, *(f"{event.step_key}: {failure_of(event)}" for event in steps)]


def _failed_by_checks(event: DagsterEvent) -> bool:
    error = event.step_failure_data.error
    return error is not None and error.cls_name == "DagsterAssetCheckFailedError"


def _is_failed_check(event: DagsterEvent) -> bool:
    return event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION and not event.asset_check_evaluation_data.passed


def _stops(event: DagsterEvent) -> bool:
    return event.asset_check_evaluation_data.severity == AssetCheckSeverity.ERROR


def _failed_check(event: DagsterEvent) -> str:
    check = event.asset_check_evaluation_data
    return f"{check.asset_key.to_user_string()} {check.check_name}: {check.description or 'failed'}"


def failure_of(event: DagsterEvent) -> str:
    """What the step's own code said when it failed, without the stack (the UI shows that)."""
    error = event.step_failure_data.error
    if error is None:
        return event.message or ""
    while error.cause is not None:
        error = error.cause
    told = error.message.strip().removeprefix("hindcast.errors.HindcastError: ")
    return told.removeprefix("dagster._core.definitions.events.Failure: ")


def _worth_telling(record: logging.LogRecord) -> bool:
    event = getattr(record, "dagster_meta", {}).get("dagster_event")
    if event is None:
        return record.levelno >= logging.INFO
    if event.is_step_failure:
        return not _failed_by_checks(event)  # the checks themselves are shown
    return event.is_step_success or _is_failed_check(event)


@logger(description="One line per step.")
def terse_logger(context: InitLoggerContext) -> logging.Logger:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Terse())
    handler.addFilter(_worth_telling)
    made = logging.Logger("hindcast", level=logging.DEBUG)
    made.addHandler(handler)
    return made
