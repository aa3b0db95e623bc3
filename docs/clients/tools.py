"""The model calls a function of ours."""

import json

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Today's weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Oslo", "Bergen", "Narvik"]}},
            "required": ["city"],
        },
    },
}

client = OpenAI()
messages: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the weather in Oslo?"}
]
asked = client.chat.completions.create(
    model="chat",
    messages=messages,
    tools=[WEATHER],
    tool_choice={"type": "function", "function": {"name": "weather"}},
    max_tokens=100,
)
calls = asked.choices[0].message.tool_calls or []
for call in calls:
    if call.type == "function":
        print("the model asks for", call.function.name, json.loads(call.function.arguments))
