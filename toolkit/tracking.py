"""Weights & Biases, fed from metrics.jsonl: every row once, online or in an offline folder, and never a reason to stop.

{"kind": "train", "step": 7, "train/loss": 2.5} is logged as {"train/global_step": 7, "train/loss": 2.5}.
"""

import os
import re
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from toolkit.recipe import Wandb
from toolkit.run_folder import Run

if TYPE_CHECKING:
    from wandb import Run as WandbRun

T = TypeVar("T")
Row = dict[str, Any]
Warn = Callable[[str], None]

INIT_SECONDS = 20.0
"""How long a server may take to answer before the run goes on offline."""
FINISH_SECONDS = 60.0
"""How long the end of a run waits for the upload."""
SERVICE_SECONDS = 10.0
"""What wandb's helper process is given on top of both, and to end: it should need milliseconds."""
STEP = "train/global_step"


def start(run: Run, config: Row, wandb: Wandb, warn: Warn) -> "Tracker":
    """Begin to track a run, and log the rows that it already has: a resumed run shows no gap and no row twice.

    config: the resolved recipe. Online, the same id without `resume` starts the history there at its first row again;
    offline, the new folder replaces those of earlier attempts, as `wandb sync` would upload their rows too.
    """
    earlier = (run.info.get("wandb") or {}) if run.exists else {}
    environment = os.environ.get("WANDB_MODE")
    mode = environment if wandb.mode == "auto" and environment in ("online", "offline", "disabled") else wandb.mode
    if mode == "disabled":
        return Tracker(run, earlier | {"mode": mode}, warn)
    rows, messages = run.rows(), Messages()
    identity = earlier.get("id") or secrets.token_hex(4)
    arguments = {"id": identity, "project": wandb.project, "entity": wandb.entity, "reinit": "create_new"}
    arguments |= {"group": run.name, "name": f"{run.name}-seed-{run.seed}", "config": {**config, "seed": run.seed}}
    try:
        logging, mode = open_run(arguments, mode, messages, warn)
        logging.define_metric(STEP)
        logging.define_metric("*", step_metric=STEP)
        for row in rows:
            log_row(logging, row)
        folder = Path(logging.dir).parent
        folder = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
        remove_replaced(folder, identity, warn)
    # A failure of W&B never ends a run, and wandb raises classes of its own from anywhere (see open_run).
    except Exception as error:
        warn(f"W&B: {said(error)}. This run goes on without it; its rows are in {run.path / 'metrics.jsonl'}.")
        restart_service()
        return Tracker(run, earlier | {"mode": "disabled", "id": identity}, warn)
    return Tracker(run, {"mode": mode, "id": identity, "folder": folder.as_posix()}, warn, logging, messages)


@dataclass
class Tracker:
    """A run on W&B. After the first failure, and when W&B is disabled, its methods do nothing."""

    run: Run
    described: Row
    """For run.json: mode (online, offline, disabled) and, where something was opened, id and folder."""
    warn: Warn
    logging: "WandbRun | None" = None
    messages: "Messages" = field(default_factory=lambda: Messages())

    def log(self, row: Row) -> None:
        """Log a row of metrics.jsonl."""
        if self.logging is None:
            return
        try:
            log_row(self.logging, row)
        # A failure of W&B never ends a run.
        except Exception as error:
            self.logging = None
            self.warn(f"W&B: {said(error)}. It gets no more of this run; see {self.run.path / 'metrics.jsonl'}.")
            restart_service()

    def finish(self, summary: Row | None, final_reading: Path | None, examples: Path | None, ok: bool) -> None:
        """End the run there, in at most FINISH_SECONDS and a little.

        summary: final values by name. final_reading: a reading's parquet file, shown as the table recall/final.
        examples: examples.jsonl, kept as a dataset artifact. ok: whether the run ended well.
        """
        logging, self.logging = self.logging, None
        if logging is None:
            return

        def close() -> str | None:
            trouble = None
            try:
                attach(logging, self.run, summary or {}, final_reading, examples)
            # The rows are worth more than what is attached to them: they are uploaded all the same.
            except Exception as error:
                trouble = said(error)
            logging.finish(exit_code=0 if ok else 1)
            return trouble

        try:
            trouble = within(FINISH_SECONDS + SERVICE_SECONDS, close)
        # A failure of W&B never ends a run.
        except Exception as error:
            trouble = said(error)
            restart_service()
        if trouble := trouble or self.messages.first:
            # `wandb sync` skips the folder of an online run, even one named to it, unless told otherwise.
            option = "--include-online " if self.described["mode"] == "online" else ""
            self.warn(f"W&B: {trouble}. To upload this run later: wandb sync {option}{self.described['folder']}")


class Messages:
    """What wandb would have printed: the terminal stays ours, and an upload that failed for good is still told."""

    def __init__(self) -> None:
        self.first: str | None = None

    def info(self, msg: str) -> None:
        """Progress, which nobody misses."""

    def warning(self, msg: str) -> None:
        self.first = self.first or re.sub(r"\x1b\[[\d;]*m|wandb:|WARNING|ERROR", "", msg).strip().rstrip(".")

    error = warning


