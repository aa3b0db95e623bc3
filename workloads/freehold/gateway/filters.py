"""The chain every request passes: who is it, may it, which model, which worker."""

from __future__ import annotations

from .keys import authentication, rate_limits
from .model import Gateway
from .names import (
    BODY,
    BODY_FILTER,
    FAULT,
    MODEL,
    NO_MODEL,
    NOT_JSON,
    PICKER_FILTER,
    PREFIX,
    SEAL_FILTER,
    STREAM,
    USAGE_ASKED,
    Json,
    any_proto,
    lua,
    typed,
)
from .picking import endpoint_picker
from .refusals import busy_engines
from .rollout import draw_lots
from .sealing import seal
from .usage import ask_for_usage, read_usage


def http_filters(gateway: Gateway) -> list[Json]:
    """In this order: a request without a key costs nothing beyond the first filter, the body is
    parsed once (by the picker, or by Envoy where the picker did not speak), and the router is last."""
    return [
        authentication(gateway.keys),
        rate_limits(gateway),
        busy_engines(),
        _told_size(gateway.max_body_bytes),
        _whole_body(gateway.max_body_bytes),
        read_usage(),
        *([seal(gateway.keys)] if gateway.sealed else []),
        *([draw_lots()] if any(pool.rollout for pool in gateway.pools) else []),
        *([_unless_refused(endpoint_picker())] if gateway.picker else []),
        _unless_picked(_hash_of_prefix()),
        _unless_picked(_model_of_body()),
        ask_for_usage(),
        _aliases(),
        router(),
    ]


def _told_size(max_bytes: int) -> Json:
    """Who says that the body is too long is not listened to; one in chunks is read up to the limit."""
    script = f"""
function envoy_on_request(handle)
  local length = tonumber(handle:headers():get("content-length") or "")
  if length and length > {max_bytes} then handle:respond({{[":status"] = "413"}}, "") end
end
"""
    return lua("size", script)


def _whole_body(max_bytes: int) -> Json:
    """Bodies are read whole to find the model. This sets the limit for requests alone: streams of
    answers keep Envoy's small buffers."""
    return typed(
        BODY_FILTER,
        "envoy.extensions.filters.http.buffer.v3.Buffer",
        max_request_bytes=max_bytes,
    )


def router() -> Json:
    return typed(
        "envoy.filters.http.router",
        "envoy.extensions.filters.http.router.v3.Router",
        suppress_envoy_headers=True,
    )


def _model_of_body() -> Json:
    """The body's top-level `model`, by a real JSON parser: escaped keys, a `model` inside a message or
    after megabytes of messages make no difference."""

    def found(key: str, **value: str) -> Json:
        return {"metadata_namespace": BODY, "key": key, **value}

    rule = {
        "selectors": [{"key": MODEL}],
        "on_present": found(MODEL, type="STRING"),
        "on_missing": found(FAULT, value=NO_MODEL),
        "on_error": found(FAULT, value=NOT_JSON),
    }
    return typed(
        "model",
        "envoy.extensions.filters.http.json_to_metadata.v3.JsonToMetadata",
        request_rules={
            "rules": [
                rule,
                {"selectors": [{"key": "stream"}], "on_present": found(STREAM)},
                {
                    "selectors": [{"key": "stream_options"}, {"key": "include_usage"}],
                    "on_present": found(USAGE_ASKED),
                },
            ],
            "allow_content_types_regex": _ANY_TYPE,
        },
    )


# Routes refuse other content types; this lets "application/json; charset=utf-8" through.
_ANY_TYPE = {"regex": ".*"}

# Bounded-load hashing without a picker: requests whose bodies begin alike go to one worker. 1,024
# bytes was the better static key when the document is in the system message, measured 2026-11-23 on
# RAG traffic, Envoy 1.40: 85-86 % prefix-cache hits, against 66 % for the first user message.
_PREFIX_LUA = f"""
function envoy_on_request(handle)
  local body = handle:body()
  if body == nil then return end
  local beginning = body:getBytes(0, math.min(1024, body:length()))
  local hash = 5381
  for i = 1, #beginning do hash = (hash * 33 + beginning:byte(i)) % 4294967296 end
  handle:headers():replace("{PREFIX}", tostring(hash))
end
"""


