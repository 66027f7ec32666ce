"""The model card: what a package predicts, from what it was made, how good it is and what it assumes."""

from typing import Any

import numpy as np

from hindcast.evaluation.evaluate import WINDOWS, shown_metrics, shown_slices
from hindcast.package.model import EXPLAINER, Signature
from hindcast.pages import markdown_table
from hindcast.problem import Problem


def card(problem: Problem, signature: Signature, metadata: dict[str, Any], numbers: dict[str, Any]) -> str:
    """The model card, in Markdown.

    Source of the form: M. Mitchell et al., Model cards for model reporting, FAT* 2019.
    """
    chosen, baselines = numbers["candidate"], numbers["baselines"]
    entries = [chosen, *({"name": name.replace("_", " ")} | values for name, values in baselines.items())]
    windows = [
        {"window (UTC)": split, "from": start[:16], "until": end[:16], "rows": numbers["rows"][split]}
        for split, (start, end) in metadata["windows"].items()
    ]
    explained, task = numbers["explanation"], signature.kind
    forms = "; ".join(f"`{name}`: {meaning}" for name, (_, meaning) in task.answer_form().items())
    kinds = [
        f"- `{each.name}`{': ' + ', '.join(each.categories) if each.kind == 'categorical' else ''}"
        for each in signature.features
    ]
    lines = [
        f"# {metadata['version']}",
        problem.question,
        "## What it says",
        f"Of `{signature.label}`: {signature.label_description}",
        f"- One {problem.entity.name} (`{signature.entity_key}`): {problem.entity.description}\n"
        f"- Prediction time: {problem.prediction_time.description}\n"
        f"- An answer: {forms}",
        "## What it was made from",
        f"As of {metadata['as_of']}; a row counts only if its label was known when its window ended. Lake snapshot "
        f"{metadata['snapshot']}, training set {metadata['training_hash']}, code {metadata['code_version']}, "
        f"{', '.join(f'{name} {version}' for name, version in metadata['libraries'].items())}.",
        markdown_table(windows),
        task.describe(np.array(signature.history)),
        "## The model",
        f"{metadata['candidate']} ({metadata['model']}), with "
        + ", ".join(f"`{name}` {value}" for name, value in sorted(metadata["parameters"].items()))
        + f". Best of {len(chosen['search'])} draws by {problem.metrics.primary} over {problem.budget.folds} folds in "
        "time. Preprocessing is in the graph.",
        f"The graph differs from scikit-learn by at most {numbers['parity']['max_difference']:.1e} on "
        f"{numbers['parity']['rows']:,} test rows.",
        f"What the features contribute (`{EXPLAINER}`, {explained['method']}) adds up to the graph's score (in "
        f"{task.score_unit}) within {explained['max_difference']:.1e} on {explained['rows']:,} of them.",
        "## How good it is",
        shown_metrics(task, entries),
        f"On the test window: {task.explain_details(chosen['test']['details'])}",
        "## Slices of the test window",
        shown_slices(task, numbers["slices"]) if numbers["slices"] else f"None has {problem.slices.min_rows} rows.",
        "## Limits and assumptions",
        "\n".join(
            f"- {each}"
            for each in (
                *problem.assumptions,
                f"Chosen on {WINDOWS[0]} and judged on {WINDOWS[1]}, one period each: other seasons may differ.",
                "A missing value and a category that was never seen are taken alike; the service names both.",
                "Nothing is said about what causes the label: predictions forecast it, and contributions say which "
                "features moved the model, not what would change the outcome.",
            )
        ),
        "## Features",
        f"By feature service `{signature.feature_service}`, found by {', '.join(signature.join_keys)}:",
        "\n".join(kinds),
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"
