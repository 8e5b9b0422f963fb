"""Broken recipes, made by the thousand from every shipped one: one message each, at once, and nothing is written.

Every mutation here is illegal whatever the recipe says elsewhere, so that none can be trained by mistake.
"""

import json
import random
import re
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.conftest import ROOT, command, run
from toolkit.errors import UserError
from toolkit.recipe import Recall, read_recipes, to_toml
from toolkit.studies import resolve_data

SHIPPED = sorted(path.relative_to(ROOT) for path in (ROOT / "recipes").rglob("*.toml"))
MINE = Path("broken.toml")

BAD_TEXT = {
    "name": "../x", "study": "phones", "pattern": "mirror", "prefix": "1[9-3]", "prompt": "no index", "base": " ",
    "revision": "../../x", "precision": "int4", "engine": "vllm", "format": "html", "method": "rlhf", "loss_on": "some",
    "schedule": "liner", "optimizer": "adam8", "keep": "none", "save": "0 steps", "every": "sometimes",
    "project": "a b", "mode": "of", "reverse": "no number", "primary": "accuracy", "order": "sorted",
    "rejected": "worst", "review": "weekly", "yoked_to": "../x", "after": "holidays", "locale": "xx",
    "source": "no.csv", "questions": "no.csv", "cloze_prompt": "no blank", "question_prompt": "no question",
    "base_url": "ftp://x", "key_env": "A B", "answer": "no column", "reverse_answer": "no column",
    "best_by": "speed",
}  # fmt: skip
"""Text that a key cannot take; `study` also where [data] is of another one."""

BAD_LIST = {"seeds": [[], [-1], [0, 0], [2**31], ["0"]], "train_on": [[], ["facts", "facts"], [3]]}
BAD_LIST["paraphrases"] = [["no index"], [7], ["{index} {"]]
BAD_LIST["label_names"] = [["a", "a"], [""], [7]]
BAD_LIST["layers"] = [[0], [-1], ["x"]]
BAD_LIST["tasks"] = BAD_LIST["text"] = [["a", "a"], [""], [3]]
BAD_LIST["questions"] = [["a", "a"], [""], [3]]
BAD_LIST["kinds"] = [[], ["letters"], [3]]
BAD_LIST["targets"] = [[], ["q_proj", "q_proj"], ["head"], [[]]]

FREE_TEXT = ("text", "label", "train", "dev", "test", "preferences")
"""Names of columns and files: only the data can say that they are wrong (test_classify_data.py), which may be far."""

REQUIRED = ("name", "study", "model", "stage", "method")
"""Keys without a default, wherever they stand; of [model], base or shape too."""


class Broken(NamedTuple):
    """One broken recipe: its file, and what the command line changes."""

    what: str
    content: str | bytes
    changes: tuple[str, ...] = ()
    seeds: str = ""


def resolved(shipped: Path) -> dict[str, Any]:
    """A shipped recipe as one table, every default said; the first group of a grid."""
    path = ROOT / shipped
    return tomllib.loads(to_toml(resolve_data(read_recipes(path)[0], path)))