def log_row(logging: "WandbRun", row: Row) -> None:
    """Log a row, the step as a value: wandb drops rows with an explicit step= below the last one."""
    values = {key: value for key, value in row.items() if key not in ("kind", "step") and value is not None}
    if row["kind"] == "test":
        # Of the weights that are tested, which may be those of an earlier reading: its curve would end with a jump.
        values = {key: value for key, value in values.items() if not key.startswith("validation/")}
    # A helper process that hangs takes some thousand rows into a buffer, and then blocks.
    within(SERVICE_SECONDS, lambda: logging.log(values | {STEP: row["step"]}))


def open_run(arguments: Row, mode: str, messages: Messages, warn: Warn) -> "tuple[WandbRun, str]":
    """A run of wandb and its mode: online where that is asked for and works, else offline."""
    import wandb

    def opened(mode: Literal["online", "offline"]) -> "tuple[WandbRun, str]":
        return within(INIT_SECONDS + SERVICE_SECONDS, lambda: wandb.init(mode=mode, **arguments)), mode

    configure(mode, messages)
    if mode != "offline":
        try:
            # Looks a key up without a network: WANDB_API_KEY, an identity token, .netrc, wandb's settings file.
            if wandb.login(prompt=False, verify=False):
                return opened("online")
            if mode == "online":
                warn("W&B: no key is configured (run `wandb login`); this run is logged offline.")
        # Not only wandb.Error: a refused, hanging or strange server also gave ServerResponseError, MailboxClosedError
        # and HandleAbandonedError, which derive from Exception alone.
        except Exception as error:
            warn(f"W&B: {said(error)}. This run is logged offline; `wandb sync` uploads it.")
            restart_service()
        # Again, for a new helper process, and to forget what wandb said on the way here.
        configure(mode, messages)
    return opened("offline")


def configure(mode: str, messages: Messages) -> None:
    """Settings for wandb: quiet, with time limits, and nothing taken from this machine but its load."""
    # Error reports hold paths of this machine, and sending them held the process up by 12 s when a server hung.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    limits = {"init_timeout": INIT_SECONDS, "x_service_wait": INIT_SECONDS, "finish_timeout": FINISH_SECONDS}
    private = dict.fromkeys(("disable_code", "disable_git", "x_disable_meta", "label_disable"), True)
    private |= dict.fromkeys(("save_code", "x_save_requirements"), False)
    texts = {"console": "off", "host": "", "program": ""}
    if mode == "online":
        texts["mode"] = mode  # a recipe's word counts more than that of `wandb offline`, which is in a file
    choices: Row = {"silent": True, "finish_timeout_raises": True} | limits | private | texts
    settings = wandb.Settings(**choices)
    wandb.setup(settings)
    wandb.termsetup(settings, messages)
    messages.first = None


def attach(logging: "WandbRun", run: Run, summary: Row, final_reading: Path | None, examples: Path | None) -> None:
    import pyarrow.parquet
    import wandb

    logging.summary.update(summary)
    if final_reading is not None:
        table = pyarrow.parquet.read_table(final_reading)
        data: list[Any] = [list(row.values()) for row in table.to_pylist()]
        kind = "classification" if run.classifies else "recall"
        logging.log({f"{kind}/final": wandb.Table(columns=table.column_names, data=data)})
    if examples is not None:
        artifact = wandb.Artifact(f"{run.name}-seed-{run.seed}-examples", type="dataset")
        # The run's folder keeps the file as it is, so that wandb needs no copy in the user's home.
        artifact.add_file(str(examples.resolve()), policy="immutable", skip_cache=True)
        logging.log_artifact(artifact)


def restart_service() -> None:
    """End wandb's helper process; the next run, another seed's too, starts a new one.

    After a failed start it still holds the run's id ("run ID is in use"), and after a crash it answers nobody.
    """
    import wandb

    with suppress(Exception):
        within(SERVICE_SECONDS, wandb.teardown)


def remove_replaced(folder: Path, identity: str, warn: Warn) -> None:
    """Remove the other offline folders of this run beside `folder`, which has all of their rows."""
    pattern = re.compile(rf"offline-run-\d{{8}}_\d{{6}}-{re.escape(identity)}(-\d+)?")
    for other in folder.parent.iterdir():
        if pattern.fullmatch(other.name) and other != folder and not other.is_symlink():
            try:
                shutil.rmtree(other)
            except OSError as error:
                warn(f"{other} could not be removed ({error.strerror}); do so before `wandb sync`.")


def within(seconds: float, action: Callable[[], T]) -> T:
    """What `action` returns or raises; TimeoutError when it takes longer: its thread then holds up nothing."""
    future: Future[T] = Future()

    def act() -> None:
        try:
            future.set_result(action())
        except BaseException as error:  # wandb.teardown calls sys.exit when its helper process failed
            future.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    Thread(target=act, daemon=True, name="wandb").start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError as error:
        raise TimeoutError(str(error) or f"no answer in {seconds:.0f} s") from None


def said(error: Exception) -> str:
    """The first line of what went wrong."""
    text = str(error).strip().splitlines()
    return (text[0] if text and text[0] != "<no message>" else type(error).__name__)[:300].rstrip(".")
