"""The studies: each builds examples from the arguments of its recipe's [data] table, and never trains."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from toolkit.errors import UserError, nearest
from toolkit.recipe import Recipe
from toolkit.recipe.complaints import complain
from toolkit.seeds import sub_seed
from toolkit.studies import chinese, classify, facts, lines, names, news, phone, scratch
from toolkit.studies.built import Built

STUDIES: dict[str, Callable[..., Built]] = {
    "phone": phone.build,
    "facts": facts.build,
    "names": names.build,
    "news": news.build,
    "lines": lines.build,
    "classify": classify.build,
    "chinese": chinese.build,
    "scratch": scratch.build,
}


def data_model(study: str) -> type[BaseModel]:
    """A pydantic model of what [data] may say for a study: the arguments of its build function, and `seed`."""
    arguments: dict[str, Any] = {
        name: (parameter.annotation, ... if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(STUDIES[study]).parameters.items()
        if name not in ("data_seed", "assignment_seed")
    }
    seed = Annotated[
        int | None, Field(ge=0, lt=2**31, description="Fixes the facts and their assignment across the runs.")
    ]
    return create_model(
        f"{study.capitalize()}Data",
        __config__=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
        seed=(seed, None),
        **arguments,
    )


def check_data(recipe: Recipe, where: str | Path) -> dict[str, Any]:
    """The arguments of the study's build function, defaults filled in, without `seed` and what is None.

    `where` is the recipe's file, for messages. Raises UserError for an unknown study and for what is wrong in [data].
    """
    source = where.as_posix() if isinstance(where, Path) else where
    if recipe.study not in STUDIES:
        near = nearest(recipe.study.lower(), list(STUDIES))
        hint = f'did you mean "{near}"?' if near else f"known are {', '.join(STUDIES)}."
        raise UserError(f'{source}: study = "{recipe.study}" is unknown; {hint}')
    model = data_model(recipe.study)
    try:
        return model.model_validate(recipe.data).model_dump(exclude={"seed"}, exclude_none=True)
    except ValidationError as error:
        raise complain(error, where, model, prefix=("data",)) from None


def resolve_data(recipe: Recipe, where: str | Path) -> Recipe:
    """The recipe with every argument of its study said, so that a run keeps what it was built from."""
    refuse_other_method(recipe, where)
    seed = {"seed": recipe.data["seed"]} if "seed" in recipe.data else {}
    return recipe.model_copy(update={"data": seed | check_data(recipe, where)})


def refuse_other_method(recipe: Recipe, where: str | Path) -> None:
    """Raises UserError where texts and classes are trained as facts are, or facts as if they had classes."""
    if recipe.study not in STUDIES or (recipe.study == "classify") == recipe.classifies:
        return
    source = where.as_posix() if isinstance(where, Path) else where
    name, stage = next(iter(recipe.stage.items()))
    said = f'{source}: study = "{recipe.study}" and [stage.{name}] method = "{stage.method}" do not go together'
    if recipe.classifies:
        raise UserError(f'{said}: method = "classify" tells classes apart, which study = "classify" has.')
    raise UserError(f'{said}: say method = "classify" (without [model.head] it is answered in words).')


def build_data(recipe: Recipe, seed: int, where: str | Path | None = None) -> Built:
    """The examples of one run. `[data] seed`, where it is said, fixes them across the runs.

    Raises UserError for what is wrong in [data], and where a stage trains on a part that no trained example has.
    """
    where = where or recipe.name
    source = where.as_posix() if isinstance(where, Path) else where
    arguments = check_data(recipe, where)
    root = recipe.data.get("seed", seed)
    try:
        built = STUDIES[recipe.study](
            data_seed=sub_seed(root, "data"), assignment_seed=sub_seed(root, "assignment"), **arguments
        )
        refuse_unknown_parts(recipe, built)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return built


def refuse_unknown_parts(recipe: Recipe, built: Built) -> None:
    parts = sorted({example.part for example in built.examples if example.split == "train"})
    for name, stage in recipe.stage.items():
        for part in stage.train_on:
            if part not in parts:
                near = nearest(part, parts)
                hint = f'did you mean "{near}"?' if near else f"this study has {', '.join(parts)}."
                raise UserError(f'[stage.{name}] train_on: no trained example is of the part "{part}"; {hint}')
