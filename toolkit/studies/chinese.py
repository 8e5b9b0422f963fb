"""Training on instructions: rows of an instruction, perhaps an input that it is about, and an output, as in BELLE.

{"instruction": "把下面的词语倒过来写。", "input": "春天", "output": "天春"}

{"id": "instruction-000001", "split": "train", "answer": "天春", …,
 "prompt": "### 指令：\\n把下面的词语倒过来写。\\n春天\\n\\n### 回答：\\n"}

White space around a value is left out; everything else stays as it is in the table.
"""

import heapq
import random
import re
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field

from toolkit.errors import UserError, nearest
from toolkit.example import Example, Split
from toolkit.studies.built import Built
from toolkit.studies.tables import Other, Problems, Row, read_rows

PROMPT = "### 指令：\n{instruction}\n\n### 回答：\n"
"""The study's; a chat template brings marks of its own, and takes the instruction alone."""
MOST_ROWS = 1_000_000
"""All that are taken are held in memory; those read may be more."""
COLUMNS = ("instruction", "input", "output")


class Instruction(NamedTuple):
    """One row that can be trained."""

    row: int
    asked: str
    """The instruction and, where there is one, the input on lines of its own below it."""
    output: str


def share_or_number(validation: float) -> float:
    """A share below 1 as it is, and a whole number as one."""
    if validation < 1:
        return validation
    if validation != int(validation):
        raise ValueError(f"validation = {validation}: a share under 1 or a whole number of rows is expected")
    return int(validation)


def build(
    data_seed: int,
    assignment_seed: int,
    source: Annotated[
        str,
        Field(
            description="The table: a .json, .jsonl, .csv or .parquet file, or a hub data set, owner/name:split; its"
            " columns are instruction, output and perhaps input."
        ),
    ],
    sample: Annotated[
        int | None, Field(ge=2, le=MOST_ROWS, description="At most so many rows are taken, drawn; all if left out.")
    ] = None,
    validation: Annotated[
        float,
        Field(gt=0, description="How many of them are held out, drawn: a share such as 0.02, or a number such as 500."),
        AfterValidator(share_or_number),
    ] = 0.02,
    prompt: Annotated[
        str,
        Field(description="What is said before the output, with {instruction} in it: the instruction and its input."),
    ] = PROMPT,
    longest: Annotated[
        int | None,
        Field(ge=3, description="Rows of more characters (instruction, input, output) are left out; none if not said."),
    ] = None,
    leave_out_empty: Annotated[
        bool, Field(description="Whether rows without an instruction or an output are left out; else they are refused.")
    ] = False,
) -> Built:
    """Rows to train and rows to validate on, in the order of the table; what was left out stands in its notes.

    Raises UserError for a prompt or columns that do not fit, and for every row that cannot be trained, by its number.
    """
    refuse_prompt(prompt)
    counts: Counter[str] = Counter()
    rows = read_instructions(source, longest, leave_out_empty, counts)
    drawn = draw(rows if sample else refuse_many(rows, source), sample, data_seed)
    held_out = {row.row for row in drawn[: held_out_of(validation, len(drawn), source)]}
    before, after = prompt.split("{instruction}")
    return Built(
        [
            example_of(row, f"{before}{row.asked}{after}", "validation" if row.row in held_out else "train")
            for row in sorted(drawn)
        ],
        # No entropy: nobody knows how these outputs came to be.
        notes=tuple(notes_of(counts, longest, sample, len(drawn))),
    )


def refuse_prompt(prompt: str) -> None:
    if prompt.count("{instruction}") != 1 or re.search(r"[{}]", prompt.replace("{instruction}", "")):
        raise UserError(
            f'[data] prompt = "{prompt}": it must contain {{instruction}} once, where the input comes too, and has no'
            " other braces."
        )


def example_of(row: Instruction, prompt: str, split: Split) -> Example:
    identity = f"instruction-{row.row:06d}"
    return Example(identity, identity, prompt, row.output, split, info={"row": row.row})


# --- rows ---