def leaves(table: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key with its value, tables too."""
    for key, value in table.items():
        yield (*at, key), value
        if isinstance(value, dict):
            yield from leaves(value, (*at, key))


def changed(table: dict[str, Any], path: tuple[str, ...], change: Callable[[dict[str, Any], str], None]) -> str:
    """The recipe as TOML, with `change` made to the table that holds the key."""
    import tomli_w

    copied = json.loads(json.dumps(table))
    place = copied
    for part in path[:-1]:
        place = place[part]
    change(place, path[-1])
    return tomli_w.dumps(copied)


def put(value: Any) -> Callable[[dict[str, Any], str], None]:
    return lambda table, key: table.update({key: value})


def wrong_types(value: Any) -> list[Any]:
    """Values of types that a key with this value never takes."""
    if isinstance(value, bool):
        return ["true", 1, 0.5, [True]]
    if isinstance(value, int):
        return ["7", True, 1.5, [7], {"a": 7}]
    if isinstance(value, float):
        return ["0.1", True, [0.1], {"a": 0.1}]
    if isinstance(value, str):
        return [7, True, 1.5, ["x"], {"a": "x"}]
    if isinstance(value, list):
        return ["x", 7, True, {"a": 7}]
    return ["x", 7, True, [7], [{}]]


def out_of_range(key: str, value: Any) -> list[Any]:
    if isinstance(value, (bool, dict)):
        return []
    if isinstance(value, int):
        return [-1, 2**40] if key in ("count", "controls", "digits", "rank") else [-1]
    if isinstance(value, float):
        return [-1.0, float("nan"), float("inf")]
    if isinstance(value, str):
        return [] if key in FREE_TEXT else [BAD_TEXT[key]]
    return BAD_LIST[key]


# --- the kinds of mutations ---


def by_value(shipped: Path) -> Iterator[Broken]:
    """A wrong type or an impossible value for every key of the resolved recipe, in the file and by --set."""
    table = resolved(shipped)
    for path, value in leaves(table):
        name = ".".join(path)
        for bad in [*wrong_types(value), *out_of_range(path[-1], value)]:
            yield Broken(f"{name} = {bad!r}", changed(table, path, put(bad)))
            if not isinstance(bad, dict):
                text = str(bad) if isinstance(bad, float) else json.dumps(bad)
                yield Broken(f"--set {name}={text}", changed(table, path, put(value)), (f"{name}={text}",))


def by_key(shipped: Path) -> Iterator[Broken]:
    """A misspelt key, a key in another table, and a required key that is not there."""
    table = resolved(shipped)
    for path, value in leaves(table):
        *above, key = path
        name = ".".join(path)
        if tuple(above) != ("stage",):
            yield Broken(f"{name} misspelt", changed(table, path, lambda t, k: t.update({f"{k}_": t.pop(k)})))
            yield Broken(f"--set {name} misspelt", changed(table, path, put(value)), (f"{name}_=1",))
        elsewhere = "wandb" if key in Recall.model_fields or above == ["recall"] else "recall"
        if path != (elsewhere,):
            moved = changed(table, path, lambda t, k: t.pop(k))
            yield Broken(f"{name} in [{elsewhere}]", changed(tomllib.loads(moved), (elsewhere, key), put(value)))
        if key in REQUIRED:
            yield Broken(f"{name} deleted", changed(table, path, lambda t, k: t.pop(k)))
        if path in (("model", "base"), ("model", "shape"), ("model", "tokenizer")):
            yield Broken(f"{name} deleted", changed(table, path, lambda t, k: t.pop(k)))


def own_text(shipped: Path) -> str:
    """A shipped file's own text, comments too, so that it can stand elsewhere."""
    text = (ROOT / shipped).read_text(encoding="utf-8")
    return text.replace('extends = "', f'extends = "{shipped.parent.as_posix()}/')


def by_text(shipped: Path) -> Iterator[Broken]:
    """No TOML: what is cut off, doubled, left open or too large."""
    text = own_text(shipped)
    for line in (
        "x = ", "x", "= 1", "[data", "[]", "[[data]", 'x = "', "x = 'a", "x = tru", "x = [1, 2", "x = {a = 1", "x = 01",
        "x = 1__0", 'x = """', "x = 2026-13-01", 'x = "\\q"', "x = {a = 1\n}", "x.y.z", "\t[", "x = 1 2",
        f"x = {'9' * 30}", f"x = {'9' * 5000}", f"x = 0x{'f' * 5000}", f"x = {'[' * 40}{']' * 40}",
        f"x = {'[' * 5000}", f"x = {'{a=' * 3000}",
    ):  # fmt: skip
        yield Broken(f"line {line[:20]}", f"{text}\n{line}\n")
        yield Broken(f"first line {line[:20]}", f"{line}\n{text}")
    yield Broken("everything twice", text + text)
    yield Broken("cut in a text", text[: text.rindex('"')])
    yield Broken("UTF-16", text.encode("utf-16"))
    yield Broken("nothing", "")
    yield Broken("a comment", "# nothing\n")
    yield Broken("JSON", json.dumps(resolved(shipped)))


def by_noise(shipped: Path) -> Iterator[Broken]:
    """Bytes that no TOML holds anywhere, at places drawn from the file's name; and noise instead of the file."""
    content = own_text(shipped).encode()
    rng = random.Random(shipped.as_posix())
    for bad in (b"\x00", b"\x1b", b"\x7f", b"\xff", b"\xc0\xaf", b"\xed\xa0\x80"):
        for _ in range(5):
            place = rng.randrange(len(content) - 4)
            # Not into a sign of several bytes, where it could only make another damage of the same kind.
            yield Broken(f"{bad!r} at {place}", content[:place] + bad + content[place:])
    for size in (1, 10, 1000):
        yield Broken(f"{size} bytes of noise", b"\x00" + rng.randbytes(size))


KINDS: dict[str, Callable[[Path], Iterator[Broken]]] = {
    "values": by_value,
    "keys": by_key,
    "text": by_text,
    "noise": by_noise,
}

BY_HAND = [
    Broken(what, f'extends = "recipes/groupA.toml"\n{text}')
    for what, text in {
        "two stages of one name on Windows": "[stage.Learn]\nmethod = 'sft'",
        "a part that no example has": "[stage.learn]\ntrain_on = ['fact']",
        "more numbers than there are": "[data]\npattern = 'repeated'\ncount = 1000",
        "a prefix that the pattern has no place for": "[data]\npattern = 'repeated'\nprefix = '12'",
        "a prefix longer than the number": "[data]\nprefix = '123456789012'",
        "another study's arguments": "study = 'lines'",
        "a new model with LoRA": "[model.shape]",
        "fp8 without Unsloth": "[model]\nprecision = 'fp8'\nengine = 'transformers'",
        "a block for sft": "[stage.learn]\nblock = 64",
        "an interval that no run reaches": f"[recall]\nevery = '{'9' * 12} steps'",
        "a base that is no path": "[model]\nbase = 'a\\u0000b'".replace("'", '"'),
        "a base that no system can hold": f"[model]\nbase = '{'x' * 5000}'",
        "a base that goes nowhere": "[model]\nbase = '../nowhere/at/all'",
        "a base that is the project": "[model]\nbase = '.'",
        "a tokenizer for a base": "[model.tokenizer]\nbase = 'Qwen/Qwen3-0.6B'",
        "nf4 without LoRA": "lora = false\n[model]\nprecision = 'nf4'",
        "lora = true": "lora = true",
        "forgetting of nothing": "[forgetting]",
        "a folder of tasks that is not there": "[forgetting]\ntasks = ['recipes/nowhere']",
        "a folder without tasks": "[forgetting]\ntasks = ['checkpoints']",
        "a file for a folder of tasks": "[forgetting]\ntasks = ['recipes/groupA.toml']",
        "a text that is not there": "[forgetting]\ntext = ['nowhere.txt']",
        "a text that is a folder": "[forgetting]\ntext = ['recipes']",
        "a text that is no path": "[forgetting]\ntext = ['a\\u0000b']".replace("'", '"'),
        "a stop without tasks": "[forgetting]\ntext = ['a.txt']\nevery = 'epoch'\nstop_if_worse_by = 0.1",
        "a stop by stages": "[forgetting]\ntasks = ['mmlu']\nstop_if_worse_by = 0.1",
        "a stop by everything": "[forgetting]\ntasks = ['mmlu']\nevery = 'epoch'\nstop_if_worse_by = 1.0",
        "a stop by nothing": "[forgetting]\ntasks = ['mmlu']\nevery = 'epoch'\nstop_if_worse_by = 0.0",
        "a stop of an exam": (
            "[forgetting]\ntasks = ['mmlu']\nevery = 'epoch'\nstop_if_worse_by = 0.1\n[stage.drill]\nmethod = 'exam'"
        ),
    }.items()
]
BY_HAND += [
    Broken(what, f'extends = "recipes/tiny/base.toml"\n{text}')
    for what, text in {
        "a given tokenizer and a new one": "[model.tokenizer]\nbase = 'Qwen/Qwen3-0.6B'",
        "new weights in 4 bits": "[model]\nprecision = 'nf4'",
        "new weights in 8 bits": "[model]\nprecision = 'fp8'",
    }.items()
]
BY_HAND += [
    Broken(f"extends = {text[:20]}", f"extends = {text}\n")
    for text in (
        '"broken.toml"', '"."', '""', "7", "[]", '"nowhere.toml"', '"../nowhere.toml"', f'"{"x" * 300}"', '"a\\u0000b"',
        '"loop.toml"', '"recipes/schema.json"', "{a = 1}", "true", '"/"', '"recipes/groupA.toml/x"',
    )
]  # fmt: skip
BY_HAND += [
    Broken(f"--set {change[:20]!r}", 'extends = "recipes/groupA.toml"\n', (change,))
    for change in (
        "", "=", "=1", "name", "name=", ".=1", "a..b=1", "extends=recipes/groupB.toml", "name=\udcff", "seeds=0,1",
        "stage=1", "stage.learn=1", "stage.lern.epochs=1", "data={", "data=[", "name.x=1", "x=1", "lora=true",
        "name='''", "model.base=\udcff", f"{'a.' * 2000}a=1", f"stage.learn.epochs={'9' * 5000}",
        f"seeds={'[' * 5000}", "name=a\nstudy='lines'", "recall.every=\n", "data.prompt={index}{", "lora.rank=1\n2",
    )
]  # fmt: skip
BY_HAND += [
    Broken(f"--seeds {seeds[:20]}", 'extends = "recipes/groupA.toml"\n', seeds=seeds)
    for seeds in (",", "0,", "0,,1", "a", "1.0", "-1", "0,0", "[0]", "0 1", "2147483648", "9" * 30, "9" * 5000, "1e3")
]


# --- what is said ---


@pytest.fixture
def project_folder(folder: Path) -> Path:
    """A project with a file of an earlier run, and a link that leads to itself."""
    (folder / "checkpoints/GroupA/seed-0").mkdir(parents=True)
    (folder / "checkpoints/GroupA/seed-0/kept.txt").write_text("kept")
    (folder / "loop.toml").symlink_to("loop.toml")
    return folder


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file of a project, byte for byte."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def refusal(broken: Broken) -> str:
    """What is said of a broken recipe; fails where it is accepted, takes long, or fails in another way."""
    MINE.write_bytes(broken.content if isinstance(broken.content, bytes) else broken.content.encode())
    started = time.perf_counter()
    try:
        run(str(MINE), *broken.changes, seeds=broken.seeds)
    except UserError as error:
        assert time.perf_counter() - started < 1, broken
        return str(error)
    raise AssertionError(f"{broken} was accepted")


def check(broken: Broken, folder: Path) -> None:
    before = contents(folder)
    said = refusal(broken)
    after = contents(folder)
    assert {**after, MINE.name: None} == {**before, MINE.name: None}, broken.what
    named = (
        [MINE.name, "--seeds"] + [f"--set {change}" for change in broken.changes] + ["[model] base", "[forgetting] t"]
    )
    # A folder that does not hold what it should.
    named += ["checkpoints has no task file"]
    # A mistake in an extended file is said of that one.
    named += re.findall(r'extends = "(.*schema\.json)"', str(broken.content))
    assert any(name in said for name in named), (broken.what, said)
    for jargon in ("Traceback", "type=", "pydantic", "http", "input_value", "Error:"):
        assert jargon not in said or any(jargon in change for change in broken.changes), (broken.what, said)
    # A message, and not the recipe again; what was typed is repeated as it was.
    assert len(said) < 1500 + 2 * len("".join(broken.changes) + broken.seeds), (broken.what, said)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.as_posix())
