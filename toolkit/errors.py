"""What is said when something goes wrong, and the one place where commands say it."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the user can mend: one message (what, where, the nearest fix), exit status 2, no traceback."""


class MachineError(Exception):
    """The machine failed (disk full, out of memory): says what was kept and how to go on; exit status 1."""


def run_command(command: Callable[..., object]) -> None:
    """Run a command line's function; our own errors become messages on stderr, our own bugs keep their traceback."""
    import typer

    for stream in (sys.stdout, sys.stderr):
        # Windows consoles and pipes may not be UTF-8; prompts are often Chinese.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except MachineError as error:
        print(f"failed: {error}", file=sys.stderr)
        sys.exit(1)


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    from difflib import get_close_matches

    matches = get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
