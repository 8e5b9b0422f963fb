"""Ctrl-C, gently: the first asks the run to save and stop after the present update, the second stops at once."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType

from rich.console import Console

from toolkit import processes

AGAIN = 5.0
"""Seconds within which a second signal is the first one, passed on: a launcher tells its processes what they know."""


@contextlib.contextmanager
def stop_on_request(console: Console) -> Iterator[Callable[[], bool]]:
    """While this is open, SIGINT and SIGTERM set a flag that training looks at after every update."""
    asked = False
    since = 0.0

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked, since
        if asked and processes.count() > 1 and time.monotonic() - since < AGAIN:
            return
        if asked:
            raise KeyboardInterrupt
        asked, since = True, time.monotonic()
        console.print("saving, then stopping … (once more stops at once)")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
