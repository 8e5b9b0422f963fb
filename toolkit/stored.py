"""Reads what runs and models left behind as JSON, and says where a file is not what it should be.

Files are edited, cut short and copied half: what is read of them is checked here, so that no reader has to.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolkit.errors import UserError


class Stored(BaseModel):
    """What is read of a file, and of which type it is where it is there; what else the file holds is left alone."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=())


Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class StoredModel(Stored):
    """What run.json says of the model."""

    base: str | None = None
    base_digest: str | None = None
    dtype: str | None = None
    engine: str | None = None
    tokenizer: dict[str, str | None] | None = None
    """Of a new model."""


class StoredData(Stored):
    """What run.json says of the examples."""

    digest: str | None = None
    trained: Count | None = None
    controls: Count | None = None
    entropy_bits: float | None = None
    rule_only_bits: float | None = None
    rule_only_digits: Share | None = None
    answer_digits: Annotated[int, Field(ge=1)] | None = None
    prompt_choices: Annotated[int, Field(ge=1)] | None = None
    labels: Annotated[list[str], Field(min_length=2)] | None = None


class StoredTracking(Stored):
    """What run.json says of W&B."""

    id: str | None = None


class StoredProcesses(Stored):
    """What run.json says of the processes that trained a run together."""

    count: Annotated[int, Field(ge=1)] = 1
    strategy: str | None = None


class RunInfo(Stored):
    """run.json; a run of another version may leave out everything but how far it came."""

    state: str
    study: str | None = None
    seed: Count | None = None
    started: str | None = None
    finished: str | None = None
    seconds: Annotated[float, Field(ge=0)] = 0.0
    peak_memory_gb: float = 0.0
    resumed: list[Any] = []
    model: StoredModel = StoredModel()
    data: StoredData = StoredData()
    stages: dict[str, dict[str, str | None]] | None = None
    wandb: StoredTracking | None = None
    processes: StoredProcesses = StoredProcesses()


class Deep(Stored):
    """probes/deep.json, as far as it is compared."""

    set_known: float | None = Field(default=None, alias="binding/set_known")
    binding_known: float | None = Field(default=None, alias="binding/binding_known")
    canary_bits: float | None = Field(default=None, alias="canary/bits")
    canary_exact: Share | None = Field(default=None, alias="canary/exact")
    canary_first: Share | None = Field(default=None, alias="canary/first")


class JudgedSplit(Stored):
    judged: Count
    unparseable: Count
    score: Annotated[float, Field(ge=0, le=100)] | None
    kappa: Annotated[float, Field(ge=-1, le=1)] | None
    auc: Share | None


class JudgedReading(Stored):
    reading: str
    splits: dict[str, JudgedSplit]


class Judged(Stored):
    """probes/judged.json, as far as it is compared."""

    readings: list[JudgedReading]


class Row(Stored):
    """A line of metrics.jsonl: when, and the values read then. A loss that diverged is no number (NaN)."""

    model_config = ConfigDict(allow_inf_nan=True)
    __pydantic_extra__: dict[str, float | None]  # pyright: ignore[reportIncompatibleVariableOverride]

    kind: str
    step: Count
    stage: str | None = None
    epoch: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    exposures: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    exact: Share | None = Field(default=None, alias="recall/exact")
    exact_control: Share | None = Field(default=None, alias="recall/exact_control")
    read: Count | None = Field(default=None, alias="recall/read")
    read_control: Count | None = Field(default=None, alias="recall/read_control")


class StoredStage(Stored):
    epochs: Annotated[int, Field(ge=1)] | None = None


class StoredRecipe(Stored):
    """A run's recipe.toml, as far as it is read without training by it: it may be of another version."""

    model: dict[str, Any] = {}
    stage: dict[str, StoredStage] = {}


def read_json(path: Path, expected: type[Stored] = Stored) -> dict[str, Any]:
    """A JSON object. Raises UserError where there is none, or where a value is not what `expected` says."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}).") from None
    try:
        return checked(values, expected)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}).") from None


def read_parquet(path: Path, columns: list[str] | None = None) -> tuple[Any, list[dict[str, Any]]]:
    """A Parquet file's Arrow schema, and its rows, or these columns of them. Raises UserError where it is damaged.

    A column that the file has not is left out of the rows: the schema tells.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.read(columns=columns).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or no Parquet file ({str(error).splitlines()[0]}).") from None


def read_reading(path: Path, schema: Any, of: str) -> list[dict[str, Any]]:
    """The rows of a reading; `of` what, for the message. Raises UserError where the file is damaged, or lacks a column
    of this Arrow schema."""
    found, rows = read_parquet(path)
    if lacking := [column.name for column in schema if column not in found]:
        raise UserError(f"{path} is no reading of {of}: it has no column {lacking[0]} of the type that one has.")
    return rows


def parse_row(line: str) -> dict[str, Any]:
    """A line of metrics.jsonl; raises ValueError with what is wrong in it."""
    try:
        return checked(json.loads(line), Row)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def checked(values: Any, expected: type[Stored]) -> dict[str, Any]:
    """The values themselves, as they were; raises ValueError with the first that is not as expected."""
    if not isinstance(values, dict):
        raise ValueError(f"a table of keys and values is expected, not {type(values).__name__}")
    try:
        expected.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
    return values
