"""How long tests wait: so long that a busy machine breaks no test, and a hang is still found.

A short limit says how busy a machine is. Long work is waited for as long as it goes on writing; what is waited for
without any output has a limit that only a hang reaches, and the wait ends at once when the process is gone.
"""

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

SILENCE = 15 * 60.0
"""Seconds without any sign of life after which a test calls it a hang. The longest step of a test takes one minute."""


def output_of(process: subprocess.Popen[str]) -> str:
    """What a process writes until it ends, however long that takes. Otherwise as `lines_of`."""
    output = "".join(lines_of(process))
    process.wait(SILENCE)
    return output


def lines_of(process: subprocess.Popen[str], silence: float = SILENCE) -> Iterator[str]:
    """The lines that a process writes, as they come, until it ends; it is killed once it has been silent for too long.

    Args:
        process: With `stdout=PIPE`, `stderr=STDOUT` and `text=True`.
        silence: Seconds without a line of output.

    Raises:
        AssertionError: It has been silent for too long; with the last that it wrote.
    """
    assert process.stdout is not None
    stream, lines, news = process.stdout, list[str](), queue.Queue[str | None]()

    def read() -> None:
        for line in stream:
            news.put(line)
        news.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (line := news.get(timeout=silence)) is not None:
            lines.append(line)
            yield line
    except queue.Empty:
        process.kill()
        process.wait()
        written = "".join(lines)[-4000:]
        hangs = f"{process.args!r} has written nothing for {silence:.0f} s: it hangs.\n{written}"
        raise AssertionError(hangs) from None


def wait_for(
    condition: Callable[[], Any], process: subprocess.Popen[Any] | None = None, silence: float = SILENCE
) -> Any:
    """The first true value of a condition, which is asked again and again.

    Args:
        condition: What is waited for.
        process: Ends the waiting when it ends.
        silence: Seconds after which it is a hang.

    Raises:
        AssertionError: The process has ended, or the condition hasn't come true for too long.
    """
    since = time.monotonic()
    while not (found := condition()):
        assert process is None or process.poll() is None, f"{process.args!r} ended with status {process.returncode}"
        assert time.monotonic() - since < silence, f"nothing has happened for {silence:.0f} s: it hangs"
        time.sleep(0.02)
    return found
