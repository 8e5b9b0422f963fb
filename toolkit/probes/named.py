"""What a [forgetting] table names: lm-eval's own tasks, folders of task files, and texts. Looked at before anything
heavy is imported."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import PROJECT_FOLDERS, UserError, checked_path, nearest
from toolkit.recipe import Forgetting

CODE = ("class", "custom_dataset")
"""Keys by which lm-eval runs Python code that lies beside a task file; its tag !function does so too."""


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
    tags: dict[str, set[str]] = {}
    for config in files.values():
        name = config.get("group") or config.get("task")
        # A file without a name is one that others include.
        if isinstance(name, str):
            names.append(name)
            for tag in listed(config.get("tag")):
                tags.setdefault(tag, set()).add(name)
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f'{folder}: two task files are called "{twice}"; rename one.')
    if not names:
        raise UserError(f"{folder} has no task file of lm-eval (*.yaml with `task:` or `group:`).")
    children: set[str] = set()
    for path, config in files.items():
        for child in members_of(config) if config.get("group") else ():
            children |= {child, *tags.get(child, ())}
            if child not in (*names, *tags, *defined_in(config)):
                near = nearest(child, names)
                hint = f'did you mean "{near}"?' if near else "it has " + ", ".join(sorted(names)) + "."
                raise UserError(f'{path} names the task "{child}", and {folder} has none of that name; {hint}')
    return tuple(sorted(name for name in names if name not in children))


def listed(value: Any) -> list[Any]:
    """What YAML may give as one or as several."""
    return value if isinstance(value, list) else [] if value is None else [value]


def members_of(group: dict[str, Any]) -> Iterator[str]:
    """The names of a group's tasks and groups, with those of the groups that are written in it."""
    for child in listed(group.get("task")):
        if not isinstance(child, dict):
            yield str(child)
        elif "group" in child:
            yield str(child["group"])
            yield from members_of(child)
        else:
            yield str(child.get("task", ""))


def defined_in(group: dict[str, Any]) -> Iterator[str]:
    """Those of them that stand in the group with keys of their own, and need no file."""
    for child in listed(group.get("task")):
        if isinstance(child, dict):
            yield str(child.get("group") or child.get("task", ""))
            yield from defined_in(child) if "group" in child else ()


def read_task_file(path: Path, *, code: bool, inside: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A task file's keys over those of the files that it includes, with nothing of them run.

    inside: the files that include this one. Raises UserError where one is damaged or missing, or asks for code.
    """
    import yaml

    tagged: list[str] = []

    # The one that lm-eval takes: what one of two reads as a tag, the other might not.
    parser: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader

    class Loader(parser):
        """Takes lm-eval's own tag for what it is: a name."""

    def name_of(loader: Any, node: Any) -> str:
        tagged.append("!function")
        return str(node.value)

    Loader.add_constructor("!function", name_of)
    if path.resolve() in map(Path.resolve, inside):
        raise UserError(f"{path} includes itself, by way of {inside[-1]}.")
    try:
        config = yaml.load(path.read_bytes(), Loader)  # noqa: S506  (a safe loader)
    except FileNotFoundError:
        raise UserError(f"{inside[-1]} includes {path}, which is not there.") from None
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise UserError(f"{path} is no task file of lm-eval ({str(error).splitlines()[0]}).") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is no task file of lm-eval: keys and values are expected.")
    asked = [*tagged, *(key for key in CODE if key in config), *pickles(config)]
    if asked and not code:
        raise UserError(
            f"{path} asks for Python code beside it ({asked[0]}), which has not been run. Look"
            " at it, and let it run where you trust it: [forgetting] task_code = true (--task-code)."
        )
    included: dict[str, Any] = {}
    for name in listed(config.pop("include", None)):
        included |= read_task_file(path.parent / str(name), code=code, inside=(*inside, path))
    return included | config


def pickles(config: Any) -> Iterator[str]:
    """Tables that pandas stored: to read them is to run what is in them."""
    if isinstance(config, dict):
        if config.get("dataset_path") == "pandas":
            yield "dataset_path: pandas"
        config = list(config.values())
    for value in config if isinstance(config, list) else ():
        yield from pickles(value)
