"""Tenant-sealed caches: every request carries its tenant's `cache_salt`, whatever the client sent, so
that nobody learns from a fast first token what another tenant has asked.

The salt goes into the body before anything reads it: the picker then keeps tenants apart by itself, and
sealing does not hang on the picker. Salts are names, not secrets: a client cannot choose its own, and who
reaches an engine past the gateway is stopped by the network, not by a salt."""

from __future__ import annotations

from collections.abc import Sequence

from .last_key import APPEND_LUA
from .model import ApiKey
from .names import BODY, MODEL, RBAC, SEAL_FILTER, TENANT, Json, lua, metadata_present

# Dynamic metadata: the salt, once it is in the body, or that the body does not end as an object does.
_SEAL, _SALT, _SPOILT = "freehold.seal", "salt", "spoilt"


def salt_of(key: ApiKey) -> str:
    """A tenant may not bear a group's name to get at its cache, hence the prefixes. vLLM and LMCache
    take at most 128 characters without "@", "/" and backslash (vLLM 0.32, LMCache 0.5.6)."""
    return f"group-{key.cache_group}" if key.cache_group else f"tenant-{key.tenant}"


_SEAL_LUA = f"""
local salts = {{%s}}
{APPEND_LUA}
function envoy_on_request(handle)
  local rbac = handle:streamInfo():dynamicMetadata():get("{RBAC}") or {{}}
  local salt = salts[rbac["{TENANT}"]]
  local body = handle:body()
  if salt == nil or body == nil then return end
  if append(body, "cache_salt", '"' .. salt .. '"') then
    handle:streamInfo():dynamicMetadata():set("{_SEAL}", "{_SALT}", salt)
  else
    handle:streamInfo():dynamicMetadata():set("{_SEAL}", "{_SPOILT}", true)
  end
end
"""


def seal(keys: Sequence[ApiKey]) -> Json:
    salts = ", ".join(f'["{key.tenant}"]="{salt_of(key)}"' for key in keys)
    return lua(SEAL_FILTER, _SEAL_LUA % salts)


def spoilt() -> list[Json]:
    """Matches a body in which Envoy has found a model although it goes on behind its object: its parser
    stops at a null byte (1.40)."""
    return [metadata_present(BODY, MODEL), metadata_present(_SEAL, _SPOILT)]


def unsealed() -> list[Json]:
    """Matches a request for a model whose body has not got its salt: Envoy passes over a script that
    fails, so a route must ask."""
    without_salt = {**metadata_present(_SEAL, _SALT), "invert": True}
    return [metadata_present(BODY, MODEL), without_salt]
