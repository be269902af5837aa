"""JSON Schema of the contract's models: of what is written, which is what a subscriber reads.

Draft 7, because code generators and AsyncAPI tools read that one best.
"""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

DRAFT = "http://json-schema.org/draft-07/schema#"

Json = dict[str, object]


class _Written(GenerateJsonSchema):
    """Absent values are left out when we write: what may be absent is optional, and nothing is null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,  # noqa: ARG002 -- the signature is the base's
    ) -> bool:
        schema = field["schema"]
        while schema["type"] == "default":
            schema = schema["schema"]
        return bool(schema["type"] != "nullable")

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002 -- likewise
        return False


def of(model: type[BaseModel], name: str) -> Json:
    """The JSON Schema of a model as it is written, under the name and version of its payload."""
    made = model.model_json_schema(
        mode="serialization", schema_generator=_Written, ref_template="#/definitions/{model}"
    )
    definitions = made.pop("$defs", None)
    schema: Json = {"$schema": DRAFT, "$id": uri(name), **cast("Json", made), "title": name}
    if definitions:
        schema["definitions"] = definitions
    return schema


def uri(name: str) -> str:
    """The schema's id, and the `dataschema` of the events that follow it."""
    return f"urn:topsync:{name}"
