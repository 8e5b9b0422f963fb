"""What a [forgetting] table names: lm-eval's own tasks, folders of task files, and texts. Looked at before anything
heavy is imported."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import PROJECT_FOLDERS, UserError, checked_path
from toolkit.recipe import Forgetting

CODE = re.compile(r"!function|^\s*(class|custom_dataset)\s*:", re.MULTILINE)
"""What makes lm-eval run Python code that lies beside a task file."""


class Named(NamedTuple):
    """One entry of `tasks`."""

    name: str
    folder: Path | None
    """Of task files; None for a task of lm-eval's own."""
    inside: tuple[str, ...] = ()
    """The folder's tasks and groups that are in no other group, by name."""


class Text(NamedTuple):
    """A text to be read."""

    name: str
    """The file, as the recipe names it."""
    text: str


def check_named(how: Forgetting) -> None:
    """Raises UserError for folders and texts that are not there, or are not what they should be."""
    named_tasks(how.tasks, code=how.task_code)
    read_texts(how.text)


def read_texts(paths: Iterable[str]) -> list[Text]:
    """Texts as they stand in their files, line ends included.

    Raises UserError for a file that is missing, empty or not UTF-8.
    """
    texts = []
    for name in paths:
        path = checked_path(name, "[forgetting] text: ")
        try:
            # Not read as text, which would turn \r\n into \n: bytes are counted.
            text = path.read_bytes().decode("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"[forgetting] text: there is no file {name} in {Path.cwd()}.") from None
        except UnicodeDecodeError as error:
            raise UserError(
                f"[forgetting] text: {name} is not UTF-8 (byte {error.start}); save it in that encoding."
            ) from None
        except OSError as error:
            raise UserError(f"[forgetting] text: {name} cannot be read ({error.strerror}).") from None
        if not text.strip():
            raise UserError(f"[forgetting] text: {name} is empty; bits a byte need some text, a few pages at best.")
        texts.append(Text(name, text))
    return texts


def named_tasks(entries: list[str], *, code: bool) -> list[Named]:
    """What each entry is. No lm-eval is imported, so that a missing folder is said at once.

    code: whether Python code beside task files may run. Raises UserError for a folder that is not there or has no
    task, for a damaged task file, and for code that may not run.
    """
    found = []
    for entry in entries:
        path = checked_path(entry, "[forgetting] tasks: ")
        if path.is_dir():
            found.append(Named(entry, path, tasks_in(path, code=code)))
        elif path.exists():
            raise UserError(f'[forgetting] tasks: "{entry}" is a file; name the folder that its task files lie in.')
        elif "/" in entry and entry.split("/")[0] in (*PROJECT_FOLDERS, "", ".", ".."):
            raise UserError(f'[forgetting] tasks: there is no folder "{entry}".')
        else:
            found.append(Named(entry, None))
    names = [name for one in found for name in (one.inside or (one.name,))]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'[forgetting] tasks: there are two tasks called "{twice}"; rename one.')
    return found


def tasks_in(folder: Path, *, code: bool) -> tuple[str, ...]:
    """The tasks and groups of a folder that no other group of it contains, in the order of their names."""
    files = {path: read_task_file(path, code=code) for path in sorted(folder.rglob("*.yaml"))}
    names: list[str] = []
    children: set[str] = set()
    for config in files.values():
        group, task = config.get("group"), config.get("task")
        name = group or task
        # A file without a name is one that others include.
        if isinstance(name, str):
            names.append(name)
        if group:
            children |= {child if isinstance(child, str) else str(child.get("task", "")) for child in task or []}
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'{folder}: two task files are called "{twice}"; rename one.')
    if not names:
        raise UserError(f"{folder} has no task file of lm-eval (*.yaml with `task:` or `group:`).")
    return tuple(sorted(name for name in names if name not in children))


def read_task_file(path: Path, *, code: bool) -> dict[str, Any]:
    """A task file's keys, with nothing of it run. Raises UserError where it is damaged or asks for code."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes lm-eval's own tag for what it is: a name."""

    Loader.add_constructor("!function", lambda loader, node: str(node.value))
    try:
        text = path.read_text(encoding="utf-8")
        config = yaml.load(text, Loader)  # noqa: S506  (a SafeLoader)
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no task file of lm-eval ({str(error).splitlines()[0]}).") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is no task file of lm-eval: keys and values are expected.")
    if not code and (asked := CODE.search(text)):
        raise UserError(
            f"{path} asks for Python code beside it ({asked.group().strip().rstrip(':')}), which has not been run. Look"
            " at it, and let it run where you trust it: [forgetting] task_code = true (--task-code)."
        )
    return config
