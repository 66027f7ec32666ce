"""What a package carries of the data that it was made from, so that no lake is needed to judge it: the test window's
rows, and the label's history per group. Where packages are made is `package`; what is judged by it is monitoring's.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hindcast.artefacts import require_json, to_json
from hindcast.errors import HindcastError
from hindcast.package.model import BASELINE, REFERENCE, Feature, ServedModel
from hindcast.problem import Problem
from hindcast.tasks import problem_task
from hindcast.training.training_data import labels_of

_SHRINK = 20  # rows by which a group's mean leans towards the overall one


def reference_file(problem: Problem, frame: pl.DataFrame, features: Sequence[Feature]) -> bytes:
    """The test window of a training set as one Parquet file: `prediction_time`, `label`, the model's features.

    Rows are in the order of prediction time, then of the key; numbers are float64. The same rows give the same bytes.
    """
    test = frame.filter(pl.col("split") == "test").sort(problem.prediction_time.column, problem.entity.key)
    kinds: dict[str, Any] = {"numeric": pl.Float64, "categorical": pl.String}
    rows = test.select(
        pl.col(problem.prediction_time.column).cast(pl.Datetime("us")).alias("prediction_time"),
        _plain_label(problem, test).alias("label"),
        *(pl.col(feature.name).cast(kinds[feature.kind]) for feature in features),
    )
    file = io.BytesIO()
    pq.write_table(rows.to_arrow(), file, compression="zstd", store_schema=False)
    return file.getvalue()


def _plain_label(problem: Problem, rows: pl.DataFrame) -> pl.Series:
    """As the table has it, in the widest type of its kind: a whole number, a number or a text."""
    label = rows[problem.label.column]
    if label.dtype == pl.Boolean or label.dtype.is_integer():
        return label.cast(pl.Int64)
    return label.cast(pl.Float64) if label.dtype.is_numeric() else label.cast(pl.String)


def read_reference(model: ServedModel) -> pl.DataFrame:
    """The rows of `reference_file`."""
    return pl.read_parquet(io.BytesIO((model.folder / REFERENCE).read_bytes()))


@dataclass(frozen=True)
class History:
    """The label's history in the training window per group, the baseline that needs no model. The form of
    `baseline.json`. Means are those of `Task.means`.

    Attributes:
        columns: By which rows are grouped.
        overall: Of all rows, and of a group that the training window hadn't, shape (m,).
        groups: Of each group, by its values as text (None where one is missing), each of shape (m,).
    """

    columns: tuple[str, ...]
    overall: NDArray[np.float64]
    groups: dict[tuple[str | None, ...], NDArray[np.float64]]

    @classmethod
    def of(cls, problem: Problem, trained: pl.DataFrame) -> "History":
        """Of the training window's rows, with labels. Means lean towards the overall one as if 20 more rows had it.

        Raises:
            HindcastError: A column of `baseline.columns` isn't there.
        """
        columns = list(problem.baseline.columns)
        each = problem_task(problem).means(labels_of(problem, trained))
        overall = each.mean(axis=0)
        if not columns:
            return cls((), overall, {})
        _check(columns, trained)
        names = [f"__{number}" for number in range(each.shape[1])]
        grouped = (
            trained.select(pl.col(columns).cast(pl.String), *(pl.Series(n, each[:, i]) for i, n in enumerate(names)))
            .group_by(columns, maintain_order=True)
            .agg(pl.len().alias("__rows"), *(pl.col(name).sum() for name in names))
            .sort(columns)
        )
        sums, rows = grouped.select(names).to_numpy(), grouped.select("__rows").to_numpy()
        means = (sums + overall * _SHRINK) / (rows + _SHRINK)
        return cls(tuple(columns), overall, dict(zip(grouped.select(columns).iter_rows(), means, strict=True)))

    @classmethod
    def read(cls, model: ServedModel) -> "History":
        """That of a package."""
        content = require_json(model.folder / BASELINE)
        if "rates" in content:  # packaged when all problems were binary
            groups = {tuple(group): np.array([rate]) for *group, rate in content["rates"]}
            return cls(tuple(content["columns"]), np.array([content["overall"]]), groups)
        groups = {tuple(group): np.array(means) for group, means in content["groups"]}
        return cls(tuple(content["columns"]), np.array(content["overall"]), groups)

    def to_json(self) -> str:
        groups = [[list(group), means.tolist()] for group, means in self.groups.items()]
        content = {"columns": self.columns, "overall": self.overall.tolist(), "groups": groups}
        return to_json(content, sort_keys=True)

    def overall_of(self, rows: int) -> NDArray[np.float64]:
        """The overall means for so many rows, shape (rows, m)."""
        return np.tile(self.overall, (rows, 1))

    def means(self, frame: pl.DataFrame) -> NDArray[np.float64]:
        """The means of each row's group, shape (n, m).

        Raises:
            HindcastError: The rows lack a column.
        """
        _check(self.columns, frame)
        if not self.columns or frame.is_empty():
            return self.overall_of(frame.height)
        groups = frame.select(pl.col(self.columns).cast(pl.String)).iter_rows()
        return np.stack([self.groups.get(group, self.overall) for group in groups])


def _check(columns: Sequence[str], frame: pl.DataFrame) -> None:
    if absent := [name for name in columns if name not in frame.columns]:
        raise HindcastError(f"baseline.columns: no column {', '.join(absent)} among {', '.join(frame.columns)}.")
