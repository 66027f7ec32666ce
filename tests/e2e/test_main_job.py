"""The main job as a user meets it: once, again, killed half way, beside others."""

import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import polars as pl
import pytest

from hindcast.evaluation.leak_checks import check_training_set
from hindcast.features.online import FeatureReader
from hindcast.lake import Lake
from hindcast.package.model import FEATURES
from hindcast.problem import load_problem
from hindcast.promotion.champion import champion_folder
from hindcast.serving.predict import choose_example
from hindcast.serving.server import FIELDS, bento_folder, champion_tag
from hindcast.settings import Settings
from hindcast.training.training_data import read_training_data
from tests.brute_force import brute_force, flight_id, plausible_planes, raw_flights, rows, unequal
from tests.e2e.conftest import ODD_NAME, World
from tests.patience import lines_of, output_of

FLIGHT_ID = "concat_ws('|', make_date(f.year, f.month, f.day), f.origin, f.carrier, f.flight)"  # of a raw row


def same_in_every_run(status: dict) -> dict:
    """What must not depend on when, where or how often a pass was interrupted."""
    champion = status["champion"]["version"]
    return {
        key: status[key] for key in ("rows", "rejected", "rules", "candidates", "baselines", "requests", "logged")
    } | {"champion": champion}


def test_the_whole_chain_is_real(world: World, finished: str) -> None:
    status = world.status(finished)
    assert status["problem"] == "flight_delay"
    assert status["as_of"] == "2013-03-01T00:00:00Z"
    assert status["now"] == "2013-03-02T12:00:00+00:00"
    assert set(status["rows"]["raw"]) == {"airlines", "airports", "flights", "planes", "weather"}
    assert status["rows"]["raw"]["airports"] == 1458  # every line of the file but its header
    assert min(status["rows"]["split"].values()) > 8_000
    assert {candidate["name"] for candidate in status["candidates"]} == {"logistic_regression", "gradient_boosting"}
    assert all(0.55 < candidate["test"]["roc_auc"] < 0.82 for candidate in status["candidates"])
    assert status["gate"]["promoted"]
    assert all(check["holds"] for check in status["gate"]["checks"])
    assert status["requests"] == status["logged"] > 800
    assert 0 < status["labeled"] <= status["logged"]
    parity = status["parity"]
    assert (parity["status"], parity["unchecked"]) == ("ok", [])
    assert parity["checked"] == parity["predictions"]["compared"] == status["logged"]
    assert parity["cells"] > 45 * parity["checked"]
    assert 0 < parity["staleness"]["store_age"]["max"] < 6 * 3600  # filled every six hours
    assert parity["staleness"]["effect"]["max"] > 0
    assert status["report"]["status"] in {"ok", "alarm"}
    assert set(status["stages"]) >= {"raw", "cleaned", "labeled", "split", "features", "train", "evaluate", "package"}


def test_again_at_once_computes_nothing(world: World, finished: str) -> None:
    before = world.status(finished)
    output = world.run(finished)
    assert "nothing was computed again" in output
    after = world.status(finished)
    assert after == before


