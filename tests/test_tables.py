"""The user's own tables: text stays text in every format, rows keep their numbers, and what is no table is refused."""

import inspect
import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from toolkit.errors import MachineError, UserError
from toolkit.studies import tables
from toolkit.studies.tables import Other, Problems, Row, read_rows

ANN = {"name": "Ann", "number": "00123"}
LI = {"name": "李雷", "number": "0139"}
TWO_ROWS = "name,number\nAnn,00123\n李雷,0139\n"


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def write_parquet(tmp_path):
    def write_parquet(columns, **types):
        import pyarrow as pa
        import pyarrow.parquet as pq

        arrays = {name: pa.array(values, type=types.get(name)) for name, values in columns.items()}
        pq.write_table(pa.table(arrays), tmp_path / "facts.parquet")
        return str(tmp_path / "facts.parquet")

    return write_parquet


def values_of(source):
    return [row.values for row in read_rows(source)]


# --- text stays text ---


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("facts.csv", TWO_ROWS),
        ("FACTS.CSV", TWO_ROWS),
        ("facts.csv", TWO_ROWS.replace(",", ";")),
        ("facts.csv", TWO_ROWS.replace(",", "\t")),
        ("facts.tsv", TWO_ROWS.replace(",", "\t")),
        ("facts.csv", TWO_ROWS.replace("\n", "\r\n")),
        ("facts.csv", TWO_ROWS.replace("\n", "\r")),
        ("facts.csv", '"name","number"\n"Ann","00123"\n"李雷","0139"'),
        ("facts.csv", " name , number\nAnn,00123\n李雷,0139\n"),
        ("facts.csv", b"\xef\xbb\xbf" + TWO_ROWS.encode()),
        ("facts.csv", TWO_ROWS.encode("utf-16")),
        ("facts.csv", b"\xfe\xff" + TWO_ROWS.replace(",", "\t").encode("utf-16-be")),
        ("facts.json", json.dumps([ANN, LI])),
        ("facts.json", b"\xef\xbb\xbf" + json.dumps([ANN, LI], ensure_ascii=False, indent=2).encode()),
        ("facts.jsonl", f"{json.dumps(ANN)}\n\n{json.dumps(LI)}"),
        ("facts.ndjson", f"{json.dumps(ANN)}\r\n{json.dumps(LI, ensure_ascii=False)}\r\n"),
        ("facts.jsonl", f"{json.dumps(ANN)}\n{json.dumps(LI)}\n".encode("utf-16")),
    ],
)
def test_leading_zeros_and_chinese_survive_in_every_text_format(write, name, content):
    rows = values_of(write(name, content))
    assert rows == [ANN, LI]
    assert not any(isinstance(value, Other) for row in rows for value in row.values())


def test_leading_zeros_survive_in_parquet_however_text_is_stored(write_parquet):
    import pyarrow as pa

    columns = {"name": ["Ann", "李雷"], "number": ["00123", "0139"]}
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        assert values_of(write_parquet(columns, number=kind)) == [ANN, LI]


def test_line_separators_within_a_value_end_no_line(write):
    text = "a\u2028b\x85c"
    assert values_of(write("facts.jsonl", json.dumps({"x": text}, ensure_ascii=False))) == [{"x": text}]
    assert values_of(write("facts.csv", f"x,y\n{text},1\n")) == [{"x": text, "y": "1"}]


def test_a_number_is_its_literal_and_marked_as_one(write, write_parquet):
    (row,) = values_of(write("facts.jsonl", '{"a": 13912345678901234567890, "b": 3.10, "c": "7", "d": 1e400}'))
    assert row == {"a": "13912345678901234567890", "b": "3.10", "c": "7", "d": "1e400"}
    assert {name for name, value in row.items() if isinstance(value, Other)} == {"a", "b", "d"}
    (row,) = values_of(write_parquet({"a": [123], "b": [Decimal("1.50")], "c": [date(2024, 2, 29)], "d": [True]}))
    assert row == {"a": "123", "b": "1.50", "c": "2024-02-29", "d": "true"}
    assert [value.kind for value in row.values() if isinstance(value, Other)] == ["a number", "a number"]


