"""Faults of a domain's Feast views against its tables: views without a table, fields and keys that aren't there."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

from hindcast.checking.fault import Fault, did_you_mean
from hindcast.checking.sql_faults import Models
from hindcast.problem import Problem
from hindcast.settings import Settings

_KINDS = {
    "String": ("varchar",),
    "Bool": ("boolean",),
    "Int32": ("integer", "smallint", "tinyint"),
    "Int64": ("bigint", "integer"),
    "Float32": ("float", "real", "double"),
    "Float64": ("double", "float", "real", "integer", "bigint", "smallint", "decimal"),
    "UnixTimestamp": ("timestamp", "date"),
}


class Views:
    """What one domain's file of the feature repository declares.

    Args:
        settings: Of the checkout.
        domain: Its name.

    Attributes:
        file: The domain's file.
        faults: Of the views against their tables.
    """

    def __init__(self, settings: Settings, domain: str, models: Models) -> None:
        from hindcast.features.feast_imports import FeatureService, FeatureView, OnDemandFeatureView

        self.file = settings.feature_repo / f"{domain}.py"
        self.faults: list[Fault] = []
        declared = self._load()
        self._views = {each.name: each for each in declared if type(each) is FeatureView}
        self._on_demand = {each.name: each for each in declared if isinstance(each, OnDemandFeatureView)}
        self._services = {each.name: each for each in declared if isinstance(each, FeatureService)}
        for view in self._views.values():
            self._check_view(view, models)

    def check_problem(self, file: Path, problem: Problem, labeled: dict[str, str]) -> list[Fault]:
        """Whether a problem's feature service is there, and its labeled table has what the service asks for."""
        if self.faults and not self._services:
            return []
        if problem.feature_service not in self._services:
            what = f"{self.file} declares no feature service {problem.feature_service}; "
            return [Fault(file, "feature_service", what + did_you_mean(problem.feature_service, self._services))]
        faults, names = [], []
        for projection in self._services[problem.feature_service].feature_view_projections:
            names += [field.name for field in projection.features]
            view = self._views.get(projection.name)
            keys = [key for entity in view.entity_columns for key in [entity.name]] if view else []
            for key in keys:
                asked = projection.join_key_map.get(key, key)
                if labeled and asked not in labeled:
                    what = f"the view {projection.name} is looked up by {asked}, which {problem.labeled_table} hasn't."
                    faults.append(Fault(self.file, projection.name, what))
            on_demand = self._on_demand.get(projection.name)
            sources = on_demand.source_request_sources.values() if on_demand else ()
            for field in (field.name for source in sources for field in source.schema):
                if labeled and field not in labeled and field != "prediction_time":
                    what = (
                        f"it takes {field} from the request; {problem.labeled_table} has no such column to learn from."
                    )
                    faults.append(Fault(self.file, projection.name, what))
        twice = sorted({name for name in names if names.count(name) > 1})
        service = problem.feature_service
        return faults + [Fault(self.file, service, f"several of its views have a feature {name}.") for name in twice]

    def _load(self) -> list[Any]:
        if not self.file.exists():
            self.faults.append(Fault(self.file, "", "there is no such file: it declares the domain's feature views."))
            return []
        spec = importlib.util.spec_from_file_location(f"checked_{self.file.stem}", self.file)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        before = sys.dont_write_bytecode
        sys.dont_write_bytecode = True
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            self.faults.append(Fault(self.file, "", f"it can't be imported: {type(error).__name__}: {error}"))
            return []
        finally:
            sys.dont_write_bytecode = before
        return list(vars(module).values())

    def _check_view(self, view: Any, models: Models) -> None:
        table = str(getattr(view.batch_source, "table", "")).partition(".")[2] or view.name
        if table not in models.files:
            there = [name for name, path in models.files.items() if path.parent.name == "features"]
            self.faults.append(
                Fault(self.file, view.name, f"there is no table features.{table}; {did_you_mean(table, there)}")
            )
            return
        columns = models.columns(table)
        for field in view.schema if columns else ():
            kind = columns.get(field.name)
            if kind is None:
                what = f"features.{table} has no column {field.name}; {did_you_mean(field.name, columns)}"
                self.faults.append(Fault(self.file, f"{view.name}.{field.name}", what))
            elif kind.partition("(")[0] not in _KINDS.get(str(field.dtype), (kind.partition("(")[0],)):
                what = f"it is {field.dtype} here and {kind} in features.{table}."
                self.faults.append(Fault(self.file, f"{view.name}.{field.name}", what))
