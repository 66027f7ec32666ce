"""The table of contents: every domain's and every problem's assets, in the order in which data flows. Computes nothing.

Groups are numbered, so that the Dagster UI lists them in the order of the data; a problem's own assets are one group.
"""

import warnings
from typing import Any

from dagster import BetaWarning, Definitions, PreviewWarning, in_process_executor

warnings.filterwarnings("ignore", category=BetaWarning)  # single-run backfills: pinned, and held by a test
warnings.filterwarnings("ignore", category=PreviewWarning)

from hindcast.home import prepare  # noqa: E402
from hindcast.settings import Settings  # noqa: E402

prepare(Settings.from_environment())  # dbt, Feast and BentoML read where the home is from the environment

from assets.control import build_control, build_windows  # noqa: E402
from assets.dbt import check_stages  # noqa: E402
from assets.evaluate import build_evaluation  # noqa: E402
from assets.features import build_feature_views, build_features  # noqa: E402
from assets.inputs import input_specs, with_inputs  # noqa: E402
from assets.jobs import ingest_job, jobs_of  # noqa: E402
from assets.monitor import build_monitoring  # noqa: E402
from assets.package import build_package  # noqa: E402
from assets.profile import build_profile  # noqa: E402
from assets.progress import terse_logger  # noqa: E402
from assets.raw import build_raw  # noqa: E402
from assets.resources import HindcastResource  # noqa: E402
from assets.retrain import build_schedule, build_sensor  # noqa: E402
from assets.serve import build_serving  # noqa: E402
from assets.tables import build_labeled_and_split, build_stage  # noqa: E402
from assets.train import build_training  # noqa: E402
from hindcast.workspace import Domain, Workspace, load_catalogue  # noqa: E402


def build_definitions() -> Definitions:
    """Builds the whole graph from the files of the checkout.

    Raises:
        HindcastError: A file of a domain or a problem breaks its form, or two claim the same name.
    """
    catalogue = load_catalogue(Settings.from_environment())
    parts: list[Definitions] = [Definitions(assets=input_specs(catalogue))]
    shared = {}
    for name, domain in catalogue.domains.items():
        part, shared[name] = domain_definitions(domain)
        parts.append(part)
    parts += [problem_definitions(each, shared[each.problem.domain]) for each in catalogue.workspaces.values()]
    common = Definitions(
        resources={"hindcast": HindcastResource()}, executor=in_process_executor, loggers={"console": terse_logger}
    )
    return Definitions.merge(*parts, common).map_asset_specs(func=with_inputs(catalogue))


def domain_definitions(domain: Domain) -> tuple[Definitions, list[Any]]:
    """What a domain's problems share; and the keys of the tables among it that dbt makes."""
    check_stages(domain)
    cleaned, features = build_stage(domain, "cleaned"), build_stage(domain, "features")
    tables = [key for stage in (*cleaned, *features) for key in sorted(stage.keys)]
    feature_tables = [key for stage in features for key in sorted(stage.keys)]
    groups = {
        "2_raw": [*build_raw(domain), build_control(domain)],
        "3_cleaned": cleaned,
        "4_features": [*features, build_feature_views(domain, feature_tables)],
    }
    assets = [_grouped(each, group) for group, members in groups.items() for each in members]
    return Definitions(assets=assets, jobs=[ingest_job(domain)], schedules=[build_schedule(domain)]), tables


def problem_definitions(workspace: Workspace, shared: list[Any]) -> Definitions:
    """A problem's own assets, from its windows on, and what runs them."""
    features = [key for key in shared if key.path[0] == "features"]
    members = [
        build_windows(workspace),
        *build_labeled_and_split(workspace),
        build_profile(workspace),
        *build_features(workspace, features),
        *build_training(workspace),
        *build_evaluation(workspace),
        *build_package(workspace),
        *build_serving(workspace),
        *build_monitoring(workspace),
    ]
    checks = [each for each in members if not each.keys]
    assets = [_grouped(each, workspace.problem.name) for each in members if each.keys]
    return Definitions(
        assets=assets, asset_checks=checks, jobs=jobs_of(workspace, shared), sensors=[build_sensor(workspace)]
    )


def _grouped(asset: Any, group: str) -> Any:
    return asset.map_asset_specs(lambda spec: spec.replace_attributes(group_name=group))


definitions = build_definitions()
