"""What a comparison says of planted runs that repeat themselves: with the loss, with the step alone, with nothing."""

import csv
import io
import json
import math
import random
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy.stats import rankdata, spearmanr

from tests.conftest import BROWSER
from tests.planted import plant
from tests.planted_classifiers import classifier, right_for
from tests.planted_repetition import (
    Told,
    by_loss,
    by_nothing,
    by_step,
    repeated,
    stepped,
    with_counts,
)
from tests.test_page import browser, opened  # noqa: F401
from toolkit import dashboard
from toolkit.compare import compare
from toolkit.reporting import classifiers, facts, repetition
from toolkit.reporting.groups import collect
from toolkit.reporting.repetition_texts import MOST_ON_PAGE

T_OF_3, T_OF_39 = 3.182446, 2.022691
"""97.5 % points of t with 3 and 39 degrees of freedom, from a table."""
PLANTED = {"loss": by_loss, "step": by_step, "nothing": by_nothing}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def compared(*groups: str) -> tuple[dict[str, Any], str]:
    """The summary, and what is printed, in one line."""
    console = Console(width=160, record=True, file=io.StringIO())
    folder = compare([f"checkpoints/{group}" for group in groups], "report", console)
    return json.loads((folder / "summary.json").read_text(encoding="utf-8")), " ".join(console.export_text().split())


def summarised(*groups: str) -> tuple[dict[str, Any], str]:
    """The same without the report's files: the summary, and what it says of repetition and in notes."""
    found, unread = collect([f"checkpoints/{group}" for group in groups])
    kind = classifiers if found[0].classifies else facts
    summary = repetition.added(kind.summarise(found, unread), found)
    return summary, " ".join([*summary.get("repeated", []), *summary["notes"]])


def of(summary: dict[str, Any], group: str) -> dict[str, Any]:
    return summary["repetition"]["groups"][group]


def run(name: str, seed: int = 0, **settings: Any) -> Path:
    """A run of ten epochs of two updates that learned something."""
    return plant(name, seed, [3, 3, 5, 6], **settings)


def runs(name: str, seeds: int = 4, **settings: Any) -> list[list[list[Told]]]:
    """Runs of one of the planted truths; what each of them wrote."""
    written = [PLANTED[name](seed) for seed in range(seeds)]
    for seed, readings in enumerate(written):
        repeated(run(name, seed, **settings), readings)
    return written


def html(file: str = "index.html") -> str:
    return Path("reports/report", file).read_text(encoding="utf-8")


def rho(x: list[float], y: list[float]) -> float:
    return float(spearmanr(x, y)[0])  # pyright: ignore[reportArgumentType]


def through_z(rhos: list[float], t: float) -> list[float]:
    """Mean and t interval of correlations by Fisher's z, by hand."""
    z = [0.5 * math.log((1 + r) / (1 - r)) for r in rhos]
    half = t * statistics.stdev(z) / math.sqrt(len(z))
    return [math.tanh(statistics.mean(z) + way) for way in (0, -half, half)]


# --- loss ---


def test_repetition_that_follows_the_loss_of_each_prompt_is_found_within_a_checkpoint() -> None:
    written = runs("loss")
    summary, said = summarised("loss")
    found = of(summary, "loss")["within"]["greedy/seq_rep_4"]
    rhos = [rho([one.greedy for one in readings[-1]], [one.nats for one in readings[-1]]) for readings in written]  # pyright: ignore[reportArgumentType]
    assert found["last"]["per_run"] == pytest.approx(rhos)
    mean, low, high = through_z(rhos, T_OF_3)
    assert [found["last"][key] for key in ("rho", "low", "high")] == pytest.approx([mean, low, high], abs=1e-5)
    assert (
        f"at the last reading rho {mean:.2f} [{low:.2f}, {high:.2f}] over 4 runs (n 40, 40 texts), more is repeated on"
        " prompts whose answers cost more; in mean ranks over all readings after training began rho 0." in said
    )
    assert [one["epoch"] for one in found["readings"]] == list(range(11))
    # Of each prompt's mean ranks over readings, without the one before training.
    first = written[0][1:]
    means = [[statistics.mean(values) for values in zip(*map(rankdata, of_all), strict=True)] for of_all in (
        [[one.greedy for one in reading] for reading in first], [[one.nats for one in reading] for reading in first],
    )]  # fmt: skip
    assert found["pooled"]["per_run"][0] == pytest.approx(rho(means[0], means[1]))


