"""What a leak is measured on: a model, a training set with the leak beside the same rows as served, and where features
come from. How the rows are read is `rows`' work."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from hindcast.problem import Candidate, Problem

# Feast takes most of a second to import: only the functions that need it do.
if TYPE_CHECKING:
    from hindcast.features.feast_imports import FeatureView, OnDemandFeatureView

Windows = dict[str, tuple[datetime, datetime]]


@dataclass(frozen=True)
class Model:
    """What is fitted to every variant of a problem: a family and its parameters, as `training.fit` takes them."""

    candidate: Candidate
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training set with a leak, and the same rows as served.

    Attributes:
        name: Of the variant.
        description: What leaks.
        problem: Names the columns and the label that is predicted.
        naive: One row per entity in the order of prediction time, then of the key: key, instants, label, features,
            and `split` (`train` or `test` by time, else null).
        served: The same rows with the features as known at the prediction time.
        features: What the model gets.
        changed: Those features in which the two differ.
        model: What is fitted.
        test_share: Of rows held out at random; None where the split is by time.
        alone: Whether it stands on terms of its own: its figures aren't comparable with the honest model's.
    """

    name: str
    description: str
    problem: Problem
    naive: pl.DataFrame
    served: pl.DataFrame
    features: tuple[str, ...]
    changed: tuple[str, ...]
    model: Model
    test_share: float | None = None
    alone: bool = False


@dataclass(frozen=True)
class Service:
    """The feature service that the problem's models read.

    Attributes:
        features: (view, feature) in its order.
        views: To be read for them.
        on_demand: To be computed from these.
    """

    features: list[tuple[str, str]]
    views: list["FeatureView"]
    on_demand: list["OnDemandFeatureView"]

    @property
    def view_names(self) -> list[str]:
        """Of those that are read."""
        return [view.projection.name_to_use() for view in self.views]

    def of_view(self, view: str) -> tuple[str, ...]:
        """The features of a view alone."""
        return tuple(feature for source, feature in self.features if source == view)

    def touched_by(self, view: str) -> list[tuple[str, str]]:
        """The features of a view, and those computed from it."""
        from hindcast.features.on_demand import input_features

        computed = {
            each.projection.name_to_use()
            for each in self.on_demand
            if view in (source for source, _ in input_features(each))
        }
        return [(source, feature) for source, feature in self.features if source == view or source in computed]
