"""What a recipe may say of forgetting: abilities and texts that are measured before and after training."""

from typing import Literal

from pydantic import Field, model_validator

from toolkit.recipe.table import Table, refuse


class Forgetting(Table):
    """[forgetting]: what the model could do before, measured in the same way before and after training."""

    tasks: list[str] = Field(default_factory=list)
    """Tasks of lm-eval by name ("mmlu", "gsm8k"), or folders of lm-eval task files with data of their own."""
    text: list[str] = Field(default_factory=list)
    """Text files that nothing is trained on: bits a byte, and how far the model moved from the base (KL)."""
    limit: int | None = Field(default=None, ge=1)
    """At most this many questions of each subject, the first ones; all where left out."""
    few_shot: int | None = Field(default=None, ge=0)
    """Answered examples before each question; each task's own number where left out."""
    every: Literal["stage", "epoch"] = "stage"
    """How often besides before training: after each stage, or after each epoch."""
    batch_size: int = Field(default=4, ge=1)
    """Questions, or choices of them, a forward pass."""
    stop_if_worse_by: float | None = Field(default=None, gt=0, lt=1)
    """Training ends after an epoch at whose end the accuracy on any task has fallen by more than this."""
    noise_floor: bool = True
    """Whether the base is measured again, one by one (where that is the batch, in twos): what rounding changes."""
    task_code: bool = False
    """Whether Python code that comes with a folder of task files may run."""

    @model_validator(mode="after")
    def measures_something(self) -> "Forgetting":
        problems = []
        if not self.tasks and not self.text:
            problems.append("names neither tasks nor text, and there is nothing to measure")
        for key in ("tasks", "text"):
            named = getattr(self, key)
            if len(set(named)) < len(named):
                problems.append(f"{key}: one of them is named twice")
            if any(not name.strip() for name in named):
                problems.append(f"{key}: one of them is empty")
        if self.stop_if_worse_by is not None and (not self.tasks or self.every != "epoch"):
            problems.append('stop_if_worse_by looks at tasks after each epoch: say tasks = […] and every = "epoch"')
        refuse(problems)
        return self
