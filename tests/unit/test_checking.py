"""`hindcast check` finds each planted mistake by file and key, before anything runs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from hindcast.checking.check import check, check_once
from hindcast.cli import cli
from hindcast.errors import HindcastError
from hindcast.settings import Settings
from tests.conftest import ROOT
from tests.tides import add_tides

PROBLEM, SOURCES = "problems/high_tide.yaml", "problems/sources/tides.yaml"
MODELS = "dbt_project/models/tides"
LABELED, FEATURES = f"{MODELS}/labeled/_labeled.yml", f"{MODELS}/features/_features.yml"
Plant = Callable[[Path], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with one small domain."""
    root = tmp_path_factory.mktemp("checking") / "checkout"
    for name in ("problems", "dbt_project", "feature_repo"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "leaks"))
    add_tides(root)
    for path in (*(root / "problems").rglob("*.yaml"), *(root / "feature_repo").glob("*.py")):
        if path.stem not in ("high_tide", "tides"):
            path.unlink()
    for domain in ("flights", "dengue"):
        shutil.rmtree(root / "dbt_project" / "models" / domain)
    return root


@pytest.fixture
def settings(sound: Path, tmp_path: Path) -> Settings:
    shutil.copytree(sound, tmp_path / "checkout")
    return Settings(tmp_path / "checkout", tmp_path / "home", "high_tide")


def put(file: str, key: str, value: Any) -> Plant:
    """Sets a dotted key of a YAML file; None takes it out. A number is a place in a list."""

    def plant(root: Path) -> None:
        content = yaml.safe_load((root / file).read_text())
        *path, last = key.split(".")
        place = content
        for part in path:
            place = place[int(part)] if part.isdigit() else place[part]
        if value is None:
            del place[last]
        else:
            place[int(last) if last.isdigit() else last] = value
        (root / file).write_text(yaml.safe_dump(content))

    return plant


def swap(file: str, old: str, new: str) -> Plant:
    def plant(root: Path) -> None:
        text = (root / file).read_text()
        assert old in text
        (root / file).write_text(text.replace(old, new, 1))

    return plant


def gone(file: str) -> Plant:
    return lambda root: (root / file).unlink()


