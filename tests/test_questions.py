"""Questions written by a service: which are kept, which are refused and counted, what is sent, and what is not."""

import json
from pathlib import Path

import pytest

from tests.openai_server import KEY, files_with, says, serving
from toolkit import questions
from toolkit.errors import MachineError, UserError
from toolkit.questions import NOT_IN_ARTICLE, NOTHING_WRONG, TWICE, Proposals, accept, main
from toolkit.studies import STUDIES, news
from toolkit.studies.articles import Article, read_articles, read_questions

CONTENTS = [
    "The port of Orlin was opened on 3 May 2031 by Anka Dolmar, with 1,200 boats.",
    "The mill of Tavim was closed on 7 June 2032 by Bren Pelgrin, with 350 wheels.",
]
RECIPE = """
name  = "tiny-news"
study = "news"
[data]
source = "articles.jsonl"
[model]
base = "checkpoints/tiny-base"
[stage.read]
method   = "sft"
train_on = ["chunks"]
"""


def reply(*asked):
    """A service's answer with questions, each (question, answer, wrong answers)."""
    return json.dumps({"questions": [dict(zip(("question", "answer", "wrong"), each, strict=True)) for each in asked]})


GOOD = [
    reply(
        ("When was it opened?", "3 May 2031", ["4 May 2031", "3 June 2031", "1999"]), ("Who?", "Anka Dolmar", ["Bo"])
    ),
    reply(("How many wheels?", "350", ["340", "360", "400"])),
]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a recipe and two articles; `ask` runs the command with a server's address."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(STUDIES, "news", news.build)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    rows = [{"index": f"00{i}", "topic": f"Topic {i}", "content": content} for i, content in enumerate(CONTENTS)]
    Path("articles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def ask(address, *changes, more="", **options):
    recipe = Path("news.toml")
    recipe.write_text(f'{RECIPE}{more}\n[judge]\nbase_url = "{address}"\nmodel = "m"\nretries = 1\n')
    main(recipe, **{"per_article": 2, "dry_run": False, "change": list(changes)} | options)


TARGET = Path("data/tiny-news/questions.jsonl")


def test_a_file_of_questions_is_written_that_the_study_reads(project, capsys):
    with serving(says(GOOD[0])) as server:
        server.script += map(says, GOOD)
        ask(server.address)
    rows = [json.loads(line) for line in TARGET.read_text().splitlines()]
    assert sorted((row["article"], row["answer"]) for row in rows) == [
        ("000", "3 May 2031"),
        ("000", "Anka Dolmar"),
        ("001", "350"),
    ]
    assert next(row for row in rows if row["answer"] == "350")["wrong"] == ["340", "360", "400"]
    assert {key: len(value) for key, value in read_questions(str(TARGET), read_articles("articles.jsonl")).items()} == {
        "000": 2,
        "001": 1,
    }
    built = news.build(0, 0, source="articles.jsonl", questions=str(TARGET), cloze=0)
    assert {e.answer for e in built.examples if e.part == "facts"} == {"3 May 2031", "Anka Dolmar", "350"}
    said = capsys.readouterr().out
    assert "3 questions about 2 articles" in said
    assert "2 calls (220 tokens), 0 replies from the cache" in said
    assert 'questions = "data/tiny-news/questions.jsonl"' in said
    # The article, and how many questions; the key is sent, and left nowhere.
    assert CONTENTS[0] in server.asked[0].content
    assert "Write 2 questions" in server.asked[0].content
    assert server.asked[0].key == f"Bearer {KEY}"
    assert files_with(KEY, project) == []


def test_the_file_that_the_recipe_names_is_written_and_never_over_one_that_is_there(project, capsys):
    with serving(says(GOOD[1])) as server:
        server.script += map(says, GOOD)
        ask(server.address, "data.questions=mine.jsonl")
        assert Path("mine.jsonl").is_file()
        assert "does not name it" not in capsys.readouterr().out
        Path("mine.jsonl").write_text("edited")
        with pytest.raises(UserError, match="mine.jsonl is there already"):
            ask(server.address, "data.questions=mine.jsonl")
        assert Path("mine.jsonl").read_text() == "edited"
        with pytest.raises(UserError, match="written as JSON Lines"):
            ask(server.address, "data.questions=mine.csv")
        assert len(server.asked) == 2


def test_a_dry_run_sends_nothing_and_counts_what_is_in_the_cache(project, capsys):
    with serving(says("no")) as server:
        ask(server.address, dry_run=True)
        assert "2 articles, 2 questions each: 2 calls of m" in capsys.readouterr().out
        assert server.asked == []
        server.script += map(says, GOOD)
        ask(server.address)
        capsys.readouterr()
        ask(server.address, dry_run=True)
        said = capsys.readouterr().out
        assert "2 questions each: 0 calls" in said
        assert "2 replies are in the cache" in said
        assert "is there already, and would not be overwritten" in said
        ask(server.address, dry_run=True, per_article=3)
        assert "3 questions each: 2 calls" in capsys.readouterr().out
        assert len(server.asked) == 2


def test_asked_again_it_costs_nothing_and_says_the_same(project, capsys):
    with serving(says("no")) as server:
        server.script += map(says, GOOD)
        ask(server.address)
        first = TARGET.read_text()
        TARGET.unlink()
        ask(server.address)
        assert TARGET.read_text() == first
        assert len(server.asked) == 2
    assert "0 calls (0 tokens), 2 replies from the cache" in capsys.readouterr().out


def test_a_reply_that_cannot_be_read_is_counted_with_its_article(project, capsys):
    with serving(says("I would rather not.")) as server:
        server.script += [says("Sorry?"), says("Sorry!"), says(GOOD[1])]
        ask(server.address)
    said = capsys.readouterr().out
    assert "1 questions about 1 articles" in said
    assert "1 replies could not be read, even asked again: articles 000" in said


def test_where_no_question_can_be_used_nothing_is_written(project, capsys):
    with serving(says(reply(("Who?", "Nobody", ["Anka"])))) as server, pytest.raises(MachineError, match="not written"):
        ask(server.address)
    assert not TARGET.exists()
    assert f"2 refused: {NOT_IN_ARTICLE}" in capsys.readouterr().out


def test_what_was_answered_before_a_failure_is_not_paid_again(project):
    with serving(says(GOOD[1])) as server:
        server.script += [says(GOOD[0]), lambda answers: answers.reply(401, "{}")]
        with pytest.raises(UserError, match="OPENAI_API_KEY"):
            ask(server.address)
        assert not TARGET.exists()
        ask(server.address)
        assert len(server.asked) == 3
    assert len(TARGET.read_text().splitlines()) == 3


def test_questions_are_refused_for_a_reason_each():
    article = Article("1", "", CONTENTS[0], (), "")
    proposed = json.loads(
        reply(
            ("When?", "3  may 2031.", ["3 May 2031", "9 May 2031", "9 May 2031", ""]),
            ("when", "1200", ["1300"]),
            ("Who closed it?", "Bren Pelgrin", ["Anka Dolmar"]),
            ("How many boats?", "1,200", ["1200"]),
            ("", "Orlin", ["Tavim"]),
            ("Where?", "Orlin", ["Tavim"]),
            ("How many?", "200", ["300"]),
        )
    )
    kept, reasons = accept(Proposals.model_validate(proposed), article)
    assert {row["question"]: row["wrong"] for row in kept} == {"When?": ["9 May 2031"], "Where?": ["Tavim"]}
    # 200 is in 1,200 only as a part of it.
    assert reasons == [TWICE, NOT_IN_ARTICLE, NOTHING_WRONG, questions.EMPTY, NOT_IN_ARTICLE]


def test_a_recipe_without_a_judge_or_of_another_study_is_refused(project):
    recipe = Path("news.toml")
    recipe.write_text(RECIPE)
    with pytest.raises(UserError, match=r"no \[judge\] says which"):
        main(recipe, per_article=2, dry_run=True, change=[])
    recipe.write_text(RECIPE.replace('"news"', '"phone"'))
    with pytest.raises(UserError, match='study = "phone" has no articles'):
        main(recipe, per_article=2, dry_run=True, change=[])
