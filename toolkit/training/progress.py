"""What a run looks like in the terminal: a bar with epoch, loss and recall; plain lines where there is no terminal."""

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINES_WITHOUT_TERMINAL = 10


class RunProgress:
    """A bar for one run, used as a context."""

    def __init__(self, console: Console, label: str, updates: int, epochs: int) -> None:
        self.console, self.label, self.epochs = console, label, epochs
        self.epoch, self.loss, self.recall = 0.0, "", ""
        self.lines_said = 0
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeRemainingColumn(compact=True),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(label, total=updates, said="")

    def __enter__(self) -> "RunProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def step(self, step: int, epoch: float, loss: float) -> None:
        self.epoch, self.loss = epoch, f"loss {loss:.3f}"
        self.show(step)

    def reading(self, step: int, epoch: float, summary: dict[str, Any]) -> None:
        self.epoch = epoch
        self.recall = f"recall {summary['recall/exact']:.0%}" if "recall/exact" in summary else ""
        loss = f"digits {summary['loss/digit_nats']:.3f} nats" if "loss/digit_nats" in summary else ""
        if "validation/accuracy" in summary:
            self.recall = f"accuracy {summary['validation/accuracy']:.1%}"
            loss = f"macro F1 {summary['validation/macro_f1']:.3f}"
        self.show(step)
        # Without a terminal a line a reading would fill the log of a long run.
        if not self.console.is_terminal and epoch >= self.lines_said * self.epochs / LINES_WITHOUT_TERMINAL:
            self.lines_said += 1
            self.console.print(f"{self.label}  {self.said()}  {loss}")

    def measuring(self, what: str, done: int, total: int) -> None:
        """What is asked between updates, and how much of it is done; shown where there is a terminal."""
        self.bar.update(self.task, said=f"{what} {done:,}/{total:,}")

    def show(self, step: int) -> None:
        self.bar.update(self.task, completed=step, said=self.said())

    def said(self) -> str:
        return "  ".join(part for part in (f"epoch {self.epoch:.4g}/{self.epochs}", self.loss, self.recall) if part)