def test_what_falls_with_the_step_alone_is_not_taken_for_an_effect_of_the_loss() -> None:
    written = runs("step")
    summary, said = summarised("step")
    own = of(summary, "step")
    across = own["across"]["greedy"]
    levels = [[[statistics.mean(getattr(one, name) for one in reading) for reading in readings]
               for name in ("greedy", "nats")] for readings in written]  # fmt: skip
    assert across["loss"]["per_run"] == pytest.approx([rho(*of_run) for of_run in levels])
    assert across["loss"]["low"] > 0.5
    assert (across["loss_step_held"]["low"], across["between_runs"]["rho"]) == (None, None)
    assert abs(across["loss_step_held"]["rho"]) < 0.3
    assert "they fall together, which whatever changes with time does too; between runs" in said
    assert not own["within"]["greedy/seq_rep_4"]["pooled"]["low"] > 0
    (line,) = (line for line in summary["repeated"] if line.startswith("Does parroting fade"))
    assert line.endswith("between runs at the same reading nothing can be said (it takes 5 runs).")


def test_where_there_is_no_relation_none_is_said() -> None:
    runs("nothing")
    summary, said = summarised("nothing")
    across = of(summary, "nothing")["across"]["greedy"]["loss"]
    assert across["low"] < 0 < across["high"]
    assert "fall together" not in said
    pooled = of(summary, "nothing")["within"]["greedy/seq_rep_4"]["pooled"]
    assert pooled["low"] < 0 < pooled["high"]
    assert "in mean ranks over all readings after training began rho" in said
    assert "of twenty where nothing is, one leaves 0 out by chance" in said


def test_a_loss_that_falls_at_every_reading_cannot_be_told_from_the_step() -> None:
    for seed in range(2):
        draw = random.Random(seed)
        readings = [[Told(0.5 + draw.gauss(0, 0.1), None, 4 - 0.1 * epoch + 0.2 * place) for place in range(10)]
                    for epoch in range(11)]  # fmt: skip
        repeated(run("lora", seed), readings)
    summary, said = summarised("lora")
    assert of(summary, "lora")["across"]["greedy"]["loss_step_held"]["rho"] is None
    why = of(summary, "lora")["across"]["greedy"]["loss_step_held"]["why_not"]
    assert why == "the loss goes with the step rank for rank, so that they cannot be told apart"
    assert "nothing can be said (it takes 5 runs)" in said


def test_one_run_has_an_interval_over_prompts_and_none_over_checkpoints() -> None:
    runs("loss", seeds=1)
    summary, said = summarised("loss")
    own = of(summary, "loss")
    assert own["within"]["greedy/seq_rep_4"]["last"]["over"] == "prompts"
    assert "over one run's prompts (n 40, 40 texts), more is repeated on prompts whose answers cost more" in said
    assert own["across"]["greedy"]["loss"]["low"] is None
    assert "(n 11) (no interval: one run)" in said


def test_questions_without_an_answer_have_no_loss_and_count_in_the_means() -> None:
    readings = [[Told(0.9, 0.1, prompt="who are you?"), *reading] for reading in by_loss(0)]
    repeated(run("lora"), readings, questions=1)
    summary, _ = summarised("lora")
    last = of(summary, "lora")["within"]["greedy/seq_rep_4"]["last"]
    assert last["points"] == [40]
    everyone = statistics.mean(one.greedy or 0 for one in readings[-1])
    assert of(summary, "lora")["final"]["repetition/greedy/seq_rep_4"]["mean"] == pytest.approx(everyone)


def test_texts_too_short_for_a_4_gram_are_in_no_correlation() -> None:
    readings = [[Told(None, None, 3.0), *reading] for reading in by_loss(0)]
    repeated(run("lora"), readings)
    summary, _ = summarised("lora")
    assert of(summary, "lora")["within"]["greedy/seq_rep_4"]["last"]["points"] == [40]
    assert of(summary, "lora")["final"]["repetition/greedy/undefined_4"]["mean"] == pytest.approx(1 / 41)


# --- frequency and decoding ---


