"""Stage retrain: what starts runs by itself. It computes nothing; the jobs are in `jobs.py`."""

import json
from datetime import UTC, date, datetime

from dagster import (
    AssetKey,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    ScheduleEvaluationContext,
    SensorEvaluationContext,
    SkipReason,
    schedule,
    sensor,
)

from assets.resources import HindcastResource
from hindcast.tables.sources import load_sources
from hindcast.tables.windows import read_instants

REPORT = AssetKey("monitoring_report")
FIRST_PARTITION, LAST_PARTITION = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
CAUSE, TRIGGER, SUMMARY = "hindcast/cause", "hindcast/trigger", "hindcast/summary"


@sensor(
    job_name="retrain",
    minimum_interval_seconds=30,
    default_status=DefaultSensorStatus.STOPPED,
    description="Asks for a retraining, as of now, when the monitoring report raises the alarm: once per cause, and "
    "not again until the problem's cool-down has passed.",
)
def retrain_on_report(context: SensorEvaluationContext, hindcast: HindcastResource) -> RunRequest | SkipReason:
    event = context.instance.get_latest_materialization_event(REPORT)
    if event is None or event.asset_materialization is None:
        return SkipReason("There is no monitoring report yet.")
    said = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    if said["status"] != "alarm":
        return SkipReason(f"The monitoring report raises no alarm: {said['summary']}")
    now, cool_down = hindcast.clock.now(), hindcast.problem.monitoring.cool_down
    if context.cursor:
        last = json.loads(context.cursor)
        asked_at = datetime.fromisoformat(last["at"])
        if last["cause_id"] == said["cause_id"]:
            return SkipReason(f"A retraining for this report was asked for already, at {_minute(asked_at)}.")
        if now < asked_at + cool_down:
            return SkipReason(
                f"The last retraining was asked for at {_minute(asked_at)}; the cool-down lasts until "
                f"{_minute(asked_at + cool_down)}, and it is {_minute(now)}."
            )
    context.update_cursor(json.dumps({"cause_id": said["cause_id"], "at": now.isoformat()}))
    return RunRequest(
        run_key=said["cause_id"],
        run_config={"ops": {"control": {"config": {"as_of": now.isoformat()}}}},
        tags={
            CAUSE: ", ".join(said["causes"]),
            TRIGGER: f"monitoring report of run {event.run_id}",
            SUMMARY: said["summary"],
        },
    )


@schedule(
    job_name="ingest",
    cron_schedule="0 6 2 * *",
    execution_timezone="UTC",
    default_status=DefaultScheduleStatus.STOPPED,
    description="Once a month: ingests what has become known, from the month of the oldest label that may still have "
    "been open at the last ingestion, to the month after the clock's, of which some is published.",
)
def ingest_next_month(context: ScheduleEvaluationContext, hindcast: HindcastResource) -> RunRequest | SkipReason:
    sources = load_sources(hindcast.settings.sources_folder / f"{hindcast.problem.sources}.yaml")
    now, known_until = hindcast.clock.now(), _known_until(hindcast)
    if sources.starts is None:
        return RunRequest(run_key=now.isoformat())
    if known_until is not None and now <= known_until:
        return SkipReason(f"The clock stands at {_minute(now)}, and all that is known by then has been brought in.")
    # A month is complete only once the labels of its last day have matured; until then it is ingested again.
    still_open = known_until and known_until - hindcast.problem.label.matures_within
    first = max(_month(still_open), sources.starts) if still_open else sources.starts
    last = sources.newest_month(now)
    if first > last:
        return SkipReason(f"The sources end with {last:%B %Y}, and that has been brought in.")
    return RunRequest(
        run_key=f"{first}..{now.isoformat()}",
        tags={
            FIRST_PARTITION: first.isoformat(),
            LAST_PARTITION: last.isoformat(),
            TRIGGER: f"the clock has reached {_minute(now)}",
        },
    )


def _known_until(hindcast: HindcastResource) -> datetime | None:
    """Until when all tables have been ingested; None before the first time."""
    instants = [instant for name, instant in read_instants(hindcast.lake).items() if name != "as_of"]
    return min(instants).replace(tzinfo=UTC) if instants else None


def _month(instant: date) -> date:
    return date(instant.year, instant.month, 1)


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"


SENSORS = (retrain_on_report,)
SCHEDULES = (ingest_next_month,)
