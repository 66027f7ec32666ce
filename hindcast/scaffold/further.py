"""A further question of a domain that is there: the rows and features of one of its problems, with another label."""

import ast
from pathlib import Path

import yaml

from hindcast.errors import HindcastError
from hindcast.files import write_atomically
from hindcast.scaffold.write import render, templates, write_new
from hindcast.settings import Settings
from hindcast.tasks.starter import classes_named, label_type, starter
from hindcast.workspace import load_catalogue


def add_question(
    settings: Settings, name: str, domain: str, like: str | None, label: str | None, task: str | None
) -> list[str]:
    """Writes a problem that shares another's rows, prediction time and features.

    Args:
        settings: Of the checkout.
        name: Of the new problem.
        domain: That it is asked of.
        like: The problem whose labeled table it begins with; None where the domain has only one.
        label: SQL over that table's columns.
        task: Its name; None for the other problem's.

    Returns:
        Paths that were written or changed, within the checkout.

    Raises:
        HindcastError: There is no such domain or problem, an option is missing, or a file is there already.
    """
    catalogue = load_catalogue(settings)
    if domain not in catalogue.domains:
        raise HindcastError(f"--domain {domain}: there are {', '.join(catalogue.domains)}.")
    problems = {problem.name: problem for problem in catalogue.domains[domain].problems}
    like = like or (next(iter(problems)) if len(problems) == 1 else None)
    if like not in problems:
        raise HindcastError(f"--like: name the problem whose rows and features it shares: {', '.join(problems)}.")
    if not label:
        raise HindcastError(f"--label is missing: SQL over the columns of {problems[like].labeled_table}.")
    if name in catalogue.workspaces:
        raise HindcastError(f"There is a problem {name} already. Choose another name.")
    other = problems[like]
    models = settings.dbt_project / "models" / domain
    described = _described(models / "labeled", other.labeled_table.partition(".")[2])
    task = task or other.task
    content = yaml.safe_load(settings.of(like).problem_file.read_text())
    content |= {
        "name": name,
        "question": f"What is {label}?",
        "task": task,
        "labeled_table": f"labeled.{name}_labeled",
        "split_table": f"split.{name}_split",
        "feature_service": name,
    }
    content["label"] = {
        "column": "answer",
        "known_at": other.label.known_at,
        "description": label,
        "matures_within": content["label"]["matures_within"],
    }
    if classes := classes_named(task, label):
        content["label"]["classes"] = classes
    content["metrics"] = {"primary": content["metrics"]["primary"]} | {"bars": {}}
    content["baseline"]["min_gain"] = -0.05
    if task != other.task:
        start = starter(task, [])
        content["metrics"] = {"primary": start.primary, "bars": {}}
        content["candidates"] = [
            {"name": "linear", "model": start.linear, "search": start.linear_search},
            {"name": "gradient_boosting", "model": "hist_gradient_boosting", "parameters": start.boosting},
        ]
    kept = {column: kind for column, kind in described.items() if column != other.label.column}
    values = {"name": name, "label": label, "like": other, "kept": kept, "label_type": label_type(task)}
    environment = templates()
    header = f"# Written by `hindcast new`, after problems/{like}.yaml. Every key is described in docs/reference.md.\n"
    files = {
        f"problems/{name}.yaml": header + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110),
        f"dbt_project/models/{domain}/labeled/{name}_labeled.sql": render(environment, "further_labeled.sql", values),
        f"dbt_project/models/{domain}/labeled/_{name}.yml": render(environment, "_further.yml", values),
        f"dbt_project/models/{domain}/split/{name}_split.sql": render(environment, "further_split.sql", values),
    }
    repository = settings.feature_repo / f"{domain}.py"
    text = repository.read_text()
    service = f"\n# The same features, for a further question.\n{name} = {_service(repository, text, like, name)}\n"
    write_new(settings, files)
    write_atomically(repository, (text.rstrip("\n") + "\n" + service).encode())
    return [*files, f"feature_repo/{domain}.py"]


def _service(repository: Path, text: str, like: str, name: str) -> str:
    """The expression that makes a problem's feature service, with another name in it."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            given = [*node.value.args, *(keyword.value for keyword in node.value.keywords if keyword.arg == "name")]
            if any(isinstance(value, ast.Constant) and value.value == like for value in given):
                return str(ast.get_source_segment(text, node.value)).replace(f'"{like}"', f'"{name}"')
    raise HindcastError(f"{repository}: no line makes the feature service {like} by its name.")


def _described(folder: Path, table: str) -> dict[str, str]:
    """Columns and types of a labeled table, from its YAML."""
    for file in sorted(folder.glob("*.yml")):
        for model in yaml.safe_load(file.read_text()).get("models", []):
            if model["name"] == table:
                return {column["name"]: column["data_type"] for column in model["columns"]}
    raise HindcastError(f"{folder}: no YAML file describes the columns of {table}.")
