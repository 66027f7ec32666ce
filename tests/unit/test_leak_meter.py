"""What leaks are worth, in a made-up world of river gauges whose areas under the curve can be worked out by hand."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from hindcast.cli import cli
from hindcast.errors import HindcastError
from hindcast.evaluation.intervals import Scored, compare_areas
from hindcast.lake import Lake
from hindcast.leaks.measure import LeakReport, measure_leaks, model_of
from hindcast.leaks.report import caught_by, render, write
from hindcast.leaks.rows import LeakData, read_leak_data
from hindcast.leaks.variants import load_variants, sql_of
from hindcast.problem import Candidate, Problem, Splits, Window
from hindcast.settings import Settings
from hindcast.tasks import find_task, problem_task
from hindcast.tasks.binary import roc_auc
from tests.conftest import ROOT
from tests.control import workspace_of, write_control
from tests.feature_world import make_world, register, river_problem

BINARY = find_task("binary")
START, DAYS, A_DAY = datetime(2020, 3, 1, tzinfo=UTC), 60, 8
WINDOWS = {
    "train": (START, START + timedelta(days=40)),
    "test": (START + timedelta(days=40), START + timedelta(days=60)),
}

# Asked at each of A_DAY hours from noon on, each time about a gauge of its own. Every other day is flooded. A reading
# of the morning tells the label of three questions in four; one that comes an hour after the question tells all.
QUESTIONS = f"""
SELECT day * {A_DAY} + n AS i, day, 'G' || (day * {A_DAY} + n) AS gauge, (day + n) % 2 AS flooded,
    TIMESTAMP '{START:%Y-%m-%d}' + to_days(day::INT) + to_hours(12 + n::INT) AS asked_at,
    CASE WHEN n < 2 THEN 1 - flooded ELSE flooded END AS told
