"""Pictures of an evaluation, as PNG bytes, for the orchestrator's screen and for one page that stands by itself.

Everything shown is measured in `evaluation`; only the importances are measured here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hindcast.evaluation.evaluate import Evaluation
from hindcast.evaluation.metrics import Labels, Probabilities
from hindcast.pages import draw
from hindcast.training.search import Candidates

_IMPORTANCE_ROWS = 2000
_SHOWN_FEATURES = 20
_COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#718096")


def evaluation_plots(
    evaluation: Evaluation, importances: Sequence[tuple[str, float]], primary: str
) -> dict[str, bytes]:
    """All pictures of an evaluation's test window by title, most telling first.

    Args:
        evaluation: What was measured.
        importances: As `importances_of` gives them.
        primary: The metric that is shown per slice.
    """
    labels, chosen = evaluation.labels["test"], evaluation.chosen
    said = {name: windows["test"] for name, windows in evaluation.said.items()}
    entry = evaluation.chosen_report
    return {
        "ROC and precision-recall": draw(lambda plot: _curves(plot, labels, said), columns=2),
        "Calibration": draw(lambda plot: _calibration(plot, evaluation.report["calibration"])),
        "Confusion": draw(lambda plot: _confusion(plot, entry["test"]["confusion"])),
        "Scores": draw(lambda plot: _scores(plot, labels, said[chosen], entry["threshold"])),
        "Slices": draw(lambda plot: _slices(plot, evaluation.report["slices"], primary, entry["test"][primary])),
        "Feature importance": draw(lambda plot: _importances(plot, importances)),
    }


def importances_of(evaluation: Evaluation, candidates: Candidates, seed: int) -> list[tuple[str, float]]:
    """By how much the chosen candidate's log loss rises where one feature's values are shuffled, largest first.

    On at most 2,000 rows of the test window. Source: L. Breiman, Random forests, Machine Learning 45, 2001.
    """
    from sklearn.inspection import permutation_importance

    fitted = next(each for each in candidates.fitted if each.name == evaluation.chosen)
    test = evaluation.test
    rows = np.sort(np.random.default_rng(seed).permutation(len(test.matrix))[:_IMPORTANCE_ROWS])
    found = permutation_importance(
        fitted.estimator, test.matrix[rows], test.labels[rows], scoring="neg_log_loss", n_repeats=1, random_state=seed
    )
    names = [feature.name for feature in candidates.features]
    return sorted(zip(names, found.importances_mean.tolist(), strict=True), key=lambda rise: -rise[1])


def _curves(axes: Any, labels: Labels, scores: dict[str, Probabilities]) -> None:
    from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

    for number, (name, said) in enumerate(scores.items(), 1):
        shown = {"name": name, "curve_kwargs": {"color": _COLOURS[number % len(_COLOURS) - 1]}}
        for display, ax in zip((RocCurveDisplay, PrecisionRecallDisplay), axes, strict=True):
            display.from_predictions(labels, said, ax=ax, plot_chance_level=number == len(scores), **shown)
    axes[0].set(title="ROC")
    axes[1].set(title="Precision-recall", ylim=(0, 1.02))


def _calibration(axes: Any, bins: Sequence[dict[str, float]]) -> None:
    said, came = [each["mean_probability"] for each in bins], [each["label_rate"] for each in bins]
    top = max(*said, *came) * 1.05
    axes.plot([0, top], [0, top], color="#a0aec0", linestyle=":")
    axes.plot(said, came, marker="o", color=_COLOURS[0])
    axes.set(xlabel="mean probability", ylabel="label rate", title="Calibration, bins of equal size")


def _confusion(axes: Any, found: dict[str, Any]) -> None:
    from sklearn.metrics import ConfusionMatrixDisplay

    counts = np.array(
        [[found["true_negative"], found["false_positive"]], [found["false_negative"], found["true_positive"]]]
    )
    display = ConfusionMatrixDisplay(counts, display_labels=[0, 1])
    display.plot(ax=axes, cmap="Blues", colorbar=False, values_format=",d")
    axes.set(title=f"Confusion at {found['threshold']:.3f}", xlabel="decision", ylabel="label")


def _scores(axes: Any, labels: Labels, said: Probabilities, threshold: float) -> None:
    edges = np.linspace(0, 1, 41)
    for label, colour in ((0, _COLOURS[0]), (1, _COLOURS[1])):
        axes.hist(said[labels == label], edges, density=True, alpha=0.6, color=colour, label=f"label {label}")
    axes.axvline(threshold, color="#1a202c", linestyle="--", label="threshold")
    axes.set(xlabel="probability", ylabel="density", title="Scores")
    axes.legend(frameon=False)


def _slices(axes: Any, slices: Sequence[dict[str, Any]], metric: str, whole: float) -> None:
    shown = [each for each in slices if each[metric] is not None][::-1]
    axes.barh(
        [f"{each['column']} {each['value']}" for each in shown], [each[metric] for each in shown], color=_COLOURS[0]
    )
    axes.axvline(whole, color="#1a202c", linestyle="--")
    axes.tick_params(axis="y", labelsize=7)
    axes.set(title=f"{metric} per slice; dashed: the whole window")


def _importances(axes: Any, importances: Sequence[tuple[str, float]]) -> None:
    shown = list(importances[:_SHOWN_FEATURES])[::-1]
    axes.barh([name for name, _ in shown], [rise for _, rise in shown], color=_COLOURS[2])
    axes.tick_params(axis="y", labelsize=7)
    axes.set(title="Rise of the log loss when shuffled")