def _hash_of_prefix() -> Json:
    return lua("prefix", _PREFIX_LUA)


def _unless_picked(reader: Json) -> Json:
    """A filter that is skipped when the picker has already read the body."""
    body = any_proto(
        "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput",
        filter=BODY,
        path=[{"key": MODEL}],
    )
    anything = any_proto(
        "envoy.extensions.matching.input_matchers.metadata.v3.Metadata",
        value={"present_match": True},
    )
    picked = {
        "input": {"name": "body", "typed_config": body},
        "custom_match": {"name": "anything", "typed_config": anything},
    }
    return _unless(picked, reader)


def _unless_refused(picker: Json) -> Json:
    """The picker hears of answers too. Without this it would hear of every 401 and 429, from whoever sends
    them, and of what is no HTTP: that refusal waits for nobody, and was lost (seen with Envoy 1.40)."""
    status = any_proto("envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput")
    refused = {
        "input": {"name": "status", "typed_config": status},
        "value_match": {"exact": "4xx"},
    }
    return _unless(refused, picker)


def _unless(predicate: Json, http_filter: Json) -> Json:
    """The filter, skipped where the predicate holds."""
    skip = any_proto("envoy.extensions.filters.common.matcher.action.v3.SkipFilter")
    matcher = {
        "predicate": {"single_predicate": predicate},
        "on_match": {"action": {"name": "skip", "typed_config": skip}},
    }
    return typed(
        http_filter["name"],
        "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
        extension_config=http_filter,
        xds_matcher={"matcher_list": {"matchers": [matcher]}},
    )


# Puts the served model in place of an alias and leaves every other byte as it was: parsing and writing
# the body anew would change the order of a JSON schema's properties, which engines follow.
_ALIAS_LUA = """
local function end_of_string(text, at)
  repeat
    at = text:find('["\\\\]', at + 1)
    local escape = text:byte(at) == 92
    if escape then at = at + 1 end
  until not escape
  return at
end

local function plain(key)
  return (key:gsub("\\\\u00(%x%x)", function(code) return string.char(tonumber(code, 16)) end))
end

local function top_level_model(text)
  local depth, at, first, last = 0, 0, nil, nil
  while true do
    local char
    at, _, char = text:find('([%[%]{}"])', at + 1)
    if at == nil then return first, last end
    if char == '{' or char == '[' then depth = depth + 1
    elseif char == '}' or char == ']' then depth = depth - 1
    else
      local closing = end_of_string(text, at)
      local _, value = text:find('^%s*:%s*"', closing + 1)
      if depth == 1 and value and plain(text:sub(at, closing)) == '"model"' then
        first, last = value, end_of_string(text, value)
      end
      at = closing
    end
  end
end

function envoy_on_request(handle)
  local served = handle:metadata():get("served")
  if served == nil then return end
  local body = handle:body()
  local text = body:getBytes(0, body:length())
  if handle:metadata():get("unsealed") then
    text = text:gsub(',"cache_salt":"[%w-]+"(})$', "%1")
    text = text:gsub(',"cache_salt":"[%w-]+"(,"stream_options":{"include_usage":true}})$', "%1")
  end
  local first, last = top_level_model(text)
  if first then body:setBytes(text:sub(1, first) .. served .. text:sub(last)) end
end
"""


def _aliases() -> Json:
    """Acts on the routes that `serve_as` marks; by then the body is known to be JSON."""
    return lua("aliases", _ALIAS_LUA)


def serve_as(model: str, unsealed: bool = False) -> Json:
    """Route metadata: what to put in the body's `model`, and whether to take the salt out again, for
    engines that are not ours and may not know it."""
    return {"metadata": {"filter_metadata": {"aliases": {"served": model, "unsealed": unsealed}}}}


def without_body() -> Json:
    """Route configuration for what is answered by the path alone."""
    return {
        "typed_per_filter_config": {
            BODY_FILTER: any_proto(
                "envoy.extensions.filters.http.buffer.v3.BufferPerRoute", disabled=True
            ),
            PICKER_FILTER: any_proto(
                "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute", disabled=True
            ),
            SEAL_FILTER: any_proto(
                "envoy.extensions.filters.http.lua.v3.LuaPerRoute", disabled=True
            ),
        }
    }
