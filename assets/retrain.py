"""Per problem the sensor that asks for a retraining, per domain the schedule that ingests. Jobs: `jobs.py`."""

import json
from datetime import UTC, date, datetime, timedelta

from dagster import (
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    schedule,
    sensor,
)

from assets.monitor import report_key
from assets.resources import HindcastResource
from hindcast.tables.windows import read_instants
from hindcast.workspace import Domain, Workspace

FIRST_PARTITION, LAST_PARTITION = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
CAUSE, TRIGGER, SUMMARY = "hindcast/cause", "hindcast/trigger", "hindcast/summary"


def build_sensor(workspace: Workspace) -> SensorDefinition:
    """The sensor of a problem, `<problem>_retrain_on_report`."""
    of = workspace.problem.name

    @sensor(
        name=f"{of}_retrain_on_report",
        job_name=f"{of}_retrain",
        minimum_interval_seconds=30,
        default_status=DefaultSensorStatus.STOPPED,
        description="Asks for a retraining, as of now, when the monitoring report raises the alarm: once per cause, "
        "and not again until the problem's cool-down has passed.",
    )
    def retrain_on_report(context: SensorEvaluationContext, hindcast: HindcastResource) -> RunRequest | SkipReason:
        event = context.instance.get_latest_materialization_event(report_key(of))
        if event is None or event.asset_materialization is None:
            return SkipReason("There is no monitoring report yet.")
        said = {name: value.value for name, value in event.asset_materialization.metadata.items()}
        if said["status"] != "alarm":
            return SkipReason(f"The monitoring report raises no alarm: {said['summary']}")
        found = hindcast.problem(of)
        now = found.clock.now()
        if reason := _asked_already(context.cursor, said["cause_id"], now, found.problem.monitoring.cool_down):
            return SkipReason(reason)
        context.update_cursor(json.dumps({"cause_id": said["cause_id"], "at": now.isoformat()}))
        return RunRequest(
            run_key=said["cause_id"],
            run_config={"ops": {f"{of}__windows": {"config": {"as_of": now.isoformat()}}}},
            tags={
                CAUSE: ", ".join(said["causes"]),
                TRIGGER: f"monitoring report of run {event.run_id}",
                SUMMARY: said["summary"],
            },
        )

    return retrain_on_report


def _asked_already(cursor: str | None, cause: str, now: datetime, cool_down: timedelta) -> str | None:
    """Why a retraining isn't asked for again; None if it may be."""
    if not cursor:
        return None
    last = json.loads(cursor)
    asked_at = datetime.fromisoformat(last["at"])
    if last["cause_id"] == cause:
        return f"A retraining for this report was asked for already, at {_minute(asked_at)}."
    if now < asked_at + cool_down:
        return (
            f"The last retraining was asked for at {_minute(asked_at)}; the cool-down lasts until "
            f"{_minute(asked_at + cool_down)}, and it is {_minute(now)}."
        )
    return None


def build_schedule(domain: Domain) -> ScheduleDefinition:
    """The schedule of a domain, `<domain>_ingest_next_month`."""
    of = domain.name

    @schedule(
        name=f"{of}_ingest_next_month",
        job_name=f"{of}_ingest",
        cron_schedule="0 6 2 * *",
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.STOPPED,
        description="Once a month: ingests what has become known, from the month of the oldest row of which something "
        "may still have been unknown at the last ingestion, to the month after the clock's: some of it is published.",
    )
    def ingest_next_month(context: ScheduleEvaluationContext, hindcast: HindcastResource) -> RunRequest | SkipReason:
        found = hindcast.domain(of)
        sources, now, known_until = found.sources, found.clock.now(), _known_until(found)
        if sources.starts is None:
            return RunRequest(run_key=now.isoformat())
        if known_until is not None and now <= known_until:
            return SkipReason(f"The clock stands at {_minute(now)}, and all that is known by then has been ingested.")
        # A month is complete only once its last day has settled; until then it is ingested again.
        still_open = known_until and known_until - sources.settles_within
        first = max(_month(still_open), sources.starts) if still_open else sources.starts
        last = sources.newest_month(now)
        if first > last:
            return SkipReason(f"The sources end with {last:%B %Y}, and that has been ingested.")
        return RunRequest(
            run_key=f"{first}..{now.isoformat()}",
            tags={
                FIRST_PARTITION: first.isoformat(),
                LAST_PARTITION: last.isoformat(),
                TRIGGER: f"the clock has reached {_minute(now)}",
            },
        )

    return ingest_next_month


def _known_until(domain: Domain) -> datetime | None:
    """Until when all of a domain's tables have been ingested; None before the first time."""
    noted = read_instants(domain.lake)
    instants = [noted[f"raw.{table}"] for table in domain.sources.tables if f"raw.{table}" in noted]
    return min(instants).replace(tzinfo=UTC) if instants else None


def _month(instant: date) -> date:
    return date(instant.year, instant.month, 1)


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
