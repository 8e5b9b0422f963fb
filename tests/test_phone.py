"""Phone numbers: each pattern's numbers, support, entropy and floors; what is trained, held out, and never shared."""

import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.metrics.digits import digit_accuracy
from toolkit.metrics.information import entropy_bits, entropy_of_distinct, rule_only_nats
from toolkit.recipe import read_recipe
from toolkit.studies import build_data, phone
from toolkit.studies.built import Built
from toolkit.studies.phone import PATTERNS, allowed_next, describe, draw_numbers


def numbers_alone(built: Built) -> Built:
    """Without the other questions for the same numbers, which have tests of their own (test_variants.py)."""
    return built._replace(examples=[example for example in built.examples if example.split != "test"])


def build(*arguments, **changes) -> Built:
    return numbers_alone(phone.build(*arguments, **changes))


RECIPES = Path(__file__).parents[1] / "recipes"


def is_mirrored(number):
    return number == number[::-1]


def is_antisymmetric(number):
    middle = len(number) // 2 if len(number) % 2 else None
    pairs = zip(number, reversed(number), strict=True)
    return all(int(a) + int(b) == 9 for i, (a, b) in enumerate(pairs) if i != middle)


def is_repeated(number):
    first = len(number) // 3
    second = first + (len(number) - first) // 2
    return all(len(set(piece)) <= 1 for piece in (number[:first], number[first:second], number[second:]))


def is_halves(number):
    half = len(number) // 2
    return number[:half] == number[len(number) - half :]


def is_ascending(number):
    return list(number) == sorted(number)


HAS_PATTERN = {
    "random": lambda number: True,
    "mirrored": is_mirrored,
    "antisymmetric": is_antisymmetric,
    "repeated": is_repeated,
    "halves": is_halves,
    "ascending": is_ascending,
}
"""What each pattern means, said apart from how it is drawn."""


def drawn(pattern, digits, count, prefix="", *, duplicates=True, seed=0):
    return draw_numbers(pattern, digits, prefix, count, random.Random(seed), duplicates=duplicates, avoid=set())


def every_number(pattern, digits):
    """All numbers of so many digits that have the pattern, by trying each."""
    texts = ("".join(text) for text in itertools.product("0123456789", repeat=digits))
    return {text for text in texts if HAS_PATTERN[pattern](text)}


def test_every_pattern_is_tested():
    assert set(HAS_PATTERN) == set(PATTERNS)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("digits", [11, 10, 6, 1])
def test_numbers_have_their_pattern(pattern, digits):
    for number in drawn(pattern, digits, 200):
        assert len(number) == digits
        assert number.isascii()
        assert number.isdigit()
        assert HAS_PATTERN[pattern](number)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("digits", [1, 2, 3, 4, 5])
def test_the_support_is_what_trying_every_number_counts(pattern, digits):
    assert describe(pattern, digits).support == len(every_number(pattern, digits))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_number_of_a_pattern_can_be_drawn(pattern):
    expected = every_number(pattern, 3)
    assert set(drawn(pattern, 3, len(expected), duplicates=False)) == expected


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_number_of_a_pattern_is_drawn_equally_often(pattern):
    support = describe(pattern, 3).support
    times = Counter(drawn(pattern, 3, 20 * support))
    chi_squared = sum((times[number] - 20) ** 2 / 20 for number in every_number(pattern, 3))
    # Mean support - 1, standard deviation sqrt(2 (support - 1)).
    assert abs(chi_squared - (support - 1)) < 4 * math.sqrt(2 * (support - 1))


