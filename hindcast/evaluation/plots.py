"""Pictures of an evaluation, as PNG bytes, for the orchestrator's screen and for one page that stands by itself.

Everything shown is measured in `evaluation`; only the importances are measured here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hindcast.evaluation.evaluate import Evaluation
from hindcast.pages import draw
from hindcast.tasks.task import Task
from hindcast.training.search import Candidates

_IMPORTANCE_ROWS = 2000
_SHOWN_FEATURES = 20
_BLUE, _GREEN = "#2b6cb0", "#2f855a"


def evaluation_plots(
    task: Task, evaluation: Evaluation, importances: Sequence[tuple[str, float]], primary: str
) -> dict[str, bytes]:
    """All pictures of an evaluation's test window by title, most telling first.

    Args:
        task: Draws what only it has.
        evaluation: What was measured.
        importances: As `importances_of` gives them.
        primary: The metric that is shown per slice.
    """
    labels, chosen = evaluation.labels["test"], evaluation.chosen
    said = {name: windows["test"] for name, windows in evaluation.said.items()}
    entry, found = evaluation.chosen_report, evaluation.report["slices"]
    pictures = task.pictures(labels, said, chosen, entry["calibration"])
    return {title: draw(picture.draw, columns=picture.columns) for title, picture in pictures.items()} | {
        "Slices": draw(lambda plot: _slices(plot, found, primary, entry["test"][primary])),
        "Feature importance": draw(lambda plot: _importances(plot, importances, primary)),
    }


def importances_of(
    task: Task, evaluation: Evaluation, candidates: Candidates, primary: str, seed: int
) -> list[tuple[str, float]]:
    """By how much the chosen candidate's primary metric gets worse where one feature's values are shuffled, largest
    first.

    On at most 2,000 rows of the test window. Source: L. Breiman, Random forests, Machine Learning 45, 2001.
    """
    from sklearn.inspection import permutation_importance

    fitted = next(each for each in candidates.fitted if each.name == evaluation.chosen)
    test, metric = evaluation.test, task.metric(primary)
    rows = np.sort(np.random.default_rng(seed).permutation(len(test.matrix))[:_IMPORTANCE_ROWS])

    def worth(estimator: Any, matrix: Any, labels: Any) -> float:
        return -metric.loss(metric.compute(labels, task.predict(estimator, matrix)))

    found = permutation_importance(
        fitted.estimator, test.matrix[rows], test.labels[rows], scoring=worth, n_repeats=1, random_state=seed
    )
    names = [feature.name for feature in candidates.features]
    return sorted(zip(names, found.importances_mean.tolist(), strict=True), key=lambda rise: -rise[1])


def _slices(axes: Any, slices: Sequence[dict[str, Any]], metric: str, whole: float) -> None:
    shown = [each for each in slices if each[metric] is not None][::-1]
    axes.barh([f"{each['column']} {each['value']}" for each in shown], [each[metric] for each in shown], color=_BLUE)
    axes.axvline(whole, color="#1a202c", linestyle="--")
    axes.tick_params(axis="y", labelsize=7)
    axes.set(title=f"{metric} per slice; dashed: the whole window")


def _importances(axes: Any, importances: Sequence[tuple[str, float]], metric: str) -> None:
    shown = list(importances[:_SHOWN_FEATURES])[::-1]
    axes.barh([name for name, _ in shown], [rise for _, rise in shown], color=_GREEN)
    axes.tick_params(axis="y", labelsize=7)
    axes.set(title=f"What {metric} loses when shuffled")
