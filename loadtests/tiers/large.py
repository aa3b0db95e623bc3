"""Large: agents in a code base. 50,000 to 100,000 tokens, most of them shared; tool calls one after
another, and some answers that nobody waits for."""

from freehold.load.traffic import tier_traffic
from freehold.load.users import LoadUser


class LargeTier(LoadUser):
    traffic = tier_traffic("large")
