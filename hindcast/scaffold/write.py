"""Renders the templates and writes the files: all of them or none, and never over a file that is there."""

import json
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.scaffold.plan import FeatureTable, Plan, plain
from hindcast.scaffold.roles import MADE_OF_LABEL, numbers_known_later
from hindcast.settings import Settings
from hindcast.tasks.starter import label_type

_ENTITY_TYPES = {"varchar": "STRING", "integer": "INT32", "bigint": "INT64", "boolean": "BOOL", "double": "DOUBLE"}
_FEAST_TYPES = {"varchar": "String", "integer": "Int32", "bigint": "Int64", "boolean": "Bool", "double": "Float64"}


def render_domain(plan: Plan) -> dict[str, str]:
    """The files of a new domain and its problem: path within the checkout, and text."""
    question, name = plan.question, plan.name
    used = [*(table for table in question.others if table.name in plan.roles.joined), question.main]
    feature_tables = [*plan.lookups, *plan.histories]
    entities = {column: _ENTITY_TYPES[kind] for table in feature_tables for column, kind in table.keys.items()}
    values = vars(plan) | {
        "domain": name,
        "kept": plan.kept,
        "tables": used,
        "entities": entities,
        "feature_tables": feature_tables,
        "entity_key": _entity_key(question.key),
        "later_numbers": [column for column in numbers_known_later(question, plan.roles) if column not in plan.kept],
        "label_type": label_type(question.task),
        "first_day": "1970-01-01",
    }
    models = f"dbt_project/models/{name}"
    files: dict[str, tuple[str, dict[str, Any]]] = {
        f"problems/sources/{name}.yaml": ("sources.yaml", {}),
        f"problems/{name}.yaml": ("problem.yaml", {}),
        f"{models}/_sources.yml": ("_sources.yml", {}),
        f"{models}/staging/stg_{question.main.name}.sql": ("staging.sql", {}),
        f"{models}/labeled/{name}_labeled.sql": ("labeled.sql", {}),
        f"{models}/labeled/_labeled.yml": ("_labeled.yml", {}),
        f"{models}/split/{name}_split.sql": ("split.sql", {}),
        f"{models}/split/_split.yml": ("_split.yml", {}),
        f"{models}/features/_features.yml": ("_features.yml", {}),
        f"feature_repo/{name}.py": ("views.py", {}),
    }
    for history in plan.histories:
        files[f"{models}/features/{history.name}.sql"] = ("history.sql", {"table": history})
    for lookup, table in zip(plan.lookups, used, strict=False):
        files[f"{models}/staging/stg_{table.name}.sql"] = ("staging_lookup.sql", {"table": table})
        files[f"{models}/features/{lookup.name}.sql"] = ("lookup.sql", _of_lookup(lookup, name, table.columns))
    files |= {f"problems/leaks/{name}/{file}": (file, _of_leaks(plan)) for file in ("variants.yaml", "usual_way.sql")}
    environment = templates()
    return {path: render(environment, template, values | more) for path, (template, more) in files.items()}


def templates() -> Environment:
    """The environment of this package's templates, with the filters that they use."""
    environment = Environment(
        loader=PackageLoader("hindcast.scaffold"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {
        "yaml": _as_yaml,
        "plain": plain,
        "quote": json.dumps,
        "instant": lambda at: (
            at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at.tzinfo else f"{at:%Y-%m-%dT%H:%M:%SZ}"
        ),
        "variable": lambda column: f"{column.lower()}_entity",
        "feast": lambda kind: _FEAST_TYPES[kind],
    }
    return environment


def render(environment: Environment, template: str, values: Mapping[str, Any]) -> str:
    """One file's text."""
    return environment.get_template(f"{template}.jinja").render(values)


def write_new(settings: Settings, files: Mapping[str, str]) -> None:
    """Writes files into the checkout; where one fails, those before it are taken out again.

    Args:
        settings: Of the checkout.
        files: Path within the checkout, and text.

    Raises:
        HindcastError: One of them is there already, or can't be written.
    """
    there = [path for path in files if (settings.root / path).exists()]
    if there:
        raise HindcastError(f"Nothing was written: {', '.join(there)} is there already. Choose another name.")
    written: list[Path] = []
    try:
        for path, text in files.items():
            file = settings.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            written.append(file)
            write_atomically(file, text.encode())
    except OSError as error:
        for file in written:
            file.unlink(missing_ok=True)
        raise HindcastError(f"Nothing was written: {error}") from error


def add_stages(settings: Settings, domain: str) -> None:
    """Has dbt_project.yml give a domain's folders the stages that all domains have.

    Raises:
        HindcastError: The file has no such line to follow.
    """
    file = settings.dbt_project / "dbt_project.yml"
    lines = file.read_text().splitlines(keepends=True)
    line = f"    {domain}: *stages\n"
    if line in lines:
        return
    places = [at for at, text in enumerate(lines) if text.rstrip().endswith(": *stages")]
    places = places or [at for at, text in enumerate(lines) if text.startswith("seeds:")]
    if not places:
        raise HindcastError(f"{file}: add `{line.strip()}` under models.hindcast; no line like it is there.")
    at = places[-1] + 1 if lines[places[-1]].rstrip().endswith("*stages") else places[-1] - 1
    write_atomically(file, "".join([*lines[:at], line, *lines[at:]]).encode())


def _of_lookup(table: FeatureTable, name: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    short = table.source.removeprefix("stg_").removeprefix(f"{name}_")
    chosen = {column: f"{short}_{column.lower()}" for column in columns}
    return {
        "table": table,
        "lookups": {column: feature for column, feature in chosen.items() if feature in table.columns},
        "keys_there": " and ".join(f"{plain(column)} is not null" for column in table.keys),
    }


def _of_leaks(plan: Plan) -> dict[str, Any]:
    """What a careless model would use: columns known only with the label, and the label's means over all rows."""
    question = plan.question
    by_one_key = [table for table in plan.histories if len(table.keys) == 1]
    made_of_label = [column for column, why in plan.roles.why_later.items() if why == MADE_OF_LABEL]
    columns = question.main.columns
    usable = [column for column in plan.roles.later if column not in made_of_label and not columns[column].is_time]
    smoothed = {
        next(iter(table.keys)): next(v for v in table.values if v.aggregate == "smoothed") for table in by_one_key
    }
    return {
        "telling": [column for column in usable if columns[column].is_number or columns[column].distinct <= 500],
        "means": list(smoothed),
        "measured": next((value.of for value in smoothed.values()), ""),
        "feature_of": {column: f"{value.name}_ever" for column, value in smoothed.items()},
        "table_of": {next(iter(table.keys)): table.name for table in by_one_key},
        "finished_key": _entity_key(question.key, "finished."),
    }


def _entity_key(key: tuple[str, ...], of: str = "") -> str:
    if len(key) == 1:
        return f"cast({of}{plain(key[0])} as varchar)"
    return f"concat_ws('|', {', '.join(of + plain(column) for column in key)})"


def _as_yaml(value: Any) -> str:
    """A value on one line, in quotes only where YAML needs them."""
    text = yaml.safe_dump(value, default_flow_style=True, width=100_000, allow_unicode=True).strip()
    return text.removesuffix("...").strip()
