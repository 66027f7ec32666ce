"""What must be known of a request for it to be answered. What is known is the reader's to say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Refused:
    """A request that isn't answered, as it is about something that no table holds."""

    detail: str


@dataclass(frozen=True)
class Demands:
    """Which keys of a request must be known.

    Attributes:
        refuse: Whether a request about something unknown is refused.
        identified_by: Keys each of which must be known; where empty, one of all.
    """

    refuse: bool = False
    identified_by: tuple[str, ...] = ()

    def refusal(self, unknown: Sequence[str], keys: int, entity: Mapping[str, Any]) -> Refused | None:
        """Args:
        unknown: Keys of which no view has a usable row.
        keys: How many keys the views have.
        entity: The request's fields.
        """
        missed = [key for key in unknown if key in self.identified_by]
        if not self.identified_by and len(unknown) == keys:
            missed = list(unknown)
        if not self.refuse or not missed:
            return None
        said = "; ".join(f"{key} {', '.join(str(entity.get(name)) for name in key.split(', '))}" for key in missed)
        return Refused(f"Nothing is known of {said}.")
