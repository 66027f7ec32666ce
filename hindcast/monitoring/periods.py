"""The rows that monitoring compares: requests of the window with their labels, and the reference.

What follows from the comparison is in `hindcast.monitoring.report`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from hindcast.errors import HindcastError
from hindcast.lake import Lake, columns_of
from hindcast.monitoring.logged import read_logged
from hindcast.package.model import ServedModel
from hindcast.package.reference import read_reference
from hindcast.problem import Problem
from hindcast.serving.log_record import rows_of
from hindcast.serving.request_log import REQUESTS
from hindcast.sql import identifier, without_zone
from hindcast.tables.windows import labels_until
from hindcast.tasks.task import Calibration, Labels, Predictions, Task

LABELED = "labeled_requests"
"""In the problem's own schema."""
EMPTY = "empty"


@dataclass(frozen=True)
class LabelCounts:
    """What `labeled_requests` holds.

    Attributes:
        requests: Logged requests.
        labeled: Those whose label is known by now.
        written: Whether the table had to be written.
        version: Equal for equal rows.
    """

    requests: int
    labeled: int
    written: bool
    version: str


@dataclass(frozen=True)
class Periods:
    """What a report compares. Both frames hold `prediction_time`, `label` (as the table has it), a column per output of
    the task, and the model's features.

    Attributes:
        model_version: The champion, whose requests alone are compared.
        task: What its predictions mean.
        calibration: What was chosen for it on validation.
        features: The features that are compared, in the model's order, and their kind: numeric or categorical.
        reference: The held-out test period of the champion's training set, scored by the champion; all rows labeled.
        current: The window's requests, and older ones where labels take long; `label` is null while unknown.
        now: The clock: the window's end.
        known_until: What became known later (UTC) isn't in the lake.
        other_versions: Requests in the window that another version answered.
        unreadable: Requests of the champion whose record can't be read, and which are left out.
    """

    model_version: str
    task: Task
    calibration: Calibration
    features: dict[str, str]
    reference: pl.DataFrame
    current: pl.DataFrame
    now: datetime
    known_until: datetime
    other_versions: int
    unreadable: int = 0

    def labels(self, rows: pl.DataFrame) -> Labels:
        """Of rows of which each has one, shape (n,)."""
        return self.task.labels(rows["label"].to_numpy())

    def predictions(self, rows: pl.DataFrame) -> Predictions:
        """What the champion said of rows, shape (n, outputs)."""
        return rows.select(self.task.outputs).to_numpy()

    def in_window(self, problem: Problem) -> pl.DataFrame:
        """The window's requests, labeled or not."""
        return self.current.filter(pl.col("prediction_time") > without_zone(self.now - problem.monitoring.window))

    def matured(self, problem: Problem) -> tuple[pl.DataFrame, int, int]:
        """The labeled requests of a window that ends where nearly every label has come; how many are too young for
        it; how many in it have no label.

        A younger request whose label is known is left out too: how early a label comes may depend on the label.
        """
        end = self.known_until - problem.label.matures_within
        time = pl.col("prediction_time")
        old = self.current.filter(time <= without_zone(end), time > without_zone(end - problem.monitoring.window))
        labeled = old.filter(pl.col("label").is_not_null())
        return labeled, len(self.current.filter(time > without_zone(end))), len(old) - len(labeled)


def label_requests(problem: Problem, lake: Lake) -> LabelCounts:
    """Writes the problem's `labeled_requests`: one row per logged request, with its label and since when that is known.

    Both are null while the label is unknown. Nothing is written, and no snapshot made, where nothing changed.
    """
    requests, labeled = problem.table(REQUESTS), problem.table(LABELED)
    if not lake.exists(requests):
        return LabelCounts(0, 0, False, EMPTY)
    names = (problem.entity.key, problem.label.column, problem.label.known_at)
    key, label, known_at = map(identifier, names)
    present = lake.exists(labeled)
    with lake.writing() as connection:
        joined = (
            f"SELECT request.*, truth.{label}, truth.{known_at} FROM {rows_of(connection, requests)} AS request "
            # As text, which the log holds: a request's key need not be of the table's type.
            f"LEFT JOIN {problem.labeled_table} AS truth ON request.{key} = CAST(truth.{key} AS VARCHAR)"
        )
        changed = not present or _differ(connection, joined, f"FROM {labeled}")
        if changed:
            connection.execute(f"CREATE OR REPLACE TABLE {labeled} AS {joined} ORDER BY prediction_time, id")
        counts = connection.execute(
            f"SELECT count(*), count({label}), bit_xor(hash(row)) FROM {labeled} AS row"
        ).fetchall()[0]
    return LabelCounts(int(counts[0]), int(counts[1]), changed, f"{counts[2]:016x}" if counts[0] else EMPTY)


