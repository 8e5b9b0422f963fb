"""What a run could do before training and after it, question by question, from its forgetting/*.parquet."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import UserError
from toolkit.run_folder import Run

FOLDER = "forgetting"
OF_TASKS = ("when", "step", "task", "subject", "item", "measure", "value", "right", "chance", "answer", "cut",
            "prompt_hash")  # fmt: skip
OF_TEXTS = ("when", "step", "text", "window", "tokens", "bytes", "bits", "kl_from_base", "kl_to_base")
"""Columns that are read; of a text's windows, as of questions, only these."""
Array = np.ndarray


@dataclass(frozen=True)
class Asked:
    """One measure of a task before and after: an entry a question, in the order of subjects and items."""

    task: str
    measure: str
    names: tuple[str, ...]
    """The subjects."""
    subject: Array
    """Of each question, its place among them."""
    before: Array
    after: Array
    again: Array | None
    """The base a second time; None where it was measured once."""
    graded: bool
    """Whether some values are neither 0 nor 1, so that no question is right or wrong."""
    share: bool
    """Whether all of them lie in 0 … 1, so that changes are points."""
    chance: float
    """What guessing is worth, the mean over questions; 0 where text is generated."""
    cut: Array
    """Tokens that each prompt lost."""
    answers_changed: int
    """Questions with another answer after training than before, right or not."""
    digest: str
    """Of the questions and their prompts: where it is the same, the same was asked in the same way."""
    step: int
    """Of the weights after training."""

    def of_subject(self, number: int) -> Array:
        """Which questions are of a subject."""
        return self.subject == number


@dataclass(frozen=True)
class Scored:
    """One held-out text before and after: an entry a window."""

    text: str
    tokens: Array
    bytes: Array
    before: Array
    """Bits that the window costs."""
    after: Array
    kl_from_base: Array
    """KL(base || model) in bits, the sum over the window's tokens."""
    kl_to_base: Array
    digest: str


@dataclass(frozen=True)
class Forgotten:
    """What was read of one run; nothing where it has no such files."""

    run: str
    tasks: dict[str, dict[str, Asked]] = field(default_factory=dict)
    """By task, each measure of it; the first is the main one."""
    texts: dict[str, Scored] = field(default_factory=dict)
    trouble: tuple[str, ...] = ()
    """Files, or parts of them, that could not be read, and why."""

    @property
    def main(self) -> dict[str, Asked]:
        """The main measure of each task."""
        return {task: next(iter(measures.values())) for task, measures in self.tasks.items()}


def read_forgotten(run: Run) -> Forgotten:
    """All files of a run's folder forgetting/; what cannot be read is named, and the rest is there."""
    tasks: dict[str, dict[str, Asked]] = {}
    texts: dict[str, Scored] = {}
    trouble: list[str] = []
    for path in sorted((run.path / FOLDER).glob("[!.]*.parquet")):
        try:
            table = read_columns(path)
            for found in texts_of(path, table) if "window" in table.column_names else asked_of(path, table, trouble):
                if isinstance(found, Scored):
                    texts[found.text] = found
                else:
                    tasks.setdefault(found.task, {})[found.measure] = found
        except UserError as error:
            trouble.append(str(error))
    named = run.recipe.get("forgetting", {}).get("tasks") or []
    order = sorted(tasks, key=lambda task: (named.index(task) if task in named else len(named), task))
    return Forgotten(run.label, {task: tasks[task] for task in order}, texts, tuple(trouble))