def test_killed_and_restarted_equals_undisturbed(world: World, finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed once while tables are made and once while requests are served; each time started again. All on a path of
    spaces, quotes and other letters, in another time zone and with another umask."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    umask = os.umask(0o077)
    try:
        for moment in ("✓ raw/flights", "real requests"):
            process = world.start(ODD_NAME, "-m", "assets.run")
            assert any(moment in line for line in lines_of(process)), f"never came to {moment!r}"
            time.sleep(2)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        world.run(ODD_NAME)
    finally:
        os.umask(umask)
    assert same_in_every_run(world.status(ODD_NAME)) == same_in_every_run(world.status(finished))
    assert training_set_hash(world, ODD_NAME) == training_set_hash(world, finished)


def training_set_hash(world: World, home: str) -> str:
    lake = Lake(Settings(world.root, world.folder / home))
    with lake.reading() as connection:
        return connection.execute(
            "SELECT md5(string_agg(row_text, chr(10) ORDER BY row_text)) "
            "FROM (SELECT CAST(t AS VARCHAR) AS row_text FROM flight_delay.training_set t)"
        ).fetchall()[0][0]


def test_nothing_that_training_read_lies_after_the_as_of_instant(world: World, finished: str) -> None:
    lake = Lake(Settings(world.root, world.folder / finished))
    with lake.reading() as connection:
        latest = connection.execute(
            "SELECT max(prediction_time), max(label_known_at) FROM flight_delay.training_set"
        ).fetchall()[0]
    assert all(instant.isoformat() <= "2013-03-01T00:00:00" for instant in latest)


def test_plain_python_finds_the_training_set(world: World, finished: str) -> None:
    """Fifty random rows, each feature recomputed straight from the raw rows known at its prediction time."""
    lake = Lake(Settings(world.root, world.folder / finished))
    flights, weather, planes = raw_flights(lake), rows(lake, "FROM raw.weather"), plausible_planes(lake)
    by_id = {flight_id(flight): flight for flight in flights.iter_rows(named=True)}
    trained = rows(lake, "FROM flight_delay.training_set ORDER BY flight_id")
    features = trained.columns[trained.columns.index("carrier_code") :]
    assert len(features) > 45
    wrong = []
    for row in trained[random.Random(7).sample(range(len(trained)), 50)].iter_rows(named=True):
        expected = brute_force(by_id[row["flight_id"]], flights, weather, planes, ttl=True)
        arrival, block = expected["leg_expected_arrival_minute"], expected["leg_block_minutes"]
        slack = None if arrival is None else expected["scheduled_departure_minute"] - arrival - block - 60
        expected["inbound_slack_minutes"] = None if slack is None else max(-600.0, min(600.0, slack))
        expected["inbound_leg_missing"] = float(slack is None)
        wrong += [(row["flight_id"], *it) for it in unequal(row, {name: expected[name] for name in features})]
    assert wrong == []


def test_leaks_that_are_planted_raise_the_alarm(world: World, finished: str) -> None:
    """The flight's own departure delay, and a column that is missing where the tail number is."""
    settings = Settings(world.root, world.folder / finished)
    problem, lake = load_problem(settings.problem_file), Lake(settings)
    data = read_training_data(lake, problem)
    own = rows(lake, f"SELECT {FLIGHT_ID} AS flight_id, CAST(dep_delay AS DOUBLE) AS delay FROM raw.flights f")
    frame = data.frame.join(own, on="flight_id", how="left", maintain_order="left").with_columns(
        tail_is_there=pl.when(pl.col("tail_number").is_not_null()).then(1.0)
    )
    features = frame.columns[frame.columns.index("carrier_code") :]
    honest = [name for name in features if name not in {"delay", "tail_is_there"}]

    def alarms(names: list[str]) -> set[str]:
        return {check.name for check in check_training_set(problem, frame, names, data.windows) if not check.holds}

    assert alarms(honest) == set()
    assert alarms([*honest, "delay"]) >= {"single_feature_roc_auc"}
    assert alarms([*honest, "tail_is_there"]) == {"null_pattern_label_rate"}


def test_the_leak_meter_says_what_the_flights_leaks_are_worth(world: World, finished: str) -> None:
    only = ["departure_delay", "outcomes_by_departure", "weather_an_hour_early", "recipes_tutorial"]
    only += ["departure_hour_weather", "missing_tail", "random_split"]
    chosen = [word for name in only for word in ("--only", name)]
    report = json.loads(world.hindcast(finished, "leaks", "--rows", "5000", "--json", *chosen))
    found = {each["name"]: each for each in report["variants"]}
    assert set(found) == set(only)
    assert {each["name"] for each in report["checks"] if not each["holds"]} == set()
    delay, recipe = found["departure_delay"], found["recipes_tutorial"]
    assert delay["offline"]["roc_auc"] > 0.85
    assert delay["served"]["roc_auc"] < report["honest"]["roc_auc"] < delay["offline"]["roc_auc"] - 0.1
    assert recipe["offline"]["rows"] > 10_000
    assert recipe["offline"]["roc_auc"] > recipe["without"]["roc_auc"] + 0.05
    assert set(found["departure_hour_weather"]["changed"]) >= {"visibility", "rain_3h"}
    assert len(found["outcomes_by_departure"]["changed"]) > 15
    reports = Settings(world.root, world.folder / finished).reports
    assert (reports / "leaks.html").stat().st_size > 10_000


def test_weather_of_the_departure_hour_is_not_used(world: World, finished: str) -> None:
    lake = Lake(Settings(world.root, world.folder / finished))
    both = rows(
        lake,
        f"""
        SELECT t.visibility AS used, departure.visib AS at_departure, known.visib AS known
        FROM flight_delay.training_set t
        JOIN raw.flights f ON t.flight_id = {FLIGHT_ID}
        JOIN raw.weather departure ON departure.origin = f.origin AND departure.time_hour = f.time_hour
        ASOF JOIN raw.weather known ON known.origin = f.origin AND known._known_at <= t.prediction_time
        WHERE departure.visib <> known.visib
        """,
    )
    assert len(both) > 1_000
    assert both.filter(pl.col("used") != pl.col("known")).is_empty()


def test_an_outcome_that_was_not_known_yet_is_not_used(world: World, finished: str) -> None:
    """A destination's rate over 24 hours counts flights by when their outcome was known, not by when they flew."""
    lake = Lake(Settings(world.root, world.folder / finished))
    last_day = "BETWEEN hour - INTERVAL 24 HOUR + INTERVAL 1 MICROSECOND AND hour"
    asked = rows(
        lake,
        f"""
        WITH asked AS (
            SELECT *, date_trunc('hour', prediction_time) AS hour FROM flight_delay.training_set
            WHERE destination = 'ATL'
        )
        SELECT
            any_value(destination_late_rate_24h) AS used,
            (sum(o.is_late) FILTER (o.label_known_at {last_day}) + 4.4)
                / (count(*) FILTER (o.label_known_at {last_day}) + 20) AS known,
            (sum(o.is_late) FILTER (o.scheduled_departure_at {last_day}) + 4.4)
                / (count(*) FILTER (o.scheduled_departure_at {last_day}) + 20) AS eager
        FROM asked
        JOIN labeled.flight_outcomes o
            ON o.destination = asked.destination
            AND o.scheduled_departure_at BETWEEN hour - INTERVAL 60 HOUR AND hour
        GROUP BY asked.flight_id
        """,
    )
    assert asked.filter((pl.col("eager") - pl.col("known")).abs() > 0.001).height > 1_000
    assert asked.filter((pl.col("used") - pl.col("known")).abs() > 1e-9).is_empty()


def test_two_passes_and_an_open_reader_share_a_home(world: World, finished: str) -> None:
    lake = Lake(Settings(world.root, world.folder / finished))
    with lake.reading() as connection:
        rows = connection.execute("SELECT count(*) FROM raw.flights").fetchall()
        both = [world.start(finished, "-m", "assets.run") for _ in range(2)]
        with ThreadPoolExecutor(2) as readers:  # both at once: one waits for the other without a word
            outputs = list(readers.map(output_of, both))
        assert [process.returncode for process in both] == [0, 0], outputs
        assert connection.execute("SELECT count(*) FROM raw.flights").fetchall() == rows


def test_status_of_an_empty_home_is_an_answer_too(world: World) -> None:
    status = json.loads(world.hindcast("empty", "status", "--json"))
    assert status["snapshot"] is None
    assert status["champion"] is None


def test_the_services_example_is_known_at_the_instant_until_which_the_store_is_filled(
    world: World, finished: str
) -> None:
    settings = Settings(world.root, world.folder / finished)
    problem, folder = load_problem(settings.problem_file), champion_folder(settings)
    built = json.loads((bento_folder(settings, champion_tag(settings)) / "src" / FIELDS).read_text())
    assert built["example"]["prediction_time"] == "2013-03-02T12:00:00+00:00"
    reader = FeatureReader(settings, problem.feature_service, folder / FEATURES)
    example = choose_example(built["candidates"], reader)
    assert example["prediction_time"] == "2013-03-02T12:00:00+00:00"
    asked = {name: example.get(name) for name in (*reader.join_keys, *reader.request_fields)}
    assert reader.read([asked], [datetime.fromisoformat(example["prediction_time"])]).stale == [[]]
