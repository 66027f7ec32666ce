"""Which leaks a problem wants measured: a strict form of one file under `problems/leaks/`, and its SQL beside it.

A variant is the problem's training set with something replaced that the service couldn't have had at the prediction
time. What it is worth is measured in `measure`.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from hindcast.errors import HindcastError
from hindcast.problem import Strict, load_strict
from hindcast.settings import Settings

RANDOM_SPLIT, READ_LATE = "random_split", "read_late"
"""Variants that need no declaration; the second also per feature view, as `read_late.<view>`."""
SERVED = "__served"
"""Ending of a column of a variant's SQL: what is served in the place of the column without it."""


def _name(value: str) -> str:
    if not value.isidentifier() or value in (RANDOM_SPLIT, READ_LATE):
        raise ValueError(f"{value!r}: write letters, digits and underscores, but not {RANDOM_SPLIT} or {READ_LATE}")
    return value


class Recipe(Strict):
    """A model on terms of its own: the SQL's columns are all that it gets, and its rows are split at random.

    Columns without a `__served` are taken as known at the prediction time.
    """

    label: str = Field(
        description="Column of the SQL that is predicted instead of the problem's label, and holds values of its kind."
    )
    model: str = Field(description="Its family; which there are depends on the problem's task.")
    parameters: dict[str, Any] = Field(default_factory=dict, description="As scikit-learn names them.")
    test_share: float = Field(default=0.25, gt=0, lt=1, description="Of the rows, held out at random.")


class Variant(Strict):
    """One leak. Its SQL over the lake is the file `<name>.sql` beside the declaration.

    Without a `view`, the SQL gives one row per entity: its key, and columns. A column named as a feature takes that
    feature's place in training; served is the feature as known then. Any other column `x` is new, and comes with
    `x__served`: what the service would be given, null where nobody knows it yet.
    """

    name: Annotated[str, AfterValidator(_name)] = Field(description="Of the variant, and of its SQL file.")
    description: str = Field(description="What leaks, in a sentence.")
    view: str | None = Field(
        default=None,
        description="The SQL takes the place of this feature view's table: its keys, its features, and when a row is "
        "(wrongly) taken to be known, in UTC, as `event_timestamp`. Joined as the view is.",
    )
    recipe: Recipe | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "Variant":
        if self.view and self.recipe:
            raise ValueError("write view or recipe, not both")
        return self


class Leaks(Strict):
    """The variants of one problem. See `problems/leaks/` for a commented example."""

    variants: tuple[Variant, ...]

    @model_validator(mode="after")
    def _names_are_unique(self) -> "Leaks":
        names = [variant.name for variant in self.variants]
        if len(set(names)) < len(names):
            raise ValueError(f"variants: names must differ, got {names}")
        return self


def load_variants(settings: Settings) -> tuple[Variant, ...]:
    """The problem's declared variants; none where it has no folder under `problems/leaks/`.

    Raises:
        HindcastError: The declaration is missing in the folder, isn't YAML or breaks the form.
    """
    if not settings.leaks_folder.exists():
        return ()
    return load_strict(settings.leaks_folder / "variants.yaml", Leaks).variants


def sql_of(settings: Settings, variant: Variant) -> str:
    """Raises:
    HindcastError: The variant has no SQL file.
    """
    path = settings.leaks_folder / f"{variant.name}.sql"
    if not path.exists():
        raise HindcastError(f"No {path}: write the SQL of leak variant {variant.name} there.")
    return path.read_text()
