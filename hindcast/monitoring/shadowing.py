"""Compares the shadow's answers with the champion's, on the same requests and on their labels once these are known.

How it is asked is `hindcast.serving.shadow`'s work.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from hindcast.evaluation.metrics import DIGITS, METRICS, measure
from hindcast.lake import Lake
from hindcast.problem import Problem
from hindcast.serving.request_log import REQUESTS, SHADOW
from hindcast.sql import identifier


@dataclass(frozen=True)
class Shadowing:
    """Two models on the requests that both answered.

    Attributes:
        champion: Version whose answers were returned.
        challenger: Version that was asked beside it.
        requests: That both answered with a finite probability.
        mean_difference: Mean absolute difference of their probabilities.
        decided_otherwise: Requests of which they decided differently.
        labeled: Those whose label is known by now.
        metrics: By metric, the champion's and the challenger's, on the labeled ones; empty where there are none.
    """

    champion: str
    challenger: str
    requests: int
    mean_difference: float
    decided_otherwise: int
    labeled: int
    metrics: dict[str, tuple[float | None, float | None]]


def compare(problem: Problem, lake: Lake) -> list[Shadowing]:
    """Every pair of models that answered the same requests, as far as their logs are in the lake."""
    asked, beside = problem.table(REQUESTS), problem.table(SHADOW)
    if not (lake.exists(beside) and lake.exists(asked)):
        return []
    key, label = identifier(problem.entity.key), identifier(problem.label.column)
    with lake.reading() as connection:
        rows = connection.execute(
            f"SELECT r.model_version AS champion, s.model_version AS challenger, r.probability AS said, "
            f"s.probability AS said_beside, r.decision <> s.decision AS otherwise, l.label "
            f"FROM {beside} s JOIN {asked} r USING (id) "
            f"LEFT JOIN (SELECT CAST({key} AS VARCHAR) AS key, {label} AS label FROM {problem.labeled_table}) l "
            f"ON l.key = r.{key} WHERE isfinite(r.probability) AND isfinite(s.probability) "
            "ORDER BY champion, challenger, r.prediction_time, id"
        ).pl()
    return [_compared(pair) for pair in rows.partition_by("champion", "challenger", maintain_order=True)]


def _compared(rows: pl.DataFrame) -> Shadowing:
    known = rows.drop_nulls("label")
    metrics: dict[str, tuple[float | None, float | None]] = {}
    if known.height:
        labels = known["label"].cast(pl.Int64).to_numpy()
        one, other = (measure(labels, known[column].to_numpy()) for column in ("said", "said_beside"))
        metrics = {name: (one[name], other[name]) for name in METRICS}
    difference = np.abs(rows["said"].to_numpy() - rows["said_beside"].to_numpy())
    return Shadowing(
        champion=rows["champion"][0],
        challenger=rows["challenger"][0],
        requests=rows.height,
        mean_difference=round(float(difference.mean()), DIGITS),
        decided_otherwise=int(rows["otherwise"].sum()),
        labeled=known.height,
        metrics=metrics,
    )


def render(pairs: list[Shadowing]) -> str:
    """For people."""
    if not pairs:
        return "No challenger has been asked beside the champion, or its log isn't in the lake yet."
    lines = []
    for pair in pairs:
        lines += [
            f"{pair.challenger} beside {pair.champion}: {pair.requests:,} requests, probabilities "
            f"{pair.mean_difference:.4f} apart on average, {pair.decided_otherwise:,} decided otherwise",
            f"on {pair.labeled:,} with a label  {'champion':>10} {'challenger':>10}",
        ]
        for name, values in pair.metrics.items():
            shown = " ".join(f"{'' if value is None else format(value, '.4f'):>10}" for value in values)
            lines.append(f"  {name:22} {shown}")
    return "\n".join(lines)
