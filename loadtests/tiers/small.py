"""Small: chat. Multi-turn conversations that grow from 2,000 to 20,000 tokens, with time to think."""

from freehold.load.traffic import tier_traffic
from freehold.load.users import LoadUser


class SmallTier(LoadUser):
    traffic = tier_traffic("small")
