"""The JSON Schema of recipes, for completion in editors."""

from typing import Any

from pydantic import BaseModel

from toolkit.recipe.fields import Recipe


def recipe_schema(data_models: dict[str, type[BaseModel]]) -> dict[str, Any]:
    """Recipe's schema, with a [data] table for each study (passed in: recipes do not know studies)."""
    schema = Recipe.model_json_schema()
    properties = schema["properties"]
    properties["study"]["enum"] = sorted(data_models)
    properties["extends"] = {"type": "string", "description": "Another recipe, which this one changes; relative to it."}
    properties["grid"] = {
        "type": "object",
        "description": 'A group for every combination: keys such as "lora.rank", each with a list of its values.',
        "additionalProperties": {"type": ["array", "object"]},
    }
    # `lora = false` takes LoRA out of a recipe that is extended, and `head = false` a head.
    properties["lora"]["anyOf"] = [{"const": False}, *properties["lora"]["anyOf"]]
    head = schema["$defs"]["Model"]["properties"]["head"]
    head["anyOf"] = [{"const": False}, *head["anyOf"]]
    # What a file leaves out may stand in the one that it extends.
    schema.pop("required", None)
    for definition in schema["$defs"].values():
        definition.pop("required", None)
    schema["allOf"] = [
        {
            "if": {"properties": {"study": {"const": study}}, "required": ["study"]},
            "then": {"properties": {"data": data_schema(model)}},
        }
        for study, model in sorted(data_models.items())
    ]
    return {"$schema": "http://json-schema.org/draft-07/schema#"} | without_null(schema)


def data_schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    assert "$defs" not in schema, "a study's argument is a plain value or a list of them"
    schema.pop("required", None)
    return schema


def without_null(schema: Any) -> Any:
    """The schema without `null`, which TOML does not have."""
    if isinstance(schema, list):
        return [without_null(entry) for entry in schema if entry != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    cleaned = {key: without_null(value) for key, value in schema.items() if (key, value) != ("default", None)}
    choices = cleaned.get("anyOf", [])
    return (
        {key: value for key, value in cleaned.items() if key != "anyOf"} | choices[0] if len(choices) == 1 else cleaned
    )
