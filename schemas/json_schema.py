"""JSON Schema of the contract's models: it describes what topsync writes and a subscriber reads.

Draft 7, because code generators and AsyncAPI tools support that draft best.
"""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

DRAFT = "http://json-schema.org/draft-07/schema#"

Json = dict[str, object]


class _Written(GenerateJsonSchema):
    """We leave absent values out when we write: so a field that may be absent is optional, and never null."""

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
    """The JSON Schema of a model as it is written; `name` is the payload's name and version."""
    made = model.model_json_schema(
        mode="serialization", schema_generator=_Written, ref_template="#/definitions/{model}"
    )
    definitions = made.pop("$defs", None)
    schema: Json = {"$schema": DRAFT, "$id": uri(name), **cast("Json", made), "title": name}
    if definitions:
        schema["definitions"] = definitions
    return schema


def uri(name: str) -> str:
    """The schema's id, which is also the `dataschema` of its events."""
    return f"urn:topsync:{name}"
