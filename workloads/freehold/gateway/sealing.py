"""Tenant-sealed caches: every request carries its tenant's `cache_salt`, whatever the client sent, so
that nobody learns from a fast first token what another tenant has asked.

The salt goes into the body before anything reads it: the picker then keeps tenants apart by itself, and
sealing does not hang on the picker. Salts are names, not secrets: a client cannot choose its own, and who
reaches an engine past the gateway is stopped by the network, not by a salt."""

from __future__ import annotations

from collections.abc import Sequence

from .model import ApiKey
from .names import BODY, MODEL, RBAC, SEAL_FILTER, TENANT, Json, metadata_present, typed

# Dynamic metadata: the salt, once it is in the body.
_SEAL, _SALT = "freehold.seal", "salt"


def salt_of(key: ApiKey) -> str:
    """A tenant may not bear a group's name to get at its cache, hence the prefixes. vLLM and LMCache
    take at most 128 characters without "@", "/" and backslash (vLLM 0.32, LMCache 0.5.6)."""
    return f"group-{key.cache_group}" if key.cache_group else f"tenant-{key.tenant}"


# At the end, because the last of several equal keys counts, in vLLM's parser and in the picker's. Either
# the text before it leaves the parser where a key may follow, at the top level since the body ends here,
# or it makes no JSON and the request is refused: a client's unclosed string ends at the key's first quote.
_SEAL_LUA = f"""
local salts = {{%s}}

function envoy_on_request(handle)
  local rbac = handle:streamInfo():dynamicMetadata():get("{RBAC}") or {{}}
  local salt = salts[rbac["{TENANT}"]]
  local body = handle:body()
  if salt == nil or body == nil then return end
  local before = math.max(0, body:length() - 1024)
  local ending = body:getBytes(before, body:length() - before)
  local closing = ending:find("}}[ \\t\\r\\n]*$")
  if closing == nil then return end
  local comma = ending:find("{{[ \\t\\r\\n]*}}[ \\t\\r\\n]*$") and "" or ","
  local beginning = body:getBytes(0, before + closing - 1)
  body:setBytes(beginning .. comma .. '"cache_salt":"' .. salt .. '"}}')
  handle:streamInfo():dynamicMetadata():set("{_SEAL}", "{_SALT}", salt)
end
"""


def seal(keys: Sequence[ApiKey]) -> Json:
    salts = ", ".join(f'["{key.tenant}"]="{salt_of(key)}"' for key in keys)
    return typed(
        SEAL_FILTER,
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": _SEAL_LUA % salts},
    )


def unsealed() -> list[Json]:
    """Matches a request for a model whose body has not got its salt: Envoy passes over a script that
    fails, so a route must ask."""
    without_salt = {**metadata_present(_SEAL, _SALT), "invert": True}
    return [metadata_present(BODY, MODEL), without_salt]
