"""A fine-tuning toolkit that measures memory: a recipe in, what was memorised out."""

__version__ = "0.1.0"
