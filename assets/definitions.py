"""The table of contents: every stage in the order in which data flows. Nothing is computed here.

A stage's name is its module's name, its group's name in the Dagster UI, and (where it makes tables) its schema's.
"""

import warnings

from dagster import (
    BetaWarning,
    Definitions,
    PreviewWarning,
    in_process_executor,
    load_asset_checks_from_modules,
    load_assets_from_modules,
)

warnings.filterwarnings("ignore", category=BetaWarning)  # single-run backfills: pinned, and held by a test
warnings.filterwarnings("ignore", category=PreviewWarning)

from hindcast.home import prepare  # noqa: E402
from hindcast.settings import Settings  # noqa: E402

prepare(Settings.from_environment())  # dbt, Feast and BentoML read where the home is from the environment

from assets import (  # noqa: E402
    cleaned,
    control,
    evaluate,
    features,
    inputs,
    labeled,
    log,
    monitor,
    package,
    profile,
    raw,
    retrain,
    score,
    serve,
    split,
    train,
)
from assets.jobs import JOBS  # noqa: E402
from assets.progress import terse_logger  # noqa: E402
from assets.resources import HindcastResource  # noqa: E402

STAGES = {
    "inputs": inputs,
    "raw": raw,
    "control": control,
    "cleaned": cleaned,
    "labeled": labeled,
    "split": split,
    "profile": profile,
    "features": features,
    "train": train,
    "evaluate": evaluate,
    "package": package,
    "serve": serve,
    "score": score,
    "log": log,
    "monitor": monitor,
}


def build_definitions() -> Definitions:
    """The whole graph, made afresh (tests call it too)."""
    definitions = Definitions(
        assets=[
            asset
            for name, module in STAGES.items()
            for asset in load_assets_from_modules([module], group_name=name, include_specs=True)
        ],
        asset_checks=load_asset_checks_from_modules(STAGES.values()),
        jobs=JOBS,
        sensors=retrain.SENSORS,
        schedules=retrain.SCHEDULES,
        resources={"hindcast": HindcastResource()},
        executor=in_process_executor,
        loggers={"console": terse_logger},
    )
    return definitions.map_asset_specs(func=inputs.with_inputs(Settings.from_environment()))


definitions = build_definitions()
