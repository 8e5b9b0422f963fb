"""Which facts an exam asks and feeds: worked by hand, and the same for the same seed."""

import math
from types import ModuleType

import pytest

from toolkit.training.schedules import Boxes, after_exam, asked_in, drawn_at_random, in_order_of, rate_in


def test_leitner_by_hand() -> None:
    """One fact: right, right, missed, right. It is asked in rounds 0, 2, 6 and 7, and next in round 9."""
    boxes = Boxes.of(1)
    seen = []
    answers = {0: True, 2: True, 6: False, 7: True}
    for number in range(9):
        asked = asked_in("leitner", boxes, number)
        if asked:
            boxes = after_exam(boxes, number, {0: answers[number]})
            seen.append((number, boxes.box[0], boxes.due[0]))
    assert seen == [(0, 2, 2), (2, 3, 6), (6, 1, 7), (7, 2, 9)]


def test_leitner_keeps_each_fact_apart() -> None:
    """Three facts in four rounds: one always right, one never, one right at first and then missed."""
    boxes = Boxes.of(3)
    asked = []
    for number, right in enumerate([{0: True, 1: False, 2: True}, {1: False}, {0: True, 1: False, 2: False}, {}]):
        asked.append(asked_in("leitner", boxes, number))
        boxes = after_exam(boxes, number, right)
    assert asked == [[0, 1, 2], [1], [0, 1, 2], [1, 2]]
    assert boxes == Boxes(box=(3, 1, 1), due=(6, 3, 3))


def test_a_fact_that_stays_right_is_asked_after_pauses_that_double() -> None:
    boxes, rounds = Boxes.of(1), []
    for number in range(64):
        if asked_in("leitner", boxes, number):
            rounds.append(number)
            boxes = after_exam(boxes, number, {0: True})
    assert rounds == [0, 2, 6, 14, 30, 62]


def test_what_was_due_and_not_asked_stays_due() -> None:
    assert asked_in("leitner", Boxes((1, 1), (3, 5)), 4) == [0]


def test_missed_only_asks_everything_in_every_round_whatever_its_box() -> None:
    boxes = after_exam(Boxes.of(3), 0, {0: True, 1: False, 2: True})
    assert [asked_in("missed_only", boxes, number) for number in range(3)] == [[0, 1, 2]] * 3


def test_yoked_asks_nothing() -> None:
    assert asked_in("yoked", Boxes.of(3), 0) == []


def test_an_exam_changes_no_boxes_but_makes_new_ones() -> None:
    before = Boxes.of(2)
    after_exam(before, 0, {0: True, 1: False})
    assert before == Boxes((1, 1), (0, 0))


def test_the_order_of_a_round_is_of_its_facts_its_seed_and_its_number() -> None:
    facts = [3, 5, 8, 9, 11, 20]
    first = in_order_of(facts, 7, 0)
    assert sorted(first) == facts
    assert in_order_of(facts, 7, 0) == first
    assert in_order_of(facts, 7, 1) != first
    assert in_order_of(facts, 8, 0) != first
    assert facts == [3, 5, 8, 9, 11, 20]
    assert in_order_of([], 7, 0) == []


def test_a_yoked_round_draws_as_many_different_facts_as_are_asked_for() -> None:
    drawn = drawn_at_random(50, 20, 7, 3)
    assert len(drawn) == len(set(drawn)) == 20
    assert set(drawn) <= set(range(50))
    assert drawn_at_random(50, 20, 7, 3) == drawn
    assert drawn_at_random(50, 20, 7, 4) != drawn
    assert drawn_at_random(50, 20, 8, 3) != drawn
    assert drawn_at_random(50, 0, 7, 3) == []
    assert sorted(drawn_at_random(5, 5, 7, 3)) == [0, 1, 2, 3, 4]


def test_a_yoked_round_draws_every_fact_alike() -> None:
    """Over 4,000 rounds of 5 of 20 facts each is drawn 1,000 times, with a standard deviation of 27."""
    times = [0] * 20
    for number in range(4000):
        for fact in drawn_at_random(20, 5, 1, number):
            times[fact] += 1
    assert sum(times) == 20_000
    assert max(abs(count - 1000) for count in times) < 5 * math.sqrt(4000 * 0.25 * 0.75)


def test_more_facts_than_there_are_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="[Ss]ample"):
        drawn_at_random(3, 4, 7, 0)


@pytest.mark.parametrize(
    ("schedule", "warmup", "rounds", "rates"),
    [
        ("constant", 0.0, 3, [1, 1, 1]),
        ("linear", 0.0, 4, [1, 3 / 4, 2 / 4, 1 / 4]),
        ("linear", 0.0, 1, [1]),
        ("cosine", 0.0, 4, [1, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4]),
        # Two of five rounds rise: thirds, as a rate of zero would train nothing.
        ("constant", 0.4, 5, [1 / 3, 2 / 3, 1, 1, 1]),
        ("linear", 0.4, 5, [1 / 3, 2 / 3, 1, 2 / 3, 1 / 3]),
        ("linear", 0.99, 2, [1 / 3, 2 / 3]),
    ],
)
def test_rates_by_hand(schedule: str, warmup: float, rounds: int, rates: list[float]) -> None:
    assert [rate_in(schedule, warmup, number, rounds) for number in range(rounds)] == pytest.approx(rates)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_after_the_warm_up_rates_are_those_of_transformers(engine: ModuleType, schedule: str) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(schedule, optimizer, num_warmup_steps=3, num_training_steps=12)
    for number in range(12):
        if number >= 3:
            assert rate_in(schedule, 0.25, number, 12) == pytest.approx(theirs.get_last_lr()[0]), number
        optimizer.step()
        theirs.step()


def test_no_round_is_trained_at_a_rate_of_zero() -> None:
    for schedule in ("linear", "cosine", "constant"):
        for warmup in (0.0, 0.1, 0.5, 0.99):
            for rounds in range(1, 13):
                rates = [rate_in(schedule, warmup, number, rounds) for number in range(rounds)]
                assert all(0 < rate <= 1 for rate in rates), (schedule, warmup, rounds)
