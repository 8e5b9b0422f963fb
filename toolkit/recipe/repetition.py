"""What a recipe may say of repetition: prompts to which the model writes freely while it is trained, and when."""

from pydantic import Field, model_validator

from toolkit.recipe.table import Every, Table, refuse


class Repetition(Table):
    """[repetition]: the model writes freely to prompts that it was not trained on, and what it repeats is measured."""

    questions: list[str] = Field(default_factory=lambda: ["李白是谁？", "绿豆糕", "who are you?"])
    """Asked as they are, at every reading, without an answer to compare with."""
    prompts: int = Field(default=100, ge=0)
    """Asked besides, the same ones at every reading: examples held out, or controls where none are, or trained ones."""
    every: Every = "epoch"
    """"epoch", "5 epochs", "100 steps" or "stage"; always once before training and at the end of each stage."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Where a text is cut that does not end by itself; human answers are cut there too."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the sampled texts, beside the greedy one; nothing else is cut off (no top-k, no top-p)."""
    samples: int = Field(default=1, ge=0)
    """Sampled texts a prompt, beside the greedy one."""
    batch_size: int = Field(default=32, ge=1)
    """Texts that are written at a time."""

    @model_validator(mode="after")
    def asks_something(self) -> "Repetition":
        problems = []
        if not self.questions and not self.prompts:
            problems.append("has no questions and prompts = 0, and there is nothing to ask")
        if len(set(self.questions)) < len(self.questions):
            problems.append("questions: one of them is named twice")
        if any(not question.strip() for question in self.questions):
            problems.append("questions: one of them is empty")
        refuse(problems)
        return self
