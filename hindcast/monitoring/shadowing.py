"""Compares the shadow's answers with the champion's, on the same requests and on their labels once these are known.

How it is asked is `hindcast.serving.shadow`'s work.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.serving.log_record import rows_of
from hindcast.serving.request_log import REQUESTS, SHADOW, prediction_columns
from hindcast.sql import identifier
from hindcast.tasks import problem_task
from hindcast.tasks.task import DIGITS, Predictions, Task


@dataclass(frozen=True)
class Shadowing:
    """Two models on the requests that both answered.

    Attributes:
        champion: Version whose answers were returned.
        challenger: Version that was asked beside it.
        requests: That both answered with finite numbers.
        mean_difference: Mean absolute difference of their predictions (`Task.change`).
        decided_otherwise: Requests of which they decided differently; None where nothing is decided.
        labeled: Those whose label is known by now.
        metrics: By metric, the champion's and the challenger's, on the labeled ones; empty where there are none.
        quantity: What they predict, for people, in the plural.
    """

    champion: str
    challenger: str
    requests: int
    mean_difference: float
    decided_otherwise: int | None
    labeled: int
    metrics: dict[str, tuple[float | None, float | None]]
    quantity: str


def compare(problem: Problem, lake: Lake) -> list[Shadowing]:
    """Every pair of models that answered the same requests, as far as their logs are in the lake."""
    asked, beside = problem.table(REQUESTS), problem.table(SHADOW)
    if not (lake.exists(beside) and lake.exists(asked)):
        return []
    task = problem_task(problem)
    key, label = identifier(problem.entity.key), identifier(problem.label.column)
    numbers = {f"{side} {name}": f"{side}.{identifier(name)}" for side in ("r", "s") for name in task.outputs}
    with lake.reading() as connection:
        answered, answered_beside = (
            f"(SELECT {key}, id, prediction_time, model_version, decision, {prediction_columns(task.outputs)} "
            f"FROM {rows_of(connection, table)} WHERE len(prediction) = {len(task.outputs)})"
            for table in (asked, beside)
        )
        rows = connection.execute(
            f"SELECT r.model_version AS champion, s.model_version AS challenger, l.label, "
            f"r.decision <> s.decision AS otherwise, "
            f"{', '.join(f'{number} AS {identifier(name)}' for name, number in numbers.items())} "
            f"FROM {answered_beside} s JOIN {answered} r USING (id) "
            f"LEFT JOIN (SELECT CAST({key} AS VARCHAR) AS key, {label} AS label FROM {problem.labeled_table}) l "
            f"ON l.key = r.{key} WHERE {' AND '.join(f'isfinite({number})' for number in numbers.values())} "
            "ORDER BY champion, challenger, r.prediction_time, id"
        ).pl()
    return [_compared(task, pair) for pair in rows.partition_by("champion", "challenger", maintain_order=True)]


def _compared(task: Task, rows: pl.DataFrame) -> Shadowing:
    known, otherwise = rows.drop_nulls("label"), rows["otherwise"].drop_nulls()
    metrics: dict[str, tuple[float | None, float | None]] = {}
    if known.height:
        labels = task.labels(known["label"].to_numpy())
        one, other = (task.measure(labels, _said(task, known, side)) for side in ("r", "s"))
        metrics = {name: (one[name], other[name]) for name in task.metrics}
    difference = np.abs(task.change(_said(task, rows, "r"), _said(task, rows, "s")))
    return Shadowing(
        champion=rows["champion"][0],
        challenger=rows["challenger"][0],
        requests=rows.height,
        mean_difference=round(float(difference.mean()), DIGITS),
        decided_otherwise=int(otherwise.sum()) if len(otherwise) else None,
        labeled=known.height,
        metrics=metrics,
        quantity=task.quantity[1],
    )


def _said(task: Task, rows: pl.DataFrame, side: str) -> Predictions:
    return rows.select(f"{side} {name}" for name in task.outputs).to_numpy()


def render(pairs: list[Shadowing]) -> str:
    """For people."""
    if not pairs:
        return "No challenger has been asked beside the champion, or its log isn't in the lake yet."
    lines = []
    for pair in pairs:
        decided = "" if pair.decided_otherwise is None else f", {pair.decided_otherwise:,} decided otherwise"
        lines += [
            f"{pair.challenger} beside {pair.champion}: {pair.requests:,} requests, {pair.quantity} "
            f"{pair.mean_difference:.4f} apart on average{decided}",
            f"on {pair.labeled:,} with a label  {'champion':>10} {'challenger':>10}",
        ]
        for name, values in pair.metrics.items():
            shown = " ".join(f"{'' if value is None else format(value, '.4f'):>10}" for value in values)
            lines.append(f"  {name:22} {shown}")
    return "\n".join(lines)