def test_frequency_that_works_through_the_loss_alone_is_gone_with_the_loss_held() -> None:
    for seed in range(4):
        draw = random.Random(seed)
        counts = [draw.randrange(50) for _ in range(60)]
        readings = []
        for epoch in range(11):
            nats = [4 - 0.1 * epoch - 0.05 * count + draw.gauss(0, 0.3) for count in counts]
            readings.append([Told(min(max(0.2 * cost + draw.gauss(0, 0.02), 0), 1), None, cost) for cost in nats])
        repeated(run("lora", seed), with_counts(readings, counts))
    summary, said = summarised("lora")
    asked = of(summary, "lora")["frequency"]["asked"]["greedy"]
    assert asked["last"]["high"] < -0.7
    assert asked["pooled"]["high"] < -0.7
    assert asked["pooled_loss_held"]["low"] < 0 < asked["pooled_loss_held"]["high"]
    (line,) = (line for line in said.split("Does parroting ") if line.startswith("go with how often"))
    assert "over 4 runs (n 60, 60 texts), less is repeated; in mean ranks over readings rho" in line
    assert line.strip().endswith("over 4 runs (n 60, 60 texts), not shown.")


def test_equal_counts_are_said_to_define_nothing() -> None:
    runs("loss", seeds=2)
    summary, said = summarised("loss")
    assert of(summary, "loss")["frequency"]["mentioned"]["greedy"]["last"]["rho"] is None
    assert (
        "Does parroting go with how many training texts contain the question? loss: not defined (the count is the same"
        " everywhere)." in said
    )


def test_greedy_and_sampled_texts_are_compared_on_the_same_prompts() -> None:
    written = runs("loss")
    summary, said = summarised("loss")
    change = of(summary, "loss")["decoding"]["difference"]
    means = [statistics.mean((one.greedy or 0) - (one.sampled or 0) for one in readings[-1]) for readings in written]
    half = T_OF_3 * statistics.stdev(means) / 2
    mean = statistics.mean(means)
    assert [change[key] for key in ("mean", "low", "high")] == pytest.approx([mean, mean - half, mean + half], abs=1e-6)
    ends = f"{100 * mean:.1f} points [{100 * (mean - half):.1f}, {100 * (mean + half):.1f}]"
    assert f"loss: at the last reading {ends} over 4 runs: greedy texts repeat more; mean of all" in said


def test_of_one_run_decodings_are_compared_over_its_prompts() -> None:
    (readings,) = runs("loss", seeds=1)
    summary, said = summarised("loss")
    change = of(summary, "loss")["decoding"]["difference"]
    values = [(one.greedy or 0) - (one.sampled or 0) for one in readings[-1]]
    half = T_OF_39 * statistics.stdev(values) / math.sqrt(40)
    assert change["high"] - change["mean"] == pytest.approx(half, abs=1e-6)
    assert "over 40 prompts of one run: greedy texts repeat more" in said
    rows = list(csv.DictReader(io.StringIO(csv_of("loss"))))
    (row,) = (row for row in rows if row["measure"] == "repetition/greedy_less_sampled/seq_rep_4")
    assert (row["low"], row["high"], row["runs"]) == ("", "", "1")


def csv_of(*groups: str) -> str:
    compared(*groups)
    return html("summary.csv")


def test_a_turn_within_a_conversation_is_in_no_correlation_with_frequency() -> None:
    draw = random.Random(1)
    counts = [draw.randrange(50) for _ in range(60)]
    for seed in range(3):
        reading = [Told(min(0.01 * n + draw.uniform(0, 0.05), 1), None, 3.0, asked=n) for n in counts]
        # Asked often within conversations, and never repeated: alone they would turn the sign.
        later = [Told(0.001 * n, None, 3.0, asked=500 + n, context="user: Hello!") for n in range(60)]
        repeated(run("lora", seed), [[*reading, *later]] * 3)
    summary, _ = summarised("lora")
    asked = of(summary, "lora")["frequency"]["asked"]["greedy"]["last"]
    assert asked["points"] == [60, 60, 60]
    assert asked["low"] > 0.9


