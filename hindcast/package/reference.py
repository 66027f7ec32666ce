"""What a package carries of the data that it was made from, so that no lake is needed to judge it: the test window's
rows, and the baseline's rates per group. Where packages are made is `package`; what is judged by it is monitoring's.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from hindcast.errors import HindcastError
from hindcast.evaluation.metrics import Probabilities
from hindcast.package.model import BASELINE, REFERENCE, Feature, ServedModel
from hindcast.problem import Problem

_SHRINK = 20  # rows by which a group's historic rate leans towards the overall one


def reference_file(problem: Problem, frame: pl.DataFrame, features: Sequence[Feature]) -> bytes:
    """The test window of a training set as one Parquet file: `prediction_time`, `label`, the model's features.

    Rows are in the order of prediction time, then of the key; numbers are float64. The same rows give the same bytes.
    """
    test = frame.filter(pl.col("split") == "test").sort(problem.prediction_time.column, problem.entity.key)
    kinds: dict[str, Any] = {"numeric": pl.Float64, "categorical": pl.String}
    rows = test.select(
        pl.col(problem.prediction_time.column).cast(pl.Datetime("us")).alias("prediction_time"),
        pl.col(problem.label.column).cast(pl.Int64).alias("label"),
        *(pl.col(feature.name).cast(kinds[feature.kind]) for feature in features),
    )
    file = io.BytesIO()
    pq.write_table(rows.to_arrow(), file, compression="zstd", store_schema=False)
    return file.getvalue()


def read_reference(model: ServedModel) -> pl.DataFrame:
    """The rows of `reference_file`.

    Raises:
        HindcastError: The package was made before packages carried them.
    """
    return pl.read_parquet(io.BytesIO(_read(model, REFERENCE)))


@dataclass(frozen=True)
class HistoricRates:
    """Label rates of the training window per group, the baseline that needs no model. The form of `baseline.json`.

    Attributes:
        columns: By which rows are grouped.
        overall: Of all rows, and of a group that the training window hadn't.
        rates: Of each group, by its values as text (None where one is missing).
    """

    columns: tuple[str, ...]
    overall: float
    rates: dict[tuple[str | None, ...], float]

    @classmethod
    def of(cls, problem: Problem, trained: pl.DataFrame) -> "HistoricRates":
        """Of the training window's rows, with labels. Rates lean towards the overall one as if 20 more rows had it.

        Raises:
            HindcastError: A column of `baseline.columns` isn't there.
        """
        columns, label = list(problem.baseline.columns), pl.col(problem.label.column).cast(pl.Float64)
        overall = float(trained.select(label).to_series().to_numpy().mean())
        if not columns:
            return cls((), overall, {})
        _check(columns, trained)
        rates = (
            trained.group_by(pl.col(columns).cast(pl.String), maintain_order=True)
            .agg(((label.sum() + overall * _SHRINK) / (pl.len() + _SHRINK)).alias("__rate"))
            .sort(columns)
        )
        return cls(tuple(columns), overall, {tuple(group): rate for *group, rate in rates.iter_rows()})

    @classmethod
    def read(cls, model: ServedModel) -> "HistoricRates":
        """Those of a package.

        Raises:
            HindcastError: The package was made before packages carried them.
        """
        content = json.loads(_read(model, BASELINE))
        groups = {tuple(group): rate for *group, rate in content["rates"]}
        return cls(tuple(content["columns"]), content["overall"], groups)

    def to_json(self) -> str:
        rates = [[*group, rate] for group, rate in self.rates.items()]
        return json.dumps({"columns": self.columns, "overall": self.overall, "rates": rates}, sort_keys=True) + "\n"

    def rate(self, frame: pl.DataFrame) -> Probabilities:
        """The rate of each row's group, shape (n,).

        Raises:
            HindcastError: The rows lack a column.
        """
        _check(self.columns, frame)
        if not self.columns:
            return pl.repeat(self.overall, frame.height, eager=True, dtype=pl.Float64).to_numpy()
        groups = frame.select(pl.col(self.columns).cast(pl.String)).iter_rows()
        return pl.Series([self.rates.get(group, self.overall) for group in groups], dtype=pl.Float64).to_numpy()


def _check(columns: Sequence[str], frame: pl.DataFrame) -> None:
    if absent := [name for name in columns if name not in frame.columns]:
        raise HindcastError(f"baseline.columns: no column {', '.join(absent)} among {', '.join(frame.columns)}.")


def _read(model: ServedModel, name: str) -> bytes:
    path = model.folder / name
    if not path.exists():
        raise HindcastError(f"{model.version} has no {name}: it was made before packages had one; package it again.")
    return path.read_bytes()