def test_what_is_missing_is_empty_and_what_is_nested_is_named(write, write_parquet):
    (row,) = values_of(write("facts.json", '[{"a": null, "b": NaN, "c": [1], "d": {"e": 1}, "f": false}]'))
    assert row == {"a": "", "b": "", "c": "", "d": "", "f": "false"}
    assert [getattr(row[name], "kind", None) for name in "abcd"] == [None, None, "a list", "an object"]
    (row,) = values_of(write_parquet({"a": [None], "b": [float("nan")], "c": [b"x"], "d": [["x"]]}))
    assert row == {"a": "", "b": "", "c": "", "d": ""}
    assert [getattr(row[name], "kind", None) for name in "abcd"] == [None, None, "bytes", "a list"]


# --- which row ---


def test_a_row_of_a_csv_has_the_line_on_which_it_starts(write):
    text = 'name,number\nAnn,1\n\n"two\nlines, and\r\nthree",2\n,\nBo,3\n'
    rows = list(read_rows(write("facts.csv", text)))
    assert [(row.number, row.values["number"]) for row in rows] == [(2, "1"), (4, "2"), (8, "3")]
    assert rows[1].values["name"] == "two\nlines, and\r\nthree"


def test_rows_are_numbered_by_line_in_json_lines_and_by_record_elsewhere(write, write_parquet):
    assert [row.number for row in read_rows(write("facts.jsonl", '\n{"a": "1"}\n\n{"a": "2"}\n'))] == [2, 4]
    assert [row.number for row in read_rows(write("facts.json", '[\n\n{"a": "1"},\n{"a": "2"}]'))] == [1, 2]
    rows = list(read_rows(write_parquet({"a": [str(i) for i in range(3000)]})))
    assert rows[-1] == Row(3000, {"a": "2999"})


def test_columns_without_a_name_are_left_out(write):
    # What pandas writes for its index, and Excel for an empty column at the end.
    assert values_of(write("facts.csv", ",name,number,\n0,Ann,00123,\n")) == [ANN]