def _differ(connection: Any, first: str, second: str) -> bool:
    """Whether two queries give other columns or other rows (their order aside)."""
    shapes = [list(columns_of(connection, query).items()) for query in (first, second)]
    if shapes[0] != shapes[1]:
        return True
    pairs = ((first, second), (second, first))
    return any(connection.execute(f"({a}) EXCEPT ALL ({b}) LIMIT 1").fetchall() for a, b in pairs)


def load(problem: Problem, lake: Lake, model: ServedModel, now: datetime) -> Periods:
    """Reads the reference that the champion carries, scores it, and reads the requests that may count.

    Args:
        problem: Names columns, window and maturity.
        lake: Holds `labeled_requests` once something was served.
        model: The champion.
        now: The clock, UTC.

    Raises:
        HindcastError: The champion carries no reference, or does another task than the problem declares.
    """
    task = model.task
    if task.name != problem.task:
        raise HindcastError(
            f"The champion {model.version} does the task {task.name}, and the problem file of {problem.name} declares "
            f"{problem.task}: train and promote a model of that task."
        )
    features = {feature.name: str(feature.kind) for feature in model.signature.features}
    reference = read_reference(model)
    values = reference.select(list(features)).to_dict(as_series=False)
    said = pl.DataFrame(model.predict(model.matrix(values)), schema=list(task.outputs), orient="row")
    reference = reference.hstack(said)
    known_until = labels_until(lake, problem)
    current, others, unreadable = _current(problem, lake, model, reference, now, known_until)
    return Periods(
        model_version=model.version,
        task=task,
        calibration=model.signature.calibration,
        features=features,
        reference=reference,
        current=current,
        now=now,
        known_until=known_until,
        other_versions=others,
        unreadable=unreadable,
    )


def _current(
    problem: Problem, lake: Lake, model: ServedModel, reference: pl.DataFrame, now: datetime, known_until: datetime
) -> tuple[pl.DataFrame, int, int]:
    """The model's requests of the window and of the time before it whose labels have matured, in the reference's
    columns; then the count of others' in the window, and of the model's own whose record can't be read."""
    labeled = problem.table(LABELED)
    if not lake.exists(labeled):
        return reference.clear(), 0, 0
    kinds = {"numeric": "number", "categorical": "text"}
    form = {feature.name: kinds[feature.kind] for feature in model.signature.features}
    begins = min(now, known_until - problem.label.matures_within) - problem.monitoring.window
    window = [without_zone(begins), without_zone(now)]
    with lake.reading() as connection:
        found = read_logged(
            connection,
            f"(SELECT id, model_version, prediction_time, {identifier(problem.label.column)} AS label, prediction, "
            f"features FROM {rows_of(connection, labeled)}) "
            "WHERE model_version = $version AND prediction_time > $since AND prediction_time <= $until",
            {"version": model.version, "since": window[0], "until": window[1]},
            ("id", "prediction_time", "label"),
            model.task.outputs,
            {"features": form},
        )
        others = connection.execute(
            f"SELECT count(*) FROM {labeled} WHERE model_version <> ? AND prediction_time > ? AND prediction_time <= ?",
            [model.version, without_zone(now - problem.monitoring.window), window[1]],
        ).fetchall()[0][0]
    rows = found.said.hstack(found.nested["features"]).with_columns(pl.col("label").cast(reference.schema["label"]))
    return rows.select(reference.columns), int(others), len(found.unreadable)