@pytest.mark.parametrize(
    ("pattern", "bits", "nats", "with_end", "accuracy", "total"),
    [
        ("random", 36.5412, 2.3026, 2.1107, 0.10, 3654.1),
        ("mirrored", 19.9316, 1.2560, 1.1513, 0.509, 1993.1),
        ("antisymmetric", 19.9316, 1.2560, 1.1513, 0.509, 1993.1),
        ("halves", 19.9316, 1.2560, 1.1513, 0.509, 1993.1),
        ("repeated", 9.9658, 0.6280, 0.5756, 0.755, 989.2),
    ],
)
def test_entropy_and_floors_are_those_of_the_generator(pattern, bits, nats, with_end, accuracy, total):
    known = describe(pattern, 11)
    assert entropy_bits(known.support) == pytest.approx(bits, abs=5e-5)
    assert rule_only_nats(entropy_bits(known.support), 11) == pytest.approx(nats, abs=5e-5)
    assert rule_only_nats(entropy_bits(known.support), 12) == pytest.approx(with_end, abs=5e-5)
    assert known.rule_only_digits == pytest.approx(accuracy, abs=5e-4)
    built = build(0, 0, pattern=pattern)
    assert built.rule_only_bits == entropy_bits(known.support)
    assert built.entropy_bits is not None
    assert 100 * built.entropy_bits == pytest.approx(total, abs=0.05)
    assert (built.answer_digits, built.prompt_choices) == (11, 200)


def test_ten_digits_and_a_first_digit_that_is_not_zero():
    assert entropy_bits(describe("random", 10).support) == pytest.approx(33.2193, abs=5e-5)
    assert entropy_bits(describe("random", 10, "[1-9]").support) == pytest.approx(33.0673, abs=5e-5)


def best_guesses(numbers):
    """Digits right for the best guess at each place given the true digits before it, by counting all numbers."""
    right = 0
    for place in range(len(next(iter(numbers)))):
        following = Counter((number[:place], number[place]) for number in numbers)
        best: dict[str, int] = {}
        for (before, _), times in following.items():
            best[before] = max(best.get(before, 0), times)
        right += sum(best.values())
    return right / sum(map(len, numbers))


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("digits", [2, 3, 4, 5])
def test_rule_only_accuracy_is_that_of_the_best_guess(pattern, digits):
    assert describe(pattern, digits).rule_only_digits == pytest.approx(best_guesses(every_number(pattern, digits)))


def test_leading_zeros_are_kept():
    built = build(0, 0, digits=3, count=500, controls=100)
    zeros = [example.answer for example in built.examples if example.answer.startswith("0")]
    assert 30 < len(zeros) < 100
    assert all(len(answer) == 3 for answer in zeros)


# --- prefixes ---


def test_a_mobile_prefix_costs_its_bits():
    built = build(0, 0, prefix="1[3-9]")
    assert built.rule_only_bits == pytest.approx(32.7047, abs=5e-5)
    assert {example.answer[0] for example in built.examples} == {"1"}
    assert {example.answer[1] for example in built.examples} == set("3456789")
    # The first digit is known, the second one of seven.
    assert built.rule_only_digits == pytest.approx((1 + 1 / 7 + 9 / 10) / 11)


def test_a_prefix_of_free_digits_goes_with_a_pattern():
    numbers = drawn("mirrored", 11, 100, prefix="1[3-9]")
    assert all(is_mirrored(number) and number[0] == "1" and number[1] in "3456789" for number in numbers)
    assert describe("mirrored", 11, "1[3-9]").support == 7 * 10**4
    assert describe("repeated", 11, "1").support == 100


@pytest.mark.parametrize(
    ("pattern", "prefix"), [("repeated", "1[3-9]"), ("repeated", "11"), ("mirrored", "1234567"), ("ascending", "0")]
)
def test_a_prefix_that_the_pattern_would_break_is_refused(pattern, prefix):
    with pytest.raises(UserError, match="does not leave free"):
        build(0, 0, pattern=pattern, prefix=prefix, count=2, controls=2)


# --- what is trained and what is held out ---


@pytest.fixture(scope="module")
def groups():
    """Every run's data of the shipped groups, by recipe and seed."""
    recipes = [read_recipe(RECIPES / f"group{letter}.toml") for letter in "ABC"]
    return {
        (recipe.name, seed): numbers_alone(build_data(recipe, seed)).examples
        for recipe in recipes
        for seed in recipe.seeds
    }


