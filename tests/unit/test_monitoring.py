"""The verdict on made-up requests, the table of labeled requests, and the page that people read."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from hindcast.errors import HindcastError
from hindcast.lake import Lake
from hindcast.monitoring.periods import LABELED, LabelCounts, Periods, label_requests, load
from hindcast.monitoring.report import judge, performance_table, write
from hindcast.package.model import REFERENCE, Feature
from hindcast.package.reference import reference_file
from hindcast.problem import Monitoring, Problem, load_problem
from hindcast.settings import Settings
from hindcast.tasks import find_task
from hindcast.tasks.task import Task

NOW = datetime(2020, 2, 8, tzinfo=UTC)
BINARY = find_task("binary")
SKIES = find_task("multiclass", ("clear", "rain", "storm"))
NUMBER = find_task("regression")
FEATURES = {"height": "numeric", "width": "numeric", "depth": "numeric", "colour": "categorical"}


@pytest.fixture(scope="module")
def problem() -> Problem:
    """The flights' problem with limits that the made-up data can meet: labels come within a day."""
    found = load_problem(Path(__file__).parents[2] / "problems" / "flight_delay.yaml")
    limits = Monitoring(
        window=timedelta(days=7),
        min_requests=100,
        min_labeled=100,
        reference_rows=300,
        blocks=12,
        drift_quantile=0.95,
        max_drifted_share=0.3,
        performance_z=2.0,
        cool_down=timedelta(days=7),
    )
    label = found.label.model_copy(update={"matures_within": timedelta(days=1)})
    return found.model_copy(update={"monitoring": limits, "label": label})


def asked(problem: Problem, task: Task, primary: str) -> Problem:
    """The problem, asked as another task."""
    label = problem.label.model_copy(update={"classes": task.classes})
    metrics = problem.metrics.model_copy(update={"primary": primary})
    return problem.model_copy(update={"task": task.name, "label": label, "metrics": metrics})


def rows(
    seed: int, first: datetime, days: int, wrong: float = 0.0, shift: float = 0.0, per_day: int = 100
) -> pl.DataFrame:
    """Rows whose probabilities are right, except for a share `wrong` of labels drawn by a coin."""
    random = np.random.default_rng(seed)
    count = days * per_day
    height = random.normal(shift, size=count)
    probability = 1 / (1 + np.exp(1 - random.normal(size=count)))
    label = random.uniform(size=count) < np.where(random.uniform(size=count) < wrong, 0.5, probability)
    return pl.DataFrame(
        {
            "prediction_time": [first + timedelta(days=1) / per_day * (row + 0.5) for row in range(count)],
            "label": label.astype(np.int64),
            "probability": probability,
            "height": height,
            "width": random.normal(size=count),
            "depth": np.where(random.uniform(size=count) < 0.1, np.nan, random.normal(size=count)),
            "colour": random.choice(["red", "green"], count),
        },
        schema_overrides={"prediction_time": pl.Datetime("us")},
    ).with_columns(pl.col("depth").fill_nan(None))


def sky_rows(seed: int, first: datetime, days: int, wrong: float = 0.0, classes: Sequence[str] = SKIES.classes) -> Any:
    """As `rows`, of several classes: their probabilities are right, except for a share `wrong` of labels."""
    random = np.random.default_rng(seed)
    found = rows(seed, first, days).drop("probability")
    said = random.dirichlet([2.0, 1.0, 0.5][: len(classes)], len(found))
    drawn = (random.uniform(size=(len(found), 1)) > said.cumsum(axis=1)[:, :-1]).sum(axis=1)
    codes = np.where(random.uniform(size=len(found)) < wrong, random.integers(0, len(classes), len(found)), drawn)
    outputs = {f"probability_{name}": said[:, code] for code, name in enumerate(classes)}
    return found.with_columns(label=pl.Series([classes[code] for code in codes])).with_columns(**outputs)


