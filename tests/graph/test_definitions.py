"""The graph as a whole: it loads, nothing hangs in the air, and data flows one way."""

import subprocess
import sys
from functools import cache
from pathlib import Path

from assets.definitions import build_definitions
from tests.conftest import ROOT

SNAPSHOT = Path(__file__).parent / "graph.txt"
PROBLEMS = sorted(path.stem for path in (ROOT / "problems").glob("*.yaml"))
DOMAINS = sorted(path.stem for path in (ROOT / "problems" / "sources").glob("*.yaml"))


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
    order = order_of_groups()
    return "\n".join(sorted(lines, key=lambda line: (order.index(line.split(":")[0]), line))) + "\n"


def order_of_groups() -> list[str]:
    return sorted({graph().get(key).group_name for key in graph().get_all_asset_keys()})


def test_no_asset_waits_for_something_that_nobody_makes() -> None:
    # A mistyped key in `deps` would become an external asset, and its step would run too early.
    outside = graph().get_all_asset_keys() - graph().executable_asset_keys
    assert {key.path[0] for key in outside} == {"inputs"}


def test_groups_are_listed_in_the_order_of_the_data() -> None:
    """Dagster's UI sorts them by name."""
    assert order_of_groups() == ["1_inputs", "2_raw", "3_cleaned", "4_features", *PROBLEMS]


def test_data_flows_one_way() -> None:
    order = order_of_groups()
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
    news = (("verdict", "gate"), ("monitoring_report", "no_alarm"))
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if not spec.blocking} == {
        (f"{problem}/{asset}", check) for problem in PROBLEMS for asset, check in news
    }
    assert {(spec.asset_key.to_user_string(), spec.name) for spec in specs if spec.blocking} >= {
        ("raw/flights", "rejected_share"),
        ("flight_delay/labeled/flight_outcomes", "schema"),
        ("flight_delay/split/flight_splits", "schema"),
        ("flight_delay/training_set", "can_be_trained_on"),
        ("flight_delay/training_set", "single_feature_roc_auc"),
        ("flight_delay/training_set", "null_pattern_label_rate"),
        ("flight_delay/training_set", "known_at_violations"),
        ("flight_delay/evaluation", "model_roc_auc"),
        ("flight_delay/serving_parity", "no_skew"),
    }


def test_every_job_sensor_and_schedule_is_there() -> None:
    definitions = build_definitions()
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    of_problem = ("build", "train", "publish", "serve", "monitor", "retrain")
    assert {f"{domain}_ingest" for domain in DOMAINS} <= jobs
    assert {f"{problem}_{name}" for problem in PROBLEMS for name in of_problem} <= jobs
    assert {sensor.name for sensor in definitions.sensors or ()} == {f"{name}_retrain_on_report" for name in PROBLEMS}
    assert {each.name for each in definitions.schedules or ()} == {f"{name}_ingest_next_month" for name in DOMAINS}


def test_numpy_is_loaded_in_the_homes_environment() -> None:
    """It reads there how many threads it may use: the main job's sums must be the same as those of the UI's runs."""
    code = "import sys, assets.run; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
