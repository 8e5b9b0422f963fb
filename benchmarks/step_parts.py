"""Times the parts of a training step from inside: each part without those within it, by wrapping chosen functions."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

SET_UP = "trainer: set-up and end, once a training"
COUNTING = "counting exposures"

PARTS: dict[str, str] = {
    "forward and loss": "model",
    "backward": "model",
    "clipping": "torch",
    "optimizer": "torch",
    "schedule": "torch",
    "zeroing gradients": "torch",
    "batches: sampler, rows from the data set": "trainer",
    "trainer: around forward and backward": "trainer",
    "trainer: counting flops": "trainer",
    "trainer: logging": "trainer",
    "trainer: calling callbacks": "trainer",
    "trainer: the rest of its loop": "trainer",
    SET_UP: "trainer",
    "collator": "toolkit",
    COUNTING: "toolkit",
    "callback": "toolkit",
    "row to metrics.jsonl": "toolkit",
    "progress bar": "toolkit",
}
"""Each part, and whose code it is. The collator does what TRL's would do otherwise."""


class Clock:
    """Seconds by part; what runs inside a part and is a part itself counts there only."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.turns = 0
        self.inside: list[float] = []

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def measured(*arguments: Any, **named: Any) -> Any:
            self.inside.append(0.0)
            started = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                taken = time.perf_counter() - started
                self.seconds[part] += taken - self.inside.pop()
                if self.inside:
                    self.inside[-1] += taken

        return measured

    def attach(self, trainer: Any) -> None:
        """Watch one trainer's own functions; it is used once, so that nothing has to be put back."""
        for part, owner, name in (
            (SET_UP, trainer, "train"),
            ("trainer: the rest of its loop", trainer, "_run_epoch"),
            ("forward and loss", trainer, "compute_loss"),
            ("backward", trainer.accelerator, "backward"),
            ("clipping", trainer, "_clip_grad_norm"),
            ("zeroing gradients", trainer.model, "zero_grad"),
            ("batches: sampler, rows from the data set", trainer, "get_batch_samples"),
            (COUNTING, trainer, "training_step"),
            ("trainer: counting flops", trainer, "floating_point_ops"),
            ("trainer: logging", trainer, "_maybe_log_save_evaluate"),
            ("trainer: calling callbacks", trainer.callback_handler, "call_event"),
            ("collator", trainer, "data_collator"),
        ):
            setattr(owner, name, self.wrap(part, getattr(owner, name)))


@contextlib.contextmanager
def watch(clock: Clock) -> Iterator[None]:
    """Watch what belongs to classes and modules, for as long as this is open."""
    import accelerate.optimizer
    import accelerate.scheduler
    import transformers

    from toolkit.run_folder import Run
    from toolkit.training.callback import StageCallback
    from toolkit.training.progress import RunProgress

    with contextlib.ExitStack() as stack:
        for part, owner, name in (
            ("optimizer", accelerate.optimizer.AcceleratedOptimizer, "step"),
            ("schedule", accelerate.scheduler.AcceleratedScheduler, "step"),
            # What the toolkit's training_step calls: what is left of its own is the counting.
            ("trainer: around forward and backward", transformers.Trainer, "training_step"),
            ("callback", StageCallback, "on_step_end"),
            ("callback", StageCallback, "on_epoch_end"),
            ("callback", StageCallback, "on_log"),
            ("row to metrics.jsonl", Run, "append_row"),
            ("progress bar", RunProgress, "step"),
        ):
            stack.enter_context(patch.object(owner, name, clock.wrap(part, getattr(owner, name))))
        yield