def number_rows(seed: int, first: datetime, days: int, noise: float = 1.0) -> pl.DataFrame:
    """As `rows`, of numbers: the interval holds 80 of 100 labels where the noise is 1."""
    random = np.random.default_rng(seed)
    found = rows(seed, first, days).drop("probability")
    value = 10 + 3 * random.normal(size=len(found))
    bounds = {"value": value, "lower": value - 1.2816, "upper": value + 1.2816}
    return found.with_columns(label=pl.Series(value + noise * random.normal(size=len(found)))).with_columns(**bounds)


def periods(current: pl.DataFrame, seed: int = 0, **changes: Any) -> Periods:
    reference = rows(1000 + seed, datetime(2020, 1, 1), 31)
    return replace(Periods("m1", BINARY, {"threshold": 0.4}, FEATURES, reference, current, NOW, NOW, 0), **changes)


def sky_periods(current: pl.DataFrame, task: Task = SKIES) -> Periods:
    reference = sky_rows(1000, datetime(2020, 1, 1), 31, classes=task.classes)
    return periods(current, task=task, calibration={}, reference=reference)


def number_periods(current: pl.DataFrame, seed: int = 0) -> Periods:
    reference = number_rows(1000 + seed, datetime(2020, 1, 1), 31)
    calibration = {"coverage": 0.8, "interval": {"centres": [0.0], "lower": [-1.2816], "upper": [1.2816]}}
    return periods(current, task=NUMBER, calibration=calibration, reference=reference)


def week(seed: int = 1, **changes: Any) -> pl.DataFrame:
    """Requests of 1 to 7 February; labels of the last day aren't known yet."""
    return young(rows(seed, datetime(2020, 2, 1), 7, **changes))


def young(found: pl.DataFrame) -> pl.DataFrame:
    return found.with_columns(label=pl.when(pl.col("prediction_time") <= datetime(2020, 2, 7)).then("label"))


def test_a_week_like_the_reference_is_ok(problem: Problem) -> None:
    report = judge(problem, periods(week()))
    assert report.status == "ok"
    assert report.causes == []
    assert (report.requests, report.labeled, report.matured) == (700, 600, 600)
    assert report.window == {"from": "2020-02-01T00:07:12Z", "to": "2020-02-07T23:52:48Z"}
    assert report.performance["immature"] == 100
    assert abs(report.performance["z"]) <= 2
    assert report.performance["estimated"]["log_loss"] == pytest.approx(report.performance["realised"], abs=0.05)
    assert report.summary.startswith("OK: of 700 requests, ")


def test_alarms_on_weeks_like_the_reference_are_as_rare_as_stated(problem: Problem) -> None:
    """Of 60 quiet weeks, performance lies beyond 2 SD of 12 blocks in about 4 of 100; most columns never drift."""
    reports = [judge(problem, periods(week(seed), seed)) for seed in range(60)]
    assert sum("performance" in report.causes for report in reports) <= 6
    assert sum(report.drift["share"] > 0.5 for report in reports) == 0


def test_a_shifted_column_drifts_and_too_many_raise_the_alarm(problem: Problem) -> None:
    one = judge(problem, periods(week(shift=2.0)))
    assert [column["column"] for column in one.drift["columns"] if column["drifted"]] == ["height"]
    assert (one.drift["share"], one.drift["alarm"], one.status) == (0.25, False, "ok")
    both = judge(problem, periods(week(shift=2.0).with_columns(pl.lit("blue").alias("colour"))))
    assert (both.drift["share"], both.causes, both.status) == (0.5, ["drift"], "alarm")
    assert both.summary.startswith("ALARM (drift): of 700 requests, 2 of 4 features drifted (50%, limit 30%)")


def test_predictions_that_moved_are_told(problem: Problem) -> None:
    moved = week().with_columns(probability=pl.col("probability") / 3)
    found = judge(problem, periods(moved))
    assert (found.prediction_drift["drifted"], found.prediction_drift["output"]) == (True, "probability")
    assert "predictions did; " in found.summary


