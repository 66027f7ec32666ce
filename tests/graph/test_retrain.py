"""The sensor and the schedule, each evaluated: what they ask for, and when they don't."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    DagsterInstance,
    MonthlyPartitionsDefinition,
    RunRequest,
    SkipReason,
    asset,
    build_schedule_context,
    build_sensor_context,
    materialize,
)

from assets.monitor import report_key
from assets.resources import HindcastResource
from assets.retrain import build_schedule, build_sensor
from hindcast.clock import SimulatedClock
from hindcast.lake import Lake
from hindcast.settings import Settings

START = datetime(2013, 11, 1, tzinfo=UTC)


@pytest.fixture
def hindcast(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> HindcastResource:
    """A home of the test's own, where the clock stands at the problem's start."""
    monkeypatch.setenv("HINDCAST_HOME", str(settings.home))
    return HindcastResource()


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as made:
        yield made


def report(instance: DagsterInstance, status: str, cause_id: str = "c1") -> None:
    said = {
        "status": status,
        "causes": ["performance"] if status == "alarm" else [],
        "cause_id": cause_id,
        "summary": f"{status}: as told.",
    }
    instance.report_runless_asset_event(AssetMaterialization(report_key("flight_delay"), metadata=said))


class Sensor:
    """Evaluates the sensor again and again, keeping its cursor as the daemon does."""

    def __init__(self, instance: DagsterInstance, hindcast: HindcastResource) -> None:
        self.instance, self.hindcast, self.cursor = instance, hindcast, None

    def __call__(self) -> Any:
        resources = {"hindcast": self.hindcast}
        with build_sensor_context(instance=self.instance, cursor=self.cursor, resources=resources) as context:
            outcome = build_sensor(self.hindcast.problem("flight_delay"))(context)
            self.cursor = context.cursor
            return outcome


def move(hindcast: HindcastResource, to: datetime) -> None:
    clock = hindcast.domain("flights").clock
    assert isinstance(clock, SimulatedClock)
    clock.move_to(to)


def test_no_report_yet(instance: DagsterInstance, hindcast: HindcastResource) -> None:
    outcome = Sensor(instance, hindcast)()
    assert isinstance(outcome, SkipReason)
    assert outcome.skip_message == "There is no monitoring report yet."


@pytest.mark.parametrize("status", ["ok", "not enough data"])
def test_no_alarm_no_run(instance: DagsterInstance, hindcast: HindcastResource, status: str) -> None:
    report(instance, status)
    outcome = Sensor(instance, hindcast)()
    assert isinstance(outcome, SkipReason)
    assert outcome.skip_message == f"The monitoring report raises no alarm: {status}: as told."


def test_an_alarm_asks_for_a_retraining_as_of_now_and_says_why(
    instance: DagsterInstance, hindcast: HindcastResource
) -> None:
    report(instance, "alarm")
    outcome = Sensor(instance, hindcast)()
    assert isinstance(outcome, RunRequest)
    assert outcome.run_key == "c1"
    assert outcome.run_config["ops"]["flight_delay__windows"]["config"] == {"as_of": "2013-11-01T00:00:00+00:00"}
    assert outcome.tags["hindcast/cause"] == "performance"
    assert outcome.tags["hindcast/trigger"].startswith("monitoring report of run ")
    assert outcome.tags["hindcast/summary"] == "alarm: as told."
    assert build_sensor(hindcast.problem("flight_delay")).job_name == "flight_delay_retrain"


def test_one_cause_one_retraining(instance: DagsterInstance, hindcast: HindcastResource) -> None:
    sensor = Sensor(instance, hindcast)
    report(instance, "alarm")
    assert isinstance(sensor(), RunRequest)
    for _ in range(2):  # the same report, and the same verdict reported again
        outcome = sensor()
        assert isinstance(outcome, SkipReason)
        assert "asked for already, at 2013-11-01 00:00 UTC" in str(outcome.skip_message)
        report(instance, "alarm")
    move(hindcast, START + timedelta(days=30))
    assert isinstance(sensor(), SkipReason)


def test_another_cause_waits_for_the_cool_down(instance: DagsterInstance, hindcast: HindcastResource) -> None:
    sensor = Sensor(instance, hindcast)
    report(instance, "alarm")
    sensor()
    report(instance, "alarm", cause_id="c2")
    move(hindcast, START + timedelta(days=6))
    outcome = sensor()
    assert isinstance(outcome, SkipReason)
    assert "the cool-down lasts until 2013-11-08 00:00 UTC, and it is 2013-11-07 00:00 UTC" in str(outcome.skip_message)
    move(hindcast, START + timedelta(days=7))
    outcome = sensor()
    assert isinstance(outcome, RunRequest)
    assert (outcome.run_key, outcome.run_config["ops"]["flight_delay__windows"]["config"]["as_of"]) == (
        "c2",
        "2013-11-08T00:00:00+00:00",
    )


def test_an_alarm_that_has_passed_asks_for_nothing(instance: DagsterInstance, hindcast: HindcastResource) -> None:
    report(instance, "alarm")
    report(instance, "ok", cause_id="c2")
    assert isinstance(Sensor(instance, hindcast)(), SkipReason)


def evaluate(hindcast: HindcastResource) -> Any:
    at, resources = datetime(2030, 1, 2, tzinfo=UTC), {"hindcast": hindcast}
    with build_schedule_context(scheduled_execution_time=at, resources=resources) as context:
        return build_schedule(hindcast.domain("flights"))(context)


def months(request: RunRequest) -> tuple[str, str]:
    return (
        request.tags["dagster/asset_partition_range_start"],
        request.tags["dagster/asset_partition_range_end"],
    )


def known_until(settings: Settings, instant: str) -> None:
    with Lake(settings).writing() as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS control")
        connection.execute(
            f"CREATE OR REPLACE TABLE control.instants AS SELECT 'raw.flights' AS name, TIMESTAMP '{instant}' AS \"at\""
        )


def test_the_first_time_brings_in_everything_up_to_the_clock(hindcast: HindcastResource) -> None:
    request = evaluate(hindcast)
    assert months(request) == ("2013-01-01", "2013-12-01")  # the month ahead has schedules already
    assert build_schedule(hindcast.domain("flights")).job_name == "flights_ingest"


def test_the_next_month_comes_with_the_rest_of_the_one_before(settings: Settings, hindcast: HindcastResource) -> None:
    known_until(settings, "2013-11-04")
    move(hindcast, datetime(2013, 12, 2, tzinfo=UTC))
    request = evaluate(hindcast)
    assert months(request) == ("2013-11-01", "2014-01-01")
    assert request.tags["hindcast/trigger"] == "the clock has reached 2013-12-02 00:00 UTC"


@pytest.mark.parametrize(
    ("ingested", "first"),
    [
        ("2013-11-02 23:59", "2013-10-01"),  # labels of the last evening of October may still be open
        ("2013-11-03 00:00", "2013-11-01"),  # the flights settle within 2 days
        ("2013-10-31 23:00", "2013-10-01"),
        ("2013-01-01 03:00", "2013-01-01"),  # the sources' first month
    ],
)
def test_the_next_ingestion_goes_back_to_the_oldest_open_label(
    settings: Settings, hindcast: HindcastResource, ingested: str, first: str
) -> None:
    known_until(settings, ingested)
    move(hindcast, datetime(2013, 12, 2, tzinfo=UTC))
    assert months(evaluate(hindcast)) == (first, "2014-01-01")


def test_the_next_ingestion_goes_back_to_the_slowest_table(settings: Settings, hindcast: HindcastResource) -> None:
    known_until(settings, "2013-11-20")
    with Lake(settings).writing() as connection:
        connection.execute(
            "INSERT INTO control.instants VALUES ('raw.weather', '2013-10-10'), ('raw.tides', '2013-03-01')"
        )
    move(hindcast, datetime(2013, 12, 2, tzinfo=UTC))
    assert months(evaluate(hindcast)) == ("2013-10-01", "2014-01-01")


def test_nothing_is_new_while_the_clock_stands(settings: Settings, hindcast: HindcastResource) -> None:
    known_until(settings, "2013-11-01")
    outcome = evaluate(hindcast)
    assert isinstance(outcome, SkipReason)
    assert "all that is known by then has been ingested" in str(outcome.skip_message)


def test_past_the_sources_end_there_is_nothing_to_bring_in(settings: Settings, hindcast: HindcastResource) -> None:
    known_until(settings, "2014-02-10")
    move(hindcast, datetime(2014, 3, 2, tzinfo=UTC))
    outcome = evaluate(hindcast)
    assert isinstance(outcome, SkipReason)
    assert outcome.skip_message == "The sources end with January 2014, and that has been ingested."


def test_the_requested_months_are_the_partitions_of_the_run(settings: Settings, hindcast: HindcastResource) -> None:
    """Dagster takes the request's tags for one run over several months."""
    known_until(settings, "2013-11-04")
    move(hindcast, datetime(2013, 12, 2, tzinfo=UTC))
    seen: list[str] = []

    @asset(partitions_def=MonthlyPartitionsDefinition("2013-01-01", "2014-02-01"))
    def monthly(context: AssetExecutionContext) -> None:
        seen.extend(context.partition_keys)

    @asset
    def whole() -> None: ...

    request = evaluate(hindcast)
    assert materialize([monthly, whole], tags=dict(request.tags)).success
    assert seen == ["2013-11-01", "2013-12-01", "2014-01-01"]
