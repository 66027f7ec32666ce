"""Dengue, a year that the model has never seen: RMSLE of next week's cases per township, trained on the years before.

What it is held against needs no model: as many as became known last week, and as many as fell ill last week, as far as
known then. Then the same model with counts by onset as they stand today: what it claims offline, and what it gets when
it is served the counts that are known on the day. Bar: better by 8 % than either without a model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from bench.measure import Row, say
from hindcast.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

PROBLEM, LEAK = "dengue", "onsets_as_they_stand"
YEARS = (2015, 2023)
UNTIL = datetime(2024, 9, 9, tzinfo=UTC)  # the list ends in that week
REPORTED, ONSET = "log_reported_1w", "log_onset_1w"
ONCE = "once"


@dataclass(frozen=True)
class Found:
    """RMSLE on one year.

    Attributes:
        chosen: The family that was better on the two years before.
        honest: Trained and asked on features as known then.
        claimed: Trained and asked on counts by onset as they stand today.
        served: The same model, asked on counts as known then.
        reported: As many as became known in the last week.
        onset: As many as fell ill in the last week, as far as known then.
    """

    chosen: str
    honest: float
    claimed: float
    served: float
    reported: float
    onset: float


def run(settings: Settings, rounds: int) -> list[Row]:
    rows = []
    frame, features = read(settings)
    for year in YEARS:
        say(f"dengue {year}")
        found = measure(frame, features, year)
        what = f"RMSLE of dengue {year}, {found.chosen}"
        rows += [
            Row(what, "", found.honest, found.reported, "as many as became known last week", at_most=0.92),
            Row(what, "", found.honest, found.onset, "as many as fell ill last week, as known then", at_most=0.92),
            Row("  with counts by onset as they stand today, claimed", "", found.claimed, found.honest, "honest"),
            Row("  the same model when served", "", found.served, found.honest, "honest"),
        ]
    return rows


def read(settings: Settings) -> tuple["pl.DataFrame", list[str]]:
    """Every township and Monday with a known label and its features as known then, and beside them those of the leak,
    ending in `__today`; and the features' names. The data is built in a home of the benchmark's own."""
    from hindcast.clock import SimulatedClock
    from hindcast.features.store import feature_names, historical_features
    from hindcast.home import prepare
    from hindcast.pipeline import build_data
    from hindcast.workspace import open_workspace

    home = replace(settings, home=settings.benchmarks / PROBLEM, problem=PROBLEM)
    prepare(home)
    workspace = open_workspace(home)
    clock = workspace.clock
    assert isinstance(clock, SimulatedClock)
    clock.move_to(max(UNTIL, clock.now()))
    build_data(workspace, say)
    problem = workspace.problem
    with workspace.lake.reading() as connection:
        asked = connection.execute(
            f"FROM {problem.labeled_table} WHERE {problem.label.column} IS NOT NULL ORDER BY {problem.entity.key}"
        ).pl()
        leak = connection.execute((home.leaks_folder / f"{LEAK}.sql").read_text()).pl()
    found = historical_features(home, problem, asked)
    today = leak.rename({name: f"{name}__today" for name in leak.columns if name != problem.entity.key})
    joined = found.join(today, on=problem.entity.key, how="left")
    return joined.sort(problem.prediction_time.column, problem.entity.key), feature_names(home, problem.feature_service)


def measure(frame: "pl.DataFrame", features: Sequence[str], year: int) -> Found:
    """One year, by models that are fitted to what was known before it."""
    import polars as pl

    begins, ends = datetime(year, 1, 1), datetime(year + 1, 1, 1)
    asked = frame.filter(pl.col("prediction_time").is_between(begins, ends, closed="left"))
    before = frame.filter(pl.col("label_known_at") <= begins)
    cut = begins - timedelta(days=730)
    older, newer = before.filter(pl.col("label_known_at") <= cut), before.filter(pl.col("prediction_time") >= cut)
    on_validation = {name: rmsle(fit(make, older, features)(newer, features), newer) for name, make in FAMILIES.items()}
    chosen = min(on_validation, key=lambda name: on_validation[name])
    naive = [name + "__today" if name + "__today" in frame.columns else name for name in features]
    model, leaky = fit(FAMILIES[chosen], before, features), fit(FAMILIES[chosen], before, naive)
    return Found(
        chosen,
        honest=rmsle(model(asked, features), asked),
        claimed=rmsle(leaky(asked, naive), asked),
        served=rmsle(leaky(asked, features), asked),
        reported=rmsle(asked[REPORTED].to_numpy(), asked),
        onset=rmsle(asked[ONSET].to_numpy(), asked),
    )


def fit(
    make: Callable[[], Any], frame: "pl.DataFrame", features: Sequence[str]
) -> Callable[["pl.DataFrame", Sequence[str]], "np.ndarray[Any, Any]"]:
    """Fits a model of ln(1 + cases); gives a function that predicts from a frame and the columns to use as features."""
    import numpy as np

    estimator = make().fit(frame.select(features).to_numpy().astype(np.float32), np.log1p(frame["cases"].to_numpy()))
    return lambda rows, columns: estimator.predict(rows.select(columns).to_numpy().astype(np.float32))


def rmsle(said: "np.ndarray[Any, Any]", frame: "pl.DataFrame") -> float:
    """Of predictions on the scale ln(1 + cases), which are never below 0."""
    import numpy as np

    return float(np.sqrt(((np.maximum(said, 0) - np.log1p(frame["cases"].to_numpy())) ** 2).mean()))


def _ridge() -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=10))


def _gradient_boosting() -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=50, l2_regularization=5,
        max_features=0.5, random_state=13,
    )  # fmt: skip


FAMILIES: dict[str, Callable[[], Any]] = {"linear": _ridge, "gradient_boosting": _gradient_boosting}