def test_every_broken_recipe_is_one_message_and_nothing_is_written(
    project_folder: Path, capfd: pytest.CaptureFixture[str], shipped: Path, kind: str
) -> None:
    for broken in KINDS[kind](shipped):
        check(broken, project_folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("broken", BY_HAND, ids=lambda broken: re.sub(r"[^ -~]", "?", broken.what))
def test_a_recipe_broken_by_hand_is_one_message_and_nothing_is_written(
    project_folder: Path, capfd: pytest.CaptureFixture[str], broken: Broken
) -> None:
    check(broken, project_folder)
    assert capfd.readouterr() == ("", "")


def test_two_hundred_recipes_and_more_are_broken_and_every_shipped_one_among_them() -> None:
    counts = {(shipped, kind): sum(1 for _ in make(shipped)) for shipped in SHIPPED for kind, make in KINDS.items()}
    assert len(SHIPPED) >= 10
    assert min(counts.values()) > 20
    assert sum(counts.values()) > 5000
    assert len(BY_HAND) > 60


def test_a_recipe_that_nothing_was_broken_in_is_read(folder: Path) -> None:
    """What the mutations start from: else each of them could be refused for another reason."""
    for shipped in SHIPPED:
        whole = [resolve_data(recipe, shipped) for recipe in read_recipes(ROOT / shipped)]
        for text, meant in ((to_toml(whole[0]), whole[:1]), (own_text(shipped), whole)):
            MINE.write_text(text, encoding="utf-8")
            assert [resolve_data(recipe, MINE) for recipe in read_recipes(MINE)] == meant


SAMPLE = [
    Broken("a wrong type", 'extends = "recipes/groupA.toml"\n[stage.learn]\nepochs = "ten"\n'),
    Broken("no TOML", "name = GroupA\n"),
    Broken("deep", f"x = {'[' * 5000}\n"),
    Broken("no UTF-8", b"\xff\xfe"),
    Broken("a name that is a path", 'extends = "recipes/tiny/groupB.toml"\nname = "../../x"\n'),
    Broken("a --set", 'extends = "recipes/tiny/base.toml"\n', ("stage.pretrain.epochs=0",)),
]


@pytest.mark.parametrize("broken", SAMPLE, ids=lambda broken: broken.what)
def test_the_command_says_it_on_stderr_within_a_second_with_status_2(project_folder: Path, broken: Broken) -> None:
    MINE.write_bytes(broken.content if isinstance(broken.content, bytes) else broken.content.encode())
    before = contents(project_folder)
    changes = [part for change in broken.changes for part in ("--set", change)]
    quickest = 60.0
    # The best of three: other work on the machine only ever makes it slower.
    for _ in range(3):
        started = time.perf_counter()
        done = command("toolkit.run", MINE.name, *changes, folder=project_folder)
        quickest = min(quickest, time.perf_counter() - started)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith(f"error: {MINE.name}: ")
        assert "Traceback" not in done.stderr
        assert contents(project_folder) == before
        if quickest < 1:
            break
    assert quickest < 1
