"""The graph as a whole: it loads, nothing hangs in the air, and data flows one way."""

import subprocess
import sys
from functools import cache
from pathlib import Path

from assets import inputs
from assets.definitions import STAGES, build_definitions
from tests.conftest import ROOT

SNAPSHOT = Path(__file__).parent / "graph.txt"


@cache
def graph():
    return build_definitions().resolve_asset_graph()


def picture() -> str:
    """One line per asset: its stage, its key, and what it is made from."""
    lines = []
    for key in graph().get_all_asset_keys():
        node = graph().get(key)
        parents = ", ".join(sorted(parent.to_user_string() for parent in node.parent_keys))
        lines.append(f"{node.group_name}: {key.to_user_string()} <- {parents}".rstrip())
    order = list(STAGES)
    return "\n".join(sorted(lines, key=lambda line: (order.index(line.split(":")[0]), line))) + "\n"


def test_no_asset_waits_for_something_that_nobody_makes() -> None:
    # A mistyped key in `deps` would become an external asset, and its step would run too early.
    outside = {spec.key for spec in inputs.specs}
    assert graph().get_all_asset_keys() - graph().executable_asset_keys == outside


def test_groups_are_the_modules() -> None:
    assert {graph().get(key).group_name for key in graph().get_all_asset_keys()} == set(STAGES)


def test_data_flows_one_way() -> None:
    order = list(STAGES)
    backwards = [
        (parent.to_user_string(), key.to_user_string())
        for key in graph().get_all_asset_keys()
        for parent in graph().get(key).parent_keys
        if order.index(graph().get(parent).group_name) > order.index(graph().get(key).group_name)
    ]
    assert backwards == []


def test_the_graph_is_as_it_was_last_agreed() -> None:
    """A change here is a change of the architecture: look at the difference, then write the file again.

    `python -c "from tests.graph.test_definitions import *; SNAPSHOT.write_text(picture())"`
    """
    assert picture() == SNAPSHOT.read_text()


def test_every_check_blocks_but_two() -> None:
    """What is wrong goes no further. A refused challenger and an alarm are news, not faults: they only warn."""
    specs = [spec for definition in graph().assets_defs for spec in definition.check_specs]
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if not spec.blocking} == {
        ("verdict", "gate"),
        ("monitoring_report", "no_alarm"),
    }
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if spec.blocking} >= {
        ("raw/flights", "rejected_share"),
        ("labeled/flight_outcomes", "schema"),
        ("split/flight_splits", "schema"),
        ("train/training_set", "can_be_trained_on"),
        ("train/training_set", "single_feature_roc_auc"),
        ("train/training_set", "null_pattern_label_rate"),
        ("train/training_set", "known_at_violations"),
        ("evaluation", "model_roc_auc"),
        ("serving_parity", "no_skew"),
    }


def test_every_job_sensor_and_schedule_is_there() -> None:
    definitions = build_definitions()
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    assert {"ingest", "build", "train", "publish", "serve", "monitor", "retrain"} <= jobs
    assert {sensor.name for sensor in definitions.sensors or ()} == {"retrain_on_report"}
    assert {schedule.name for schedule in definitions.schedules or ()} == {"ingest_next_month"}


def test_numpy_is_loaded_in_the_homes_environment() -> None:
    """It reads there how many threads it may use: the main job's sums must be the same as those of the UI's runs."""
    code = "import sys, assets.run; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