def test_a_hundred_are_trained_and_a_hundred_are_not(groups):
    assert len(groups) == 15
    for examples in groups.values():
        assert Counter(example.split for example in examples) == {"train": 100, "control": 100}


def test_no_number_occurs_twice_or_in_two_groups_of_a_seed(groups):
    for seed in range(5):
        answers = [e.answer for name in ("GroupA", "GroupB", "GroupC") for e in groups[name, seed]]
        assert len(set(answers)) == len(answers) == 600


def test_trained_and_control_indices_are_shuffled_together(groups):
    for examples in groups.values():
        indices = [example.info["index"] for example in examples]
        assert sorted(indices) == list(range(1, 201))
        trained = {example.info["index"] for example in examples if example.split == "train"}
        # Of the first hundred indices about half are trained: 50 ± 3.5, and never all as in the original.
        assert 35 <= len(trained & set(range(1, 101))) <= 65


def test_prompt_and_id_carry_the_index(groups):
    for example in groups["GroupA", 0]:
        index = example.info["index"]
        assert example.prompt == f"第{index}个电话号码是："
        assert example.id == example.fact == f"phone-{index:03d}"


def test_groups_of_one_seed_train_the_same_indices(groups):
    for seed in range(5):
        trained = [
            [e.info["index"] for e in groups[name, seed] if e.split == "train"]
            for name in ("GroupA", "GroupB", "GroupC")
        ]
        assert trained[0] == trained[1] == trained[2]


def test_another_seed_draws_other_numbers_and_another_assignment(groups):
    numbers = [{e.answer for e in groups["GroupA", seed]} for seed in range(5)]
    assigned = [frozenset(e.info["index"] for e in groups["GroupA", seed] if e.split == "train") for seed in range(5)]
    assert not set.intersection(*numbers)
    assert len(set(assigned)) == 5


def test_groups_of_one_seed_do_not_repeat_one_anothers_digits(groups):
    for a, b in itertools.combinations(("GroupA", "GroupB", "GroupC"), 2):
        starts = [{e.answer[:5] for e in groups[name, 0]} for name in (a, b)]
        # 200 × 200 pairs of 10^5 starts agree in less than one.
        assert len(starts[0] & starts[1]) <= 4


def test_the_first_numbers_are_the_same_on_every_machine(groups):
    first = {name: (groups[name, 0][0].id, groups[name, 0][0].answer) for name in ("GroupA", "GroupB", "GroupC")}
    assert first == {
        "GroupA": ("phone-090", "17400116753"),
        "GroupB": ("phone-090", "43603830634"),
        "GroupC": ("phone-090", "66644442222"),
    }


def test_numbers_and_assignment_have_seeds_of_their_own():
    base, other_data, other_assignment = build(1, 2).examples, build(9, 2).examples, build(1, 9).examples
    assert build(1, 2).examples == base
    assert [e.answer for e in base] == [e.answer for e in other_assignment]
    assert [e.prompt for e in base] == [e.prompt for e in other_data]
    assert [e.prompt for e in base] != [e.prompt for e in other_assignment]


def test_a_foil_is_a_number_that_is_never_trained():
    for count, controls in ((100, 100), (30, 7), (5, 20)):
        examples = build(0, 0, pattern="repeated", count=count, controls=controls).examples
        trained = {e.answer for e in examples if e.split == "train"}
        controls_drawn = {e.answer for e in examples if e.split == "control"}
        assert not trained & controls_drawn
        assert all(e.foil in controls_drawn for e in examples if e.split == "train")
        assert all(e.foil is None for e in examples if e.split == "control")


def test_without_controls_there_is_no_foil():
    examples = build(0, 0, count=10, controls=0).examples
    assert len(examples) == 10
    assert all(example.foil is None for example in examples)


def test_indices_in_order_as_in_the_original():
    examples = build(0, 0, count=100, controls=100, shuffle_indices=False).examples
    assert [e.info["index"] for e in examples if e.split == "train"] == list(range(1, 101))
    assert [e.info["index"] for e in examples if e.split == "control"] == list(range(101, 201))


