"""Feature views from the YAML of their dbt models: names, types and descriptions are written there, and only there."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from hindcast.errors import HindcastError
from hindcast.features.feast_imports import Entity, FeatureView, Field, types
from hindcast.features.lake_source import LakeSource

_EVENT_TIMESTAMP = "event_timestamp"


class DescribedTables:
    """The feature tables of one domain, as `dbt_project/models/<domain>/features/*.yml` describes them.

    Args:
        repository_file: `__file__` of the domain's file in the feature repository, whose name is the domain's.
        owner: Of all views.
    """

    def __init__(self, repository_file: str, owner: str = "") -> None:
        file = Path(repository_file)
        self._folder = file.parent.parent / "dbt_project" / "models" / file.stem / "features"
        self._owner = owner

    def view(self, name: str, entities: Sequence[Entity], ttl: timedelta, tags: Mapping[str, str] | None = None) -> Any:
        """The Feast feature view over the table of the same name.

        Args:
            name: Of the dbt model.
            entities: Feast entities whose join keys are columns of it.
            ttl: How old a row may be and still be used; 0 for any age.
            tags: For Feast's registry.

        Raises:
            HindcastError: The YAML doesn't describe such a table, or a column has a type that Feast doesn't know.
        """
        file, model = self._model(name)
        types = {column["name"]: self._type(file, name, column) for column in model.get("columns", [])}
        keys = [entity.join_key for entity in entities]
        if absent := [key for key in keys if key not in types]:
            raise HindcastError(f"{file}: {name} has no column {absent[0]}, the join key of one of its entities.")
        fields = [
            Field(name=column["name"], dtype=types[column["name"]], description=_one_line(column))
            for column in model["columns"]
            if column["name"] not in (*keys, _EVENT_TIMESTAMP)
        ]
        description = _one_line(model)
        return FeatureView(
            name=name,
            entities=list(entities),
            ttl=ttl,
            schema=[*(Field(name=key, dtype=types[key]) for key in keys), *fields],
            source=LakeSource(name=name, table=f"features.{name}", description=description, owner=self._owner),
            description=description,
            tags=dict(tags or {}),
            owner=self._owner,
        )

    @cached_property
    def _models(self) -> dict[str, tuple[Path, dict[str, Any]]]:
        found = {}
        for file in sorted(self._folder.glob("*.yml")):
            for model in (yaml.safe_load(file.read_text()) or {}).get("models", []):
                found[model["name"]] = (file, model)
        return found

    def _model(self, name: str) -> tuple[Path, dict[str, Any]]:
        if name not in self._models:
            raise HindcastError(
                f"{self._folder}: no YAML file describes a table {name}; there are {', '.join(self._models) or 'none'}."
            )
        return self._models[name]

    @staticmethod
    def _type(file: Path, table: str, column: Mapping[str, Any]) -> Any:
        known = {
            "varchar": types.String,
            "boolean": types.Bool,
            "smallint": types.Int32,
            "integer": types.Int32,
            "bigint": types.Int64,
            "float": types.Float32,
            "double": types.Float64,
            "timestamp": types.UnixTimestamp,
        }
        kind = str(column.get("data_type", "")).lower()
        if kind not in known:
            raise HindcastError(
                f"{file}: {table}.{column['name']}: data_type {kind or 'is missing'}; write one of {', '.join(known)}."
            )
        return known[kind]


def _one_line(described: Mapping[str, Any]) -> str:
    return " ".join(described.get("description", "").split())
