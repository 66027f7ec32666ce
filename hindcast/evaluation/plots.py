"""Pictures of an evaluation, as PNG bytes, for the orchestrator's screen and for one page that stands by itself.

Everything shown is measured in `evaluation`; only the importances are measured here.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindcast.evaluation.evaluate import Evaluation
from hindcast.evaluation.metrics import Labels, Probabilities, log_loss
from hindcast.package.model import Feature, Matrix
from hindcast.training.search import Candidates, probabilities

_IMPORTANCE_ROWS = 2000
_SHOWN_FEATURES = 20
_COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#718096")


def evaluation_plots(
    evaluation: Evaluation, importances: Sequence[tuple[str, float]], primary: str
) -> dict[str, bytes]:
    """All pictures of an evaluation's test window by title, most telling first.

    Args:
        evaluation: What was measured.
        importances: As `permutation_importances` gives them.
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
    """`permutation_importances` of the chosen candidate on the test window."""
    fitted = next(each for each in candidates.fitted if each.name == evaluation.chosen)
    test = evaluation.test

    def predict(matrix: Matrix) -> Probabilities:
        return probabilities(fitted.estimator, matrix)

    return permutation_importances(predict, test.matrix, test.labels, candidates.features, seed)


def permutation_importances(
    predict: Callable[[Matrix], Probabilities],
    matrix: Matrix,
    labels: Labels,
    features: Sequence[Feature],
    seed: int,
) -> list[tuple[str, float]]:
    """By how much the log loss rises where one feature's values are shuffled among rows.

    On at most 2,000 rows, all features in one call. Source: L. Breiman, Random forests, Machine Learning 45, 2001.

    Args:
        predict: From a matrix (n, features) to probabilities (n,).
        matrix: Of the test window.
        labels: Shape (n,).
        features: Names of the matrix' columns.
        seed: Of the shuffling.

    Returns:
        Name and rise, largest first.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(matrix))[:_IMPORTANCE_ROWS])
    some, truth = matrix[rows], labels[rows]
    shuffled = np.tile(some, (len(features), 1, 1))
    for position in range(len(features)):
        shuffled[position, :, position] = random.permutation(some[:, position])
    said = predict(shuffled.reshape(-1, len(features))).reshape(len(features), len(rows))
    before = log_loss(truth, predict(some))
    rises = [(feature.name, log_loss(truth, said[n]) - before) for n, feature in enumerate(features)]
    return sorted(rises, key=lambda rise: -rise[1])


def as_markdown(pictures: dict[str, bytes]) -> dict[str, str]:
    """Pictures inside Markdown, by title: what the orchestrator's screen can show without a file server."""
    return {title: f"![{title}]({_data_uri(picture)})" for title, picture in pictures.items()}


def as_page(title: str, lead: str, tables: dict[str, str], pictures: dict[str, bytes]) -> str:
    """One HTML page that needs no other file.

    Args:
        title: Its heading.
        lead: A sentence below it.
        tables: Markdown tables by heading.
        pictures: PNG bytes by heading.
    """
    parts = [f"<h2>{html.escape(name)}</h2>{_table(table)}" for name, table in tables.items()]
    parts += [
        f'<h2>{html.escape(name)}</h2><img alt="{html.escape(name)}" src="{_data_uri(picture)}">'
        for name, picture in pictures.items()
    ]
    style = (
        "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a202c}"
        "table{border-collapse:collapse}td,th{padding:.2rem .7rem;border-bottom:1px solid #e2e8f0;text-align:left}"
        "img{max-width:100%}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style><h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>{''.join(parts)}</html>\n"
    )


def _data_uri(picture: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture).decode()}"


def _table(markdown: str) -> str:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines()]
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[2:])
    return f"<table><tr>{head}</tr>{body}</table>"


def draw(on_axes: Callable[[Any], None], columns: int = 1, size: tuple[float, float] = (5.5, 4)) -> bytes:
    """Runs a drawing function on one pair of axes, or several, off screen; `size` is of each, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * columns, size[1]), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns)
    on_axes(axes)
    for each in np.ravel(axes):
        each.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _rates(labels: Labels, said: Probabilities) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts of found 1s and wrongly found 0s as the threshold falls."""
    order = np.argsort(-said, kind="stable")
    return np.cumsum(labels[order]).astype(float), np.cumsum(1 - labels[order]).astype(float)


def _curves(axes: Any, labels: Labels, scores: dict[str, Probabilities]) -> None:
    roc, pr = axes
    for colour, (name, said) in zip(_COLOURS * len(scores), scores.items(), strict=False):
        hits, alarms = _rates(labels, said)
        step = np.unique(np.linspace(0, len(labels) - 1, 400).astype(int))
        roc.plot(alarms[step] / alarms[-1], hits[step] / hits[-1], label=name, color=colour)
        pr.plot(hits[step] / hits[-1], hits[step] / (hits + alarms)[step], label=name, color=colour)
    roc.plot([0, 1], [0, 1], color="#a0aec0", linestyle=":")
    roc.set(xlabel="false positive rate", ylabel="true positive rate", title="ROC")
    pr.axhline(float(labels.mean()), color="#a0aec0", linestyle=":")
    pr.set(xlabel="recall", ylabel="precision", title="Precision-recall", ylim=(0, 1.02))
    roc.legend(frameon=False)


def _calibration(axes: Any, bins: Sequence[dict[str, float]]) -> None:
    said, came = [each["mean_probability"] for each in bins], [each["label_rate"] for each in bins]
    top = max(*said, *came) * 1.05
    axes.plot([0, top], [0, top], color="#a0aec0", linestyle=":")
    axes.plot(said, came, marker="o", color=_COLOURS[0])
    axes.set(xlabel="mean probability", ylabel="label rate", title="Calibration, bins of equal size")


def _confusion(axes: Any, found: dict[str, Any]) -> None:
    counts = np.array(
        [[found["true_negative"], found["false_positive"]], [found["false_negative"], found["true_positive"]]]
    )
    axes.imshow(counts, cmap="Blues")
    for row in range(2):
        for column in range(2):
            shade = "white" if counts[row, column] > counts.max() / 2 else "black"
            axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=shade)
    axes.set_xticks([0, 1], ["decided 0", "decided 1"])
    axes.set_yticks([0, 1], ["label 0", "label 1"])
    axes.set(title=f"Confusion at {found['threshold']:.3f}")


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