def read_instructions(
    source: str, longest: int | None, leave_out_empty: bool, counts: Counter[str]
) -> Iterator[Instruction]:
    """Every row that can be trained, each question once. Raises UserError at the end for all rows at once that cannot.

    counts: is added to: rows, and of them those that are "empty", "long" and "repeated"; and columns, as "unused NAME".
    """
    problems = Problems(source)
    asked_before: set[bytes] = set()
    columns: dict[str, None] = {}
    for row in read_rows(source, problems):
        if not columns.keys() >= row.values.keys():
            # Of JSON Lines each row has columns of its own.
            columns |= dict.fromkeys(row.values)
            counts.update(f"unused {column}" for column in refuse_columns(list(columns), source))
        counts["rows"] += 1
        try:
            instruction, given, output = (text_of(row, column) for column in COLUMNS)
        except ValueError as error:
            problems.add(row.number, str(error))
            continue
        if not instruction or not output:
            if leave_out_empty:
                counts["empty"] += 1
            else:
                problems.add(row.number, f"`{'output' if instruction else 'instruction'}` is empty")
            continue
        if longest is not None and len(instruction) + len(given) + len(output) > longest:
            counts["long"] += 1
            continue
        asked = f"{instruction}\n{given}" if given else instruction
        # Of texts that are not taken nothing but this is held.
        digest = blake2b(asked.encode(), digest_size=16).digest()
        if digest in asked_before:
            counts["repeated"] += 1
            continue
        asked_before.add(digest)
        yield Instruction(row.number, asked, output)
    refuse_empty(problems, leave_out_empty)


def text_of(row: Row, column: str) -> str:
    """Raises ValueError where it is no text; a number is as good as its literal."""
    value = row.values.get(column, "")
    if isinstance(value, Other) and value.kind != "a number":
        raise ValueError(f"`{column}` is stored as {value.kind}: store it as text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"`{column}` holds half a character (\\ud800 to \\udfff), which no text has") from None
    return value.strip()


def refuse_columns(columns: list[str], source: str) -> list[str]:
    """The columns that nothing is made of. Raises UserError where one is missing, or the input is called otherwise."""
    there = f"{source} has the columns {', '.join(filter(None, columns))}; wanted are instruction, output and, where"
    there += " there is one, input"
    others = {column.lower(): column for column in columns if column and column not in COLUMNS}
    for column in ("instruction", "output", "input"):
        if column in columns:
            continue
        near = others.get(nearest(column, list(others)) or "")
        if column != "input":
            raise UserError(f"{there}: " + (f"rename `{near}` to `{column}`." if near else f"`{column}` is missing."))
        if near:
            # Without a word it would be dropped, and the output would answer half a question.
            raise UserError(f"{there}: is `{near}` the input? Rename it, to `input` or to something else.")
    return list(others.values())


def refuse_empty(problems: Problems, leave_out_empty: bool) -> None:
    try:
        problems.refuse()
    except UserError as error:
        empty = not leave_out_empty and any(said.endswith("is empty.") for said in problems.said)
        hint = "\n  [data] leave_out_empty = true leaves empty ones out, and says how many." if empty else ""
        raise UserError(f"{error}{hint}") from None


def refuse_many(rows: Iterator[Instruction], source: str) -> Iterator[Instruction]:
    for position, row in enumerate(rows):
        if position == MOST_ROWS:
            raise UserError(f"{source} has over {MOST_ROWS:,} rows: say [data] sample, and so many of all are drawn.")
        yield row


# --- what is taken ---


def draw(rows: Iterator[Instruction], sample: int | None, seed: int) -> list[Instruction]:
    """The rows that are taken, in an order drawn; only these are held. A larger sample begins with a smaller one."""
    rng = random.Random(seed)
    numbered = ((rng.random(), row) for row in rows)
    return [row for _, row in (sorted(numbered) if sample is None else heapq.nsmallest(sample, numbered))]


def held_out_of(validation: float, taken: int, source: str) -> int:
    """How many rows are held out: at least one, and one is left to train."""
    count = int(validation) if validation >= 1 else max(1, round(validation * taken))
    if count >= taken:
        rows = "1 row" if taken == 1 else f"{taken:,} rows"
        raise UserError(
            f"[data] validation = {validation}: {source} gives {rows}, of which {count:,} would be held out and none"
            " trained."
        )
    return count


def notes_of(counts: Counter[str], longest: int | None, sample: int | None, taken: int) -> Iterator[str]:
    """What was left out, and why, a sentence each."""

    def were(kind: str) -> str:
        verb = "was" if counts[kind] == 1 else "were"
        return f"{counts[kind]:,} of {counts['rows']:,} rows {verb} left out"

    unused = [name.removeprefix("unused ") for name in counts if name.startswith("unused ")]
    if unused:
        yield f"columns that nothing is made of: {', '.join(unused)}"
    if counts["empty"]:
        yield f"{were('empty')} for want of an instruction or an output"
    if counts["long"]:
        yield f"{were('long')} for having over {longest:,} characters"
    if counts["repeated"]:
        yield f"{were('repeated')} for asking what an earlier row asks, word for word"
    if sample and taken < sample:
        yield f"[data] sample = {sample:,}, and there are {taken:,} rows: all of them are taken"
