"""Ctrl-C, gently: the first asks the run to save and stop after the present update, the second stops at once."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from rich.console import Console


@contextlib.contextmanager
def stop_on_request(console: Console) -> Iterator[Callable[[], bool]]:
    """While this is open, SIGINT and SIGTERM set a flag that training looks at after every update."""
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        console.print("saving, then stopping … (once more stops at once)")

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
