"""matrix.toml as a JSON Schema, https://json-schema.org/draft/2020-12."""

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from orchestrator.config.shapes import MatrixShape


class _Form(GenerateJsonSchema):
    """TOML has no null: a key that may be left out may not be null. A table's names must all match their pattern."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", None) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        form = super().dict_schema(schema)
        return {**form, "additionalProperties": False} if "patternProperties" in form else form


def schema_text() -> str:
    """Give the schema as text that is the same each time."""
    schema: dict[str, Any] = MatrixShape.model_json_schema(schema_generator=_Form)
    schema = {
        "$schema": _Form.schema_dialect,
        **schema,
        "title": "matrix.toml",
        "required": ["products", "project"],
    }
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