def read_columns(path: Path) -> Any:
    """The table of a file with the columns that its kind has. Raises UserError where it is damaged or another file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            wanted = OF_TEXTS if "window" in there else OF_TASKS
            if lacking := [name for name in wanted if name not in there]:
                raise UserError(f"{path} is no record of forgetting: it has no column {lacking[0]}; left out.")
            table = file.read(columns=list(wanted))
    except (pa.ArrowException, OSError, ValueError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{path} is damaged or no Parquet file ({said[0]}); left out.") from None
    if not table.num_rows:
        raise UserError(f"{path} holds no question; left out.")
    return table


def asked_of(path: Path, table: Any, trouble: list[str]) -> Iterator[Asked]:
    """Each measure of each task in a file; why one of them cannot be taken is added to `trouble`."""
    columns = {name: column(path, table, name) for name in OF_TASKS}
    for task in first_seen(columns["task"]):
        of_task = columns["task"] == task
        for measure in first_seen(columns["measure"][of_task]):
            rows = np.flatnonzero(of_task & (columns["measure"] == measure))
            try:
                yield asked(str(task), str(measure), {name: values[rows] for name, values in columns.items()})
            except ValueError as error:
                trouble.append(f"{path}: {task}, {measure} is left out: {error}.")


def asked(task: str, measure: str, rows: dict[str, Array]) -> Asked:
    """Raises ValueError where before and after are not of the same questions, or a value is no number."""
    names, subject = np.unique(rows["subject"].astype(str), return_inverse=True)
    keys = np.stack([subject.reshape(-1), rows["item"]], axis=1)
    parts = {when: in_order(keys, np.flatnonzero(rows["when"] == when)) for when in ("before", "again", "after")}
    before, after, again = parts["before"], parts["after"], parts["again"]
    for when in ("before", "after"):
        if not len(parts[when]):
            raise ValueError(f"nothing was measured {when} training")
    same_questions(keys, rows["prompt_hash"], before, after)
    values = rows["value"].astype(float)
    both = values[np.concatenate([before, after])]
    if not np.isfinite(both).all():
        raise ValueError("it is no number of each question")
    if len(again):
        same_questions(keys, rows["prompt_hash"], before, again)
    prompts = "\n".join(map(str, rows["prompt_hash"][before]))
    known = f"{names.tolist()} {keys[before].tolist()}\n{prompts}"
    return Asked(
        task, measure, tuple(names.tolist()), keys[before, 0], values[before], values[after],
        values[again] if len(again) else None,
        graded=not np.isin(both, (0.0, 1.0)).all(),
        share=bool(((both >= 0) & (both <= 1)).all()),
        chance=float(np.nan_to_num(rows["chance"][before].astype(float)).mean()), cut=rows["cut"][before],
        answers_changed=int((rows["answer"][before] != rows["answer"][after]).sum()),
        digest=hashlib.sha256(known.encode()).hexdigest(), step=int(rows["step"][after].max()),
    )  # fmt: skip


def in_order(keys: Array, rows: Array) -> Array:
    """Rows of one reading by subject and item. Raises ValueError where a question is there twice."""
    rows = rows[np.lexsort((keys[rows, 1], keys[rows, 0]))]
    if len(rows) > 1 and (keys[rows[1:]] == keys[rows[:-1]]).all(axis=1).any():
        raise ValueError("a question is there twice")
    return rows


def same_questions(keys: Array, prompts: Array, one: Array, other: Array) -> None:
    """Raises ValueError where two readings did not ask the same in the same words."""
    if len(one) != len(other) or (keys[one] != keys[other]).any():
        raise ValueError(f"the questions before and after training are not the same ({len(one):,} and {len(other):,})")
    if changed := int((prompts[one] != prompts[other]).sum()):
        raise ValueError(f"{changed:,} questions were not asked in the same words before and after training")


def texts_of(path: Path, table: Any) -> Iterator[Scored]:
    """Each text of a file. Raises UserError where before and after are not of the same windows."""
    columns = {name: column(path, table, name) for name in OF_TEXTS}
    for text in first_seen(columns["text"]):
        rows = {name: values[columns["text"] == text] for name, values in columns.items()}
        keys = np.stack([np.zeros_like(rows["window"]), rows["window"]], axis=1)
        try:
            before, after = (in_order(keys, np.flatnonzero(rows["when"] == when)) for when in ("before", "after"))
            same_questions(keys, rows["bytes"], before, after)
            bits = rows["bits"].astype(float)
            if not len(before) or not np.isfinite(bits).all():
                raise ValueError("its bits are no numbers" if len(before) else "nothing was measured")
        except ValueError as error:
            raise UserError(f"{path}: {text} is left out: {error}.") from None
        tokens, sizes = rows["tokens"][before], rows["bytes"][before]
        yield Scored(
            str(text), tokens, sizes, bits[before], bits[after], rows["kl_from_base"][after],
            rows["kl_to_base"][after], hashlib.sha256(str([tokens.tolist(), sizes.tolist()]).encode()).hexdigest(),
        )  # fmt: skip


def column(path: Path, table: Any, name: str) -> Array:
    """A column as an array: whole numbers, floats with nan for null, or texts. Raises UserError for another type."""
    import pyarrow as pa

    values = table.column(name)
    try:
        if name in ("value", "chance", "bits", "kl_from_base", "kl_to_base"):
            return values.cast(pa.float64()).to_numpy()
        if name in ("item", "step", "cut", "window", "tokens", "bytes"):
            return values.cast(pa.int64()).fill_null(0).to_numpy()
        if name == "right":
            return values.cast(pa.bool_()).to_numpy()
        # Few texts, many times: as a dictionary they are decoded once.
        return np.asarray(values.cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False), dtype=object)
    except (pa.ArrowException, ValueError):
        raise UserError(f"{path} is no record of forgetting: column {name} is {values.type}; left out.") from None


def first_seen(values: Array) -> list[Any]:
    return list(dict.fromkeys(values.tolist()))