COLUMN = "tables.readings.columns"
MISTAKES: list[tuple[Plant, str, str, str]] = [
    (put(PROBLEM, "metrics.primary", "logloss"), PROBLEM, "metrics.primary", "did you mean log_loss?"),
    (put(PROBLEM, "metrics.primary", "mae"), PROBLEM, "metrics.primary", "has no metric mae"),
    (put(PROBLEM, "metrics.bars", {"auc": {"min": 0.5}}), PROBLEM, "metrics.bars.auc", "did you mean roc_auc?"),
    (put(PROBLEM, "metrics.bars", {"roc_auc": {"max": 0.9}}), PROBLEM, "metrics.bars.roc_auc", "more is better"),
    (put(PROBLEM, "metrics.bars", {"roc_auc": {"min": 1.5}}), PROBLEM, "metrics.bars.roc_auc", "can't be reached"),
    (put(PROBLEM, "metrics.bars", {"log_loss": {"min": 0.1}}), PROBLEM, "metrics.bars.log_loss", "less is better"),
    (put(PROBLEM, "metrics.bars", {"log_loss": {"max": 0}}), PROBLEM, "metrics.bars.log_loss", "can't be reached"),
    (put(PROBLEM, "metrics.bars", {"log_loss": {}}), PROBLEM, "metrics.bars.log_loss", "neither min nor max"),
    (put(PROBLEM, "metrics.bars", {"brier": {"min": 0.3, "max": 0.1}}), PROBLEM, "metrics.bars.brier", "above max"),
    (put(PROBLEM, "metrics.coverage", 0.8), PROBLEM, "metrics.coverage", "regression"),
    (put(PROBLEM, "label.classes", ["a", "b"]), PROBLEM, "label.classes", "takes none"),
    (put(PROBLEM, "label.scale", "log1p"), PROBLEM, "label.scale", "takes none"),
    (put(PROBLEM, "label.column", "flood"), PROBLEM, "label.column", "did you mean flooded?"),
    (put(PROBLEM, "label.known_at", "known_at"), PROBLEM, "label.known_at", "no column known_at"),
    (put(PROBLEM, "label.known_at", "harbour"), PROBLEM, "label.known_at", "must be a timestamp"),
    (put(PROBLEM, "label.column", "harbour"), PROBLEM, "label.column", "harbour is varchar"),
    (put(PROBLEM, "label.column", "asked_at"), PROBLEM, "label.column", "can't be key, time and label at once"),
    (put(PROBLEM, "prediction_time.column", "asked"), PROBLEM, "prediction_time.column", "did you mean asked_at?"),
    (put(PROBLEM, "prediction_time.column", "reading"), PROBLEM, "prediction_time.column", "must be a timestamp"),
    (put(PROBLEM, "entity.key", "readings"), PROBLEM, "entity.key", "did you mean reading?"),
    (put(PROBLEM, "slices.columns", ["port"]), PROBLEM, "slices.columns", "no column port"),
    (put(PROBLEM, "baseline.columns", ["port"]), PROBLEM, "baseline.columns", "no column port"),
    (put(PROBLEM, "label.matures_within", "30 days"), PROBLEM, "monitoring.window", "no report would ever see a label"),
    (put(PROBLEM, "label.matures_within", "25 days"), PROBLEM, "splits.test", "no longer than labels take"),
    (put(PROBLEM, "splits.test.end", "-4 weeks"), PROBLEM, "splits.test", "isn't before its end"),
    (put(PROBLEM, "splits.train.end", "-4 weeks"), PROBLEM, "splits.validation", "before train ends"),
    (put(PROBLEM, "splits.train", {"start": "-99 weeks", "end": "-50 weeks"}), PROBLEM, "splits.train",
     "known from 2024"),
    (put(PROBLEM, "leakage.max_roc_auc", 1.5), PROBLEM, "leakage.max_roc_auc", "between 0.5 and 1"),
    (put(PROBLEM, "leakage.max_null_pattern_rate", 99), PROBLEM, "leakage.max_null_pattern_rate", "between 0 and 1"),
    (put(PROBLEM, "candidates.0.model", "forest"), PROBLEM, "candidates.logistic_regression.model", "no family forest"),
    (put(PROBLEM, "candidates.1.parameters", {"max_itter": 9}), PROBLEM,
     "candidates.gradient_boosting.parameters.max_itter", "did you mean max_iter?"),
    (put(PROBLEM, "candidates.1.search.depth", [1]), PROBLEM, "candidates.gradient_boosting.search.depth", "no such"),
    (put(PROBLEM, "candidates.0.search.C", {"low": 1.0, "high": 0.1}), PROBLEM,
     "candidates.logistic_regression.search.C", "isn't below"),
    (put(PROBLEM, "candidates.0.search.C", {"low": 0.0, "high": 1.0, "log": True}), PROBLEM,
     "candidates.logistic_regression.search.C", "no logarithm"),
    (put(PROBLEM, "candidates.0.search.C", [-1.0]), PROBLEM, "candidates.logistic_regression.search.C", "'C'"),
    (put(PROBLEM, "candidates.1.search.max_leaf_nodes", []), PROBLEM,
     "candidates.gradient_boosting.search.max_leaf_nodes", "empty"),
    (put(PROBLEM, "candidates.0.parameters", {"max_iter": "many"}), PROBLEM,
     "candidates.logistic_regression.parameters", "max_iter"),
    (put(PROBLEM, "candidates.0.parameters", {"C": 1.0}), PROBLEM, "candidates.logistic_regression.search.C", "fixed"),
    (put(PROBLEM, "feature_service", "high_tides"), PROBLEM, "feature_service", "did you mean high_tide?"),
    (put(PROBLEM, "labeled_table", "labeled.harbour_flood"), PROBLEM, "labeled_table", "did you mean harbour_floods?"),
    (put(PROBLEM, "labeled_table", "harbour_floods"), PROBLEM, "labeled_table", "write labeled.<model>"),
    (put(PROBLEM, "split_table", "split.nothing"), PROBLEM, "split_table", "there is no model nothing"),
    (put(PROBLEM, "wndows", {}), PROBLEM, "", "wndows: unknown key"),
    (put(PROBLEM, "slices", {"min_rows": "few"}), PROBLEM, "", "slices.min_rows"),
    (put(PROBLEM, "domain", "tide"), "problems/sources/tide.yaml", "", "No sources file"),
    (swap(PROBLEM, "task: binary\n", "task: binary\ntask: regression\n"), PROBLEM, "", "the key task is on line"),
    (put(SOURCES, "tables.readings.file", "reading.csv"), SOURCES, "tables.readings.file", "is missing"),
    (put(SOURCES, "folder", "ebb"), SOURCES, "tables.readings.file", "no folder"),
    (put(SOURCES, f"{COLUMN}.lvel", "DOUBLE"), SOURCES, f"{COLUMN}.lvel", "did you mean level?"),
    (put(SOURCES, f"{COLUMN}.harbour", "INTEGER"), SOURCES, f"{COLUMN}.harbour", "aren't INTEGER, e.g. 'east'"),
    (put(SOURCES, f"{COLUMN}.level", "NUMBER"), SOURCES, f"{COLUMN}.level", "knows no type NUMBER"),
    (put(SOURCES, "tables.readings.known.at", "read_on"), SOURCES, "tables.readings.known.at", "read_on"),
    (put(SOURCES, "tables.readings.known.at", "level"), SOURCES, "tables.readings.known.at", "not an instant"),
    (put(SOURCES, "tables.readings.known.at", "nullif(read_at, read_at)"), SOURCES, "tables.readings.known.at",
     "NULL in"),
    (put(SOURCES, "tables.readings.known.later", {"sea": {"at": "lunch", "columns": ["level"]}}), SOURCES,
     "tables.readings.known.later.sea.at", "lunch"),
    (put(SOURCES, "tables.readings.derived", {"high": "level +"}), SOURCES, "tables.readings.derived.high", "fails"),
    (put(SOURCES, "tables.readings.key", ["harbour"]), SOURCES, "tables.readings.key", "name several rows"),
    (put(SOURCES, "tables.readings.format", "parquet"), SOURCES, "tables.readings.file", "can't be read as parquet"),
    (put(SOURCES, "clock.start", "2031-01-01T00:00:00Z"), SOURCES, "clock.start", "outside of the data"),
    (put(SOURCES, "clock.demo_until", "2024-01-01T00:00:00Z"), SOURCES, "clock.demo_until", "before clock.start"),
    (swap("feature_repo/tides.py", '"level"', '"lvel"'), "feature_repo/tides.py", "harbour_levels.lvel", "level?"),
    (swap("feature_repo/tides.py", "dtype=Float64", "dtype=String"), "feature_repo/tides.py", "harbour_levels.level",
     "double in"),
    (swap("feature_repo/tides.py", "features.harbour_levels", "features.levels"), "feature_repo/tides.py",
     "harbour_levels", "no table features.levels"),
    (swap("feature_repo/tides.py", "import timedelta", "import timedeltas"), "feature_repo/tides.py", "",
     "ImportError"),
    (gone("feature_repo/tides.py"), "feature_repo/tides.py", "", "no such file"),
    (put(FEATURES, "models.0.config", None), FEATURES, "harbour_levels.config.meta.entity_keys", "entity_keys"),
    (swap(FEATURES, "entity_keys: [harbour]", "entity_keys: [port]"), FEATURES,
     "harbour_levels.config.meta.entity_keys", "no column port"),
    (swap(FEATURES, "event_timestamp", "known_at"), FEATURES, "harbour_levels.columns", "event_timestamp"),
    (gone(FEATURES), f"{MODELS}/features/harbour_levels.sql", "", "describes harbour_levels"),
    (gone(LABELED), f"{MODELS}/labeled/harbour_floods.sql", "", "describes the columns"),
    (swap(LABELED, "models:", "models: ["), LABELED, "", "not YAML"),
    (gone(f"{MODELS}/staging/stg_readings.sql"), f"{MODELS}/labeled/harbour_floods.sql", "ref(stg_readings)",
     "no model"),
    (swap(f"{MODELS}/staging/stg_readings.sql", "'readings'", "'reading'"), f"{MODELS}/staging/stg_readings.sql",
     "source(reading)", "did you mean readings?"),
    (swap(f"{MODELS}/split/harbour_splits.sql", "select floods.*", '{{ split_rows("low_tide") }} select floods.*'),
     f"{MODELS}/split/harbour_splits.sql", "split_rows", "splits for low_tide"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "file", "key", "word"), MISTAKES, ids=[f"{number}-{each[2]}" for number, each in enumerate(MISTAKES)]
)
def test_a_planted_mistake_is_found(settings: Settings, plant: Plant, file: str, key: str, word: str) -> None:
    plant(settings.root)
    faults = check(settings, ["high_tide"]).faults
    found = [(str(fault.file.relative_to(settings.root)), fault.key) for fault in faults]
    assert (file, key) in found, list(map(str, faults))
    assert word in " ".join(fault.what for fault in faults if fault.key == key)


