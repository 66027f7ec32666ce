"""Names, texts and instants as SQL writes them. How the lake is opened and read is `lake`'s work."""

from collections.abc import Iterable
from datetime import UTC, datetime


def identifier(name: str) -> str:
    """A column's or table's name, quoted."""
    return '"' + name.replace('"', '""') + '"'


def table_identifier(table: str) -> str:
    """`schema.table`, each part quoted."""
    return ".".join(map(identifier, table.split(".")))


def identifiers(names: Iterable[str]) -> str:
    """Names, quoted, in a list."""
    return ", ".join(map(identifier, names))


def text_literal(text: str) -> str:
    """A text as SQL's literal."""
    return "'" + text.replace("'", "''") + "'"


def without_zone(instant: datetime) -> datetime:
    """An instant as the lake keeps it: UTC without saying so. One without a zone is UTC."""
    return instant.astimezone(UTC).replace(tzinfo=None) if instant.tzinfo else instant