def test_a_language_that_repeats_more_is_not_taken_for_familiarity() -> None:
    for seed in range(3):
        draw = random.Random(seed)
        words = [Told(draw.uniform(0, 0.2), None, 3.0, familiarity=draw.uniform(3, 4)) for _ in range(40)]
        chinese = [Told(draw.uniform(0.3, 0.45), None, 3.0, familiarity=draw.uniform(0, 1), prompt=f"李白是谁{n}？")
                   for n in range(40)]  # fmt: skip
        repeated(run("lora", seed), [[*words, *chinese]] * 3)
    found = of(summarised("lora")[0], "lora")["frequency"]["familiarity"]["greedy"]["last"]
    # Without their scripts it would be -.75.
    assert found["low"] < 0 < found["high"]


@pytest.mark.parametrize("linked", [True, False])
def test_runs_that_bend_alike_in_time_are_told_from_runs_that_go_with_their_loss(linked: bool) -> None:
    for seed in range(5):
        draw = random.Random(seed)
        own, other = 0.02 * seed, 0.02 * (3, 0, 4, 1, 2)[seed]
        readings = []
        for epoch in range(11):
            bend = math.exp(-epoch / 3)
            level = 0.3 + 0.3 * bend + (own if linked else other) + draw.gauss(0, 0.002)
            readings.append([Told(level, None, 2 + bend + own + draw.gauss(0, 0.002))] * 12)
        repeated(run("lora", seed), readings)
    summary, said = summarised("lora")
    found = of(summary, "lora")["across"]["greedy"]["between_runs"]
    assert (found["runs"], found["readings"]) == (5, 11)
    assert (found["p"] <= 0.05) == linked
    assert ("runs of a higher loss repeat more" in said) == linked


def test_copies_of_one_text_have_no_interval() -> None:
    readings = [[one._replace(text="I do not know.") for one in reading] for reading in by_loss(0)]
    repeated(run("lora"), readings)
    summary, said = summarised("lora")
    found = of(summary, "lora")["within"]["greedy/seq_rep_4"]["last"]
    assert (found["low"], found["why_not"]) == (None, "all texts are the same")
    assert "prompts whose answers cost more" not in said


# --- groups ---


def test_groups_are_set_against_each_other_by_runs_as_exploratory_outcomes() -> None:
    for seed in range(4):
        for name, level in (("packed", 0.30 + 0.01 * seed), ("plain", 0.10 + 0.01 * seed)):
            repeated(run(name, seed), [[Told(level, None, 3.0 - 0.1 * epoch)] * 8 for epoch in range(3)])
    summary, printed = compared("packed", "plain")
    (contrast,) = summary["outcomes"]["repetition/greedy/seq_rep_4"]["contrasts"]
    assert contrast["difference"] == pytest.approx(-0.20)
    assert contrast["p"] == contrast["holm"] == pytest.approx(2 / 70)
    assert "Difference shown: plain repeats itself less (difference -20.0 points" in printed
    assert summary["primary"] == "exposures_to_recall"
    assert "repeated 4-grams of greedy texts at the end (exploratory)" in html()


def test_texts_that_were_cut_at_other_lengths_are_not_compared() -> None:
    for seed in range(4):
        for name, length in (("short", 64), ("long", 256)):
            readings = [[Told(0.1 + 0.01 * seed, None, 3.0)] * 8] * 3
            repeated(run(name, seed, repetition={"max_new_tokens": length}), readings)
    summary, said = summarised("short", "long")
    (contrast,) = summary["outcomes"]["repetition/greedy/seq_rep_4"]["contrasts"]
    assert (contrast["p"], contrast["difference"]) == (None, None)
    assert "No test: their texts were cut after 64 and 256 tokens." in said


def test_groups_and_runs_that_were_not_read_are_said() -> None:
    runs("loss", seeds=2)
    run("loss", 2)
    run("old")
    summary, printed = compared("loss", "old")
    assert "note: old: repetition was not read in any of its runs" in printed
    assert "note: loss: repetition was not read in loss/seed-2" in printed
    assert of(summary, "loss")["within"]["greedy/seq_rep_4"]["last"]["runs"] == 2
    # There is nothing to set the other group against.
    assert not [name for name in summary["outcomes"] if name.startswith("repetition/")]
    repeated(run("new"), by_loss(7))
    _, said = summarised("loss", "new", "old")
    assert "No test: without a value: loss/seed-2." in said


