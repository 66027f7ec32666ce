"""Stage serve: the champion as a bento, and real entities asked of it as time goes by. The service is in `bentos/`."""

from dagster import AssetExecutionContext, AssetKey, DataVersion, MaterializeResult, asset

from assets.resources import HindcastResource
from hindcast.errors import HindcastError
from hindcast.problem import load_problem
from hindcast.serving.bento import build_bento
from hindcast.serving.request_replay import replay_requests
from hindcast.serving.server import champion_tag, running
from hindcast.settings import Settings

_LABELED = AssetKey(load_problem(Settings.from_environment().problem_file).labeled_table.split("."))


@asset(deps=["champion", "online_store"], kinds={"bentoml"})
def bento(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """The champion's package, the service and their locked packages, ready to be served."""
    built = build_bento(hindcast.settings, hindcast.problem, hindcast.lake)
    return MaterializeResult(
        metadata={"tag": built.tag, "path": str(built.path), "built": built.built, "packages": list(built.packages)},
        data_version=DataVersion(built.fingerprint),
    )


@asset(deps=["bento", "online_store", _LABELED], kinds={"bentoml"})
def served_requests(context: AssetExecutionContext, hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
    """Every entity whose moment came since the champion was made, asked over HTTP as of that moment."""
    from hindcast.features.materialise import materialise  # Feast takes seconds to import

    settings, problem, clock = hindcast.settings, hindcast.problem, hindcast.problem.clock
    if clock is None:  # requests come from outside, whenever they come
        return MaterializeResult(metadata={"sent": 0})
    with running(settings, champion_tag(settings)) as url:
        replayed = replay_requests(
            settings,
            problem,
            hindcast.lake,
            url,
            clock.start,
            hindcast.clock.now(),
            clock.refresh_every,
            lambda start, end: materialise(settings, start, end),
            context.log.info,
        )
    if replayed.failed:
        raise HindcastError(f"{replayed.failed} of {replayed.sent} requests failed, the first: {replayed.failure}")
    return MaterializeResult(metadata={name: value for name, value in vars(replayed).items() if value is not None})
