"""Lines for the tiny base: what they look like, and that none of them gives a fact of the phone study away."""

import re
from collections import Counter

from toolkit.studies.lines import FREE, RULED, build


def test_lines_are_prompts_with_digits_after_them():
    examples = build(0, 0, count=300, controls=50).examples
    assert Counter(example.split for example in examples) == {"train": 300, "control": 50}
    assert {example.part for example in examples} == {"lines"}
    assert len({example.id for example in examples}) == 350
    for example in examples:
        assert re.search(r"[0-9]", example.prompt)
        assert re.fullmatch(r"[0-9]{1,12}", example.answer)


def test_every_kind_of_line_occurs():
    examples = build(0, 0, count=500, controls=0).examples
    kinds = {re.sub(r"[0-9]+", "{i}", example.prompt) for example in examples}
    assert kinds == {*FREE, *RULED}


def test_no_line_states_a_number_of_the_phone_study():
    indices = [
        int(found[1])
        for example in build(0, 0, count=6000, controls=100).examples
        if (found := re.fullmatch(r"第([0-9]+)个电话号码是：", example.prompt))
    ]
    assert len(indices) > 300
    # Recipes of the phone study have 200 indices.
    assert min(indices) > 1000


def test_the_same_seed_draws_the_same_lines():
    assert build(3, 0, count=50).examples == build(3, 0, count=50).examples
    assert build(3, 0, count=50).examples != build(4, 0, count=50).examples


def test_lines_have_no_entropy_that_is_known():
    built = build(0, 0, count=10, controls=0)
    assert built.entropy_bits is None
    assert built.rule_only_bits is None
