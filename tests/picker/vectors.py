"""What the picker in Python makes of requests, for the compiled one to be held to:

python tests/picker/vectors.py      # writes workloads/picker/testdata/vectors.json
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from freehold.gateway.picker.policy import Worker, by_prefix, by_session
from freehold.gateway.picker.prompt import known_of, prompt_of, read

FILE = Path(__file__).parents[2] / "workloads" / "picker" / "testdata" / "vectors.json"
_LONG = "the quick brown fox " * 60
# As clients may write them: spaces, escapes, equal keys, characters beyond ASCII; and what is no request.
_BODIES = (  # @ is long
    '{"model":"chat","messages":[{"role":"user","content":"@"}]}',
    '{ "model" : "chat", "messages" : [ { "role" : "user",\n"content" : "@" } ] }',
    '{"prompt":"\\u0068\\u00e4\\/\\"\\\\ \\n\\u000a\\ud83d\\ude00 é","model":"chat","stream":true}',
    '{"model":"other","model":"chat","prompt":"a","prompt":"@"}',
    '{"mod\\u0065l":"chat","str\\u0065am":"yes","stream_options":{"include_usage":true}}',
    '{"model":"chat","prompt":"x","stream":true,"stream_options":{"INCLUDE_USAGE":true}}',
    '{"model":"chat","prompt":"x","stream":1,"stream_options":{"include_usage":{"a":1}}}',
    '{"model":"chat","prompt":"x","stream":[true],"stream_options":true}',
    '{"model":"chat","input":["a","b\\\\"],"tools":[{"a":"}{\\" [ "}],"cache_salt":"tenant-a"}',
    '{"model":"chat","query":"@","documents":["@",1,true,null]}',
    '{"model":"chat"}',
    *(
        '{"model":""}',
        '{"model":1}',
        "{}",
        "[]",
        "",
        "null",
        '{"model":"chat"',
        '{"model":"chat"}x',
    ),
    *('{"model":"chat","x":NaN}', "{'model':'chat'}", '{"model":"chat",}', '{"model":"\\ud800"}'),
)


def made() -> dict[str, Any]:
    return {"bodies": [_body(text.replace("@", _LONG)) for text in _BODIES], "rounds": [*_rounds()]}


def _body(text: str) -> dict[str, Any]:
    body = read(text.encode())
    if not body or not isinstance(body.get("model"), str) or not body["model"]:
        return {"body": text}
    prompt = prompt_of(body, "served")
    chain = [f"{chunk:x}" for chunk in prompt.chain]
    known = known_of(body)
    return {
        **{"body": text, "known": known, "served": "served"},
        **{"chain": chain, "rest": f"{prompt.rest:x}"},
    }


def _rounds() -> Any:
    """Conversations that grow, before workers whose load is another each time."""
    chance = random.Random(7)
    fleets = {
        replicas: [Worker("chat", str(n), f"10.0.0.{n}:80") for n in range(5)]
        for replicas in (1, 2)
    }
    said = [f"{_LONG[:300]}{number}" for number in range(6)]
    for number in range(150):
        replicas, talk = chance.choice((1, 2)), chance.randrange(6)
        said[talk] += f" {number} {_LONG[: chance.randrange(300)]}"
        in_flight = [chance.randrange(chance.choice((2, 9))) for _ in range(5)]
        session = chance.choice(("", "", "", f"session-{talk}"))
        text = json.dumps({"model": "chat", "prompt": said[talk]}, separators=(",", ":"))
        fleet = fleets[replicas]
        for worker, count in zip(fleet, in_flight, strict=True):
            worker.in_flight = count
        prompt = prompt_of(read(text.encode()) or {}, "chat")
        pick = by_session(fleet, session, prompt) if session else by_prefix(fleet, prompt, replicas)
        pick.worker.index.add(prompt.chain)
        yield {
            **{"replicas": replicas, "in_flight": in_flight, "body": text, "session": session},
            **{"worker": pick.worker.name, "matched": pick.matched},
        }


def as_text() -> str:
    return json.dumps(made(), indent=0) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(as_text())
