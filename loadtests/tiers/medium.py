"""Medium: retrieval. Ten documents of a shared knowledge base a question, 30,000 tokens; each question
is first embedded and its candidates reranked, as a retrieval client does."""

from freehold.load.traffic import tier_traffic
from freehold.load.users import LoadUser


class MediumTier(LoadUser):
    traffic = tier_traffic("medium")