def test_prompts_that_were_trained_on_are_said_to_be() -> None:
    repeated(run("lora"), by_loss(0), source="trained")
    summary, said = summarised("lora")
    assert of(summary, "lora")["final"]["repetition/reference_nats"]["mean"] > 0
    assert "lora: nothing is held out, so that its prompts and reference answers were trained on" in said


def test_of_many_groups_there_are_counts() -> None:
    for number in range(7):
        for seed in range(2):
            repeated(run(f"g{number}", seed), by_loss(10 * number + seed))
    summary, said = summarised(*(f"g{number}" for number in range(7)))
    assert "Of 7 groups: more is repeated in 7; the table has each." in said
    assert "Between runs at the same reading: Of 7 groups: nothing can be said in 7" in said
    assert max(map(len, summary["repeated"])) < 260


# --- files ---


def test_damaged_and_foreign_readings_are_named_and_the_rest_is_reported() -> None:
    folder = run("lora")
    paths = repeated(folder, by_loss(0))
    paths[3].write_bytes(b"PAR1 cut")
    pq.write_table(pq.read_table(paths[4]).drop(["loop_start"]), paths[4])
    table = pq.read_table(paths[5])
    place = table.column_names.index("epoch")
    pq.write_table(table.set_column(place, "epoch", table["prompt"]), paths[5])
    pq.write_table(pq.read_table(paths[6]).slice(0, 0), paths[6])
    summary, said = summarised("lora")
    assert f"{paths[3]} is damaged or no Parquet file" in said
    assert (
        f"{paths[4]} is no reading of repetition: it has no column loop_start: another file, or one of"
        " an earlier version; left out." in said
    )
    assert f"{paths[5]} is no reading of repetition: column epoch is string; left out." in said
    assert f"{paths[6]} holds no text; left out." in said
    assert 3 not in [one["epoch"] for one in of(summary, "lora")["within"]["greedy/seq_rep_4"]["readings"]]
    # Its means are in metrics.jsonl.
    assert of(summary, "lora")["across"]["greedy"]["loss"]["points"] == [11]


def test_a_report_without_readings_of_repetition_says_nothing_of_it() -> None:
    folder = run("plain")
    stepped(folder, 0.3)
    summary, printed = compared("plain")
    assert not {"repetition", "repeated"} & set(summary)
    assert not [name for name in summary["outcomes"] if name.startswith("repetition/")]
    assert "repe" not in printed.lower().replace(str(Path.cwd()).lower(), "")
    assert "texts" not in html()
    assert sorted(path.suffix for path in Path("reports/report").iterdir()).count(".html") == 1


def test_classifiers_may_be_read_for_repetition_too() -> None:
    repeated(classifier("lora", 0, right_for(0.9)), by_loss(0))
    _, printed = compared("lora")
    assert "Does parroting fade as the loss" in printed


def test_panels_of_the_dashboard_are_those_that_the_runs_have() -> None:
    run("plain")
    assert dashboard.repetition_metrics(collect(["checkpoints/plain"])[0]) == {}
    repeated(run("lora"), by_loss(0, readings=3))
    found = dashboard.repetition_metrics(collect(["checkpoints/lora"])[0])
    assert set(found) == set(dashboard.OF_REPETITION) - {"repetition/trained_nats"}
    view = dashboard.workspace(
        ["lora"], "w", "me", "p", classify=False, more={dashboard.REPEATED: found, dashboard.FORGOTTEN: {}}
    )
    assert [section.name for section in view.sections] == [*dashboard.SECTIONS, dashboard.REPEATED]
    assert {panel.x for panel in view.sections[-1].panels} == {dashboard.STEP}


def test_the_same_runs_give_the_same_page_and_files() -> None:
    repeated(run("loss"), by_loss(0, readings=4))
    compared("loss")
    before = {path.name: path.read_bytes() for path in Path("reports/report").iterdir()}
    compared("loss")
    assert {path.name: path.read_bytes() for path in Path("reports/report").iterdir()} == before


# --- texts ---


