"""Imports go down only, and the ground is light: what a module may import, by the floors of design.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

FLOORS = [
    {
        "run",
        "run_together",
        "dry_run",
        "dry_run_stages",
        "dry_run_forgetting",
        "dry_run_size",
        "eval_recall",
        "eval_classification",
        "eval_forgetting",
        "eval_repetition",
        "compare",
        "dashboard",
        "ask",
        "data",
        "list",
        "schema",
    }
    | {"judge", "questions", "fetch_news"},
    {"training", "reporting"},
    {"probes"},
    {"models", "tracking", "service"},
    {"checkpoints", "classes"},
    {"studies", "run_folder", "rendering"},
    {"recipe", "example", "metrics", "stored"},
    {"errors", "seeds"},
    {"processes"},
]
"""From commands down to the ground."""

COMMANDS = FLOORS[0]
"""May import one another: `run --compare` compares."""

ALLOWED = {("recipe", "metrics.information")}
"""The names of a block's projections stand in one place."""

HEAVY = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "unsloth",
    "scipy",
    "sklearn",
    "statsmodels",
    "numpy",
    "matplotlib",
    "wandb",
)

GROUND = (
    "toolkit.recipe",
    "toolkit.studies",
    "toolkit.run_folder",
    "toolkit.rendering",
    "toolkit.models.base",
    "toolkit.models.opening",
)


def floor_of(name):
    found = [number for number, floor in enumerate(FLOORS) if name in floor]
    assert found, f"toolkit/{name} is on no floor: add it to FLOORS, where design.md puts it"
    return found[0]


def imports_of(path):
    """Every module of the toolkit that a file imports, inside functions too, as a path below `toolkit`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            if node.module == "toolkit":
                yield from (alias.name for alias in node.names)
            elif node.module and node.module.startswith("toolkit."):
                yield node.module.removeprefix("toolkit.")
        if isinstance(node, ast.Import):
            yield from (a.name.removeprefix("toolkit.") for a in node.names if a.name.startswith("toolkit."))


def wrong_imports(path, root=ROOT / "toolkit"):
    """Imports of a file that go up, or across to another package of its floor."""
    me = path.relative_to(root).with_suffix("").parts[0]
    for module in imports_of(path):
        other = module.split(".")[0]
        across = floor_of(other) == floor_of(me) and other != me and not {me, other} <= COMMANDS
        if (floor_of(other) < floor_of(me) or across) and (me, module) not in ALLOWED:
            yield f"{me} imports {module}"


FILES = [path for path in sorted((ROOT / "toolkit").rglob("*.py")) if path != ROOT / "toolkit/__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down_only(path):
    assert list(wrong_imports(path)) == []


@pytest.mark.parametrize(
    ("file", "line", "wrong"),
    [
        ("recipe/x.py", "def f():\n    from toolkit.studies import STUDIES", ["recipe imports studies"]),
        ("rendering.py", "import toolkit.run_folder", ["rendering imports run_folder"]),
        ("training/x.py", "from toolkit import compare", ["training imports compare"]),
        ("errors.py", "from toolkit.seeds import sub_seed", ["errors imports seeds"]),
        ("recipe/x.py", "from toolkit.metrics.information import PROJECTIONS", []),
        ("recipe/x.py", "from toolkit.recipe.fields import Recipe", []),
        ("run.py", "from toolkit.compare import compare", []),
    ],
)
def test_an_import_that_goes_up_or_across_is_found(tmp_path, file, line, wrong):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(line)
    assert list(wrong_imports(path, tmp_path)) == wrong


def test_only_one_file_imports_unsloth():
    importing = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            importing += [path.name for module in modules if module.split(".")[0] in ("unsloth", "unsloth_zoo")]
    assert set(importing) <= {"with_unsloth.py"}


@pytest.mark.parametrize("module", [*GROUND, *(f"toolkit.{name}" for name in sorted(COMMANDS))])
def test_what_answers_at_once_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
