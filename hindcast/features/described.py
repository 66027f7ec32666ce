"""Feature views of tables that dbt describes: columns, types and descriptions come from the tables' YAML."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from hindcast.errors import HindcastError
from hindcast.features.feast_imports import Entity, FeatureView, Field, from_value_type
from hindcast.features.lake_source import LakeSource, value_type


class DescribedTables:
    """A domain's feature tables, as described in `dbt_project/models/<domain>/features/*.yml`.

    Args:
        file: The domain's file of the feature repository (`__file__`); its stem is the domain.
        owner: Of all views and their sources.

    Raises:
        HindcastError: A YAML file can't be read, or describes no models.
    """

    def __init__(self, file: str, owner: str = "") -> None:
        path = Path(file).absolute()
        self._folder = path.parent.parent / "dbt_project" / "models" / path.stem / "features"
        self._owner = owner
        self._described: dict[str, tuple[Path, Mapping[str, Any]]] = {}
        for described in sorted(self._folder.glob("*.yml")):
            for model in _models(described):
                self._described[model["name"]] = described, model

    def view(
        self,
        name: str,
        entities: Sequence[Entity],
        ttl: timedelta,
        timestamp_field: str = "event_timestamp",
        created_timestamp_column: str | None = None,
        **more: Any,
    ) -> FeatureView:
        """The view over the table of the same name: its columns but the keys and the instants are the features.

        Args:
            name: Of the table, in the schema `features`, and of the view.
            entities: Their join keys are the table's keys.
            ttl: How old a row may be and still be used.
            timestamp_field: The column of a row's instant.
            created_timestamp_column: The column of the instant at which a row came in, if any.
            more: As of Feast's views: `tags`, `online`.

        Raises:
            HindcastError: No YAML describes the table, a key isn't among its columns, or Feast lacks a column's type.
        """
        if name not in self._described:
            known = ", ".join(sorted(self._described)) or "nothing"
            raise HindcastError(f"{self._folder}/*.yml: models: no table {name} is described there; {known} is.")
        path, model = self._described[name]
        fields = {column.get("name"): column for column in model.get("columns") or []}
        keys = [entity.join_key for entity in entities]
        for key in keys:
            if key not in fields:
                raise HindcastError(f"{path}: models.{name}.columns: no column {key}, a key of the view {name}.")
        instants = {timestamp_field, created_timestamp_column}
        features = [column for column in fields if column not in keys and column not in instants]
        description = str(model.get("description") or "")
        source = LakeSource(
            name=name,
            table=f"features.{name}",
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            description=description,
            owner=self._owner,
        )
        return FeatureView(
            name=name,
            entities=list(entities),
            ttl=ttl,
            schema=[_field(path, name, fields[column]) for column in [*keys, *features]],
            source=source,
            description=description,
            owner=self._owner,
            **more,
        )


def _models(path: Path) -> list[dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise HindcastError(f"{path}: {' '.join(str(error).split())}") from error
    models = content.get("models") if isinstance(content, dict) else None
    if not isinstance(models, list) or not all(isinstance(model, dict) and "name" in model for model in models):
        raise HindcastError(f"{path}: models: must list tables, each with its name.")
    return models


def _field(path: Path, table: str, column: Mapping[str, Any]) -> Field:
    where = f"{path}: models.{table}.columns.{column['name']}.data_type"
    if not column.get("data_type"):
        raise HindcastError(f"{where}: missing: the type of the table's column, e.g. double.")
    try:
        kind = value_type(str(column["data_type"]).upper())
    except HindcastError as error:
        raise HindcastError(f"{where}: {error}") from error
    return Field(
        name=column["name"],
        dtype=from_value_type(kind),
        description=" ".join(str(column.get("description") or "").split()),
    )
