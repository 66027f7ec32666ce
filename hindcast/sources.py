"""A domain's source tables and its clock, as a strict, frozen form of one file under `problems/sources/`.

Where files lie and what their columns mean stands in that file; how they are read is `ingest`'s work.
"""

import re
from datetime import date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from hindcast.errors import HindcastError
from hindcast.problem import Duration, Instant, Strict, load_strict
from hindcast.settings import DATA_PACKAGES


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value):
        raise ValueError(f"{value!r}: write a letter, then letters, digits and underscores")
    return value


def _first_of_month(value: date) -> date:
    if value.day != 1:
        raise ValueError("write the first day of a month")
    return value


Name = Annotated[str, AfterValidator(_name)]
Expression = Annotated[
    str, Field(min_length=1, description="SQL over the table's columns, its lookups and derived values.")
]


class Lookup(Strict):
    """A value from another raw table, declared and ingested before. NULL where nothing matches."""

    table: Name = Field(description="The other table.")
    column: str = Field(description="The value that is wanted.")
    match: dict[str, str] = Field(min_length=1, description="The other table's column: this table's column.")


class LaterGroup(Strict):
    """Columns that become known after the row itself. They are NULL in the lake while they aren't."""

    at: Expression = Field(description="The instant (UTC); NULL means never, and then the columns must be NULL too.")
    columns: tuple[str, ...] = Field(min_length=1, description="Columns that become known at that instant.")


class Known(Strict):
    """When the world could know a row. Left out, a row is known when it is first ingested."""

    at: Expression | None = Field(default=None, description="The instant (UTC) at which the row itself was known.")
    later: dict[Name, LaterGroup] = Field(default={})
    corrections: Literal["arrival", "declared"] = Field(
        default="arrival",
        description="Since when a row is known that replaces a delivered one of the same key: since it arrived, or, "
        "where history is being loaded, since its own `at`; then one delivery may hold several versions of a row.",
    )


class SourceTable(Strict):
    """One raw table and the files that hold it."""

    description: str = Field(default="", description="What one row is, in a sentence.")
    file: str = Field(description="Within the package or folder; may be a glob. `.gz` and `.zip` are unpacked.")
    format: Literal["csv", "parquet", "jsonl"] = Field(description="How the files are written.")
    nulls: tuple[str, ...] = Field(default=("",), description="Texts that stand for a missing value (not for Parquet).")
    columns: dict[str, str] = Field(min_length=1, description="Name and DuckDB type. Others in the file are not read.")
    key: tuple[str, ...] = Field(
        default=(), description="Columns that name a row, so that a corrected row is known to replace the one before."
    )
    delivery: Literal["whole", "append"] = Field(
        default="whole",
        description="Whether the files hold all rows (one that is missing later is withdrawn) or only further ones.",
    )
    lookups: dict[Name, Lookup] = Field(default={})
    derived: dict[Name, Expression] = Field(default={}, description="Named steps of the expressions below; not stored.")
    month: Expression | None = Field(default=None, description="The instant (UTC) whose month is the row's partition.")
    known: Known = Known()
    max_rejected_share: float = Field(
        default=0.01, ge=0, le=1, description="Of a file's rows, beyond which nothing goes on."
    )

    @model_validator(mode="after")
    def _names_agree(self) -> "SourceTable":
        names = [*self.columns, *self.lookups, *self.derived]
        for name in names:
            if name.startswith("_"):
                raise ValueError(f"{name}: names that begin with an underscore are kept for what ingestion adds")
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError("columns, lookups and derived: names must differ, and not only in case")
        grouped = [column for group in self.known.later.values() for column in group.columns]
        for column in grouped:
            if column not in self.columns:
                raise ValueError(f"known.later: {column} is not among the columns")
        if "row" in self.known.later:
            raise ValueError("known.later: call the group otherwise than row; ingestion adds a column _row_known_at")
        if len(set(grouped)) < len(grouped):
            raise ValueError("known.later: a column can be in one group only")
        for column in self.key:
            if column not in self.columns or column in grouped:
                raise ValueError(f"key: {column} must be one of the columns, and none of known.later")
        if self.known.corrections == "declared" and not (self.key and self.known.at):
            raise ValueError("known.corrections: declared needs a key, and known.at")
        if self.format == "parquet" and self.file.endswith(".gz"):
            raise ValueError("file: Parquet is compressed inside; .gz around it can't be read")
        return self


