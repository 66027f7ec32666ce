"""The gate's verdicts: their form, and the file in which every verdict and decision about a version is kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hindcast.artefacts import read_json, write_json
from hindcast.checks import Check
from hindcast.settings import Settings

PROMOTED, REFUSED, UNDECIDED, ALREADY = "promoted", "refused", "a person decides", "already champion"


@dataclass(frozen=True)
class Verdict:
    """What the gate says about one version. The form of `verdicts/<version>.json`.

    Attributes:
        version: The challenger.
        champion: The version in use when it was judged; None before the first one.
        promoted: Whether the challenger may be used.
        verdict: `promoted`; `refused`; `a person decides`, where all holds but it can't be compared with the champion;
            or `already champion`.
        judged_at: The clock, ISO 8601 in UTC.
        checks: Every check with its numbers.
        question: What was asked beside the champion: `refresh` or `change`; None where there is no other champion.
        changed: What a change is of: `features`, `parameters`, `code`.
    """

    version: str
    champion: str | None
    promoted: bool
    verdict: str
    judged_at: str
    checks: tuple[Check, ...]
    question: str | None = None
    changed: tuple[str, ...] = ()


def verdict_file(settings: Settings, version: str) -> Path:
    """Where the verdict on a version is kept."""
    return settings.verdicts / f"{version}.json"


def keep(verdict: Verdict, path: Path) -> None:
    """Writes a verdict; earlier ones on the same version stay in the file, newest first, under `earlier`.

    What people decided (`keep_decision`) stays as well. That a version is in use already, or the same verdict again, is
    no news: the file stays as it is.
    """
    new = json.loads(json.dumps(asdict(verdict)))
    old = read_json(path) or {}
    earlier, decisions = old.pop("earlier", []), old.pop("decisions", [])
    if old and (verdict.verdict == ALREADY or old | {"judged_at": ""} == new | {"judged_at": ""}):
        return
    _write(path, new | {"earlier": [old, *earlier] if old else []}, decisions)


def keep_decision(path: Path, version: str, decision: dict[str, str]) -> None:
    """Adds what a person decided about a version to its verdict's file, under `decisions`, newest first.

    Where the gate has never judged it, the file says so.
    """
    never = asdict(Verdict(version, None, False, "never judged", decision["at"], ())) | {"earlier": []}
    content = read_json(path) or never
    _write(path, content, [decision, *content.pop("decisions", [])])


def _write(path: Path, content: dict[str, Any], decisions: Sequence[dict[str, str]]) -> None:
    more = {"decisions": list(decisions)} if decisions else {}
    write_json(path, content | more)
