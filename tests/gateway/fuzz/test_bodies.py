"""Bodies that two parsers may read in two ways: Envoy's or the picker's, and vLLM's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..running import Bench
from .attacked import KEYS, arrived, ask, examples
from .strict_engine import as_vllm_reads
from .wire import CHAT


def _nested(depth: int, opening: bytes = b"[", inside: bytes = b"", closing: bytes = b"]") -> bytes:
    return b'{"model":"chat","messages":' + opening * depth + inside + closing * depth + b"}"


REFUSED = {
    "nothing": b"",
    "half an object": b'{"model":"chat"',
    "an array": b'[{"model":"chat"}]',
    "a string": b'"chat"',
    "null": b"null",
    "NaN": b'{"model":"chat","temperature":NaN}',
    "infinity": b'{"model":"chat","temperature":-Infinity}',
    "a leading zero": b'{"model":"chat","seed":01}',
    "UTF-16": '{"model":"chat"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"model":"chat"}'.encode("utf-16-le"),
    "UTF-16, the other way round": '{"model":"chat"}'.encode("utf-16-be"),
    "UTF-32": '{"model":"chat"}'.encode("utf-32"),
    "UTF-7": b'+AHs-"model":"chat"}',
    "a lone surrogate, escaped": b'{"model":"chat","user":"\\ud800"}',
    "a lone surrogate": b'{"model":"chat","user":"\xed\xa0\x80"}',
    "a byte that is no UTF-8": b'{"model":"chat","user":"\xff"}',
    "an overlong slash": b'{"model":"chat","user":"\xc0\xaf"}',
    "a control character": b'{"model":"chat","user":"a\x01b"}',
    "a form feed": b'{"model":"chat"\x0c}',
    "a no-break space": b'{"model":"chat"\xc2\xa0}',
    "something behind": b'{"model":"chat"} x',
    "another object behind": b'{"model":"chat"}{"model":"chat"}',
    "a brace behind": b'{"model":"chat"}}',
    "a comment": b'{"model":"chat"/*}*/}',
    "a comment behind": b'{"model":"chat"}//}',
    "a comma too many": b'{"model":"chat",}',
    "single quotes": b"{'model':'chat'}",
    "no quotes": b"{model:'chat'}",
    "a number for a model": b'{"model":5}',
    "true for a model": b'{"model":true}',
    "a list for a model": b'{"model":["chat"]}',
    "an object for a model": b'{"model":{"model":"chat"}}',
    "a model with a null byte": b'{"model":"chat\\u0000"}',
    "a model with a space": b'{"model":"chat "}',
    "a model in large letters": b'{"model":"Chat"}',
    "a model of 3 MB": b'{"model":"%s"}' % (b"a" * 3_000_000),
    "the last of two models": b'{"model":"chat","model":"nobody"}',
    "the last of two models, escaped": b'{"model":"chat","mod\\u0065l":"nobody"}',
    "the last of two models, null": b'{"model":"chat","model":null}',
    "an open string": b'{"model":"chat","user":"}',
    "an open list": b'{"model":"chat","messages":[}',
    "100,000 lists": _nested(100_000),
    "100,000 objects": _nested(100_000, b'{"a":', b"1", b"}"),
}

SERVED = {
    "the first of two models": b'{"model":"nobody","model":"chat"}',
    "an escaped model": b'{"\\u006d\\u006f\\u0064\\u0065\\u006c":"\\u0063hat"}',
    "an escaped slash": b'{"model":"chat","user":"\\/"}',
    "an alias": b'{"model":"gpt-4o"}',
    "two aliases": b'{"model":"gpt-4o","model":"gpt-4o"}',
    "an alias behind a name": b'{"model":"lora","model":"gpt-4o"}',
    "a name behind an alias": b'{"model":"gpt-4o","model":"lora"}',
    "a byte order mark": b'\xef\xbb\xbf{"model":"chat"}',
    "a byte order mark and two models": b'\xef\xbb\xbf{"model":"lora","model":"chat"}',
    "white space around": b" \t\r\n" * 1000 + b'{ "model" :\n"chat"\r\n}' + b" \t\r\n" * 1000,
    "only white space behind": b'{"model":"chat"}' + b" " * 1025,
    "250 lists": _nested(250),
    "300 lists": _nested(300),
    "an empty key": b'{"":{"":[]},"model":"chat"}',
    "a key with a null byte": b'{"model":"chat","cache_salt\\u0000":"mine"}',
    "a salt of one's own": b'{"cache_salt":"group-both","model":"chat","cache\\u005fsalt":"x"}',
    "a salt that is an object": b'{"model":"chat","cache_salt":{"cache_salt":"x"}}',
    "a salt of a megabyte": b'{"model":"chat","cache_salt":"%s"}' % (b"a" * 2**20),
    "large numbers": b'{"model":"chat","seed":18446744073709551616,"top_p":1E-400}',
    "many keys": b'{%s"model":"chat"}' % b"".join(b'"k%d":%d,' % (n, n) for n in range(20_000)),
}

# Parsers of the gateway draw the line in different places; vLLM refuses what it cannot read.
EITHER = {
    "a number that overflows": b'{"model":"chat","temperature":1e999}',
    "an integer of 5,000 digits": b'{"model":"chat","seed":%s}' % (b"9" * 5000),
    "1,000 lists": _nested(1_000),
    "1,100 lists": _nested(1_100),
    "9,000 objects": _nested(9_000, b'{"a":', b"1", b"}"),
    "a null byte behind": b'{"model":"chat"}\0',
    "an object behind a null byte": b'{"model":"chat"}\0{"cache_salt":"x"}',
    "a key behind a null byte": b'{"model":"chat"}\0,"model":"lora"}',
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(gateway: Bench, name: str) -> None:
    assert 400 <= ask(gateway, REFUSED[name]).status < 500
    assert not arrived(gateway)


@pytest.mark.parametrize("name", SERVED)
def test_it_is_served(gateway: Bench, name: str) -> None:
    answer = ask(gateway, SERVED[name])
    assert answer.status == 200, answer
    assert len(arrived(gateway)) == 1


@pytest.mark.parametrize("name", EITHER)
def test_it_is_refused_or_served(gateway: Bench, name: str) -> None:
    answer = ask(gateway, EITHER[name])
    assert len(arrived(gateway)) == (answer.status == 200)


@pytest.mark.parametrize("stream", [b"true", b"1", b"1.0", b'"true"', b'"Yes"', b'"on"', b'"T"'])
@pytest.mark.parametrize(
    "usage",
    [
        b"",
        b',"stream_options":null',
        b',"stream_options":{"include_usage":false}',
        b',"stream_options":{"include_usage":0,"a":{"include_usage":true}}',
        b',"stream_options":{"include_usage":true},"stream_options":{}',
        b',"stream_options":{"include_usage":true},"stream\\u005foptions":{"a":1}',
        b',"stream_options":{"include_usage":true,"include\\u005fusage":false}',
        b',"metadata":{"stream_options":{"include_usage":true}}',
        b',"user":"\\"stream_options\\":{\\"include_usage\\":true}"',
        b',"include_usage":true',
        b',"stream_options":[{"include_usage":true}]',
        b',"stream_options.include_usage":true',
    ],
)
def test_every_stream_is_counted(gateway: Bench, stream: bytes, usage: bytes) -> None:
    bodies = [
        b'{"model":"chat","stream":%s%s}' % (stream, usage),
        b'{"stream":false,"model":"chat"%s,"str\\u0065am":%s}' % (usage, stream),
        b'\xef\xbb\xbf{"model":"gpt-4o"%s,"stream":%s}%s' % (usage, stream, b" " * 1100),
    ]
    for body in bodies:
        for path in (CHAT, "/v1/completions?x"):
            assert ask(gateway, body, path).status == 200, body
            assert len(arrived(gateway)) == 1


def test_many_streams_in_one_body_take_no_time(gateway: Bench) -> None:
    """What looks at a body does so in one pass: half a megabyte of the word is read within seconds."""
    inner = (
        b'{"stream":true,"stream_options":{"include_usage":true},"cache_salt":"x","model":"lora"}'
    )
    body = b'{"messages":[%s],"model":"gpt-4o"}' % b",".join([inner] * 6_000)
    assert ask(gateway, body).status == 200
    assert len(arrived(gateway)) == 1


# --- Any body ---------------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    ["model", "cache_salt", "stream", "stream_options", "include_usage", "messages", "", "a"]
)


def _escaped(text: str) -> st.SearchStrategy[str]:
    """The same JSON string in any spelling."""

    def spelled(ways: list[int]) -> str:
        parts = [
            f"\\u{ord(c):04x}"
            if way == 1
            else f"\\u{ord(c):04X}"
            if way == 2
            else json.dumps(c)[1:-1]
            for c, way in zip(text, ways, strict=True)
        ]
        return '"' + "".join(parts) + '"'

    return st.lists(st.integers(0, 8), min_size=len(text), max_size=len(text)).map(spelled)


_BLANK = st.sampled_from(["", "", "", " ", "\n", "\r\n\t", " " * 1100])
_STRINGS = st.one_of(
    st.sampled_from(["chat", "lora", "gpt-4o", "embed", "nobody", "tenant-left", "true", "1", "}"]),
    st.text(max_size=5),
    st.sampled_from(['"}', '\\"', '"model":"lora"', "\\", "}\0", "\ud800", '","cache_salt":"x']),
).flatmap(_escaped)
_SCALARS = st.one_of(
    _STRINGS,
    st.sampled_from(["true", "false", "null", "1", "0", "-0.0", "1e400", "1.0", "NaN", "01", ""]),
    st.integers().map(str),
)


def _object(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(_BLANK, _NAMES.flatmap(_escaped), _BLANK, values, _BLANK)
    pairs = pair.map(lambda p: f"{p[0]}{p[1]}:{p[2]}{p[3]}{p[4]}")
    return st.lists(pairs, max_size=6).map(lambda inside: "{" + ",".join(inside) + "}")


def _list(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda inside: "[" + ",".join(inside) + "]")


_VALUES = st.recursive(
    _SCALARS, lambda inner: st.one_of(_object(inner), _list(inner)), max_leaves=8
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Objects, mostly with a model that exists, and at times cut, joined or spoilt."""
    text = draw(_object(_VALUES))
    model = draw(st.sampled_from(["chat", "lora", "gpt-4o", "embed", "rerank", "by-load"]))
    name = draw(_escaped("model"))
    if draw(st.integers(0, 9)):
        text = f'{text[:-1]}{"," if len(text) > 2 else ""}{name}:"{model}"}}'
    text += draw(_BLANK)
    data = text.encode("utf-8", "surrogatepass")
    match draw(st.integers(0, 19)):
        case 0:
            at = draw(st.integers(0, len(data)))
            return data[:at] + draw(st.binary(max_size=3)) + data[at:]
        case 1:
            return data[: draw(st.integers(0, len(data)))]
        case 2:
            return b"\xef\xbb\xbf" + data
        case 3:
            return data + draw(st.sampled_from([b"\0", b"}", b"\0}", b",", b" {}", b"//", b"\xff"]))
        case 4:
            return text.encode("utf-16", "surrogatepass")
    return data


_MISSING = object()
_PATHS = st.sampled_from([CHAT, CHAT, "/v1/completions", "/v1/embeddings", "/tokenize", "/rerank"])


@settings(
    max_examples=examples(50),
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(body=bodies(), path=_PATHS, tenant=st.sampled_from(sorted(KEYS)))
def test_any_body(gateway: Bench, body: bytes, path: str, tenant: str) -> None:
    """Served or refused; nothing but the three keys that are the gateway's business changes."""
    answer = ask(gateway, body, path, tenant)
    requests = arrived(gateway)
    assert len(requests) == (answer.status == 200), answer
    parsed: Any = as_vllm_reads(body)
    if answer.status == 200 and isinstance(parsed, dict):
        kept = {**parsed, **as_vllm_reads(requests[0].body)}
        changed = {key for key in kept if kept[key] != parsed.get(key, _MISSING)}
        assert changed <= {"model", "cache_salt", "stream_options"}, changed
