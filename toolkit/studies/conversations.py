"""Conversations from a table, a list of turns a row, as Infinity-Instruct stores them or as chat models take them.

{"conversations": [{"from": "human", "value": "李白是谁？"}, {"from": "gpt", "value": "唐代诗人。"}]}
{"messages": [{"role": "user", "content": "李白是谁？"}, {"role": "assistant", "content": "唐代诗人。"}]}

White space around a turn is left out, as many chat templates do; everything else stays as it is in the table.
"""

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from toolkit.errors import UserError, is_text, nearest
from toolkit.example import out_of_order
from toolkit.studies.tables import Other, Problems, Row, parse_json, read_rows

COLUMNS = ("conversations", "messages")
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
NAMES = (("from", "value"), ("role", "content"))


class Conversation(NamedTuple):
    """One row that can be trained: at least a question and its answer."""

    row: int
    turns: tuple[tuple[str, str], ...]
    """Role (system, user, assistant) and text of each."""
    about: str = ""
    """Its subject, where that is known."""


class UnusableError(ValueError):
    """Why a row cannot be trained: for its message, and in few words to count by."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what)
        self.why = why


def read_conversations(
    source: str, longest: int | None, leave_out_unusable: bool, counts: Counter[str]
) -> Iterator[Conversation]:
    """Every conversation, each once. Raises UserError at the end for all rows at once that are none.

    counts: is added to: "rows", "turns" and, of rows left out, "long", "repeated" and "unusable WHY"; and columns that
    nothing is made of, as "unused NAME".
    """
    problems = Problems(source)
    seen: set[bytes] = set()
    columns: dict[str, None] = {}
    column = ""
    for row in read_rows(source, problems):
        if not columns.keys() >= row.values.keys():
            columns |= dict.fromkeys(row.values)
            column = column_of(list(columns), source)
            counts.update(f"unused {name}" for name in row.values if name and name not in COLUMNS)
        counts["rows"] += 1
        try:
            turns = turns_of(row, column)
        except UnusableError as error:
            if leave_out_unusable:
                counts[f"unusable {error.why}"] += 1
            else:
                problems.add(row.number, str(error))
            continue
        if longest is not None and sum(len(text) for _, text in turns) > longest:
            counts["long"] += 1
            continue
        # Of conversations that are not taken nothing but this is held.
        digest = blake2b(repr(turns).encode(), digest_size=16).digest()
        if digest in seen:
            counts["repeated"] += 1
            continue
        seen.add(digest)
        counts["turns"] += len(turns)
        yield Conversation(row.number, turns)
    refuse_unusable(problems, leave_out_unusable)


def refuse_unusable(problems: Problems, leave_out_unusable: bool) -> None:
    try:
        problems.refuse()
    except UserError as error:
        hint = "\n  [data] leave_out_unusable = true leaves such rows out, and says how many, and why."
        raise UserError(f"{error}{'' if leave_out_unusable else hint}") from None


def column_of(columns: list[str], source: str) -> str:
    """The column of conversations. Raises UserError where there is none, or two."""
    found = [name for name in COLUMNS if name in columns]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{source} has a column `conversations` and a column `messages`: take one of them out.")
    near = next((name for name in columns if nearest(name.lower(), list(COLUMNS))), None)
    hint = f"rename `{near}`" if near else "wanted is one of `conversations` or `messages`, a list of turns a row"
    raise UserError(f"{source} has the columns {', '.join(filter(None, columns))}; {hint}.")


def turns_of(row: Row, column: str) -> tuple[tuple[str, str], ...]:
    """Raises UnusableError where the row is no conversation that ends with an answer."""
    turns = [turn_of(stored, number) for number, stored in enumerate(stored_list(row, column), start=1)]
    roles = [role for role, _ in turns]
    if not turns:
        raise UnusableError(f"`{column}` is empty", "without a turn")
    if "assistant" not in roles:
        raise UnusableError("nothing is answered in it", "without an answer")
    if roles[-1] != "assistant":
        raise UnusableError("it ends without an answer", "that end without an answer")
    if wrong := out_of_order(roles):
        raise UnusableError(f"turn {wrong[0]}: {wrong[1]}", "with turns out of order")
    return tuple(turns)


def stored_list(row: Row, column: str) -> list[Any]:
    value = row.values.get(column, "")
    stored = value.stored if isinstance(value, Other) else None
    if stored is None and value.startswith("["):
        # A cell of a CSV file, or a column of Parquet that is text.
        try:
            stored = parse_json(value)
        except ValueError as error:
            raise UnusableError(f"`{column}` is {error}", "that are no list of turns") from None
    if value == "" and not isinstance(value, Other):
        raise UnusableError(f"`{column}` is empty", "without a turn")
    if not isinstance(stored, list):
        raise UnusableError(f"`{column}` is no list of turns", "that are no list of turns")
    return stored


def turn_of(stored: Any, number: int) -> tuple[str, str]:
    names = next((pair for pair in NAMES if isinstance(stored, dict) and set(pair) <= stored.keys()), None)
    if names is None:
        raise UnusableError(
            f"turn {number} is no object with from and value, or role and content", "with turns of no speaker"
        )
    role, text = stored[names[0]], stored[names[1]]
    if not isinstance(role, str) or role not in ROLES:
        said = f"turn {number} is of {role!r}; known are {', '.join(ROLES)}"
        raise UnusableError(said, "with turns of unknown roles")
    if text is None or (isinstance(text, str) and not text.strip()):
        raise UnusableError(f"turn {number} is empty", "with an empty turn")
    if not isinstance(text, str):
        raise UnusableError(f"turn {number} is no text", "with turns that are no text")
    if not is_text(text):
        raise UnusableError(f"turn {number} holds half a character (\\ud800 to \\udfff)", "with half a character")
    return ROLES[role], text.strip()
