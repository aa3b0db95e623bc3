"""An application written for OpenAI's API: the alias leads to the pool, nothing else changes."""

from openai import OpenAI

client = OpenAI()
answer = client.chat.completions.create(
    model="gpt-4o",  # an alias of the pool chat
    messages=[{"role": "user", "content": "Say hello."}],
    max_tokens=20,
)
print(answer.model, "says:", answer.choices[0].message.content)