class Marks(HTMLParser):
    """What a page marks, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.marked: list[str] = []
        self.text: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.inside = tag == "mark"

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.inside:
            self.marked.append(data)


def read(page: str) -> Marks:
    found = Marks()
    found.feed(page)
    return found


def test_what_a_model_wrote_is_text_whatever_it_holds_and_its_loop_is_marked() -> None:
    text = "<script>alert(1)</script>\x00&\r\n" + "豪放不羁" * 3
    asked = Told(0.8, 0.1, None, prompt='<img src="x">李白是谁？', text=text, loop=len(text) - 12)
    repeated(run("lora"), [[*reading[:3], asked] for reading in by_loss(0)])
    compared("lora")
    for file in ("index.html", "texts-lora-seed-0.html"):
        page = html(file)
        assert "<script>alert" not in page
        assert "<img" not in page
        assert "\x00" not in page
        found = read(page)
        assert found.marked.count("豪放不羁" * 3) == 22
        # Control characters are pictures, one for one: none of them moves a mark.
        assert "".join(found.text).count("<script>alert(1)</script>␀&␍\n") >= 22


def test_every_text_is_in_its_runs_file_and_questions_come_first() -> None:
    for seed in range(2):
        readings = [
            [Told(0.1, 0.1, None, prompt="who are you?", text=f"I am {seed}.{epoch}."),
             *[Told(0.1, 0.1, 3.0, prompt=f"What is {n}?", text=f"It is {seed}.{epoch}.{n}.") for n in range(4)]]
            for epoch in range(3)
        ]  # fmt: skip
        repeated(run("lora", seed), readings, questions=1)
    compared("lora")
    for seed in range(2):
        file = f"texts-lora-seed-{seed}.html"
        assert f'<a href="{file}">lora/seed-{seed}</a>' in html()
        for epoch in range(3):
            assert html(file).count(f"I am {seed}.{epoch}.") == 2  # greedy and sampled
            assert all(f"It is {seed}.{epoch}.{n}." in html(file) for n in range(4))
    # The page holds the first run's.
    assert "I am 0.2." in html()
    assert "I am 1.2." not in html()
    assert html().index("who are you?") < html().index("What is 0?")
    assert "Reference answer, cut as the texts are" in html()


def test_very_many_texts_are_in_the_files_and_the_page_stays_small() -> None:
    long = "word " * 4000
    readings = [[Told(0.1, None, 3.0, text=f"{long}{epoch}.{n}") for n in range(40)] for epoch in range(3)]
    repeated(run("lora"), readings)
    compared("lora")
    assert len(html()) < MOST_ON_PAGE + 1_000_000
    assert "of 40 prompts are here." in html()
    # What is said again is underlined; without the marks every text is there whole.
    written = re.sub("<[^>]+>", "", html("texts-lora-seed-0.html"))
    assert all(f"{long}2.{n}" in written for n in range(40))


def test_names_of_groups_make_no_other_files_than_those_of_the_report() -> None:
    for name in ("a b", "a-b", "李"):
        repeated(plant(name, 0, [3, 5]), by_loss(0, readings=3))
    compared("a b", "a-b", "李")
    files = {path.name for path in Path("reports/report").glob("*.html")} - {"index.html"}
    assert files == {"texts-a-b-seed-0.html", "texts-a-b-seed-0-1.html", "texts-seed-0.html"}
    assert all(f'<a href="{file}">' in html() for file in files)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here (Debian: chromium-headless-shell)")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_the_page_opens_and_a_prompt_is_unfolded_by_keyboard(browser: Any, width: int, scheme: str) -> None:  # noqa: F811
    for name in ("loss", "step"):
        for seed in range(3):
            folder = run(name, seed)
            readings = PLANTED[name](seed, readings=11)
            repeated(folder, [[Told(0.9, 0.2, prompt="who are you?"), *of_one] for of_one in readings], questions=1)
            stepped(folder, 0.2, epochs=10)
    compared("loss", "step")
    page, trouble = opened(
        browser, Path("reports/report").resolve(), viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    first = page.locator(".texts details").first
    row = first.locator("tr.group-1").first
    assert not row.is_visible()
    first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert row.is_visible()
    assert first.locator("mark").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#groups input").nth(1).uncheck()
    assert not row.is_visible()
    assert {"repetition", "loops", "parroting", "staircase", "memorisation"} <= {
        path.stem for path in Path("reports/report").glob("*.png")
    }
    assert trouble == []
    page.locator(".texts a").first.click()
    assert page.locator("h1").inner_text() == "Texts of loss/seed-0"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
