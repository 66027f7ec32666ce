"""What all benchmarks share: rows with their bars, and measurements in fresh processes, in turn.

Imports nothing but the standard library at the top: it also runs in the environment of the peers, and a child's peak
memory counts from its parent's.
"""

import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Work = Callable[[], Any]
"""What is measured. It returns an Arrow table, to be kept for comparison, or what JSON can hold."""


@dataclass(frozen=True)
class Row:
    """One line of a benchmark's table.

    Attributes:
        what: What is measured, and on how much.
        unit: Of `ours` and `peer`.
        ours: The measured value.
        peer: That of a peer, or a limit; None where there is nothing to hold it against.
        against: Who or what `peer` is.
        at_most: Bar: `ours / peer` may be this at most.
        at_least: Bar: `ours / peer` must be this at least.
        stretch: The bar is one to strive for: a miss is shown, and doesn't fail the run.
    """

    what: str
    unit: str
    ours: float
    peer: float | None = None
    against: str = ""
    at_most: float | None = None
    at_least: float | None = None
    stretch: bool = False

    @property
    def ratio(self) -> float | None:
        return None if not self.peer else self.ours / self.peer

    @property
    def holds(self) -> bool | None:
        """Whether the bar holds; None where there is none. A limit of 0 holds for 0 alone."""
        if self.peer is None or (self.at_most is None and self.at_least is None):
            return None
        above = self.at_least is None or self.ours >= self.at_least * self.peer
        return above and (self.at_most is None or self.ours <= self.at_most * self.peer)

    @property
    def bar(self) -> str:
        if self.peer == 0:
            return "none"
        bounds = [f"{sign} {bound:g}" for sign, bound in (("≤", self.at_most), ("≥", self.at_least)) if bound]
        return " ".join(bounds + ["(stretch)"] * self.stretch)


@dataclass(frozen=True)
class Case:
    """One way to do the work, measured in a process of its own.

    Attributes:
        prepare: `module:function`; called with `arguments` it makes all ready and returns the work.
        arguments: Anything that JSON can hold.
        python: The interpreter: that of this process, or of the peers' environment.
    """

    prepare: str
    arguments: tuple[Any, ...] = ()
    python: str = sys.executable


@dataclass(frozen=True)
class Measured:
    """Medians over the rounds.

    Attributes:
        cpu: Seconds of the work alone, user and system, of the process and its children.
        process_cpu: Seconds of the whole process: start, imports, preparation, work.
        peak: Bytes of memory that the process held at most, until the work was done.
        results: What the work returned, one per round; None for a table.
    """

    cpu: float
    process_cpu: float
    peak: float
    results: list[Any]


def in_turn(cases: Mapping[str, Case], rounds: int, keep: Path | None = None) -> dict[str, Measured]:
    """Measures all cases once, then all once more, and so on, so that noise hits all alike.

    Args:
        cases: By name.
        rounds: How often each is measured.
        keep: Folder for the tables that the first round's works return: `<name>.arrow`.
    """
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
    for number in range(rounds):
        for name, case in cases.items():
            table = keep / f"{name}.arrow" if keep and not number else None
            taken[name].append(once(case, table))
            last = taken[name][-1]
            say(f"{number + 1}/{rounds} {name}: {last['cpu']:.2f} s CPU, {last['peak'] / 1e6:,.0f} MB")
    return {
        name: Measured(
            **{key: statistics.median(one[key] for one in all_) for key in ("cpu", "process_cpu", "peak")},
            results=[one["result"] for one in all_],
        )
        for name, all_ in taken.items()
    }


def once(case: Case, table: Path | None = None) -> dict[str, Any]:
    """Runs one case in a fresh process; `cpu`, `process_cpu`, `peak` and `result` as in `Measured`.

    Raises:
        RuntimeError: It failed; the message is the end of what it said.
    """
    if table:
        table.parent.mkdir(parents=True, exist_ok=True)
    order = json.dumps([case.prepare, case.arguments, str(table) if table else None])
    command = [case.python, "-m", "bench.measure", order]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise RuntimeError(f"{case.prepare} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def say(progress: str) -> None:
    """Tells whoever waits how far it is."""
    print(f"  · {progress}", file=sys.stderr, flush=True)


def _child(order: str) -> None:
    prepare, arguments, table = json.loads(order)
    module, _, function = prepare.partition(":")
    work: Work = getattr(importlib.import_module(module), function)(*arguments)
    before = _cpu()
    result = work()
    after = _cpu()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if hasattr(result, "to_batches"):  # an Arrow table; this module can't know Arrow
        if table:
            import pyarrow.feather

            pyarrow.feather.write_feather(result, table, compression="uncompressed")
        result = None
    print()
    print(json.dumps({"cpu": after - before, "process_cpu": after, "peak": max(peak, children), "result": result}))


def _cpu() -> float:
    """CPU seconds of this process since it started, and of its children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    _child(sys.argv[1])
