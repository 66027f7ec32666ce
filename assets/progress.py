"""What a run says on a terminal: one line when a step begins, one when it ends, and what the step itself tells."""

import logging
import sys

from dagster import DagsterEvent, InitLoggerContext, logger


class _Terse(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        meta = getattr(record, "dagster_meta", {})
        step = str(meta.get("step_key") or "").replace("__", "/")
        event: DagsterEvent | None = meta.get("dagster_event")
        if event is None:
            return f"      {meta.get('orig_message') or record.getMessage()}"
        if event.is_step_success:
            return f"    ✓ {step}  {event.step_success_data.duration_ms / 1000:.1f} s"
        return f"    ✗ {step}  {failure_of(event)}"


def failure_of(event: DagsterEvent) -> str:
    """What the step's own code said when it failed, without the stack (the UI shows that)."""
    error = event.step_failure_data.error
    if error is None:
        return event.message or ""
    while error.cause is not None:
        error = error.cause
    return error.message.strip().removeprefix("hindcast.errors.HindcastError: ")


def _worth_telling(record: logging.LogRecord) -> bool:
    event = getattr(record, "dagster_meta", {}).get("dagster_event")
    if event is None:
        return record.levelno >= logging.INFO
    return bool(event.is_step_success or event.is_step_failure)


@logger(description="One line per step.")
def terse_logger(context: InitLoggerContext) -> logging.Logger:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Terse())
    handler.addFilter(_worth_telling)
    made = logging.Logger("hindcast", level=logging.DEBUG)
    made.addHandler(handler)
    return made