class SimulatedTime(Strict):
    """For data that lies in the past: where the clock stands first, and how far the main job advances it."""

    start: Instant = Field(description="Where the clock stands first: the first model is made as of then.")
    demo_until: Instant = Field(description="To which the first run advances it.")
    refresh_every: Duration = Field(description="How often the online store is refreshed while the clock advances.")


class Sources(Strict):
    """The raw tables of a domain. See `problems/sources/flights.yaml` for a commented example."""

    package: str | None = Field(
        default=None, description="An installed package, or one of data.lock, that ships the files; never imported."
    )
    folder: Path | None = Field(default=None, description="Or a folder: absolute, or relative to the checkout.")
    starts: Annotated[date, AfterValidator(_first_of_month)] | None = Field(
        default=None, description="First month of the tables that are partitioned by month."
    )
    ends: Annotated[date, AfterValidator(_first_of_month)] | None = Field(
        default=None, description="The month after the last; left out where data keeps coming."
    )
    settles_within: Duration = Field(
        default=timedelta(0), description="How long after a month's end something may still become known of its rows."
    )
    clock: SimulatedTime | None = Field(default=None, description="Left out where the data is live.")
    tables: dict[Name, SourceTable] = Field(min_length=1, description="In the order in which they are ingested.")

    @model_validator(mode="after")
    def _agrees(self) -> "Sources":
        if (self.package is None) == (self.folder is None):
            raise ValueError("write either package or folder")
        before: set[str] = set()
        for name, table in self.tables.items():
            if name.casefold() == "rejected":
                raise ValueError("tables: the name rejected is kept for the rows that can't be read")
            if table.month and self.starts is None:
                raise ValueError(f"starts: missing, and {name} is partitioned by month")
            for lookup in table.lookups.values():
                if lookup.table not in before:
                    raise ValueError(f"tables.{name}.lookups: {lookup.table} must be a table declared before {name}")
                if lookup.column not in self.tables[lookup.table].columns:
                    raise ValueError(f"tables.{name}.lookups: {lookup.table} has no column {lookup.column}")
            before.add(name)
        return self

    def origin(self, root: Path) -> tuple[Path, str]:
        """The folder that `file` entries are relative to, and what is written before them as a row's source.

        Args:
            root: The checkout.

        Raises:
            HindcastError: The package isn't installed, or there is no such folder.
        """
        if self.folder is not None:
            folder = root / self.folder
            if not folder.is_dir():
                raise HindcastError(f"There is no folder {folder}, which the sources file names.")
            return folder, str(self.folder)
        assert self.package is not None
        if (folder := DATA_PACKAGES / self.package).is_dir():
            return folder, self.package
        spec = find_spec(self.package)  # of a top-level package: found, not imported
        if spec is None or not spec.submodule_search_locations:
            raise HindcastError(
                f"The package {self.package} is not installed: run `make setup` where data.lock or pyproject.toml "
                f"lists it, else `pip install {self.package}`."
            )
        return Path(spec.submodule_search_locations[0]), self.package

    def files(self, table: str, root: Path) -> dict[str, Path]:
        """A table's files, by what rows name them in `_source_file`.

        Raises:
            HindcastError: There is none, or its folder or package is missing.
        """
        folder, origin = self.origin(root)
        pattern = self.tables[table].file
        paths = sorted(path for path in folder.glob(pattern) if path.is_file())
        if not paths:
            raise HindcastError(f"raw.{table}: the file {folder / pattern} is missing.")
        return {f"{origin}/{path.relative_to(folder).as_posix()}": path for path in paths}

    def newest_month(self, now: datetime) -> date:
        """First day of the last month worth asking for at an instant: the one after it, or the sources' last.

        What lies ahead may be published already (a schedule is); what isn't known yet is left out anyway.
        """
        ahead = (now.replace(day=1) + timedelta(days=32)).date().replace(day=1)
        return min(ahead, (self.ends - timedelta(days=1)).replace(day=1)) if self.ends else ahead

    def months(self, now: datetime) -> list[date]:
        """First days of all months worth asking for at an instant; none where no table is partitioned by month."""
        if self.starts is None:
            return []
        last, found = self.newest_month(now), [self.starts]
        while found[-1] < last:
            found.append((found[-1] + timedelta(days=32)).replace(day=1))
        return [month for month in found if month <= last]


def load_sources(path: Path) -> Sources:
    """Reads and checks a sources file.

    Raises:
        HindcastError: The file is missing, isn't YAML, or breaks the schema; each broken key is named.
    """
    return load_strict(path, Sources)
