"""What a check says: which file, which key, what is wrong with it and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        file: In which it stands.
        key: Dotted, as `metrics.primary`; "" where it is about the whole file.
        what: What is wrong, and what to do.
    """

    file: Path
    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key + ': ' if self.key else ''}{self.what}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint at the names that there are, the nearest first."""
    listed = sorted(map(str, known))
    near = get_close_matches(name, listed, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(listed) or 'none'}."
