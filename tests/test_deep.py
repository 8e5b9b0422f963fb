"""`eval_recall --deep`: canary exposure, and the set of answers against their binding, on a half-trained model."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import command
from toolkit.run_folder import DEEP, Run


@pytest.fixture(scope="module")
def deep(half_trained: Path) -> dict[str, Any]:
    done = command("toolkit.eval_recall", "checkpoints/half/seed-0", "--deep", "--json", folder=half_trained.parents[1])
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)
    return result


def test_what_is_known_of_set_and_binding_sums_to_the_bits_memorised(deep: dict[str, Any], half_trained: Path) -> None:
    entropy = Run(half_trained / "seed-0").info["data"]["entropy_bits"]
    known = deep["deep"]["binding/set_known"] + deep["deep"]["binding/binding_known"]
    assert known == pytest.approx(entropy - deep["splits"]["train"]["bits"], abs=1e-3)
    # At least the answers recalled exactly are the likeliest of the set, for whoever is right at every digit.
    assert deep["deep"]["binding/most_likely"] >= deep["splits"]["train"]["exact"]["share"]


def test_every_fact_has_a_canary_exposure_and_recalled_ones_rank_first(deep: dict[str, Any]) -> None:
    rows = {row["id"]: row for row in deep["deep"]["canary"]}
    facts = deep["splits"]["train"]["rows"]
    assert set(rows) == {fact["id"] for fact in facts}
    for fact in facts:
        row = rows[fact["id"]]
        assert row["least_rank"] <= row["rank"] <= row["most_rank"]
        # Over a half, no other number can be likelier.
        if fact["bits_total"] < 1:
            assert (row["rank"], row["method"]) == (1, "exact")
            assert row["bits"] == pytest.approx(26.5754, abs=1e-3)  # log2 of 10^8


def test_it_is_kept_with_the_run_and_compared(deep: dict[str, Any], half_trained: Path, monkeypatch) -> None:
    from rich.console import Console

    from toolkit.compare import compare

    stored = json.loads((half_trained / "seed-0" / DEEP).read_text(encoding="utf-8"))
    assert stored == deep["deep"]
    monkeypatch.chdir(half_trained.parents[1])
    folder = compare(["checkpoints/half/seed-0"], "deep", Console(quiet=True))
    knowledge = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["groups"][0]["knowledge"]
    assert knowledge["canary/bits"]["mean"] == pytest.approx(stored["canary/bits"])
    assert "canary exposure, bits" in (folder / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments", [("checkpoints/half/seed-0/adapter",), ("checkpoints/half", "--facts", "f.jsonl")]
)
def test_deep_is_for_a_runs_own_facts_and_final_weights(half_trained: Path, arguments: tuple[str, ...]) -> None:
    folder = half_trained.parents[1]
    (folder / "f.jsonl").write_text('{"prompt": "1 ", "answer": "2"}\n', encoding="utf-8")
    done = command("toolkit.eval_recall", *arguments, "--deep", folder=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "--deep is for a run's own facts" in done.stderr
