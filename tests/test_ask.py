"""Talking to a checkpoint: its greedy answer, and how sure it is of each token."""

import io
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from toolkit import ask
from toolkit.checkpoints import find_checkpoints
from toolkit.errors import UserError
from toolkit.example import Example, read_jsonl


def called(checkpoint: str, prompt: str | None = None, **changes: Any) -> None:
    """The command's function, with the defaults of its options."""
    ask.main(checkpoint, prompt, **({"max_new_tokens": 64, "base": None, "format": None} | changes))


@pytest.fixture(scope="module")
def opened(half_trained: Path, project: Path, engine: ModuleType) -> Any:
    from toolkit.models.opening import open_checkpoint, prepare

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        (checkpoint,) = find_checkpoints(["checkpoints/half/seed-0"])
        return open_checkpoint(checkpoint, engine, prepare(checkpoint, None, None), None)


@pytest.fixture(scope="module")
def facts(half_trained: Path) -> list[Example]:
    return [example for example in read_jsonl(half_trained / "seed-0/examples.jsonl") if example.split == "train"]


def shown(opened: Any, engine: ModuleType, prompt: str, limit: int = 64) -> list[str]:
    from rich.console import Console

    said = io.StringIO()
    Console(width=80, file=said, highlight=False).print(ask.answer(opened, engine, prompt, limit))
    return said.getvalue().splitlines()


def probabilities(line: str) -> list[tuple[str, float]]:
    return [(token, float(said)) for token, said in re.findall(r"(\S+) ([01]\.\d{3})", line)]


def test_the_greedy_answer_stands_above_its_tokens_with_their_probabilities(
    opened: Any, engine: ModuleType, facts: list[Example]
) -> None:
    from toolkit.models.loaded import undisturbed
    from toolkit.models.scoring import generate, score
    from toolkit.rendering import render

    rendered = [render(opened.loaded.tokenizer, fact, "plain") for fact in facts]
    with undisturbed(opened.loaded, engine):
        scores = score(opened.loaded, rendered, 32)
        said = generate(opened.loaded, engine, [item.prompt_ids for item in rendered], 64, 32)
    for fact, scored, greedy in zip(facts, scores, said, strict=True):
        first, *more = shown(opened, engine, fact.prompt)
        assert first == greedy.text
        listed = probabilities(" ".join(more))
        assert "".join(token for token, _ in listed) == greedy.text
        if all(scored.correct):
            # What the model knows it says with the probability that its answer was scored with.
            assert first == fact.answer
            assert [p for _, p in listed] == pytest.approx([2**-bits for bits in scored.bits], abs=6e-4)


def test_an_answer_that_does_not_end_says_where_it_was_cut(
    opened: Any, engine: ModuleType, facts: list[Example]
) -> None:
    first, *more = shown(opened, engine, facts[0].prompt, limit=3)
    assert first.endswith("  (cut at 3 tokens)")
    assert len(probabilities(" ".join(more))) == 3


def test_tokens_of_a_long_answer_stand_in_columns_within_the_line(
    opened: Any, engine: ModuleType, facts: list[Example]
) -> None:
    from toolkit.models.scoring import Generated

    said = Generated("1\n 2" * 20, opened.loaded.tokenizer("1\n 2" * 20)["input_ids"], [], ended=True)
    said = said._replace(probabilities=[0.5] * len(said.ids))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolkit.models.scoring.generate", lambda *args, **options: [said])
        lines = shown(opened, engine, facts[0].prompt)
    tokens = [line for line in lines if "0.500" in line]
    assert sum(line.count("0.500") for line in tokens) == len(said.ids)
    assert max(map(len, tokens)) <= 80
    # A line break and a space are shown as signs.
    assert "⏎" in " ".join(tokens)
    assert "␣" in " ".join(tokens)


def test_piped_questions_are_answered_line_by_line(
    in_project: Path, half_trained: Path, facts: list[Example], opened: Any, engine: ModuleType,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    questions = [fact.prompt for fact in facts[:3]]
    expected = [shown(opened, engine, question)[0] for question in questions]
    # Lines as Windows ends them, and an empty one.
    monkeypatch.setattr("sys.stdin", io.StringIO("\r\n".join([questions[0], "", *questions[1:], ""])))
    called("checkpoints/half/seed-0")
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if re.fullmatch(r"\d+", line)] == expected


def test_a_group_of_several_runs_says_which_one_is_asked(
    in_project: Path, half_trained: Path, facts: list[Example], opened: Any, engine: ModuleType,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    called("checkpoints/half", facts[0].prompt)
    said = capsys.readouterr()
    assert "checkpoints/half has 2 runs; asking half/seed-0." in said.err
    assert said.out.splitlines()[0] == shown(opened, engine, facts[0].prompt)[0]


def test_what_cannot_be_asked_is_refused(in_project: Path, half_trained: Path) -> None:
    with pytest.raises(UserError, match="--format Chat: plain or chat is expected"):
        called("checkpoints/half", "1", format="Chat")
    with pytest.raises(UserError, match="did you mean checkpoints/half"):
        called("checkpoints/hlaf", "1")
    with pytest.raises(UserError, match="empty prompt"):
        called("checkpoints/half/seed-0", "")
