"""The champion as a bento, real entities asked of it, and what it logged. The service is in `bentos/`."""

from pathlib import Path

from dagster import AssetExecutionContext, AssetKey, AssetsDefinition, DataVersion, MaterializeResult, asset

from assets.resources import HindcastResource
from assets.tables import table_key
from hindcast.pipeline import score_batch, serve_requests
from hindcast.serving.request_log import REQUESTS, SHADOW, Compaction, compact
from hindcast.workspace import Workspace


def build_serving(workspace: Workspace) -> list[AssetsDefinition]:
    """The assets `<problem>/bento`, `<problem>/served_requests`, its two logs and `<problem>/batch_predictions`."""
    of = workspace.problem.name
    labeled = table_key(of, workspace.problem.labeled_table)
    champion, online = AssetKey([of, "champion"]), AssetKey([of, "online_store"])
    served = AssetKey([of, "served_requests"])

    @asset(key=[of, "bento"], deps=[champion, online], kinds={"bentoml"})
    def bento(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """The champion's package, the service and their locked packages, ready to be served."""
        from hindcast.serving.bento import build_bento

        found = hindcast.problem(of)
        built = build_bento(found.settings, found.problem, found.lake)
        shown = {"tag": built.tag, "path": str(built.path), "built": built.built, "packages": list(built.packages)}
        return MaterializeResult(metadata=shown, data_version=DataVersion(built.fingerprint))

    @asset(key=served, deps=[AssetKey([of, "bento"]), online, labeled], kinds={"bentoml"})
    def served_requests(context: AssetExecutionContext, hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """Every entity whose moment came since the champion was made, asked over HTTP as of that moment."""
        done = serve_requests(hindcast.problem(of), context.log.info)
        if done is None:
            return MaterializeResult(metadata={"sent": 0})
        return MaterializeResult(metadata={name: value for name, value in vars(done).items() if value is not None})

    @asset(key=[of, REQUESTS], deps=[served], kinds={"duckdb"})
    def requests(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """One row per answered request, with the features it was answered from: each record of the log exactly once."""
        found = hindcast.problem(of)
        return _compacted(found, compact_log(found, found.settings.request_log, REQUESTS))

    @asset(key=[of, SHADOW], deps=[served], kinds={"duckdb"})
    def shadow_requests(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """One row per request that a challenger got beside the champion; `hindcast shadow` compares the two."""
        found = hindcast.problem(of)
        return _compacted(found, compact_log(found, found.settings.shadow_log, SHADOW))

    @asset(key=[of, "batch_predictions"], deps=[champion, labeled], kinds={"duckdb", "onnx"})
    def batch_predictions(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """One row per entity asked about since the test window began, scored by the champion on what was known then."""
        from hindcast.evaluation.scoring import summarise
        from hindcast.training.training_set import content_hash

        scored, version, starts_at, ends_at = score_batch(hindcast.problem(of))
        return MaterializeResult(
            metadata={
                "dagster/row_count": scored.height,
                "from": starts_at.isoformat(),
                "to": ends_at.isoformat(),
                "model_version": version,
                **summarise(hindcast.problem(of).problem, scored),
            },
            data_version=DataVersion(content_hash(scored)),
        )

    return [bento, served_requests, requests, shadow_requests, batch_predictions]


def compact_log(workspace: Workspace, folder: Path, table: str) -> Compaction:
    """Moves what a log's files hold into the problem's table."""
    problem = workspace.problem
    return compact(folder, workspace.lake, problem.table(table), problem.entity.key, problem.serving.log_keep)


def _compacted(workspace: Workspace, done: Compaction) -> MaterializeResult:  # type: ignore[type-arg]
    return MaterializeResult(
        metadata={
            "dagster/row_count": done.rows,
            "added": done.added,
            "duplicates": done.duplicates,
            "torn_lines": done.torn,
            "files_deleted": done.deleted,
            "snapshot": workspace.lake.snapshot(),
        },
        data_version=DataVersion(str(done.rows)),
    )