def test_all_faults_are_said_at_once(settings: Settings) -> None:
    for plant, *_ in (MISTAKES[0], MISTAKES[20], MISTAKES[46]):
        plant(settings.root)
    assert len(check(settings, ["high_tide"]).faults) >= 3


def test_the_built_in_problems_are_sound(tmp_path: Path) -> None:
    names = sorted(path.stem for path in (ROOT / "problems").glob("*.yaml"))
    assert check(Settings(ROOT, tmp_path / "home"), names).faults == ()


def test_what_was_found_sound_is_checked_again_only_where_a_file_has_changed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("hindcast.checking.check.check", lambda of, names: (asked.extend(names), check(of, names))[1])
    for _ in range(2):
        check_once(settings)
    assert asked == ["high_tide"]
    put(PROBLEM, "metrics.primary", "logloss")(settings.root)
    for _ in range(2):
        with pytest.raises(HindcastError, match=r"A fault, found before anything ran:\n.*metrics\.primary: .*log_loss"):
            check_once(settings)
    assert len(asked) == 3
    put(PROBLEM, "metrics.primary", "log_loss")(settings.root)
    check_once(settings)
    (settings.root / "tides" / "readings.csv").write_text("reading,harbour\n")
    with pytest.raises(HindcastError, match=r"columns\.level: readings\.csv has no such column"):
        check_once(settings)


def test_the_command_says_each_fault_on_a_line_or_as_json(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDCAST_ROOT", str(settings.root))
    monkeypatch.setenv("HINDCAST_HOME", str(settings.home))
    result = CliRunner().invoke(cli, ["check"])
    assert (result.exit_code, result.output) == (0, "No faults in high_tide.\n")
    MISTAKES[0][0](settings.root)
    result = CliRunner().invoke(cli, ["check", "high_tide"])
    assert result.exit_code == 1
    assert f"{settings.root / PROBLEM}: metrics.primary: binary has no metric logloss" in result.output
    said = json.loads(CliRunner().invoke(cli, ["check", "high_tide", "--json"]).output)
    assert [fault["key"] for fault in said["faults"]] == ["metrics.primary"]
