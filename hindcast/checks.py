"""The result of a check: what was measured against which limit, what is at fault, and where to look."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: What is checked.
        value: What was measured; None where there is nothing to measure.
        limit: What it is held against.
        holds: Whether it is good.
        detail: For people: where the value comes from.
        culprit: What is at fault where it doesn't hold: a feature, a column, a rule; with an example.
        look_at: The file and key that declare the limit or the thing.
    """

    name: str
    value: float | None
    limit: float | None
    holds: bool
    detail: str = ""
    culprit: str = ""
    look_at: str = ""

    def message(self) -> str:
        """All of it in one line, for a terminal as for a page."""
        value, limit = ("nothing" if each is None else f"{each:.6g}" for each in (self.value, self.limit))
        return explain(f"{self.name} is {value} (limit {limit})", self.culprit, self.detail, self.look_at)


def explain(found: str, culprit: str = "", detail: str = "", look_at: str = "") -> str:
    """One line of what was found, who is at fault, details and where to look; what is empty is left out."""
    line = f"{found}: {culprit}" if culprit else found
    more = [part[0].upper() + part[1:] for part in (detail,) if part]
    more += [f"Look at {look_at}"] if look_at else []
    return ". ".join([line.rstrip("."), *(part.rstrip(".") for part in more)]) + "."


def rows(count: int) -> str:
    """`1 row`, `2,000 rows`."""
    return "1 row" if count == 1 else f"{count:,} rows"