# --- what is refused ---


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"\xef\xbb\xbf", "has no rows"),
        ("a.csv", "\n\n", "has no rows"),
        ("a.csv", "name,number\n", "has no rows"),
        ("a.json", "[]", "has no rows"),
        ("a.jsonl", "\n", "has no rows"),
        ("a.csv", "name,number,name\nA,1,2\n", "2 columns are called `name`"),
        ("a.csv", "name, name \nA,1\n", "2 columns are called `name`"),
        ("a.csv", "name,number\nA\n", "line 2: 1 cells, where the header has 2"),
        ("a.csv", "name,number\nA,1\nB,2,3\n", 'line 3: 3 cells.*a cell that holds "," stands in quotes'),
        ("a.csv", 'name,number\nA,1\n"B,2\nC,3\n', "line 3: a quote is opened in this row and never closed"),
        ("a.csv", 'name,number\n"B"x,2\n', "line 2: text after a closing quote"),
        ("a.csv", "name,number\nA,1\0\n", "line 2: a NUL byte"),
        ("a.csv", "name,number\nA,1\n".encode("utf-16-le"), "line 1: a NUL byte.*UTF-16, save it as UTF-8"),
        ("a.csv", "name,number\nA,1\n".encode("utf-32"), "UTF-32: save it as UTF-8"),
        ("a.csv", "name,number\nA,1\n李雷,2\n".encode("gb18030"), "line 3: character 1 is the byte 0xc0.*save it as"),
        ("a.csv", TWO_ROWS.encode()[:-7], "line 3: character 2 is the byte 0xe9"),
        ("a.csv", "\ufeffa,b\n1,2\n".encode("utf-16-le")[:-1], "is not UTF-16, as it began"),
        ("a.csv", b"PK\x03\x04....", "no text but an Excel workbook or another zip archive"),
        ("a.csv", b"\xd0\xcf\x11\xe0....", "an old Excel workbook"),
        ("a.jsonl", b"\x1f\x8b\x08....", "packed by gzip"),
        ("a.csv", b"PAR1....", "a Parquet file: call it .parquet"),
        ("a.parquet", b"name,number\nA,1\n", "a.parquet is damaged or no Parquet file"),
        ("a.parquet", b"", "a.parquet is damaged or no Parquet file"),
        ("a.json", '{"name": ["A"]}', 'an array of objects is expected.*orient="records"'),
        ("a.json", '{"a": "1"}\n{"a": "2"}\n', r"not JSON \(Extra data at line 2.*one object a line is called .jsonl"),
        ("a.json", '[{"a": "1"}, 7]', "record 2: an object, {…}, is expected"),
        ("a.json", '[{"a": 0123}]', "a number with zeros at the front must stand in quotes"),
        ("a.jsonl", '{"a": "1"}\n{"a": 0123}\n', "line 2: not JSON.*zeros at the front must stand in quotes"),
        ("a.jsonl", '{"a": "1", "a": "2"}\n', "line 1: `a` is there twice"),
        ("a.jsonl", '["a"]\n', "line 1: an object"),
        ("a.txt", TWO_ROWS, "tables are .csv, .tsv, .json, .jsonl, .ndjson, .parquet"),
        ("a.csv.gz", b"\x1f\x8b", "tables are .csv"),
        ("a.xlsx", b"PK\x03\x04", "tables are .csv"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(write, name, content, said):
    with pytest.raises(UserError, match=said):
        list(read_rows(write(name, content)))


def test_two_columns_of_one_name_are_refused_in_parquet_too(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="2 columns are called `a`"):
        list(read_rows(str(tmp_path / "a.parquet")))


def test_a_folder_and_a_missing_file_are_told_with_what_is_there(write, tmp_path):
    write("facts.csv", TWO_ROWS)
    with pytest.raises(UserError, match=r"is a folder; name a file in it \(it has facts.csv\)"):
        read_rows(str(tmp_path))
    with pytest.raises(UserError, match="no such file; did you mean .*/facts.csv"):
        read_rows(str(tmp_path / "fact.csv"))
    with pytest.raises(UserError, match="no such file; tables are .csv"):
        read_rows(str(tmp_path / "none/of/these.csv"))
    for nothing in ("", "facts", "a\0b", "x" * 5000):
        with pytest.raises(UserError, match="source"):
            read_rows(nothing)


def test_bad_rows_are_left_out_and_said_together(write):
    lines = [f"{i}" if i % 2 else f"{i},x" for i in range(30)]
    source = write("a.csv", "\n".join(["name,number", *lines]))
    problems = Problems(source)
    assert len(list(read_rows(source, problems))) == 15
    with pytest.raises(UserError) as refused:
        problems.refuse()
    said = str(refused.value).splitlines()
    assert said[1] == "  line 3: 1 cells, where the header has 2."
    assert len(said) == 12
    assert said[-1] == "  and 5 more."
    Problems(source).refuse()


# --- large files ---

READ_IN_LITTLE_MEMORY = """
import resource, sys
from toolkit.errors import UserError
from toolkit.studies import facts, tables
resource.setrlimit(resource.RLIMIT_AS, (700 * 2**20, 700 * 2**20))
try:
    if sys.argv[2] == "read":
        print(sum(1 for row in tables.read_rows(sys.argv[1])))
    else:
        facts.build(0, 0, sys.argv[1], "{name}: ", "{number}")
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by RLIMIT_AS")
@pytest.mark.parametrize(
    ("name", "rows", "how", "said"),
    [
        ("a.csv", 1000, "read", "line 1002: a NUL byte"),
        ("a.csv", 100_001, "build", "has over 100,000 rows: say [data] count"),
        ("a.json", 0, "read", "over 100 MB, and an array can only be read as a whole: write it as JSON Lines"),
    ],
)
def test_two_gigabytes_are_never_in_memory(tmp_path, name, rows, how, said):
    path = tmp_path / name
    text = "name,number\n" + "".join(f"Name {i},{i:011d}\n" for i in range(rows))
    path.write_text(text, encoding="utf-8")
    with path.open("r+b") as file:
        file.truncate(2 * 10**9)  # a hole: it takes no place on the disk
    command = [sys.executable, "-c", READ_IN_LITTLE_MEMORY, str(path), how]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert said in done.stdout


def test_no_more_is_read_than_is_asked_for(write, monkeypatch):
    source = write("a.csv", TWO_ROWS + '"never closed')
    rows = read_rows(source)
    assert [next(rows).values, next(rows).values] == [ANN, LI]
    with pytest.raises(UserError, match="line 4"):
        next(rows)
    monkeypatch.setattr(tables, "LARGEST_JSON", 5)
    with pytest.raises(UserError, match="write it as JSON Lines"):
        list(read_rows(write("a.json", '[{"a": "1"}]')))


def test_a_line_without_end_is_refused(write):
    with pytest.raises(UserError, match="line 2: a cell of over 131,072 characters, or a quote that is never closed"):
        list(read_rows(write("a.csv", 'a,b\n"' + "x\n" * 100_000)))
    with pytest.raises(UserError, match="nested too deeply"):
        list(read_rows(write("a.json", "[" * 100_000)))
    with pytest.raises(UserError, match="line 2: over 10,000,000 characters without an end"):
        list(read_rows(write("a.csv", "a,b\n" + "x" * 10_000_001)))


# --- the hub ---


@pytest.fixture
def hub(monkeypatch):
    """Stands in for the hub: what `load_dataset` was asked for, and what it gives or raises."""
    import datasets

    asked = []
    signature = inspect.signature(datasets.load_dataset)

    class Hub:
        gives: Any = [ANN, LI]
        calls = asked

    def load_dataset(*arguments, **options):
        signature.bind(*arguments, **options)
        asked.append((arguments, options))
        if isinstance(Hub.gives, Exception):
            raise Hub.gives
        return datasets.IterableDataset.from_generator(lambda: iter(Hub.gives))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return Hub


def test_a_hub_name_is_streamed_and_runs_no_code(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(read_rows("organisation/some-facts")) == [Row(1, ANN), Row(2, LI)]
    assert list(read_rows("organisation/some.facts:test"))
    assert hub.calls == [
        (("organisation/some-facts",), {"split": "train", "streaming": True}),
        (("organisation/some.facts",), {"split": "test", "streaming": True}),
    ]


def test_a_configuration_stands_between_name_and_split(hub, tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    assert list(read_rows("organisation/talks:7M:train"))
    assert hub.calls == [(("organisation/talks", "7M"), {"split": "train", "streaming": True})]
    # Each configuration is fetched into a folder of its own.
    path = Path("data/sets/organisation--talks--7M/train.parquet")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["x"]}), path)
    assert list(read_rows("organisation/talks:7M:train")) == [Row(1, {"text": "x"})]
    list(read_rows("organisation/talks:3M:train"))
    assert [call[0][1] for call in hub.calls] == ["7M", "3M"]


def test_numbers_of_the_hub_are_marked_as_in_files(hub):
    hub.gives = [{"number": 123, "text": "x"}]
    ((_, values),) = list(read_rows("organisation/name"))
    assert isinstance(values["number"], Other)
    assert values == {"number": "123", "text": "x"}


def test_what_the_hub_says_becomes_a_message(hub):
    from datasets.exceptions import DatasetNotFoundError

    for raised, kind, said in (
        (DatasetNotFoundError("no"), UserError, "no file, and no data set that the hub shows you"),
        (ValueError('Bad split: x. Available splits: ["train"]'), UserError, "Bad split: x. Available splits"),
        (ConnectionError("Couldn't reach it"), MachineError, "could not be read .*Fetch it where there is network"),
    ):
        hub.gives = raised
        with pytest.raises(kind, match=said):
            list(read_rows("organisation/name:x"))


def test_a_file_that_is_missing_is_not_looked_for_on_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/facts.csv").write_text(TWO_ROWS, encoding="utf-8")
    for name in ("data/fact.csv", "data/facts", "other/facts.csv"):
        with pytest.raises(UserError, match="there is no such file"):
            read_rows(name)
    assert hub.calls == []
