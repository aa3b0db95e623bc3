"""An answer that keeps to a schema."""

import json

from openai import OpenAI

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "inhabitants": {"type": "integer"}},
    "required": ["city", "inhabitants"],
    "additionalProperties": False,
}

client = OpenAI()
answer = client.chat.completions.create(
    model="chat",
    messages=[{"role": "user", "content": "The largest city of Norway?"}],
    response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}},
    max_tokens=200,
)
print(json.loads(answer.choices[0].message.content or ""))
