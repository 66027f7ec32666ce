"""Drawings of how good predictions are, on Matplotlib's axes. What they show is measured by the tasks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindcast.tasks.task import Labels

Floats = NDArray[np.float64]
Bins = Sequence[tuple[int, float, float]]
"""Rows, mean probability and rate of each."""

_COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#805ad5", "#718096")
_DARK, _GREY = "#1a202c", "#a0aec0"
_SHOWN_ROWS = 5000


def curves(axes: Any, labels: Labels, scores: Mapping[str, Floats]) -> None:
    """ROC and precision-recall of several candidates' probabilities of the label 1, on two axes."""
    from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

    for number, (name, said) in enumerate(scores.items(), 1):
        shown = {"name": name, "curve_kwargs": {"color": _COLOURS[number % len(_COLOURS) - 1]}}
        for display, ax in zip((RocCurveDisplay, PrecisionRecallDisplay), axes, strict=True):
            display.from_predictions(labels, said, ax=ax, plot_chance_level=number == len(scores), **shown)
    axes[0].set(title="ROC")
    axes[1].set(title="Precision-recall", ylim=(0, 1.02))


def calibration(axes: Any, bins: Mapping[str, Bins]) -> None:
    """Mean probability against the rate of what came, a line for each event by its name; a lone one needs none."""
    top = max(end for each in bins.values() for _, said, came in each for end in (said, came)) * 1.05
    axes.plot([0, top], [0, top], color=_GREY, linestyle=":")
    for number, (name, each) in enumerate(bins.items()):
        said, came = [said for _, said, _ in each], [came for *_, came in each]
        axes.plot(said, came, marker="o", color=_COLOURS[number % len(_COLOURS)], label=name)
    axes.set(xlabel="mean probability", ylabel="label rate", title="Calibration, bins of equal size")
    if len(bins) > 1:
        axes.legend(frameon=False)


def confusion(axes: Any, names: Sequence[Any], counts: Sequence[Sequence[int]], title: str = "Confusion") -> None:
    """Counts of labels (rows) and decisions (columns)."""
    from sklearn.metrics import ConfusionMatrixDisplay

    display = ConfusionMatrixDisplay(np.array(counts), display_labels=list(names))
    display.plot(ax=axes, cmap="Blues", colorbar=False, values_format=",d")
    axes.set(title=title, xlabel="decision", ylabel="label")


def scores_by_label(axes: Any, labels: Labels, said: Floats, threshold: float) -> None:
    """How probabilities lie where the label is 0, and where it is 1."""
    edges = np.linspace(0, 1, 41)
    for label, colour in ((0, _COLOURS[0]), (1, _COLOURS[1])):
        axes.hist(said[labels == label], edges, density=True, alpha=0.6, color=colour, label=f"label {label}")
    axes.axvline(threshold, color=_DARK, linestyle="--", label="threshold")
    axes.set(xlabel="probability", ylabel="density", title="Scores")
    axes.legend(frameon=False)


def class_curves(axes: Any, events: Mapping[str, NDArray[np.bool_]], scores: Sequence[Floats]) -> None:
    """ROC of each class that occurs against the others."""
    from sklearn.metrics import RocCurveDisplay

    shown = [(name, event, said) for (name, event), said in zip(events.items(), scores, strict=True) if event.any()]
    for number, (name, event, said) in enumerate(shown, 1):
        RocCurveDisplay.from_predictions(event, said, ax=axes, name=name, plot_chance_level=number == len(shown))
    axes.set(title="ROC, each class against the others")


def against(axes: Any, labels: Labels, values: Floats) -> None:
    """Labels over values, of at most 5,000 rows evenly over their order: more dots hide one another."""
    rows = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), _SHOWN_ROWS)).astype(np.int64))
    axes.scatter(values[rows], labels[rows], s=4, alpha=0.3, color=_COLOURS[0], linewidths=0)
    ends = [float(min(values.min(), labels.min())), float(max(values.max(), labels.max()))]
    axes.plot(ends, ends, color=_GREY, linestyle=":")
    axes.set(xlabel="value", ylabel="label", title="Label and value")


def residuals(axes: Any, labels: Labels, values: Mapping[str, Floats]) -> None:
    """How labels lie around the values of several candidates."""
    found = {name: labels - each for name, each in values.items()}
    low, high = (float(end) for end in np.quantile(np.concatenate(list(found.values())), [0.01, 0.99]))
    if low == high:
        low, high = low - 0.5, high + 0.5
    for name, each in found.items():
        axes.hist(each.clip(low, high), np.linspace(low, high, 61), density=True, histtype="step", label=name)
    axes.set(xlabel="label less value", ylabel="density", title="Residuals (the outermost hundredths are clipped)")
    axes.legend(frameon=False)


def coverage(axes: Any, values: Floats, inside: Floats, promised: float | None) -> None:
    """Share of labels inside their interval, by bins of the value of about equally many rows."""
    edges = np.unique(np.quantile(values, np.arange(1, 10) / 10))
    bins = np.searchsorted(edges, values, side="left")
    shown = [(values[bins == each].mean(), inside[bins == each].mean()) for each in np.unique(bins)]
    axes.plot(*zip(*shown, strict=True), marker="o", color=_COLOURS[0])
    if promised is not None:
        axes.axhline(promised, color=_DARK, linestyle="--", label="promised")
        axes.legend(frameon=False)
    axes.set(xlabel="value", ylabel="share of labels inside the interval", title="Coverage by value", ylim=(0, 1.02))