FROM range({DAYS}) d(day), range({A_DAY}) h(n)
"""

VARIANTS: dict[str, tuple[dict[str, Any], str]] = {
    "level_of_the_evening": (
        {"view": "levels"},
        "SELECT gauge, event_timestamp - INTERVAL 2 HOUR AS event_timestamp, level, state FROM features.levels",
    ),
    "no_delay": ({"view": "levels"}, "SELECT gauge, event_timestamp, level, state FROM features.levels"),
    "damage": (
        {},
        "SELECT day_id, flooded::DOUBLE AS damage, NULL AS damage__served FROM labeled.days",
    ),
    "level_told": ({}, "SELECT day_id, flooded AS level FROM labeled.days"),
    "damage_alone": (
        {"recipe": {"label": "flood", "model": "logistic_regression"}},
        "SELECT day_id, flooded AS flood, flooded AS damage, NULL AS damage__served FROM labeled.days",
    ),
    "damage_by_trees": (
        {"recipe": {"label": "flood", "model": "hist_gradient_boosting", "parameters": {"min_samples_leaf": 5}}},
        "SELECT day_id, flooded AS flood, flooded AS damage, NULL AS damage__served FROM labeled.days",
    ),
    "day_by_day": (
        {"recipe": {"label": "wet", "model": "logistic_regression", "parameters": {"C": 100.0}}},
        # A season of weather in which a day's questions share their answer.
        "SELECT day_id, hash(asked_at::DATE) % 2 AS wet, asked_at::DATE::VARCHAR AS day FROM labeled.days",
    ),
}


def problem() -> Problem:
    rivers = river_problem()
    splits = Splits(
        train=Window(start="-60 days", end="-20 days"),
        validation=Window(start="-20 days", end="-20 days"),
        test=Window(start="-20 days", end="0 days"),
    )
    return rivers.model_copy(update={"labeled_table": "labeled.days", "splits": splits})


def declare(settings: Settings, variants: dict[str, tuple[dict[str, Any], str]]) -> None:
    settings.leaks_folder.mkdir(parents=True, exist_ok=True)
    listed = [{"name": name, "description": f"{name}."} | more for name, (more, _) in variants.items()]
    (settings.leaks_folder / "variants.yaml").write_text(yaml.safe_dump({"variants": listed}))
    for name, (_, sql) in variants.items():
        (settings.leaks_folder / f"{name}.sql").write_text(sql)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_world(tmp_path_factory.mktemp("rivers"))
    lake = Lake(settings)
    with lake.writing() as connection:
        connection.execute("CREATE SCHEMA labeled; DELETE FROM features.levels; DELETE FROM features.rivers")
        connection.execute(
            "CREATE TABLE labeled.days AS SELECT 'd' || i AS day_id, gauge, 1 AS river_id, 6::BIGINT AS reach, "
            f"asked_at, flooded, asked_at + INTERVAL 3 HOUR AS flooded_known_at FROM ({QUESTIONS})"
        )
        connection.execute(
            "INSERT INTO features.levels SELECT gauge, asked_at - INTERVAL 1 HOUR, asked_at - INTERVAL 1 HOUR, told, "
            f"'morning' FROM ({QUESTIONS}) UNION ALL SELECT gauge, asked_at + INTERVAL 1 HOUR, "
            f"asked_at + INTERVAL 1 HOUR, flooded, 'evening' FROM ({QUESTIONS})"
        )
        connection.execute("INSERT INTO features.rivers VALUES (1, TIMESTAMP '2019-06-01', 3.0, 5)")
    end = START + timedelta(days=DAYS)
    write_control(lake, problem(), known_until=end + timedelta(days=1), as_of=end)
    declare(settings, VARIANTS)
    return register(settings)


@pytest.fixture(scope="module")
def report(world: Settings) -> LeakReport:
    return measure_leaks(workspace_of(world, problem()))


def areas(report: LeakReport, name: str) -> tuple[float, float, float]:
    """Offline, served, and trained and served without the leak."""
    outcome = next(each for each in report.variants if each.name == name)
    found = (outcome.offline["roc_auc"], outcome.served["roc_auc"], outcome.without["roc_auc"])
    assert outcome.gap["difference"] == pytest.approx(found[0] - found[1])
    return found


def gap(report: LeakReport, name: str) -> dict[str, Any]:
    return next(each.gap for each in report.variants if each.name == name)


def test_without_a_leak_the_model_knows_what_the_morning_tells(report: LeakReport) -> None:
    # A score of two values is right on three of four ones and three of four zeros: (0.75 + 0.75) / 2.
    assert report.honest["roc_auc"] == pytest.approx(0.75)
    assert report.rows == {"train": 40 * A_DAY, "test": 20 * A_DAY, "fitted": 40 * A_DAY}
    assert caught_by(report.checks) == []
    assert report.model["family"] == "logistic_regression"  # there is no champion: the first candidate's


def test_a_reading_taken_too_early_is_worth_a_quarter(report: LeakReport) -> None:
    assert areas(report, "level_of_the_evening") == pytest.approx((1.0, 0.75, 0.75))
    assert areas(report, "read_late.levels") == pytest.approx((1.0, 0.75, 0.75))
    assert areas(report, "level_told") == pytest.approx((1.0, 0.75, 0.75))
    # Every day has the same eight questions, so any days drawn give the same areas.
    assert gap(report, "level_of_the_evening") == {"difference": 0.25, "low": 0.25, "high": 0.25, "days": 20}


def test_a_view_read_from_its_own_table_changes_nothing(report: LeakReport) -> None:
    assert areas(report, "no_delay") == pytest.approx((0.75, 0.75, 0.75))
    assert gap(report, "no_delay") == {"difference": 0.0, "low": 0.0, "high": 0.0, "days": 20}
    assert areas(report, "read_late.rivers") == pytest.approx((0.75, 0.75, 0.75))


def test_the_label_as_a_column_tells_everything_offline_and_nothing_when_served(report: LeakReport) -> None:
    assert areas(report, "damage_alone") == pytest.approx((1.0, 0.5, 0.5))
    assert areas(report, "damage_by_trees")[0] == 1.0  # trees of scikit-learn take no column that has no value at all
    offline, _, without = areas(report, "damage")
    assert (offline, without) == pytest.approx((1.0, 0.75))


def test_a_random_split_learns_the_days_that_it_is_tested_on(report: LeakReport) -> None:
    outcome = next(each for each in report.variants if each.name == "day_by_day")
    assert outcome.offline["roc_auc"] == pytest.approx(1.0)
    assert outcome.by_time is not None
    assert outcome.by_time["roc_auc"] == pytest.approx(0.5)  # days that it has never seen
    assert outcome.served["roc_auc"] == pytest.approx(0.5)


def test_the_alarms_that_would_have_seen_it(report: LeakReport) -> None:
    rings = {outcome.name: caught_by(outcome.checks) for outcome in report.variants}
    assert rings["no_delay"] == []
    assert rings["random_split"] == ["known_at_violations"]
    assert rings["level_of_the_evening"] == ["single_feature_roc_auc", "model_roc_auc"]
    assert rings["day_by_day"] == ["single_feature_roc_auc", "known_at_violations", "model_roc_auc"]


@pytest.mark.parametrize(
    ("task", "classes", "primary", "model"),
    [("multiclass", ("0", "1"), "log_loss", "logistic_regression"), ("regression", (), "mae", "ridge")],
)
def test_areas_of_classes_and_of_values_above_the_median_are_compared_alike(
    world: Settings, tmp_path: Path, task: str, classes: tuple[str, ...], primary: str, model: str
) -> None:
    """Half of the labels are 1: to be above the median is to be flooded, and so is the class 1."""
    rivers = problem()
    other = rivers.model_copy(
        update={
            "task": task,
            "label": rivers.label.model_copy(update={"classes": classes}),
            "metrics": rivers.metrics.model_copy(update={"primary": primary}),
            "candidates": (Candidate(name="first", model=model),),
        }
    )
    recipe = {"recipe": {"label": "wet", "model": model}}
    declare(
        elsewhere := Settings(tmp_path, world.home, "floods"),
        {"level_of_the_evening": VARIANTS["level_of_the_evening"], "day_by_day": (recipe, VARIANTS["day_by_day"][1])},
    )
    shutil.copytree(world.feature_repo, elsewhere.feature_repo)
    found = measure_leaks(workspace_of(elsewhere, other))
    area = problem_task(other).area
    assert (found.area, found.shown, found.honest[area]) == (area, primary, pytest.approx(0.75))
    each = {outcome.name: outcome for outcome in found.variants}
    evening, season = each["level_of_the_evening"], each["day_by_day"]
    assert (evening.offline[area], evening.served[area]) == pytest.approx((1.0, 0.75))
    assert evening.gap == {"difference": 0.25, "low": 0.25, "high": 0.25, "days": 20}
    assert caught_by(evening.checks) == ["single_feature_roc_auc", "model_roc_auc"]
    assert season.offline[area] == pytest.approx(1.0) and season.served[area] == pytest.approx(0.5)
    assert f"<th>{primary} offline</th>" in write(found, tmp_path / "reports").read_text()
    render(found)
    wrong = {"recipe": {"label": "wet", "model": "forest"}}
    declare(elsewhere, {"day_by_day": (wrong, VARIANTS["day_by_day"][1])})
    with pytest.raises(HindcastError, match=f"Leak variant day_by_day: .*no model 'forest' for the task {task}"):
        measure_leaks(workspace_of(elsewhere, other), only=["day_by_day"])


def test_variants_come_in_the_order_of_their_gap_and_can_be_chosen(world: Settings, report: LeakReport) -> None:
    gaps = [outcome.gap["difference"] for outcome in report.variants]
    assert gaps == sorted(gaps, reverse=True)
    views = [f"read_late.{view}" for view in ("levels", "rivers", "moon")]
    assert {outcome.name for outcome in report.variants} == {"random_split", "read_late", *views, *VARIANTS}
    some = measure_leaks(workspace_of(world, problem()), only=["damage", "no_delay"])
    assert [outcome.name for outcome in some.variants] == ["damage", "no_delay"]
    with pytest.raises(HindcastError, match=r"no leak variant tides; there are random_split, read_late, "):
        measure_leaks(workspace_of(world, problem()), only=["tides"])


def leak_data(world: Settings) -> LeakData:
    model = model_of(world, problem())
    return read_leak_data(world, problem(), Lake(world), WINDOWS, model, load_variants(world))


def test_rows_as_trained_and_as_served(world: Settings) -> None:
    data = leak_data(world)
    late, honest = data.trial("level_of_the_evening"), data.honest
    assert honest["day_id"].to_list() == [f"d{i}" for i in range(DAYS * A_DAY)]
    assert honest["split"].to_list() == ["train"] * 40 * A_DAY + ["test"] * 20 * A_DAY
    assert honest["level"].head(4).to_list() == [1, 0, 0, 1]  # the first two are told wrongly
    assert honest["share"].head(4).to_list() == [2.0, 0.0, 0.0, 2.0]  # level * 6 / 3
    assert late.naive["level"].head(4).to_list() == [0, 1, 0, 1]
    assert late.naive["state"].head(2).to_list() == ["evening", "evening"]
    assert late.naive["share"].head(4).to_list() == [0.0, 2.0, 0.0, 2.0]  # computed anew from what leaked
    assert late.changed == ("level", "state", "share", "dry")
    assert late.served.equals(honest)

    view = data.trial("read_late.levels")
    assert (view.changed, view.naive["share"].equals(honest["share"])) == (("level", "state"), True)
    assert data.trial("read_late").naive["share"].head(4).to_list() == [0.0, 2.0, 0.0, 2.0]

    damage = data.trial("damage")
    assert damage.naive["damage"].head(4).to_list() == [0.0, 1.0, 0.0, 1.0]
    assert damage.served["damage"].null_count() == DAYS * A_DAY
    assert damage.features[-2:] == ("phase", "damage")
    assert data.trial("level_told").features == data.features


def test_a_row_is_learned_from_only_if_its_label_was_known_when_training_ended(world: Settings) -> None:
    at_six = {"train": (START, START + timedelta(days=39, hours=18)), "test": WINDOWS["test"]}
    data = read_leak_data(world, problem(), Lake(world), at_six, model_of(world, problem()), ())
    # Of the last day's questions, those of 12 to 15 o'clock have a label by 18.
    assert data.honest["split"].value_counts().sort("split").rows() == [("test", 160), ("train", 39 * A_DAY + 4)]


def test_a_period_may_be_chosen_but_not_one_that_is_trained_on(world: Settings) -> None:
    day = timedelta(days=1)
    chosen = measure_leaks(workspace_of(world, problem()), (START + 50 * day, START + 52 * day), only=["no_delay"])
    assert chosen.rows["test"] == 3 * A_DAY
    for period in ((START + 39 * day, START + 50 * day), (START + 52 * day, START + 51 * day)):
        with pytest.raises(HindcastError, match="Training ends at 2020-04-10"):
            measure_leaks(workspace_of(world, problem()), period)
    with pytest.raises(HindcastError, match=r"From 2021-01-01 to 2021-01-03 \(test\), 0 different labels"):
        measure_leaks(
            workspace_of(world, problem()), (datetime(2021, 1, 1, tzinfo=UTC), datetime(2021, 1, 2, tzinfo=UTC))
        )


def test_what_goes_wrong_in_a_fit_is_told_by_its_variant(world: Settings) -> None:
    recipe = {"label": "wet", "model": "logistic_regression", "parameters": {"depth": 3}}
    dry = "SELECT day_id, 0 AS wet, flooded AS x FROM labeled.days"
    declare(
        elsewhere := Settings(world.root, world.home, "elsewhere"),
        {
            "deep": ({"recipe": recipe}, dry.replace("0 AS", "flooded AS")),
            "dry": ({"recipe": {"label": "wet", "model": "logistic_regression"}}, dry),
        },
    )
    with pytest.raises(HindcastError, match=r"Leak variant deep: .*unexpected keyword argument 'depth'"):
        measure_leaks(workspace_of(elsewhere, problem()), only=["deep"])
    with pytest.raises(HindcastError, match="Leak variant dry: What it has to learn from has 320 rows with 1 diff"):
        measure_leaks(workspace_of(elsewhere, problem()), only=["dry"])


def test_models_are_fitted_to_rows_spread_over_time(world: Settings) -> None:
    few = measure_leaks(workspace_of(world, problem()), most_rows=80, only=["level_of_the_evening"])
    assert few.rows["fitted"] == 80
    assert areas(few, "level_of_the_evening")[0] == pytest.approx(1.0)


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "syntax": ({}, "SELECT", r"syntax\.sql: the SQL fails: Parser Error"),
    "no_table": ({}, "SELECT day_id FROM labeled.nights", r"no_table\.sql: the SQL fails: Catalog Error"),
    "no_key": ({}, "SELECT flooded AS x, 1 AS x__served FROM labeled.days", "gives no column day_id, the key of a day"),
    "twice": ({}, "SELECT 'd1' AS day_id, 1 AS level FROM range(2)", "1 rows have the day_id of another"),
    "strangers": ({}, "SELECT 'x' AS day_id, 1 AS level", "none of its 1 rows has the day_id of a labeled row"),
    "empty": ({}, "SELECT day_id FROM labeled.days", "the SQL gives no column beside the key"),
    "not_served": ({}, "SELECT day_id, flooded AS x FROM labeled.days", "x is no feature of floods: give x__served"),
    "twice_served": (
        {},
        "SELECT day_id, 1 AS level, 0 AS level__served FROM labeled.days",
        "level is a feature: served is the feature",
    ),
    "nothing_served": ({}, "SELECT day_id, 1 AS level, 0 AS y__served FROM labeled.days", "y__served is served in the"),
    "other_type": (
        {},
        "SELECT day_id, 1 AS x, 'one' AS x__served FROM labeled.days",
        "x is Int32, and what is served in its place String",
    ),
    "taken": ({}, "SELECT day_id, 1 AS reach, 1 AS reach__served FROM labeled.days", "has a column reach: rename"),
    "a_date": (
        {},
        "SELECT day_id, asked_at AS x, NULL AS x__served FROM labeled.days",
        "feature x is Datetime.*give the model a number or a text",
    ),
    "no_view": ({"view": "tides"}, "SELECT 1", r"variants\.yaml: no_view: the service floods reads no .* view tides"),
    "half_a_view": (
        {"view": "levels"},
        "SELECT gauge, event_timestamp, level FROM features.levels",
        r"half_a_view\.sql: the SQL gives no column state, which view levels has",
    ),
    "view_twice": (
        {"view": "levels"},
        "SELECT gauge, TIMESTAMP '2020-03-01' AS event_timestamp, level, state FROM features.levels",
        rf'{DAYS * A_DAY} rows have the "gauge", "event_timestamp" of another',
    ),
    "no_label": (
        {"recipe": {"label": "flood", "model": "logistic_regression"}},
        "SELECT day_id, 1 AS x FROM labeled.days",
        "gives no column flood of 0 and 1, the recipe's label",
    ),
    "wrong_label": (
        {"recipe": {"label": "flood", "model": "logistic_regression"}},
        "SELECT day_id, 1 AS x, 2 AS flood FROM labeled.days",
        "gives no column flood of 0 and 1, the recipe's label",
    ),
}


def test_what_is_wrong_with_a_variant_is_told_by_its_file(world: Settings, tmp_path: Path) -> None:
    elsewhere = Settings(tmp_path, world.home)
    declare(elsewhere, {name: (more, sql) for name, (more, sql, _) in FAULTS.items()})
    model = model_of(world, problem())
    whole = read_leak_data(world, problem(), Lake(world), WINDOWS, model, load_variants(elsewhere))
    data = LeakData(**{**vars(whole), "settings": elsewhere})
    for name, (_, _, message) in FAULTS.items():
        with pytest.raises(HindcastError, match=message):
            data.trial(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("variants: [{name: a, description: b, veiw: c}]", r"variants\.yaml: variants\.0\.veiw: unknown key"),
        ("variants: [{name: a}]", r"variants\.0\.description: missing key"),
        ("variants: [{name: random_split, description: b}]", "'random_split': write letters, digits"),
        ("variants: [{name: a.b, description: b}]", r"'a\.b': write letters, digits"),
        ("variants: [{name: a, description: b}, {name: a, description: c}]", "names must differ"),
        (
            "variants: [{name: a, description: b, view: c, recipe: {label: d, model: logistic_regression}}]",
            "write view or recipe, not both",
        ),
        ("variants: [{name: a, description: b, recipe: {label: d}}]", r"0\.recipe\.model: missing key"),
    ],
)
def test_a_declaration_is_held_to_its_form(tmp_path: Path, content: str, message: str) -> None:
    settings = Settings(tmp_path, tmp_path / "home", "floods")
    settings.leaks_folder.mkdir(parents=True)
    (settings.leaks_folder / "variants.yaml").write_text(content)
    with pytest.raises(HindcastError, match=message):
        load_variants(settings)


def test_a_variant_needs_its_sql_and_a_problem_needs_no_variant(tmp_path: Path) -> None:
    settings = Settings(tmp_path, tmp_path / "home", "floods")
    assert load_variants(settings) == ()
    declare(settings, {"a": ({}, "SELECT 1")})
    (settings.leaks_folder / "a.sql").unlink()
    with pytest.raises(HindcastError, match=r"No .*problems/leaks/floods/a\.sql: write the SQL of leak variant a"):
        sql_of(settings, load_variants(settings)[0])


def scored(rows: list[tuple[int, int, float]]) -> Scored:
    """Day, label, probability."""
    at = [np.datetime64("2020-03-01T12:00") + np.timedelta64(day, "D") for day, _, _ in rows]
    return Scored(np.array([label for _, label, _ in rows]), np.array([[said] for *_, said in rows]), np.array(at))


def test_the_difference_of_areas_is_that_of_the_rows_of_the_days_drawn() -> None:
    random = np.random.default_rng(1)
    ours = scored([(d, int(random.integers(2)), float(random.integers(5))) for d in range(9) for _ in range(6)])
    theirs = scored([(d, int(random.integers(2)), float(random.integers(5))) for d in range(4, 12) for _ in range(5)])
    found = compare_areas(BINARY, ours, theirs, seed=3)
    assert found["difference"] == pytest.approx(
        roc_auc(ours.labels, ours.said[:, 0]) - roc_auc(theirs.labels, theirs.said[:, 0])
    )

    def area(of: Scored, days: list[int]) -> float:
        day = (of.asked_at.astype("datetime64[D]") - np.datetime64("2020-03-01")).astype(int)
        rows = np.concatenate([np.flatnonzero(day == each) for each in days])
        return roc_auc(of.labels[rows], of.said[rows, 0])

    drawn = np.random.default_rng(3).integers(12, size=(500, 12))
    differences = np.array([area(ours, list(days)) - area(theirs, list(days)) for days in drawn])
    low, high = np.quantile(differences[np.isfinite(differences)], [0.025, 0.975])
    assert (found["low"], found["high"], found["days"]) == (pytest.approx(low), pytest.approx(high), 12)


def test_the_same_rows_scored_alike_have_no_gap() -> None:
    one = scored([(day, n % 2, (7 * n + day) % 5 / 5) for day in range(5) for n in range(8)])
    assert compare_areas(BINARY, one, one, seed=1) == {"difference": 0.0, "low": 0.0, "high": 0.0, "days": 5}


def test_a_report_is_shown_and_written(
    report: LeakReport, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    render(report)
    shown = capsys.readouterr().out
    assert "fitted to 320 rows from 2020-03-01 to 2020-04-10, tested on 160" in " ".join(shown.split())
    lines = {line.split("  ")[0].strip(): line.split() for line in shown.splitlines() if line.strip()}
    assert lines["level_of_the_evening"][1:6] == ["1.000", "0.750", "+0.250", "±", "0.000"]
    assert lines["damage_alone"][1:3] == ["1.000", "0.500"]

    page = write(report, tmp_path).read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "<td>level_of_the_evening</td><td>1.000</td><td>1.000</td><td>0.750</td><td>+0.250</td>" in page
    written = json.loads((tmp_path / "leaks.json").read_text())
    assert written["variants"][0]["gap"]["difference"] == report.variants[0].gap["difference"]
    assert (written["honest"]["rows"], written["windows"]["test"][0]) == (160, "2020-04-10T00:00:00+00:00")


def test_a_period_needs_both_its_ends() -> None:
    done = CliRunner().invoke(cli, ["leaks", "--from", "2020-05-01"])
    assert isinstance(done.exception, HindcastError)
    assert "Give both --from and --to, or neither." in str(done.exception)


def test_the_flights_declare_the_leaks_that_were_measured_beforehand() -> None:
    settings = Settings(ROOT, ROOT / "nowhere")
    variants = load_variants(settings)
    assert {variant.name for variant in variants} == {path.stem for path in settings.leaks_folder.glob("*.sql")}
    assert {variant.view for variant in variants} == {None, "origin_weather"}
    (recipe,) = (variant.recipe for variant in variants if variant.recipe)
    assert (recipe.label, recipe.model, recipe.test_share) == ("late_30", "logistic_regression", 0.25)
    assert [len(duckdb.extract_statements(sql_of(settings, variant))) for variant in variants] == [1] * len(variants)
