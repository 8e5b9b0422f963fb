"""Blanks in sentences: where sentences end, what is a date, a number or a name, and what would give an answer away."""

import random
import re

import pytest

from toolkit.studies.cloze import (
    BLANK,
    KINDS,
    candidates,
    choose,
    kind_of,
    make_questions,
    normalise,
    sentences,
    spans,
)
from toolkit.studies.distractors import Pool, perturb, shape

STORY = (
    "The company North Orlin Works opened a new plant in Orlin on 3 May 2031. It cost 65 million crowns and gave work "
    "to 1,200 people. Its head is Anka Dolmar, who came from Tavim. On 2029-06-24 the people of Orlin had voted: 45% "
    "were for it. In March 2030 Anka Dolmar bought the old mill for 3.5 thousand crowns."
)
CHINESE = (
    "新华社2021年5月3日电：奥林市新工厂投资3.5万亿元，雇用1200人，同比增长45%。"
    "“很好！”厂长说，工厂很大。该厂5月6日投产。"
)


def split(text):
    return [text[start:end] for start, end in sentences(text)]


def found(text, *keywords, kinds=KINDS):
    return {text[span.start : span.end]: span.kind for span in spans(text, 0, len(text), keywords, kinds)}


# --- sentences ---


def test_sentences_end_at_marks_and_at_blank_lines():
    assert split('One came. "Was it you?" Two left! Three\n\nA heading\n\nFour.') == [
        "One came.",
        '"Was it you?"',
        "Two left!",
        "Three",
        "A heading",
        "Four.",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Dolmar of the U.S. Navy met Mr. J. K. Pelgrin at 3 p.m. on Jan. 5.",
        "It grew by 3.5 percent, to approx. 40 units, in the U.S. last year.",
        "Dolmar Inc. and Pelgrin Co. sold ship No. 5 to St. Orlin.",
        '"Will it open?" asked the mayor, "and when?"',
    ],
)
def test_abbreviations_and_decimals_end_no_sentence(sentence):
    assert split(f"{sentence} Then it rained.") == [sentence, "Then it rained."]


def test_an_abbreviation_ends_a_sentence_where_a_word_follows_that_begins_one():
    assert split("They live in the U.S. The sea is near.") == ["They live in the U.S.", "The sea is near."]
    assert split("It was sold to Dolmar Ltd. In May it closed.") == ["It was sold to Dolmar Ltd.", "In May it closed."]


def test_chinese_sentences_need_no_spaces_and_keep_their_quotes():
    assert split("他来了。她走了！“很好！”厂长说。“再见。”") == ["他来了。", "她走了！", "“很好！”厂长说。", "“再见。”"]


def test_no_word_is_lost_between_sentences():
    for text in (STORY, CHINESE, "no mark at the end", "  \n ", ""):
        assert re.sub(r"\s", "", "".join(split(text))) == re.sub(r"\s", "", text)


# --- spans ---


@pytest.mark.parametrize(
    "date",
    ["3 May 2021", "May 3, 2021", "2021-05-03", "2021年5月3日", "2021年5月", "2021年", "5月3日", "March 2020", "3 May",
     "May 3", "1999", "24 Sept. 2021", "Jan. 5, 2022"],
)  # fmt: skip
def test_dates_are_found_whole(date):
    assert kind_of(date) == "date"
    assert found(f"it was on {date} that they came") == {date: "date"}
    assert found(f"他们是在{date}来的。" if "年" in date or "月" in date else f"it was on {date}.") == {date: "date"}


@pytest.mark.parametrize(
    "number",
    ["1,200", "3.5", "45%", "3.5 million", "$3.5 million", "US$40", "12.5 percent", "10万", "3.5万亿", "30％", "350"],
)
def test_numbers_are_found_with_their_unit(number):
    assert kind_of(number) == "number"
    assert found(f"there were {number} of them") == {number: "number"}
    assert found(f"共有{number}人来了") == {number: "number"}


@pytest.mark.parametrize(
    "text", ["the A320 and the B-52", "at 10:30", "the 21st of them", "2-3 times", "only 3 left", "v1.2.3"]
)
def test_parts_of_other_words_and_lone_digits_are_no_numbers(text):
    assert found(text) == {}


def test_a_date_at_the_end_of_a_sentence_leaves_the_full_stop():
    cloze = next(each for each in candidates("The old plant closed on 3 May 2021.", []) if each.kind == "date")
    assert (cloze.answer, cloze.blanked) == ("3 May 2021", f"The old plant closed on {BLANK}.")


def test_names_are_capitalised_words_in_a_row():
    text = "Last week the Bank of Orlin paid Anka Dolmar's firm and J. K. Pelgrin in Tavim"
    assert found(text) == {"Bank of Orlin": "name", "Anka Dolmar": "name", "J. K. Pelgrin": "name"}


def test_a_capital_letter_at_the_start_of_a_sentence_makes_no_name():
    assert found("Big Ships came to the port of the town") == {}
    assert found("The Orlin Bank came") == {"Orlin Bank": "name"}
    inside = "Orlin Bank fell. They said that Orlin Bank was old."
    assert [inside[s.start : s.end] for s in spans(inside, 0, 16, [], KINDS)] == ["Orlin Bank"]


