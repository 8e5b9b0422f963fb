"""What every table of a recipe has in common, and what a name may be."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Every = Annotated[str, Field(pattern=r"^(epoch|stage|[1-9][0-9]{0,8} (epochs|steps))$")]

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
"""What may become a folder's name on every system."""
NAME_RULE = "it becomes a folder's name: up to 100 of a-z, A-Z, 0-9, '.', '_', '-'; first a letter or a digit; no '..'"

RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""What Windows takes for a device, so that no folder can be called it."""


def is_name(text: str) -> bool:
    return bool(NAME.fullmatch(text)) and ".." not in text and not RESERVED.fullmatch(text)


def refuse(problems: list[str]) -> None:
    """All problems as one ValueError, a line each, so that every one of them is said."""
    if problems:
        raise ValueError("\n".join(problems))


class Table(BaseModel):
    """A table of a recipe: unknown keys and wrong types are refused; the sentence below a field describes it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)
