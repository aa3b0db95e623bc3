"""Retrieval: find the passages that are near a question, rank them, and ask with the best."""

import httpx
from openai import OpenAI

PASSAGES = [
    "The gateway answers on port 8080.",
    "Cats sleep for most of the day.",
    "A worker over the load bound is passed over.",
]
QUESTION = "Which port does the gateway use?"

client = OpenAI()
texts = client.embeddings.create(model="embed", input=[*PASSAGES, QUESTION]).data
*passages, question = [item.embedding for item in texts]


def nearness(one: list[float], other: list[float]) -> float:
    """The dot product; embeddings have length one."""
    return sum(a * b for a, b in zip(one, other, strict=True))


near = sorted(range(len(PASSAGES)), key=lambda i: -nearness(passages[i], question))[:2]
ranked = httpx.post(
    f"{client.base_url}rerank",
    headers={"authorization": f"Bearer {client.api_key}"},
    json={"model": "rerank", "query": QUESTION, "documents": [PASSAGES[i] for i in near]},
    timeout=60,
).json()["results"]
best = PASSAGES[near[ranked[0]["index"]]]
answer = client.chat.completions.create(
    model="chat",
    messages=[
        {"role": "system", "content": f"Answer out of this text alone: {best}"},
        {"role": "user", "content": QUESTION},
    ],
    max_tokens=40,
)
print("out of:", best)
print(answer.choices[0].message.content)