def test_labels_that_the_model_no_longer_predicts_raise_the_alarm(problem: Problem) -> None:
    report = judge(problem, periods(week(wrong=0.6)))
    assert report.causes == ["performance"]
    assert report.performance["z"] > 2
    assert report.performance["realised"] > report.performance["expected"]
    # The estimate rests on the probabilities alone and can't see it.
    assert report.performance["estimated"]["log_loss"] < report.performance["realised"]


def test_early_labels_of_a_young_day_do_not_count(problem: Problem) -> None:
    """If only the zeros of the last day are known by now, counting them would flatter the model or damn it."""
    zeros_first = rows(1, datetime(2020, 2, 1), 7).with_columns(
        label=pl.when((pl.col("prediction_time") <= datetime(2020, 2, 7)) | (pl.col("label") == 0)).then("label")
    )
    early, none = judge(problem, periods(zeros_first)), judge(problem, periods(week()))
    assert early.labeled > none.labeled
    assert early.matured == none.matured == 600
    assert early.performance["realised"] == none.performance["realised"]


def test_labels_mature_by_what_is_known_not_by_the_clock(problem: Problem) -> None:
    report = judge(problem, periods(week(), known_until=NOW - timedelta(days=2)))
    assert (report.matured, report.performance["immature"]) == (400, 300)


def test_too_few_requests_never_raise_an_alarm(problem: Problem) -> None:
    few = week(shift=5.0, wrong=1.0).head(99)
    report = judge(problem, periods(few))
    assert (report.status, report.causes, report.drift["alarm"]) == ("not enough data", [], False)
    assert "drift isn't judged on 99 requests (fewer than 100)" in report.summary
    assert "performance isn't judged on 99 matured labels (fewer than 100)" in report.summary


def test_without_labels_drift_is_judged_and_performance_is_estimated(problem: Problem) -> None:
    unlabeled = week().with_columns(label=pl.lit(None, dtype=pl.Int64))
    report = judge(problem, periods(unlabeled))
    assert report.status == "not enough data"
    assert report.drift["share"] is not None
    assert report.performance["realised"] is None
    assert report.performance["unlabeled"] == 600
    assert 0.5 < report.performance["estimated_all"]["roc_auc"] < 1
    assert judge(problem, periods(unlabeled.with_columns(height=9.0, width=9.0))).status == "alarm"


def test_no_request_at_all(problem: Problem) -> None:
    report = judge(problem, periods(week().clear()))
    assert (report.status, report.window, report.requests) == ("not enough data", None, 0)


def test_requests_before_the_window_do_not_count_for_drift(problem: Problem) -> None:
    old = rows(5, datetime(2020, 1, 25), 7, shift=9.0)
    assert judge(problem, periods(pl.concat([old, week()]))).requests == 700


def test_the_cause_is_the_same_for_the_same_window_alone(problem: Problem) -> None:
    bad = week(wrong=0.6)
    report = judge(problem, periods(bad))
    assert judge(problem, periods(bad)).cause_id == report.cause_id
    assert judge(problem, periods(bad.head(650))).cause_id != report.cause_id
    assert judge(problem, periods(bad, model_version="m2")).cause_id != report.cause_id
    assert judge(problem, periods(week())).cause_id != report.cause_id


def test_the_json_holds_finite_numbers_alone(problem: Problem, tmp_path: Path) -> None:
    report = judge(problem, periods(week().with_columns(probability=0.0)))
    text = write(report, tmp_path / "monitoring.json")
    found = json.loads((tmp_path / "monitoring.json").read_text(), parse_constant=pytest.fail)
    assert json.loads(text) == found
    assert set(found) >= {"window", "requests", "labeled", "matured", "drift", "performance", "status", "cause_id"}
    assert found["performance"]["estimated_all"]["roc_auc"] is None
    assert "| log_loss | " in performance_table(report)


