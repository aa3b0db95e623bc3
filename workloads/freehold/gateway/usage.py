"""What each tenant has used: requests and tokens, by tenant and pool, in the gateway's own counters.

The engines count the tokens and say so in their answers (`usage`); one script reads it there as the answer
passes, without holding it back. A stream says so only when asked, so the script asks in the client's
place, and takes the event out again that the client did not ask for."""

from __future__ import annotations

from .last_key import APPEND_LUA
from .names import (
    ASK_FILTER,
    BODY,
    RBAC,
    STREAM,
    TENANT,
    USAGE_ASKED,
    USAGE_FILTER,
    Json,
    lua,
    metadata_present,
    typed,
)

# Dynamic metadata: what an answer has told of itself.
USAGE, PROMPT, GARBLED = "freehold.usage", "prompt", "garbled"
_COMPLETION, _HIDE = "completion", "hide"

# As the body's last key (see `last_key`): what a client puts into `stream_options` cannot keep its tokens
# from being counted. Whether it is a stream, and asks by itself, was read by a real parser before; vLLM
# takes more than `true` for true (pydantic, vLLM 0.32).
_TRUE = ("true", "1", "1.0", "on", "t", "y", "yes")
_ASK_LUA = f"""
{APPEND_LUA}
local TRUE = {{{", ".join(f'["{word}"]=1' for word in _TRUE)}}}

local function is_true(value)
  return value ~= nil and TRUE[tostring(value):lower()] ~= nil
end

function envoy_on_request(handle)
  local path = handle:headers():get(":path"):gsub("%?.*", "")
  if path ~= "/v1/chat/completions" and path ~= "/v1/completions" then return end
  local read = handle:streamInfo():dynamicMetadata():get("{BODY}")
  if read == nil or not is_true(read["{STREAM}"]) or is_true(read["{USAGE_ASKED}"]) then return end
  if append(handle:body(), "stream_options", '{{"include_usage":true}}') then
    handle:streamInfo():dynamicMetadata():set("{USAGE}", "{_HIDE}", true)
  end
end
"""

# The key cannot stand inside a string, whose quotes are escaped. It may lie across two pieces of the answer:
# `read` returns what it needs again with the next one.
_READ_LUA = f"""
local function take(handle, prompt, completion)
  local metadata = handle:streamInfo():dynamicMetadata()
  local known = metadata:get("{USAGE}") or {{}}
  metadata:set("{USAGE}", "{PROMPT}", tonumber(prompt) or known["{PROMPT}"] or 0)
  metadata:set("{USAGE}", "{_COMPLETION}", tonumber(completion) or known["{_COMPLETION}"] or 0)
end

local function number_in(object, ...)
  for _, key in ipairs({{...}}) do
    local number = object:match('"' .. key .. '"%s*:%s*(%d+)')
    if number then return number end
  end
end

local function may_go_on(text, at)
  return text:find("^%s*:?%s*$", at) or text:find("^%s*:%s*{{", at)
end

local function read(text, handle)
  local at = 1
  while true do
    local first = text:find('"usage"', at, true)
    if first == nil then return text:sub(-6) end
    local object = text:match("^%s*:%s*(%b{{}})", first + 7)
    if object then
      local completion = number_in(object, "completion_tokens", "output_tokens")
      local prompt = number_in(object, "prompt_tokens", "input_tokens")
      take(handle, prompt or not completion and number_in(object, "total_tokens"), completion)
    elseif may_go_on(text, first + 7) and #text - first < 4096 then
      return text:sub(first)
    end
    at = first + 7
  end
end
"""

# A line of an event stream begins with the name of a field, with a colon or not at all.
_DOUBT_LUA = f"""
local function doubt(piece, handle)
  if piece:find("\\n[^deir:\\r\\n]") then
    handle:streamInfo():dynamicMetadata():set("{USAGE}", "{GARBLED}", true)
  end
end
"""

# A token is one event and mostly one piece: those without usage pass untouched.
_HIDE_LUA = """
local function is_asked_for_by_us(event)
  return event:find('"usage"%s*:%s*{') and event:find('"choices"%s*:%s*%[%s*%]')
end

local function without_ours(text)
  return (text:gsub("(.-\\n\\r?\\n)", function(event)
    if is_asked_for_by_us(event) then return "" end
  end))
end

local function observe(handle, streams)
  local rest = ""
  for chunk in handle:bodyChunks() do
    local piece = chunk:getBytes(0, chunk:length())
    if streams then doubt(piece, handle) end
    rest = read(rest .. piece, handle)
  end
end

local function observe_and_hide(handle)
  local rest = ""
  for chunk in handle:bodyChunks() do
    local piece = chunk:getBytes(0, chunk:length())
    doubt(piece, handle)
    local text = rest .. piece
    local whole = text:match(".*\\n\\r?\\n()") or 1
    if text:find("[DONE]", whole, true) then whole = #text + 1 end
    rest = text:sub(whole)
    text = text:sub(1, whole - 1)
    if text:find('"usage"', 1, true) then
      read(text, handle)
      text = without_ours(text)
    end
    if text ~= piece then chunk:setBytes(text) end
  end
end
"""

_RESPONSE_LUA = f"""
function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get(":status") ~= "200" then return end
  local asked = handle:streamInfo():dynamicMetadata():get("{USAGE}")
  local streams = (headers:get("content-type") or ""):find("event-stream", 1, true)
  if asked and asked["{_HIDE}"] and streams then
    headers:remove("content-length")
    observe_and_hide(handle)
  else
    observe(handle, streams)
  end
end
"""


def ask_for_usage() -> Json:
    """Where the body has been read by a parser."""
    return lua(ASK_FILTER, _ASK_LUA)


def read_usage() -> Json:
    """Before the picker, so that answers come here after it: a piece that changes while their headers wait
    for the picker would get its own length written into them (seen with Envoy 1.40)."""
    return lua(USAGE_FILTER, _READ_LUA + _DOUBT_LUA + _HIDE_LUA + _RESPONSE_LUA)


def usage_counters() -> list[Json]:
    """Access loggers that write no log: each request is counted when it ends, its tokens where the answer
    named them."""
    tags = {"tenant": f"%DYNAMIC_METADATA({RBAC}:{TENANT})%", "pool": "%UPSTREAM_CLUSTER%"}
    requests = _counter("requests", {**tags, "status": "%RESPONSE_CODE%"}, value_fixed=1)
    tokens = [
        _counter(f"{kind}_tokens", tags, value_format=f"%DYNAMIC_METADATA({USAGE}:{kind})%")
        for kind in (PROMPT, _COMPLETION)
    ]
    matcher = metadata_present(USAGE, PROMPT)
    named = {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": False}}
    return [_logger([requests]), {**_logger(tokens), "filter": named}]


def _logger(counters: list[Json]) -> Json:
    return typed(
        "usage",
        "envoy.extensions.access_loggers.stats.v3.Config",
        stats_scope={"prefix": "freehold"},
        counters=counters,
    )


def _counter(name: str, tags: dict[str, str], **value: object) -> Json:
    labels = [{"name": tag, "value_format": text} for tag, text in tags.items()]
    return {"stat": {"name": name, "tags": labels}, **value}