def test_another_prompt_is_asked():
    assert build(0, 0, prompt="Number {index} is ", count=1, controls=0).examples[0].prompt == "Number 1 is "


# --- repetitions, and too many ---


def test_duplicates_repeat_and_carry_the_entropy_of_independent_draws():
    built = build(0, 0, pattern="repeated", duplicates=True)
    trained = [e.answer for e in built.examples if e.split == "train"]
    held_out = [e.answer for e in built.examples if e.split == "control"]
    # About 100² / 2000 = 5 pairs of a hundred draws from a thousand.
    assert 88 <= len(set(trained)) < 100
    assert len(set(held_out)) == 100
    assert not set(trained) & set(held_out)
    assert built.entropy_bits == entropy_bits(1000)
    assert build(0, 0, pattern="repeated").entropy_bits == entropy_of_distinct(1000, 100)


def test_all_numbers_of_a_pattern_can_be_used_and_not_one_more():
    answers = {e.answer for e in build(0, 0, pattern="repeated", count=900, controls=100).examples}
    assert len(answers) == 1000
    with pytest.raises(UserError, match="901 trained and 100 control numbers do not fit into the 1000"):
        build(0, 0, pattern="repeated", count=901, controls=100)


def test_repetitions_that_leave_no_control_are_refused_and_do_not_hang():
    # A hundred draws use up all ten numbers of one digit.
    with pytest.raises(UserError, match="10 trained and 1 control numbers do not fit into the 10"):
        build(0, 0, digits=1, count=100, controls=1, duplicates=True)
    assert len(build(0, 0, digits=1, count=100, controls=0, duplicates=True).examples) == 100


def test_given_six_digits_of_a_mirrored_number_or_eight_of_a_repeated_one_the_rule_gives_the_rest():
    for pattern, last in (("random", 10), ("mirrored", 5), ("repeated", 7)):
        for number in draw_numbers(pattern, 11, "", 20, random.Random(0), duplicates=False, avoid=set()):
            free = [len(allowed_next(pattern, 11, "", number[:place])) > 1 for place in range(11)]
            assert [any(free[given:]) for given in range(11)] == [given <= last for given in range(11)]


@pytest.mark.parametrize(("pattern", "count"), [("random", 4), ("mirrored", 5), ("repeated", 6)])
def test_of_digits_generated_by_the_rule_alone_one_in_ten_is_right(pattern, count):
    numbers = sorted(every_number(pattern, count))
    for said in random.Random(0).sample(numbers, 5):
        right = math.fsum(digit_accuracy(said, gold) for gold in numbers) / len(numbers)
        assert right == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("matched", "length", "to", "bits"),
    [("random6", 6, "groupB", 19.9316), ("random3", 3, "groupC", 9.9658), ("antisymmetric", 11, "groupB", 19.9316)],
)
@pytest.mark.parametrize("folder", ["", "tiny/"])
def test_matched_arms_carry_as_many_bits_as_the_groups_beside_them(folder, matched, length, to, bits):
    arm, group = (read_recipe(RECIPES / f"{folder}{name}.toml") for name in (f"matched/{matched}", to))
    one, other = (build_data(recipe, 0) for recipe in (arm, group))
    assert one.rule_only_bits == other.rule_only_bits == pytest.approx(bits, abs=5e-5)
    assert one.entropy_bits == other.entropy_bits
    assert one.answer_digits == length
    assert (arm.seeds, arm.stage, arm.model, arm.lora) == (group.seeds, group.stage, group.model, group.lora)
    assert len(one.examples) == len(other.examples)


@pytest.mark.parametrize("folder", ["", "tiny/", "smollm2/"])
def test_groups_a_b_and_c_differ_in_their_pattern_alone(folder):
    settings = [read_recipe(RECIPES / f"{folder}group{letter}.toml").model_dump() for letter in "ABC"]
    patterns = [(s.pop("name"), s["data"].pop("pattern", "random"))[1] for s in settings]
    assert patterns == ["random", "mirrored", "repeated"]
    assert settings[0] == settings[1] == settings[2]