def test_the_likeliest_class_is_judged_as_a_probability_is(problem: Problem) -> None:
    asked_of_skies = asked(problem, SKIES, "log_loss")
    quiet = judge(asked_of_skies, sky_periods(young(sky_rows(1, datetime(2020, 2, 1), 7))))
    assert (quiet.status, quiet.matured, quiet.prediction_drift["drifted"]) == ("ok", 600, False)
    assert set(quiet.performance["others"]) == {
        *(f"{what}_{name}" for what in ("rate", "mean_probability") for name in SKIES.classes),
        *("accuracy", "macro_f1", "roc_auc", "highest_roc_auc", "brier"),
    }
    assert set(quiet.performance["estimated"]) == {"log_loss", "accuracy"}
    assert quiet.performance["estimated"]["log_loss"] == pytest.approx(quiet.performance["realised"], abs=0.05)
    assert "promises" not in quiet.performance
    wrong = judge(asked_of_skies, sky_periods(young(sky_rows(1, datetime(2020, 2, 1), 7, wrong=0.6))))
    assert wrong.causes == ["performance"]
    assert wrong.summary.startswith("ALARM (performance): of 700 requests, ")
    assert "| log_loss | " in performance_table(wrong)


def test_of_several_numbers_the_one_that_moved_farthest_is_told(problem: Problem) -> None:
    storms = pl.col("probability_storm")
    moved = young(sky_rows(1, datetime(2020, 2, 1), 7)).with_columns(
        probability_storm=storms / 20, probability_clear=pl.col("probability_clear") + storms * 19 / 20
    )
    found = judge(asked(problem, SKIES, "log_loss"), sky_periods(moved))
    assert (found.prediction_drift["output"], found.prediction_drift["drifted"]) == ("probability_storm", True)
    assert found.prediction_drift["distance"] > found.prediction_drift["threshold"]
    assert "predictions did (probability_storm); " in found.summary


def test_a_number_is_judged_by_its_error_and_its_interval_by_what_it_promised(problem: Problem) -> None:
    def judged(noise: float) -> Any:
        current = young(number_rows(1, datetime(2020, 2, 1), 7, noise))
        return judge(asked(problem, NUMBER, "mae"), number_periods(current))

    quiet, wide, narrow = judged(1.0), judged(0.5), judged(2.0)
    assert (quiet.status, quiet.causes) == ("ok", [])
    assert quiet.performance["estimated"] == {"coverage": 0.8}
    kept = quiet.performance["promises"]["coverage"]
    assert kept["realised"] == pytest.approx(quiet.performance["others"]["coverage"]["realised"])
    assert kept["z"] == pytest.approx((kept["realised"] - 0.8) / kept["deviation"])
    assert (
        f"; coverage {kept['realised']:.3f} where 0.800 was promised (z {kept['z']:+.1f}, limit ±2.0)." in quiet.summary
    )
    # Intervals that hold more than they promised are as wrong as those that hold less; the error has become smaller.
    assert (wide.causes, wide.status, wide.performance["alarm"]) == (["coverage"], "alarm", False)
    assert wide.performance["promises"]["coverage"]["z"] > 2
    assert wide.performance["z"] < 0
    assert narrow.causes == ["performance", "coverage"]
    assert narrow.performance["promises"]["coverage"]["z"] < -2
    assert narrow.summary.startswith("ALARM (performance, coverage): ")
    assert len({each.cause_id for each in (quiet, wide, narrow)}) == 3


def test_a_promise_is_not_judged_on_few_labels(problem: Problem) -> None:
    few = young(number_rows(1, datetime(2020, 2, 1), 7, 0.0)).head(99)
    found = judge(asked(problem, NUMBER, "mae"), number_periods(few))
    assert (found.status, "promises" in found.performance) == ("not enough data", False)
    assert "promised" not in found.summary


