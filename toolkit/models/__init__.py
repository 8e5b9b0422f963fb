"""Loading bases, adding LoRA, scoring and generating. No torch at import; an engine is opened first."""

import logging
import sys
from types import ModuleType
from typing import Literal


def open_engine(name: Literal["unsloth", "transformers"]) -> ModuleType:
    """The module that loads and trains: with_unsloth or with_transformers, which have the same functions.

    Raises RuntimeError where trl, transformers or peft were imported before unsloth, which patches them at import.
    """
    # It warns at import of a CPU kernel that is only for speed.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if name == "transformers":
        from toolkit.models import with_transformers

        return with_transformers
    if "unsloth" not in sys.modules:
        early = [package for package in ("trl", "transformers", "peft") if package in sys.modules]
        if early:
            raise RuntimeError(f"{', '.join(early)} was imported before unsloth: open the engine first.")
    from toolkit.models import with_unsloth

    return with_unsloth
