"""News: chunks, blanks and questions of a file; what tests, what is practised, what is held out, and never shared."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from toolkit.errors import UserError
from toolkit.studies.articles import Asked, cut, read_articles, with_use
from toolkit.studies.asking import date_parts, holding
from toolkit.studies.cloze import normalise
from toolkit.studies.news import build

TINY = Path(__file__).parents[1] / "recipes/tiny"


def story(name, number):
    """An article whose every sentence has a word and a number of its own."""
    return (
        f"The firm North {name} Works came to the town of {name}ton on {number % 27 + 1} May 20{number % 50 + 31}. "
        f"It cost {number}1 million crowns and the bank of {name} paid it. "
        f"The head of it all is Anka {name}sen, who is from the west. "
        f"All of {name}ton came to see {number}7 boats in the port. "
        f"They had {number}3% of the votes of {name}ton in June 20{number % 40 + 50}. "
        f"A road of {number}00 metres goes from {name}ton to the sea."
    )


NAMES = ["Quor", "Belm", "Tavi", "Zell", "Orpi", "Fenl", "Garv", "Hath", "Ulma", "Kest"]


def write_articles(folder, contents, **columns):
    path = folder / "articles.jsonl"
    rows = [
        {"index": f"{i:03d}", "topic": f"Topic {i}", "content": content}
        | {name: values[i] for name, values in columns.items()}
        for i, content in enumerate(contents)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def write_questions(folder, rows):
    path = folder / "questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def source(tmp_path):
    return write_articles(tmp_path, [story(name, 20 + i) for i, name in enumerate(NAMES)])


def built(source, data_seed=1, assignment_seed=2, **changes):
    return build(data_seed, assignment_seed, source=source, **changes).examples


def of(examples, part, split="train"):
    return [example for example in examples if example.part == part and example.split == split]


# --- chunks ---


@pytest.mark.parametrize(("words", "overlap"), [(50, 10), (8, 3), (5, 0), (6, 5)])
@pytest.mark.parametrize("length", [1, 4, 5, 6, 7, 8, 9, 49, 50, 51, 90, 91, 137])
def test_windows_hold_every_word_and_the_last_one_holds_a_new_one(words, overlap, length):
    content = " ".join(f"w{i}" for i in range(length))
    windows = [content[start:end].split() for start, end in cut(content, words, overlap)]
    assert list(dict.fromkeys(word for window in windows for word in window)) == content.split()
    for before, after in zip(windows, windows[1:], strict=False):
        assert len(before) == words
        assert before[words - overlap :] == after[:overlap]
        assert after[-1] not in before
    assert 1 <= len(windows[-1]) <= words


def test_chunks_are_the_text_as_it_stands(source):
    for example in of(built(source, chunk_words=20, overlap_words=5), "chunks"):
        assert example.prompt == ""
        assert not example.is_question
        content = next(a.content for a in read_articles(source) if a.index == example.info["article"])
        assert example.answer in content
        assert len(example.answer.split()) <= 20


def test_a_word_of_chinese_is_a_character_and_numbers_are_not_cut(tmp_path):
    content = "奥林市新工厂，SK Hynix雇用1200人。“很好！”厂长说。2021年5月3日投产。" * 3
    windows = [content[start:end] for start, end in cut(content, 10, 2)]
    assert windows[0] == "奥林市新工厂，SK Hynix雇用"
    assert all(len(window) < 30 for window in windows)
    assert not any(
        window.endswith(("12", "120", "202")) or window.startswith(("00", "200", "021")) for window in windows
    )
    assert not any(window.startswith(("，", "。")) for window in windows)
    examples = built(
        write_articles(tmp_path, [content[:34]], keywords=["奥林市；厂长"]), chunk_words=20, overlap_words=5
    )
    assert {example.answer for example in of(examples, "facts")} >= {"奥林市", "1200"}


def test_a_chunk_exposes_the_questions_whose_answers_it_states(source):
    examples = built(source, chunk_words=25, overlap_words=10, practice=3)
    chunks = of(examples, "chunks")
    questions = {example.id: example for example in of(examples, "facts") + of(examples, "practice")}
    exposed = Counter(fact for chunk in chunks for fact in chunk.facts)
    assert set(exposed) == set(questions)
    assert 2 in exposed.values()
    for chunk in chunks:
        assert chunk.exposes == (chunk.facts or (chunk.id,))
        for fact in chunk.facts:
            assert questions[fact].info["article"] == chunk.info["article"]
            assert normalise(questions[fact].answer) in normalise(chunk.answer)


def test_a_span_at_the_edge_of_a_chunk_without_its_sentence_is_not_stated(tmp_path):
    # The second chunk begins with the number, and the rest of its sentence is in the first.
    content = "The very old firm of the town sold to the people of the west 350 boats. " + "So it went on. " * 3
    examples = built(write_articles(tmp_path, [content]), chunk_words=15, overlap_words=2)
    first, second, *_ = of(examples, "chunks")
    assert second.answer.startswith("west 350 boats.")
    assert (first.facts, second.facts) == (("news-000-cloze-1",), ())


def test_a_chunk_that_states_no_answer_exposes_itself_only(tmp_path):
    examples = built(
        write_articles(tmp_path, ["In 1999 they came to the sea. " + "So it went on. " * 30]), chunk_words=20
    )
    assert [chunk.exposes for chunk in of(examples, "chunks")[-1:]] == [("news-000-chunk-12",)]


# --- what is read, and what is not ---


def test_articles_are_read_or_held_out_and_indices_stay_text(source):
    examples = built(source, count=6, controls=3)
    read = {example.info["article"] for example in examples if example.split == "train"}
    held_out = {example.info["article"] for example in examples if example.split == "control"}
    assert (len(read), len(held_out), len(read & held_out)) == (6, 3, 0)
    assert read | held_out < {f"{i:03d}" for i in range(10)}
    assert Counter((e.part, e.split) for e in examples if e.part != "chunks" and e.variant == "plain") == {
        ("facts", "train"): 30,
        ("facts", "control"): 15,
    }
    assert len({example.id for example in examples}) == len(examples)
    assert "news-000-cloze-1" in {example.id for example in built(source)}


def test_nothing_of_a_control_is_in_anything_that_is_trained(source):
    for seed in range(10):
        examples = built(source, seed, seed, controls=4, practice=5)
        trained = normalise(" ".join(" ".join((e.prompt, e.answer, *e.wrong)) for e in examples if e.split == "train"))
        held_out = {NAMES[int(e.info["article"])] for e in examples if e.split == "control"}
        assert len(held_out) == 4
        for name in held_out:
            assert normalise(name) not in trained
            assert normalise(f"{name}ton") not in trained
            assert normalise(f"Anka {name}sen") not in trained


def test_controls_stay_the_same_where_fewer_articles_are_read(source):
    few, many = (of(built(source, count=count, controls=3), "facts", "control") for count in (2, 7))
    assert few == many


def test_a_sentence_that_two_articles_have_is_not_asked(tmp_path):
    shared = " Follow the 350 news of the Orlin Bank since 1999."
    examples = built(write_articles(tmp_path, [story(name, 30 + i) + shared for i, name in enumerate(NAMES)]), cloze=50)
    assert not any("Follow" in example.prompt for example in examples)
    assert len(of(examples, "facts")) > 50


def test_seeds_draw_questions_and_assignment_apart(source):
    base = built(source, 1, 2, controls=4, practice=2)
    assert built(source, 1, 2, controls=4, practice=2) == base
    other = {e.id: e.prompt for e in built(source, 1, 9, controls=4)}
    prompts = {e.id: e.prompt for e in built(source, 1, 2, controls=4)}
    both = other.keys() & prompts.keys()
    assert all(other[key] == prompts[key] for key in both)
    assert {e.info["article"] for e in of(base, "facts", "control")} != {
        e.info["article"] for e in of(built(source, 1, 9, controls=4), "facts", "control")
    }
    assert [e.prompt for e in of(built(source, 5, 2), "facts")] != [e.prompt for e in of(built(source, 1, 2), "facts")]


# --- questions ---


def test_the_prompt_names_topic_and_date_and_leaves_out_what_is_not_known(tmp_path):
    contents, dates = ["The port of Orlin has 350 boats.", "The mill in Tavim has 470 wheels."], ["5 May 2031", ""]
    first, second = of(built(write_articles(tmp_path, contents, date=dates)), "facts")
    assert first.prompt == (
        'Topic: Topic 0, 5 May 2031. Fill in the blank: "The port of Orlin has ____ boats." Answer: '
    )
    assert first.answer == "350"
    assert second.prompt == 'Topic: Topic 1. Fill in the blank: "The mill in Tavim has ____ wheels." Answer: '
    own = of(built(write_articles(tmp_path, contents), cloze_prompt="{sentence} = "), "facts")
    assert own[0].prompt == "The port of Orlin has ____ boats. = "


@pytest.mark.parametrize("date", ["3 May 2031", "2031-05-03", "May 3, 2031 10:15", "2031年5月3日"])
def test_a_date_that_the_prompt_says_in_other_words_is_not_asked(tmp_path, date):
    content = "The port was opened on 3 May 2031 by all. Work on the road began in June 2028 with them."
    assert [e.answer for e in of(built(write_articles(tmp_path, [content], date=[date])), "facts")] == ["June 2028"]
    assert date_parts(date) >= {"3", "5", "2031"}


def test_an_answer_that_the_topic_says_is_not_asked(tmp_path):
    content = "They say that the Orlin Bank has 350 people."
    path = write_articles(tmp_path, [content], topic=["The Orlin Bank"])
    assert [example.answer for example in of(built(path), "facts")] == ["350"]


def test_no_sentence_tested_is_practised_and_nothing_practised_says_a_tested_date_or_number(source):
    for seed in range(10):
        examples = built(source, seed, seed, cloze=4, practice=6)
        for index in {example.info["article"] for example in examples}:
            tests = [e for e in of(examples, "facts") if e.info["article"] == index]
            practice = [e for e in of(examples, "practice") if e.info["article"] == index]
            assert tests
            assert practice
            assert not {e.answer for e in tests} & {e.answer for e in practice}
            whole = {e.prompt.replace("____", e.answer) for e in tests}
            assert not whole & {e.prompt.replace("____", e.answer) for e in practice}
            trained = normalise(" ".join(f"{e.prompt} {e.answer}" for e in practice))
            assert not any(normalise(e.answer) in trained for e in tests if e.info["kind"] != "name")


REPEATING = (
    "The old firm of Anka Dolmar had 350 boats in the port. All the 350 of them sailed in June 2028. Since June 2028 "
    "the port was shut. Then Anka Dolmar bought 470 new ones. Nobody in the town liked Anka Dolmar for that. The 470 "
    "cost all that the old firm of Anka Dolmar had."
)


def test_what_an_article_says_twice_is_not_practised_where_it_is_tested(tmp_path):
    source = write_articles(tmp_path, [REPEATING, story("Quor", 20)])
    for seed in range(30):
        examples = [e for e in built(source, seed, cloze=2, practice=9) if e.info["article"] == "000"]
        practice = of(examples, "practice")
        for test in of(examples, "facts"):
            assert test.answer not in {example.answer for example in practice}
            if test.info["kind"] != "name":
                assert not any(test.answer in example.prompt for example in practice)


def test_a_foil_that_a_read_article_says_too_is_none(tmp_path):
    names = ["Anka Dolmar", "Bren Pelgrin", "Corvi Vek", "Anka Dolmar", "Bren Pelgrin", "Hessa Quill"]
    contents = [f"In the town number {i} of all they saw {name} come." for i, name in enumerate(names)]
    source = write_articles(tmp_path, contents)
    for seed in range(20):
        examples = built(source, 1, seed, controls=3)
        read = {example.answer for example in of(examples, "facts")}
        foils = {example.foil for example in of(examples, "facts")} - {None}
        assert foils <= {example.answer for example in of(examples, "facts", "control")} - read


def test_practice_rejects_no_number_of_a_control(tmp_path):
    contents = [f"In the west of the town were {i}{i}0 boats. In the east of the town were {i}{i % 9 + 1}0 carts."
                for i in range(1, 10)]  # fmt: skip
    source = write_articles(tmp_path, contents)
    for seed in range(30):
        examples = built(source, seed, seed, count=1, controls=8, practice=1)
        held_out = {f"{i}{j}0" for i in range(1, 10) for j in (i, i % 9 + 1)}
        held_out -= {example.answer for example in examples if example.split == "train"}
        (practice,) = of(examples, "practice")
        assert len(practice.wrong) == 3
        assert not held_out & set(practice.wrong)


def test_practice_has_wrong_answers_and_tests_have_foils_that_are_never_trained(source):
    examples = built(source, controls=4, practice=5)
    practice, tests = of(examples, "practice"), of(examples, "facts")
    assert all(len(set(example.wrong)) == 3 and example.answer not in example.wrong for example in practice)
    contents = {a.index: normalise(a.content) for a in read_articles(source)}
    for example in practice:
        assert not any(normalise(wrong) in contents[example.info["article"]] for wrong in example.wrong)
    trained = {normalise(text) for e in examples if e.split == "train" for text in (e.answer, *e.wrong)}
    foils = [example.foil for example in tests if example.foil]
    assert len(foils) > len(tests) * 0.9
    assert not {normalise(foil) for foil in foils} & trained
    assert all(example.foil is None for example in of(examples, "facts", "control"))


def test_where_no_other_article_has_a_name_another_of_the_same_article_is_wrong(tmp_path):
    content = "Here the old Anka Dolmar met the young Bren Pelgrin by the sea. Then the tall Corvi Vek saw them all."
    practice = of(built(write_articles(tmp_path, [content]), practice=5), "practice")
    names = {"Anka Dolmar", "Bren Pelgrin", "Corvi Vek"}
    assert practice
    assert all(set(example.wrong) == names - {example.answer} for example in practice)


def test_only_half_of_the_sentences_test_where_there_is_practice(source):
    with_practice = of(built(source, cloze=100, practice=1), "facts")
    asked = {example.prompt.replace("____", example.answer) for example in with_practice}
    assert len(asked) == 3 * 10


# --- questions of a file ---


def asked(row, answer, use="", question=""):
    return Asked(row, "000", question or f"Question {row}?", answer, (), use)


def test_the_first_five_questions_test_and_a_tested_answer_is_never_practised():
    used = with_use([asked(i, f"answer {i}") for i in range(7)] + [asked(7, "Answer 2."), asked(8, "other")], "q")
    assert [each.use for each in used] == ["test"] * 5 + ["practice"] * 2 + ["test", "practice"]


def test_a_use_that_is_said_counts_first():
    used = with_use([asked(0, "a b"), asked(1, "a b", "practice"), asked(2, "c", "test"), asked(3, "c")], "q")
    assert [each.use for each in used] == ["practice", "practice", "test", "test"]
    with pytest.raises(UserError, match="question 1 practises the answer that question 0 tests"):
        with_use([asked(0, "Anka", "test"), asked(1, "anka", "practice")], "q.jsonl")


def test_questions_of_a_file_stand_beside_the_blanks(source, tmp_path):
    rows = [
        {
            "article": "000",
            "question": "Who is the head?",
            "answer": "Anka Quorsen",
            "wrong": ["Bren Dol"],
            "use": "test",
        },
        {
            "article": "000",
            "question": "What came?",
            "answer": "207 boats",
            "wrong": ["9 cars", "8 cats"],
            "use": "practice",
        },
        {"article": "001", "question": "How far is the sea?", "answer": "2100 metres", "use": "practice"},
    ]
    examples = built(source, questions=write_questions(tmp_path, rows), practice=100)
    by_id = {example.id: example for example in examples}
    test, practice = by_id["news-000-question-1"], by_id["news-000-question-2"]
    assert (test.part, test.answer, test.foil, test.wrong) == ("facts", "Anka Quorsen", "Bren Dol", ())
    assert test.prompt == "Topic: Topic 0. Question: Who is the head? Answer: "
    assert (practice.part, practice.split, practice.wrong) == ("practice", "train", ("9 cars", "8 cats"))
    assert "news-000-cloze-1" in by_id
    # What the file tests is not practised by blanks, and what it practises is not tested by them.
    blanks = [e for e in examples if e.info["article"] == "000" and "Fill" in e.prompt]
    assert not any("Anka Quorsen" in e.prompt + e.answer for e in blanks if e.part == "practice")
    assert not any(normalise(e.answer) in normalise("What came? 207 boats") for e in blanks if e.part == "facts")


def test_wrong_answers_may_be_one_text_in_a_csv(source, tmp_path):
    path = tmp_path / "q.csv"
    path.write_text("article,question,answer,wrong,use\n000,Who?,Anka Quorsen,Bren Dol | Cor Vek,practice\n")
    by_id = {example.id: example for example in built(source, questions=str(path))}
    assert by_id["news-000-question-1"].wrong == ("Bren Dol", "Cor Vek")


def test_an_answer_in_words_of_its_own_is_exposed_once_a_reading():
    content = story("Quor", 20)
    chunks = cut(content, 20, 5)
    assert len(chunks) > 3
    assert holding("Anka  quorsen", content, chunks) == (1, 2)
    assert holding("yes", content, chunks) == (len(chunks) - 1,)
    assert holding("7 boats", content, chunks) == (len(chunks) - 1,)


def test_questions_about_a_control_are_asked_and_never_practised(source, tmp_path):
    rows = [{"article": f"{i:03d}", "question": f"{use}?", "answer": f"{use} {i}", "use": use}
            for i in range(10) for use in ("test", "practice")]  # fmt: skip
    examples = built(source, questions=write_questions(tmp_path, rows), controls=4, cloze=0)
    assert Counter((e.part, e.split) for e in examples if e.part != "chunks" and e.variant == "plain") == {
        ("facts", "train"): 6,
        ("practice", "train"): 6,
        ("facts", "control"): 4,
    }


# --- mistakes ---


def test_every_row_that_cannot_be_used_is_said_at_once(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("index,content\n01,One came.\n,Two came.\n03,\n01,Four came.\n1,one  came\n")
    with pytest.raises(UserError) as caught:
        read_articles(str(path))
    said = str(caught.value)
    assert "line 3: `index` is empty" in said
    assert "line 4: `content` is empty" in said
    assert 'line 5: the index "01" is that of line 2 already' in said
    assert "line 6: the content of article 1 is that of line 2 already" in said


def test_a_missing_column_is_said_with_the_nearest(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Index,contents\n1,One came.\n")
    with pytest.raises(UserError, match="a column `content` is missing; is `contents` meant"):
        read_articles(str(path))


def test_what_is_wrong_with_questions_is_said(source, tmp_path):
    rows = [
        {"article": "0000", "question": "a?", "answer": "x"},
        {"article": "001", "question": "a?", "answer": "x", "wrong": ["y", "X!"]},
        {"article": "001", "question": "A", "answer": "z", "use": "train"},
        {"article": "002", "question": "a?", "answer": "x", "wrong": [1]},
    ]
    with pytest.raises(UserError) as caught:
        built(source, questions=write_questions(tmp_path, rows))
    said = str(caught.value)
    assert 'line 1: there is no article "0000"; did you mean "000"?' in said
    assert 'line 2: "x" is the answer, and among the wrong ones' in said
    assert 'line 3: use is test or practice, not "train"' in said
    assert "line 3: the question is that of line 2 already" in said
    assert "line 4: `wrong` must be a list of texts" in said


def test_a_file_of_questions_that_is_not_there_can_be_made(source):
    with pytest.raises(UserError, match="no such file; `python -m toolkit.questions`"):
        built(source, questions="data/none.jsonl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"controls": 10}, "1 articles to read and 10 controls are more than the 10"),
        ({"count": 8, "controls": 3}, "8 articles to read and 3 controls are more than the 10"),
        ({"overlap_words": 50}, "overlap_words = 50 must be less than chunk_words = 50"),
        ({"cloze": 0}, "nothing would be asked"),
        ({"cloze_prompt": "{topic}?"}, "it must contain {sentence}"),
        ({"question_prompt": "{question} {index}"}, "it must contain {question}"),
    ],
)
def test_what_cannot_be_is_refused(source, changes, said):
    with pytest.raises(UserError) as caught:
        built(source, **changes)
    assert said in str(caught.value)


def test_columns_may_be_called_as_in_the_original_and_keywords_may_be_a_list(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Index,Topic,Content,Word Count,Keywords,Date\n1,T,The port of Orlin has many boats.,9000,Orlin,\n")
    assert [e.answer for e in of(built(str(path)), "facts")] == ["Orlin"]
    source = write_articles(tmp_path, ["The port of Orlin has many boats."], keywords=[["Orlin", "a+b("]])
    assert read_articles(source)[0].keywords == ("Orlin", "a+b(")


# --- what is shipped ---


def test_the_tiny_articles_give_every_kind_of_question():
    source, questions = (str(TINY / name) for name in ("news_articles.csv", "news_questions.jsonl"))
    articles = read_articles(source)
    assert len(articles) == 24
    assert articles[0].index == "001"
    assert all(60 <= len(article.content.split()) <= 110 for article in articles)
    examples = built(source, questions=questions, controls=8, practice=4, chunk_words=30)
    kinds = Counter((example.part, example.info.get("kind")) for example in examples)
    assert all(kinds[part, kind] >= 10 for part in ("facts", "practice") for kind in ("date", "number", "name"))
    assert len(of(examples, "facts")) >= 16 * 5
    assert len(of(examples, "facts", "control")) >= 8 * 5
    assert all(example.wrong for example in of(examples, "practice"))
    random.Random(0).shuffle(examples)
    asked = [example.prompt for example in examples if example.is_question and example.variant == "plain"]
    assert len(set(asked)) == len(asked)


def test_a_blank_is_also_asked_as_it_was_read():
    examples = build(1, 2, source=str(TINY / "news_articles.csv"), controls=8, chunk_words=30).examples
    asked = {example.id: example for example in examples}
    texts = [example.answer for example in examples if example.part == "chunks"]
    continued = [example for example in examples if example.variant == "continued"]
    assert len(continued) > 50
    for example in continued:
        question = asked[example.fact]
        assert (example.split, question.split, question.part) == ("test", "train", "facts")
        assert example.answer.strip() == question.answer
        assert any(text.startswith(example.prompt + example.answer) for text in texts)
        assert not example.prompt[-1].isspace()