def test_a_keyword_is_found_as_a_whole_word_whatever_signs_it_holds():
    assert found("we use C++ (new) and a.b in orlin, not Orlins or axb", "C++ (new)", "a.b", "Orlin") == {
        "C++ (new)": "name",
        "a.b": "name",
        "orlin": "name",
    }
    assert found("奥林市长说", "奥林") == {"奥林": "name"}


def test_spans_do_not_overlap_and_only_the_kinds_asked_for_come():
    text = "on 3 May 2021 the Orlin Bank had 300 people"
    assert found(text, "Bank", "May") == {"3 May 2021": "date", "Orlin Bank": "name", "300": "number"}
    assert found(text, kinds=["number"]) == {"300": "number"}


# --- questions ---


@pytest.mark.parametrize("text", [STORY, CHINESE])
def test_a_blank_replaces_exactly_the_span(text):
    keywords = ["奥林市", "Tavim"]
    assert len(candidates(text, keywords)) >= 4
    for each in candidates(text, keywords):
        assert text[each.start : each.end] == each.answer
        assert each.blanked.replace(BLANK, each.answer) == each.sentence
        assert text[each.sentence_start :].startswith(each.sentence)


def test_an_answer_that_its_own_sentence_says_again_is_not_asked():
    twice = "In 2021 they sold 300 boats, more than the 300 of 2019."
    assert {each.answer for each in candidates(twice, [])} == {"2021", "2019"}
    assert {each.answer for each in candidates("They had 35 of 3500 boats in the port.", [])} == {"35", "3500"}


def test_a_sentence_with_a_blank_of_its_own_or_of_few_words_is_not_asked():
    assert candidates("The name of the town is ____ since 1999.", []) == []
    assert candidates("Orlin, 3 May 2021.", []) == []


def test_questions_come_from_every_sentence_in_turn_with_different_answers():
    for seed in range(20):
        five = make_questions(STORY, ["Tavim", "Orlin"], KINDS, 5, random.Random(seed))
        assert len({each.sentence for each in five}) == 5
        assert len({each.answer for each in five}) == 5
        assert {each.kind for each in five} == set(KINDS)
    many = make_questions(STORY, ["Tavim", "Orlin"], KINDS, 100, random.Random(0))
    assert (
        len(many)
        == len({normalise(each.answer) for each in many})
        == len({normalise(each.answer) for each in candidates(STORY, ["Tavim", "Orlin"])})
    )


def test_the_same_seed_chooses_the_same():
    all_of_it = candidates(STORY, [])
    assert choose(all_of_it, 4, random.Random(1)) == choose(all_of_it, 4, random.Random(1))
    assert len({tuple(choose(all_of_it, 4, random.Random(seed))) for seed in range(10)}) > 1
    assert make_questions("Nothing to ask is here at all.", [], KINDS, 3, random.Random(0)) == []


def test_words_are_compared_whole():
    assert normalise("5") not in normalise("35 of 5.5")
    assert normalise("1,200") in normalise("with 1200 people")
    assert normalise("ORLIN bank") in normalise("the (Orlin) Bank.")
    assert normalise("林市") in normalise("在奥林市。")
    assert normalise("…") == " "


# --- wrong answers ---


@pytest.mark.parametrize(
    "answer",
    ["3 May 2021", "Jan. 5, 2022", "2021-05-03", "1999", "March 2020", "2021年5月3日", "5月16日", "1,200", "45%",
     "$3.5 million", "0.5", "105", "12万", "3.05"],
)  # fmt: skip
def test_other_digits_are_of_the_same_kind_and_shape(answer):
    kind = kind_of(answer)
    others = {perturb(answer, kind, random.Random(seed)) for seed in range(50)}
    assert len(others) > 3
    for other in others:
        assert kind_of(other) == kind
        assert shape(other, kind) == shape(answer, kind)
    if "-" in answer:
        assert all(re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])", other) for other in others)


def test_round_numbers_get_round_ones():
    assert all(perturb("1,200", "number", random.Random(seed)).endswith("00") for seed in range(50))


def test_wrong_answers_look_alike_and_are_neither_right_nor_in_the_article_nor_forbidden():
    pool = Pool([("Anka Dolmar", "name"), ("Orlin", "name"), ("Bren Pelgrin", "name"), ("3 May 2021", "date"),
                 ("Corvi Vek", "name"), ("Quillor", "name"), ("市长", "name"), ("400", "number")])  # fmt: skip
    article = normalise("Corvi Vek came with 500 people on 7 June 2022.")
    for seed in range(20):
        rng = random.Random(seed)
        names = pool.draw("Hessa Quillor", "name", 5, rng, article=article, never={normalise("Bren Pelgrin")})
        # One of two words first; Quillor is a part of the right answer.
        assert names == ["Anka Dolmar", "Orlin"]
        numbers = pool.draw("300", "number", 3, rng, article=article, never=set())
        assert "400" in numbers
        assert len(set(numbers)) == 3
        assert not {"300", "500"} & set(numbers)
    assert pool.draw("a small town", "name", 3, random.Random(0), article="", never=set()) == []
