"""A share of one pool's requests goes to another: a new model, or a new release, behind the old name.

Each request draws a lot before anything reads it, and everybody goes by the same lot: the picker, and
the routes. A session draws the same lot each time, so that a conversation does not jump between models.
"""

from __future__ import annotations

from typing import Protocol

from .model import Pool, Rollout
from .names import LOT, LOTS, SESSION, Json, lua

# A session's lot: its characters by a multiplicative hash, then two turns of a generator (MINSTD), without
# which sessions that are numbered in a row would lie side by side. All stays below 2^53, exact in Lua.
_LOT_LUA = f"""
local function of_session(session)
  local hash = 5381
  for i = 1, #session do hash = (hash * 31337 + session:byte(i)) % 2147483647 end
  for _ = 1, 2 do hash = hash * 48271 % 2147483647 end
  return math.floor(hash / 2147483647 * {LOTS})
end

function envoy_on_request(handle)
  local session = handle:headers():get("{SESSION}")
  local lot = session and session ~= "" and of_session(session) or math.random(0, {LOTS - 1})
  handle:headers():replace("{LOT}", tostring(lot))
end
"""


class Said(Protocol):
    """As the plan has it."""

    @property
    def of(self) -> str: ...
    @property
    def percent(self) -> float: ...


def rollout_of(said: Said | None) -> Rollout | None:
    return Rollout(said.of, said.percent) if said else None


def draw_lots() -> Json:
    return lua("lots", _LOT_LUA)


def share_of(rollout: Rollout) -> int:
    """Lots below this go to the new pool."""
    return round(rollout.percent / 100 * LOTS)


def drew(share: int) -> Json:
    """Matches a request whose lot is below the share."""
    return {"name": LOT, "range_match": {"start": 0, "end": share}}


def moved_names(pool: Pool, names: list[str]) -> list[str]:
    """Of these names those that stand for the pool's model: its adapters stay."""
    return [name for name in names if pool.aliases.get(name, name) == pool.models[0]]
