"""What the features are worth, whatever the model: scikit-learn's plain `HistGradientBoostingClassifier()`, trained on
the flights of January to August (prediction time; labels known by the end of August) and tested on those of November
and December, with the features of the problem's service as known at each prediction time.

Bar: ROC AUC of 0.765 at least (medians over the seeds 0, 1, 2, …, one per round). The rows above it show what each
topic brings on top of those before it.
"""

import shutil
import statistics
from datetime import datetime
from typing import Any

from bench import homes
from bench.measure import Case, Row, Work, in_turn, once, say
from hindcast.settings import Settings

TRAINED = datetime(2013, 1, 1), datetime(2013, 9, 1)
TESTED = datetime(2013, 11, 1), datetime(2014, 1, 1)
# The order in which topics are added; others come last. Whatever is looked up by the aircraft tells of its inbound leg.
TOPICS = ["schedule", "weather", "outcomes", "operations", "inbound aircraft"]
AIRCRAFT = "tail_number"


def run(settings: Settings, rounds: int) -> list[Row]:
    home = str(homes.year(settings).home)
    folder = settings.benchmarks / "breadth"
    shutil.rmtree(folder, ignore_errors=True)
    say("features as known at each prediction time")
    table = folder / "features.arrow"
    once(Case("bench.breadth:retrieving", (home,)), table)
    topics: dict[str, list[str]] = once(Case("bench.breadth:describing", (home,)))["result"]
    cases: dict[str, Case] = {}
    features: list[str] = []
    for topic, names in topics.items():
        features = [*features, *names]
        plus = "+ " if cases else ""
        case = Case("bench.breadth:training", (home, str(table), features, rounds))
        cases[f"{plus}{topic} ({len(features)} features)"] = case
    taken = {name: each.results[0] for name, each in in_turn(cases, 1).items()}
    last = list(taken)[-1]

    def median(name: str, figure: str) -> float:
        return statistics.median(taken[name][figure])

    rows = [Row(f"ROC AUC, {name}", "", median(name, "roc_auc")) for name in taken if name != last]
    rows.append(Row(f"ROC AUC, {last}", "", median(last, "roc_auc"), 0.765, "limit", at_least=1))
    spread = max(taken[last]["roc_auc"]) - min(taken[last]["roc_auc"])
    return [
        *rows,
        Row("between seeds, at most", "", spread),
        Row("log loss", "", median(last, "log_loss")),
        Row("features", "", len(features)),
        Row("flights trained on", "", taken[last]["trained"]),
        Row("flights tested on", "", taken[last]["tested"]),
    ]


def retrieving(home: str) -> Work:
    """The flights of both periods with keys, label, `split` and features."""
    settings = homes.at(home)
    from hindcast.features.store import historical_features
    from hindcast.lake import Lake
    from hindcast.problem import load_problem

    problem = load_problem(settings.problem_file)
    with Lake(settings).reading() as connection:
        entities = connection.execute(
            f"""
            SELECT {", ".join(homes.KEYS)}, prediction_time, is_late,
                CASE
                    WHEN prediction_time >= $1 AND prediction_time < $2 AND label_known_at < $2 THEN 'train'
                    WHEN prediction_time >= $3 AND prediction_time < $4 THEN 'test'
                END AS split
            FROM {homes.ENTITIES} WHERE split IS NOT NULL ORDER BY prediction_time, flight_id
            """,
            [*TRAINED, *TESTED],
        ).pl()

    def work() -> Any:
        return historical_features(settings, problem, entities).to_arrow()

    return work


def describing(home: str) -> Work:
    """The service's features by topic, in the order in which topics are added."""
    settings = homes.at(home)
    from hindcast.features.feature_service import find_service, open_store, service_features, service_views
    from hindcast.problem import load_problem

    def work() -> dict[str, list[str]]:
        store = open_store(settings)
        service = find_service(store, load_problem(settings.problem_file).feature_service)
        views, on_demand = service_views(store, service)
        topics = {
            view.projection.name_to_use(): TOPICS[-1] if AIRCRAFT in view.join_keys else view.tags["topic"]
            for view in views
        }
        for view in on_demand:
            sources = {topics[source] for source in view.source_feature_view_projections}
            topics[view.projection.name_to_use()] = TOPICS[-1] if TOPICS[-1] in sources else view.tags["topic"]
        found: dict[str, list[str]] = {}
        for view_name, feature in service_features(service):
            found.setdefault(topics[view_name], []).append(feature)
        order = [topic for topic in TOPICS if topic in found] + [topic for topic in found if topic not in TOPICS]
        return {topic: found[topic] for topic in order}

    return work


def training(home: str, table: str, features: list[str], seeds: int) -> Work:
    """Trains and tests once per seed."""
    homes.at(home)
    import polars as pl
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import log_loss, roc_auc_score

    from hindcast.package.model import encode
    from hindcast.training.training_data import columns, find_features

    frame = pl.read_ipc(table)

    def work() -> dict[str, Any]:
        taken = find_features(frame, features)
        split = {name: frame.filter(pl.col("split") == name) for name in ("train", "test")}
        matrices = {name: encode(columns(rows, taken), taken) for name, rows in split.items()}
        labels = {name: rows["is_late"].to_numpy() for name, rows in split.items()}
        figures: dict[str, Any] = {"roc_auc": [], "log_loss": []}
        for seed in range(seeds):
            model = HistGradientBoostingClassifier(random_state=seed).fit(matrices["train"], labels["train"])
            predicted = model.predict_proba(matrices["test"])[:, 1]
            figures["roc_auc"].append(float(roc_auc_score(labels["test"], predicted)))
            figures["log_loss"].append(float(log_loss(labels["test"], predicted)))
        return figures | {"trained": len(labels["train"]), "tested": len(labels["test"])}

    return work