def constant_model(folder: Path) -> Any:
    """A package that says the same for every row, and carries one row that it was held against."""
    features = (Feature("height", "numeric"), Feature("colour", "categorical", ("red",)))
    frame = pl.DataFrame(
        {
            "flight_id": ["z", "y"],
            "prediction_time": [datetime(2020, 1, 5), datetime(2020, 1, 4)],
            "is_late": [0, 1],
            "split": ["test", "train"],
            "height": [2, 3],
            "colour": ["red", "red"],
        }
    )
    flights = load_problem(Path(__file__).parents[2] / "problems" / "flight_delay.yaml")
    folder.mkdir()
    (folder / REFERENCE).write_bytes(reference_file(flights, frame, features))
    return SimpleNamespace(
        version="m1",
        folder=folder,
        metadata={"snapshot": 1},  # of a lake that may be another one
        task=BINARY,
        signature=SimpleNamespace(features=features, calibration={"threshold": 0.5}),
        matrix=lambda values: np.zeros((len(values["height"]), 2), dtype=np.float32),
        predict=lambda matrix: np.full((len(matrix), 1), 0.25),
    )


LOGGED = [
    # id, prediction time, entity, version, colour
    ("r1", "2020-02-01 12:00:00", "a", "m1", '"red"'),
    ("r2", "2020-02-02 12:00:00", "b", "m1", "null"),
    ("r3", "2020-02-02 12:00:00", "b", "m0", '"red"'),
    ("r4", "2020-01-01 12:00:00", "a", "m1", '"red"'),
]


@contextmanager
def served(lake: Lake) -> Iterator[Any]:
    """A lake in which four requests were logged and the truth about one of two entities is known."""
    with lake.writing() as connection:
        for schema in ("flight_delay", "labeled", "control"):
            connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(
            "CREATE TABLE control.instants AS SELECT 'labels.flight_delay' AS name, TIMESTAMP '2020-02-03' AS at"
        )
        connection.execute(
            "CREATE TABLE labeled.flight_outcomes AS SELECT * FROM (VALUES ('a', 1, TIMESTAMP '2020-02-01 13:00:00'), "
            "('b', NULL, NULL)) AS t(flight_id, is_late, label_known_at)"
        )
        connection.execute(
            "CREATE TABLE flight_delay.requests (id VARCHAR, prediction_time TIMESTAMP, flight_id VARCHAR, "
            "model_version VARCHAR, features JSON, prediction DOUBLE[])"
        )
        for request, time, entity, version, colour in LOGGED:
            features = f'{{"height": 1.5, "colour": {colour}, "more": 1}}'
            connection.execute(
                "INSERT INTO flight_delay.requests VALUES (?, ?, ?, ?, ?, [0.25])",
                [request, time, entity, version, features],
            )
    yield lake


def test_labels_join_the_requests_and_nothing_is_written_twice(problem: Problem, settings: Settings) -> None:
    with served(Lake(settings)) as lake:
        first = label_requests(problem, lake)
        snapshot = lake.snapshot()
        again = label_requests(problem, lake)
        assert (first.requests, first.labeled, first.written) == (4, 2, True)
        assert (again.requests, again.labeled, again.written, again.version) == (4, 2, False, first.version)
        assert lake.snapshot() == snapshot
        with lake.reading() as connection:
            found = connection.execute(
                "SELECT id, is_late, label_known_at FROM flight_delay.labeled_requests"
            ).fetchall()
        known = datetime(2020, 2, 1, 13)
        assert found == [("r4", 1, known), ("r1", 1, known), ("r2", None, None), ("r3", None, None)]
        with lake.writing() as connection:
            connection.execute("UPDATE labeled.flight_outcomes SET is_late = 0, label_known_at = '2020-02-03'")
        later = label_requests(problem, lake)
        assert (later.labeled, later.written) == (4, True)
        assert later.version != first.version


