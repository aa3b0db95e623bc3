"""An answer that keeps to a schema: a message, sorted."""

import json

from openai import OpenAI

SCHEMA = {
    "type": "object",
    "properties": {
        "kind": {"type": "string", "enum": ["question", "complaint", "order"]},
        "urgent": {"type": "boolean"},
        "priority": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["kind", "urgent", "priority"],
    "additionalProperties": False,
}

client = OpenAI()
answer = client.chat.completions.create(
    model="chat",
    messages=[{"role": "user", "content": "Sort this: my order of Monday never came!"}],
    response_format={"type": "json_schema", "json_schema": {"name": "sorted", "schema": SCHEMA}},
    max_tokens=200,
)
print(json.loads(answer.choices[0].message.content or ""))
