"""The jobs of each problem: which assets run together. In what order the main job runs them is in `run.py`."""

from typing import Any

from dagster import AssetKey, AssetSelection, define_asset_job

from assets.control import control_key, windows_key
from assets.features import views_key
from hindcast.workspace import Domain, Workspace

_LOG = {"loggers": {"console": {}}}  # the terse logger of definitions.py


def ingest_job(domain: Domain) -> Any:
    """`<domain>_ingest`."""
    tables = AssetSelection.assets(*(AssetKey(["raw", name]) for name in domain.sources.tables))
    return _job(domain.name, "ingest", tables, "Brings in the months that the clock has reached.")


def jobs_of(workspace: Workspace, shared: list[AssetKey]) -> list[Any]:
    """The jobs of a problem, `<problem>_<what it does>`.

    Args:
        workspace: The problem.
        shared: The tables that its domain's problems share.
    """
    of, problem = workspace.problem.name, workspace.problem

    def own(*names: str) -> AssetSelection:
        return AssetSelection.assets(*(AssetKey([of, *name.split(".")]) for name in names))

    control = AssetSelection.assets(control_key(problem.domain), windows_key(of), views_key(problem.domain), *shared)
    build = control | own(problem.labeled_table, problem.split_table, "feature_history")
    train = own("training_set", "candidates", "evaluation", "model_package", "verdict", "champion")
    publish = own("online_store", "bento")
    serve = own("served_requests", "requests", "shadow_requests", "batch_predictions")
    # The profile is for people and takes as long as all tables: made once, of what the run ends with.
    monitor = own("labeled_requests", "serving_parity", "monitoring_report", "profile")
    return [
        _job(of, "build", build, "Cleans, labels, splits and derives features from what is known by now."),
        _job(of, "train", train, "Makes the training set, trains, evaluates, packages and lets the gate decide."),
        _job(of, "publish", publish, "Fills the online store and builds the champion's bento."),
        _job(of, "serve", serve, "Serves, logs and scores what time brought."),
        _job(of, "monitor", monitor, "Computes again what was served, joins labels that came, and reports."),
        _job(of, "retrain", build | train | publish, "Everything from cleaning to the champion's bento, as of now."),
    ]


def _job(of: str, name: str, selection: AssetSelection, description: str) -> Any:
    return define_asset_job(f"{of}_{name}", selection, config=_LOG, description=description)