def test_a_key_of_another_type_than_the_tables_has_no_label_and_stops_nothing(
    problem: Problem, settings: Settings
) -> None:
    with served(Lake(settings)) as lake:
        with lake.writing() as connection:
            connection.execute(
                "CREATE OR REPLACE TABLE labeled.flight_outcomes AS "
                "SELECT 7 AS flight_id, 1 AS is_late, TIMESTAMP '2020-02-01 13:00' AS label_known_at"
            )
            for request, key in (("r1", "7"), ("r2", "word"), ("r3", "9" * 30), ("r4", "7.2")):
                connection.execute("UPDATE flight_delay.requests SET flight_id = ? WHERE id = ?", [key, request])
        counts = label_requests(problem, lake)
        assert (counts.requests, counts.labeled) == (4, 1)
        with lake.reading() as connection:
            labeled = connection.execute(f"SELECT id FROM flight_delay.{LABELED} WHERE is_late = 1").fetchall()
        assert labeled == [("r1",)]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("features", '{"height": "tall", "colour": "red"}'),
        ("features", '{"height": NaN, "colour": "red"}'),
        ("features", '{"height": 1.5, "colour": ["red"]}'),
        ("features", '{"height": 1.5}'),
        ("features", '{"height": 1.5, "colour": '),
        ("features", None),
        ("prediction", ["NaN"]),
        ("prediction", [None]),
        ("prediction", [0.25, 0.75]),
        ("prediction", None),
    ],
)
def test_a_request_that_cannot_be_read_is_left_out_and_counted(
    problem: Problem, settings: Settings, tmp_path: Path, column: str, value: Any
) -> None:
    with served(Lake(settings)) as lake:
        with lake.writing() as connection:
            connection.execute(
                "CREATE OR REPLACE TABLE flight_delay.requests AS "
                "SELECT * REPLACE (CAST(features AS VARCHAR) AS features) FROM flight_delay.requests"
            )
            connection.execute(f"UPDATE flight_delay.requests SET {column} = ? WHERE id = 'r2'", [value])
        label_requests(problem, lake)
        found = load(problem, lake, constant_model(tmp_path / "m1"), datetime(2020, 2, 3, tzinfo=UTC))
        assert found.current["height"].to_list() == [1.5]
        assert (found.unreadable, found.other_versions) == (1, 1)
        report = judge(problem, found)
    assert (report.requests, report.unreadable) == (1, 1)
    assert "(1 more were answered by other versions, 1 more can't be read)" in report.summary


def test_nothing_was_logged_yet(problem: Problem, settings: Settings) -> None:
    lake = Lake(settings)
    assert label_requests(problem, lake) == LabelCounts(0, 0, False, "empty")


def test_the_reference_is_what_the_champion_carries_whatever_the_lake_holds(
    problem: Problem, settings: Settings, tmp_path: Path
) -> None:
    with served(Lake(settings)) as lake:
        label_requests(problem, lake)
        with lake.writing() as connection:  # another's training rows, at whatever snapshot
            connection.execute("CREATE TABLE flight_delay.training_set AS SELECT 'x' AS flight_id")
        found = load(problem, lake, constant_model(tmp_path / "m1"), datetime(2020, 2, 3, tzinfo=UTC))
    assert found.reference.to_dicts() == [
        {"prediction_time": datetime(2020, 1, 5), "label": 0, "height": 2.0, "colour": "red", "probability": 0.25}
    ]
    assert found.current.select("height", "colour", "label", "probability").rows() == [
        (1.5, "red", 1, 0.25),
        (1.5, None, None, 0.25),
    ]
    assert found.other_versions == 1
    assert found.known_until == datetime(2020, 2, 3, tzinfo=UTC)
    assert (found.model_version, found.task, found.calibration) == ("m1", BINARY, {"threshold": 0.5})
    assert found.current.schema == found.reference.schema


def test_periods_before_anything_was_served(problem: Problem, settings: Settings, tmp_path: Path) -> None:
    with served(Lake(settings)) as lake:
        found = load(problem, lake, constant_model(tmp_path / "m1"), datetime(2020, 2, 3, tzinfo=UTC))
        assert judge(problem, found).status == "not enough data"
        with pytest.raises(
            HindcastError, match="m1 does the task binary, and the problem file of flight_delay declares"
        ):
            load(asked(problem, NUMBER, "mae"), lake, constant_model(tmp_path / "again"), NOW)


