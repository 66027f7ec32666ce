"""The chosen candidate as a package, the gate's verdict on it, and the champion.

Packaging is `hindcast.package.build`'s work, judging `hindcast.promotion.gate`'s.
"""

from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from assets.resources import HindcastResource
from hindcast.pipeline import apply_verdict, judge_challenger, package_candidate
from hindcast.workspace import Workspace

if TYPE_CHECKING:
    from hindcast.promotion.verdict import Verdict


def build_package(workspace: Workspace) -> list[AssetsDefinition]:
    """The assets `<problem>/model_package`, `<problem>/verdict` and `<problem>/champion`."""
    of = workspace.problem.name
    key = AssetKey([of, "verdict"])

    @asset(key=[of, "model_package"], deps=[AssetKey([of, "evaluation"])], kinds={"onnx"})
    def model_package(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """The chosen candidate as ONNX graph, signature, numbers, card and checksums."""
        built = package_candidate(hindcast.problem(of))
        return MaterializeResult(
            metadata={
                "version": built.version,
                "path": MetadataValue.path(built.folder),
                "parity_rows": built.parity["rows"],
                "parity_max_difference": built.parity["max_difference"],
                "card": MetadataValue.md((built.folder / "card.md").read_text()),
            },
            data_version=DataVersion(built.version),
        )

    @asset(
        key=key,
        deps=[AssetKey([of, "model_package"])],
        check_specs=[AssetCheckSpec("gate", asset=key, description="Every check on the challenger holds.")],
    )
    def verdict(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """Whether the package may be used: each check with its value and limit, kept as a file."""
        from hindcast.promotion.verdict import ALREADY

        said = judge_challenger(hindcast.problem(of))
        accepted = said.promoted or said.verdict == ALREADY
        return MaterializeResult(
            metadata=_of_verdict(said),
            data_version=DataVersion(f"{said.version} {accepted}"),
            check_results=[_gate(of, said, accepted)],
        )

    @asset(key=[of, "champion"], deps=[key])
    def champion(hindcast: HindcastResource) -> MaterializeResult:  # type: ignore[type-arg]
        """The package in use: the challenger if the gate promoted it, else the one before."""
        found = hindcast.problem(of)
        entry = apply_verdict(found)
        return MaterializeResult(
            metadata={
                "version": entry["version"],
                "path": MetadataValue.path(found.settings.models / entry["version"]),
                "promoted_at": entry["promoted_at"],
                "previous": entry["previous"] or "none",
                "promotions": len(entry["history"]),
            },
            data_version=DataVersion(entry["version"]),
        )

    return [model_package, verdict, champion]


def _of_verdict(said: "Verdict") -> dict[str, Any]:
    from hindcast.promotion.gate import shown_checks

    return {
        "version": said.version,
        "verdict": said.verdict,
        "question": said.question or "none: there is no other champion",
        "changed": list(said.changed),
        "champion_before": said.champion or "none",
        "checks": MetadataValue.md(shown_checks(said.checks)),
    }


def _gate(problem: str, said: "Verdict", accepted: bool) -> AssetCheckResult:
    from hindcast.promotion.gate import explain_failed

    return AssetCheckResult(
        check_name="gate",
        passed=accepted,
        severity=AssetCheckSeverity.WARN,
        description=explain_failed(problem, said.checks) or "all hold",
    )
