"""The jobs: which assets run together, and nothing else. `run.py` says in what order the main job runs them."""

from typing import Any

from dagster import AssetSelection, define_asset_job

_LOG = {"loggers": {"console": {}}}  # the terse logger of definitions.py


def _job(name: str, selection: AssetSelection, description: str) -> Any:
    return define_asset_job(name, selection, config=_LOG, description=description)


_SERVING = AssetSelection.assets("bento", "online_store")

ingest_job = _job("ingest", AssetSelection.groups("raw"), "Brings in the months that the clock has reached.")
build_job = _job(
    "build",
    AssetSelection.groups("control", "cleaned", "labeled", "split", "profile", "features")
    - AssetSelection.assets(["train", "training_set"])
    - _SERVING,
    "Cleans, labels, splits and derives features from what is known by now.",
)
train_job = _job(
    "train",
    AssetSelection.groups("train", "evaluate", "package") | AssetSelection.assets(["train", "training_set"]),
    "Makes the training set, trains the candidates, evaluates, packages and lets the gate decide.",
)
publish_job = _job("publish", _SERVING, "Fills the online store and builds the champion's bento.")
serve_job = _job(
    "serve", AssetSelection.groups("serve", "log", "score") - _SERVING, "Serves, logs and scores what time brought."
)
monitor_job = _job(
    "monitor", AssetSelection.groups("monitor"), "Computes again what was served, joins labels that came, and reports."
)
retrain_job = _job(
    "retrain",
    build_job.selection | train_job.selection | _SERVING,
    "Everything from cleaning to the champion's bento, as of now.",
)

JOBS = (ingest_job, build_job, train_job, publish_job, serve_job, monitor_job, retrain_job)
