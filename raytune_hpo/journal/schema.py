"""The journal as JSON Schema, derived from the types of its events as `codec` writes them."""

from __future__ import annotations

import dataclasses
import typing
from enum import Enum
from typing import Annotated, Any

from raytune_hpo.journal.codec import UNIONS, default_of, fields_of, not_none
from raytune_hpo.journal.events import KINDS

Schema = dict[str, Any]


def schema_of(hint: Any) -> Schema:
    """What `codec.encoded` makes of a value of this type."""
    if typing.get_origin(hint) is Annotated:
        own: Schema = hint.__metadata__[0].schema
        return own
    if typing.get_origin(hint) in UNIONS:
        return {"anyOf": [schema_of(not_none(hint)), {"type": "null"}]}
    if dataclasses.is_dataclass(hint):
        record: Any = hint
        parts = {field.name: schema_of(own) for field, own in fields_of(record)}
        needed = [field.name for field, _ in fields_of(record) if default_of(field) is dataclasses.MISSING]
        return {"type": "object", "properties": parts, "required": needed, "additionalProperties": False}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [member.value for member in hint]}
    if typing.get_origin(hint) is dict:
        return {"type": "object"}
    return {"type": {int: "integer", float: "number", str: "string", bool: "boolean"}[hint]}


def journal_schema() -> Schema:
    """Of a line of journal.jsonl."""
    kinds = []
    for name, kind in KINDS.items():
        own = schema_of(kind)
        own["description"] = " ".join((kind.__doc__ or "").split())
        own["properties"] = {"event": {"const": name}, **own["properties"]}
        own["required"] = ["event", *own["required"]]
        kinds.append(own)
    return {
        "description": "A line of journal.jsonl: the events of a step. sum chains it to the line before.",
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1},
            "t": {"type": "number", "description": "seconds of running"},
            "at": {"type": "number", "description": "seconds since 1970"},
            "events": {"type": "array", "items": {"oneOf": kinds}},
            "sum": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        },
        "required": ["n", "t", "at", "events", "sum"],
        "additionalProperties": False,
    }