def test_the_page_shows_the_verdicts_own_columns_and_asks_no_network(problem: Problem, tmp_path: Path) -> None:
    """A column without a value would fail Evidently as a whole: it is left out and named."""
    from hindcast.monitoring.evidently_report import write_page

    compared = periods(week(shift=2.0).with_columns(depth=pl.lit(None, dtype=pl.Float64)))
    report = judge(problem, compared)
    path = tmp_path / "monitoring.html"
    page = write_page(problem, compared, report, path)
    assert page is not None
    assert page.left_out == {"depth": "no value in the current period"}
    assert (page.reference_rows, page.current_rows) == (300, 300)
    drifted = [column["column"] for column in report.drift["columns"] if column["drifted"]]
    assert page.drifted == len(set(drifted) - {"depth"}) + report.prediction_drift["drifted"]
    # 600 matured rows, of which 300 were drawn
    assert page.realised["log_loss"] == pytest.approx(report.performance["realised"], abs=0.1)
    html = path.read_text()
    assert report.summary.split(":")[0] in html
    assert 'src="http' not in html
    assert '<link rel="stylesheet" href="http' not in html


PAGES: dict[str, tuple[Task, str, list[str]]] = {
    "three classes": (SKIES, "log_loss", ["log_loss", "accuracy", "macro_f1", "roc_auc"]),
    "two classes": (find_task("multiclass", ("clear", "rain")), "brier", ["log_loss", "accuracy", "roc_auc"]),
    "numbers": (NUMBER, "rmse", ["mae", "rmse", "r2"]),
}


@pytest.mark.parametrize("kind", PAGES)
def test_the_page_of_other_tasks_has_the_same_figures(problem: Problem, tmp_path: Path, kind: str) -> None:
    from hindcast.monitoring.evidently_report import write_page

    task, primary, names = PAGES[kind]
    if task is NUMBER:
        compared = number_periods(young(number_rows(1, datetime(2020, 2, 1), 7)))
    else:
        compared = sky_periods(young(sky_rows(1, datetime(2020, 2, 1), 7, classes=task.classes)), task)
    every_row = problem.monitoring.model_copy(update={"reference_rows": 10_000})
    declared = asked(problem, task, primary).model_copy(update={"monitoring": every_row})
    report = judge(declared, compared)
    page = write_page(declared, compared, report, tmp_path / "monitoring.html")
    assert page is not None
    assert (page.current_rows, page.left_out) == (700, {})
    figures = {report.performance["metric"]: report.performance} | report.performance["others"]
    assert page.realised == pytest.approx({name: figures[name]["realised"] for name in names})
    html = (tmp_path / "monitoring.html").read_text()
    assert report.prediction_drift["output"] in html
    assert 'src="http' not in html


def test_labels_of_one_kind_alone_leave_performance_out_of_the_page(problem: Problem, tmp_path: Path) -> None:
    """Evidently would fail as a whole where a class never came; the verdict is given as ever."""
    from hindcast.monitoring.evidently_report import write_page

    rain = pl.when(pl.col("label") == "storm").then(pl.lit("rain")).otherwise("label")
    sky = sky_periods(young(sky_rows(1, datetime(2020, 2, 1), 7).with_columns(label=rain)))
    zeros = periods(week().with_columns(label=pl.col("label") * 0))
    for declared, compared in ((asked(problem, SKIES, "log_loss"), sky), (problem, zeros)):
        report = judge(declared, compared)
        assert report.performance["z"] is not None
        page = write_page(declared, compared, report, tmp_path / "monitoring.html")
        assert page is not None
        fault = "the labels that are drawn of the current period are all equal, or lack a class"
        assert (page.realised, page.left_out) == ({}, {"performance": fault})
        assert fault in (tmp_path / "monitoring.html").read_text()


def test_no_page_where_there_is_nothing_to_compare(problem: Problem, tmp_path: Path) -> None:
    from hindcast.monitoring.evidently_report import write_page

    compared = periods(week().clear())
    stale = tmp_path / "monitoring.html"
    stale.write_text("of an earlier report")
    assert write_page(problem, compared, judge(problem, compared), stale) is None
    assert not stale.exists()
