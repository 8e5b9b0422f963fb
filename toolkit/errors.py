"""What is said when something goes wrong, and the one place where commands say it."""

import errno
import sys
from collections.abc import Callable
from pathlib import Path

from toolkit import processes

MACHINE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
"""What an OSError says when the machine is at fault (disk full, quota, defect, no permission), and not our code."""


PROJECT_FOLDERS = ("checkpoints", "data", "recipes", "reports")
"""The project's own: a path into one of them is no name on the hub, though it may look like one."""


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
    sys.exit(status_of(app))


def status_of(action: Callable[[], object]) -> int:
    """The exit status of doing something, after its error was said on stderr."""
    try:
        action()
    except processes.OthersGoneError:
        return 1
    except UserError as error:
        # Before they met, all of them found the same; from then on one alone may find something.
        if processes.is_first():
            print(f"error: {error}", file=sys.stderr)
        elif processes.together():
            print(f"process {processes.number()} found: {error}", file=sys.stderr)
        return 2
    except MachineError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"failed: {where}{error.strerror}. What was complete before is kept.", file=sys.stderr)
        return 1
    return 0


def checked_path(text: str | Path, what: str = "") -> Path:
    """Raises UserError for what no file can be called, such as a name that is too long, and where links go round.

    `what` it is that was said, for the message.
    """
    try:
        Path(text).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # said where it is known what was looked for
    except OSError as error:
        raise UserError(f"{what}{str(text)[:100]}: {error.strerror}.") from None
    except ValueError as error:
        raise UserError(f"{what}{str(text)[:100]!r} is no path ({error}).") from None
    return Path(text)


def is_text(text: str) -> bool:
    """Whether it holds whole characters only: JSON and a shell can pass on half of one, which cannot be written."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def nearest(word: str, known: list[str]) -> str | None:
    """The known word that `word` was probably meant to be, or None."""
    from difflib import get_close_matches

    matches = get_close_matches(word, known, n=1, cutoff=0.6)
    return matches[0] if matches else None
