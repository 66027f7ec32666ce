"""Builds the rows of each leak variant: as a careless training set has them, and as the service would.

Everything is read at one snapshot of the lake; SQL of variants runs on a connection that can't write to it.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import duckdb
import polars as pl

from hindcast.errors import HindcastError
from hindcast.lake import Lake, check_columns, columns_of
from hindcast.leaks.trials import Model, Service, Trial, Windows
from hindcast.leaks.variants import RANDOM_SPLIT, READ_LATE, SERVED, Recipe, Variant, sql_of
from hindcast.problem import Candidate, Problem
from hindcast.settings import Settings
from hindcast.sql import identifier, identifiers, table_identifier, without_zone
from hindcast.tasks import problem_task
from hindcast.training.training_data import find_features
from hindcast.training.training_set import SPLIT


@dataclass(frozen=True)
class LeakData:
    """What all variants of a problem start from.

    Attributes:
        settings: Of the home that is read.
        problem: What is predicted.
        lake: Of the home.
        snapshot: At which everything is read.
        service: Where the features come from.
        model: What is fitted.
        variants: As declared.
        entities: Every entity whose label is known, in the order of prediction time, then of the key.
        honest: The entities of both windows with their features as known then.
    """

    settings: Settings
    problem: Problem
    lake: Lake
    snapshot: int
    service: Service
    model: Model
    variants: tuple[Variant, ...]
    entities: pl.DataFrame = field(repr=False)
    honest: pl.DataFrame = field(repr=False)

    @property
    def features(self) -> tuple[str, ...]:
        """In the order of the service."""
        return tuple(feature for _, feature in self.service.features)

    def trial_without_leak(self) -> Trial:
        """The honest training set."""
        return self._trial("honest", "Every feature as known at the prediction time, split by time.", self.honest, ())

    @property
    def names(self) -> list[str]:
        """Of all variants: those that need no declaration, then those declared."""
        views = [f"{READ_LATE}.{view}" for view in self.service.view_names if self.service.of_view(view)]
        return [RANDOM_SPLIT, READ_LATE, *views, *(variant.name for variant in self.variants)]

    def trial(self, called: str) -> Trial:
        """One of `names`.

        Raises:
            HindcastError: Its SQL fails, or doesn't give what the form asks for.
        """
        declared = next((variant for variant in self.variants if variant.name == called), None)
        if declared:
            return self._declared(declared)
        if called == RANDOM_SPLIT:
            says = "The same rows, but dealt to training and test at random: days of the test are learned from."
            trial = self._trial(called, says, self.honest, ())
            return replace(trial, test_share=int((self.honest[SPLIT] == "test").sum()) / self.honest.height)
        view = called.removeprefix(READ_LATE).removeprefix(".")
        late = self.service.of_view(view) if view else self.features
        says = (
            f"{view or 'Every feature'} read as of the instant at which the label was known, as a join on the newest "
            "row or on the label's own time does, and not as of the prediction time."
        )
        return self._trial(called, says, self.honest.with_columns(self._late.select(late).get_columns()), late)

    def _declared(self, variant: Variant) -> Trial:
        try:
            if variant.view:
                trial = self._view_trial(variant, variant.view)
            elif variant.recipe:
                trial = self._recipe_trial(variant, variant.recipe)
            else:
                trial = self._column_trial(variant)
        except duckdb.Error as error:
            raise self._fault(variant, f"the SQL fails: {error}") from error
        for frame in (trial.naive, trial.served):
            find_features(frame.head(0), trial.features)  # a type that no model takes fails here, before any fit
        return trial

    def _trial(self, called: str, description: str, naive: pl.DataFrame, changed: Sequence[str]) -> Trial:
        return Trial(
            called, description, self.problem, naive, self.honest, self.features, tuple(changed), self.model
        )  # fmt: skip

    def _fault(self, variant: Variant, what: str) -> HindcastError:
        return HindcastError(f"{self.settings.leaks_folder / variant.name}.sql: {what}")

    @cached_property
    def _late(self) -> pl.DataFrame:
        """The features as of the instants at which the labels were known."""
        from hindcast.features.store import historical_features

        time = self.problem.prediction_time.model_copy(update={"column": self.problem.label.known_at})
        too_late = self.problem.model_copy(update={"prediction_time": time})
        rows = self.honest.drop(self.features)
        return historical_features(self.settings, too_late, rows, self.snapshot).select(self.features)

    def _view_trial(self, variant: Variant, view: str) -> Trial:
        if view not in self.service.view_names:
            listed = ", ".join(self.service.view_names)
            raise HindcastError(
                f"{self.settings.leaks_folder / 'variants.yaml'}: {variant.name}: the service "
                f"{self.problem.feature_service} reads no feature view {view}; it reads {listed}."
            )
        found = self._read_naive_view(variant, view)
        return self._trial(
            variant.name, variant.description, self.honest.with_columns(found.get_columns()), found.columns
        )

    def _read_naive_view(self, variant: Variant, view: str) -> pl.DataFrame:
        from hindcast.features.lake_source import LakeSource
        from hindcast.features.on_demand import input_features
        from hindcast.features.retrieval import EVENT_TIMESTAMP, Retrieval

        touched = self.service.touched_by(view)
        sources = {source for source, _ in touched}
        on_demand = [each for each in self.service.on_demand if each.projection.name_to_use() in sources]
        needed = list(dict.fromkeys([*touched, *(ref for each in on_demand for ref in input_features(each))]))
        views = [each for each in self.service.views if each.projection.name_to_use() in {name for name, _ in needed}]
        with self.lake.reading(self.snapshot) as connection:
            connection.execute(f"CREATE TEMP TABLE naive_view AS {sql_of(self.settings, variant)}")
            changed = []
            for each in views:
                if each.projection.name_to_use() == view:
                    each = copy.copy(each)
                    each.batch_source = LakeSource(name=variant.name, table="temp.naive_view")
                    keys = [column.name for column in each.entity_columns]
                    features = [feature for source, feature in needed if source == view]
                    self._check_naive_view(connection, variant, keys, [*keys, EVENT_TIMESTAMP, *features])
                changed.append(each)
            asked = self.honest.drop(self.features).with_columns(
                pl.col(self.problem.prediction_time.column).alias(EVENT_TIMESTAMP)
            )
            refs = [f"{source}:{feature}" for source, feature in needed]
            retrieval = Retrieval(changed, on_demand, refs, full_names=False)
            found = retrieval.run(connection, asked.to_arrow())
        return pl.DataFrame(pl.from_arrow(found.select([feature for _, feature in touched])))

    def _check_naive_view(
        self, connection: duckdb.DuckDBPyConnection, variant: Variant, keys: list[str], needed: list[str]
    ) -> None:
        there = columns_of(connection, "temp.naive_view")
        if absent := [column for column in needed if column not in there]:
            raise self._fault(variant, f"the SQL gives no column {', '.join(absent)}, which view {variant.view} has.")
        instants = identifiers(needed[: len(keys) + 1])
        ((doubled,),) = connection.execute(
            f"SELECT count(*) - count(DISTINCT ({instants})) FROM temp.naive_view"
        ).fetchall()
        if doubled:
            raise self._fault(variant, f"{doubled} rows have the {instants} of another; they must be unique.")

    def _read_columns(self, variant: Variant) -> pl.DataFrame:
        """A variant's SQL per entity: key and columns, the key as the labeled table has it."""
        key = self.problem.entity.key
        with self.lake.reading(self.snapshot) as connection:
            found = connection.execute(sql_of(self.settings, variant)).pl()
        if key not in found.columns:
            raise self._fault(variant, f"the SQL gives no column {key}, the key of a {self.problem.entity.name}.")
        found = found.with_columns(pl.col(key).cast(self.entities[key].dtype, strict=False))
        if doubled := found.height - found[key].n_unique():
            raise self._fault(variant, f"{doubled} rows have the {key} of another; it must be unique.")
        if found.join(self.entities, on=key, how="semi").is_empty():
            raise self._fault(variant, f"none of its {found.height} rows has the {key} of a labeled row.")
        for column in found.columns:
            if column.endswith(SERVED) and column.removesuffix(SERVED) not in found.columns:
                raise self._fault(variant, f"{column} is served in the place of no column.")
        return found

    def _as_served(self, variant: Variant, naive: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
        """The columns with what is served in the place of each; those for which nothing is declared stay."""
        served = []
        for column in naive.get_columns():
            if column.name + SERVED in found.columns:
                twin = found[column.name + SERVED].alias(column.name)
                if twin.null_count() == len(twin):
                    twin = twin.cast(column.dtype)
                if (twin.dtype == pl.String) != (column.dtype == pl.String):
                    raise self._fault(
                        variant, f"{column.name} is {column.dtype}, and what is served in its place {twin.dtype}."
                    )
                column = twin
            served.append(column)
        return pl.DataFrame(served)

    def _column_trial(self, variant: Variant) -> Trial:
        found, key = self._read_columns(variant), self.problem.entity.key
        new = [column for column in found.columns if column != key and not column.endswith(SERVED)]
        for column in new:
            if column in self.features and column + SERVED in found.columns:
                raise self._fault(variant, f"{column} is a feature: served is the feature, leave {column}{SERVED} out.")
            if column not in self.features and column + SERVED not in found.columns:
                raise self._fault(
                    variant, f"{column} is no feature of {self.problem.feature_service}: give {column}{SERVED} too, "
                    "what is served in its place (null where nobody knows it yet)."
                )  # fmt: skip
            if column not in self.features and column in self.honest.columns:
                raise self._fault(variant, f"{self.problem.labeled_table} has a column {column}: rename the SQL's.")
        if not new:
            raise self._fault(variant, "the SQL gives no column beside the key.")
        columns = self.honest.select(key).join(found, on=key, how="left", maintain_order="left")
        served = self._as_served(variant, columns.select(new), columns)
        added = [column for column in new if column not in self.features]
        trial = self._trial(
            variant.name, variant.description, self.honest.with_columns(columns.select(new).get_columns()), new
        )
        return replace(
            trial,
            served=self.honest.with_columns(served.select(added).get_columns()),
            features=(*self.features, *added),
        )

    def _recipe_trial(self, variant: Variant, recipe: Recipe) -> Trial:
        found, problem, label = self._read_columns(variant), self.problem, recipe.label
        allowed = problem_task(problem).allowed
        given = found[label].drop_nulls().unique() if label in found.columns else pl.Series([], dtype=pl.Null)
        values = {value if value in (allowed or ()) else str(value) for value in given}  # 1 is the class "1"
        if not (given.dtype.is_numeric() if allowed is None else values and values <= {*allowed}):
            kinds = "numbers" if allowed is None else " and ".join(map(str, allowed))
            raise self._fault(variant, f"the SQL gives no column {label} of {kinds}, the recipe's label.")
        ours = [problem.entity.key, problem.prediction_time.column, problem.label.known_at, SPLIT]
        if taken := [column for column in ours[1:] if column in found.columns]:
            raise self._fault(variant, f"{problem.labeled_table} has a column {taken[0]}: rename the SQL's.")
        naive = self.entities.select(ours).join(found, on=ours[0], how="inner", maintain_order="left")
        naive = naive.filter(pl.col(label).is_not_null())
        features = [
            column for column in found.columns if column not in (ours[0], label) and not column.endswith(SERVED)
        ]
        served = self._as_served(variant, naive.select(features), naive)
        return Trial(
            variant.name,
            variant.description,
            problem.model_copy(update={"label": problem.label.model_copy(update={"column": label})}),
            naive,
            naive.with_columns(served.get_columns()),
            tuple(features),
            tuple(column for column in features if column + SERVED in naive.columns),
            Model(Candidate(name=variant.name, model=recipe.model), recipe.parameters),
            recipe.test_share,
            alone=True,
        )


def read_leak_data(
    settings: Settings, problem: Problem, lake: Lake, windows: Windows, model: Model, variants: Sequence[Variant]
) -> LeakData:
    """Reads the entities of both windows and their features as known then.

    Args:
        settings: Of the home that is read.
        problem: What is predicted.
        lake: Of the home.
        windows: First (included) and last (excluded) prediction time (UTC) of `train` and `test`. As everywhere, a
            row to learn from counts only if its label was known at the window's end; a tested one, if it is known.
        model: What is to be fitted.
        variants: As declared.

    Raises:
        HindcastError: The labeled table lacks a column, or a window has fewer than two different labels.
    """
    from hindcast.features import feature_service
    from hindcast.features.on_demand import request_fields
    from hindcast.features.store import historical_features

    snapshot = lake.snapshot()
    store = feature_service.open_store(settings, offline_store={"snapshot": snapshot})
    found = feature_service.find_service(store, problem.feature_service)
    service = Service(feature_service.service_features(found), *feature_service.service_views(store, found))
    fields = [column for view in service.on_demand for column in request_fields(view)]
    entities = _entities(problem, lake, snapshot, windows, [*feature_service.join_keys(service.views), *fields])
    asked = entities.filter(pl.col(SPLIT).is_not_null())
    for split, (start, end) in windows.items():
        labels = asked.filter(pl.col(SPLIT) == split)[problem.label.column].n_unique()
        if labels < 2:
            raise HindcastError(
                f"From {start:%Y-%m-%d} to {end:%Y-%m-%d} ({split}), {labels} different labels of {problem.name} "
                "occur; there must be 2. Choose a period that the data covers."
            )
    honest = historical_features(settings, problem, asked, snapshot)
    return LeakData(settings, problem, lake, snapshot, service, model, tuple(variants), entities, honest)


def _entities(
    problem: Problem, lake: Lake, snapshot: int, windows: Windows, more: Sequence[str]
) -> pl.DataFrame:  # fmt: skip
    label, at = problem.label, identifier(problem.prediction_time.column)
    wanted = dict.fromkeys([problem.entity.key, problem.prediction_time.column, label.known_at, label.column, *more])
    with lake.reading(snapshot) as connection:
        check_columns(connection, problem.labeled_table, wanted, "the leak meter")
        (train, trained), (test, tested) = (map(without_zone, windows[split]) for split in ("train", "test"))
        return connection.execute(
            f"SELECT {identifiers(wanted)}, "
            f"CASE WHEN {at} >= ? AND {at} < ? AND {identifier(label.known_at)} <= ? THEN 'train' "
            f"WHEN {at} >= ? AND {at} < ? THEN 'test' END AS {SPLIT} FROM {table_identifier(problem.labeled_table)} "
            f"WHERE {identifier(label.column)} IS NOT NULL ORDER BY {at}, {identifier(problem.entity.key)}",
            [train, trained, trained, test, tested],
        ).pl()
