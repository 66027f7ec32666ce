"""What time it is: the wall clock, or a simulated one. The only module that may ask the machine.

A domain with a `clock` in its sources file has simulated time: the instant is kept in the home and changes
only when it is set. Without one, the wall clock is read.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hindcast.artefacts import read_json, write_json
from hindcast.errors import HindcastError
from hindcast.problem import Problem
from hindcast.settings import Settings
from hindcast.sources import Sources, load_sources


class WallClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True)
class SimulatedClock:
    """A clock that stands still until it is moved on; every process of one home sees the same instant.

    Attributes:
        path: Where the instant is kept.
        start: The instant (UTC) before the clock was first moved.
    """

    path: Path
    start: datetime

    def now(self) -> datetime:
        kept = read_json(self.path)
        return datetime.fromisoformat(kept["now"]) if kept else self.start

    def move_to(self, instant: datetime) -> None:
        """Moves the clock on.

        Raises:
            HindcastError: The instant lies before the present one, or has no time zone.
        """
        if instant.tzinfo is None:
            raise HindcastError(f"The clock needs a time zone: {instant.isoformat()} has none; write …Z for UTC.")
        if instant < self.now():
            raise HindcastError(
                f"The clock stands at {self.now().isoformat()} and can't go back to {instant.isoformat()}."
            )
        write_json(self.path, {"now": instant.astimezone(UTC).isoformat()})


Clock = WallClock | SimulatedClock


def domain_clock(settings: Settings, domain: str, sources: Sources) -> Clock:
    """The clock that a domain lives by: simulated where its sources file has a `clock`, else the machine's."""
    if sources.clock is None:
        return WallClock()
    return SimulatedClock(settings.clock_file(domain), sources.clock.start)


def clock_of(settings: Settings, problem: Problem) -> Clock:
    """The clock of a problem's domain."""
    return domain_clock(settings, problem.domain, load_sources(settings.sources_file(problem.domain)))
