"""The paths the gateway serves, by the role of the pool that answers them. Nothing else exists."""

from __future__ import annotations

from .model import Pool, Role

MODELS = "/v1/models"

TOKENS = ("/tokenize", "/detokenize")
ENDPOINTS: dict[Role, tuple[str, ...]] = {
    "generate": (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        *TOKENS,
    ),
    "embed": ("/v1/embeddings", *TOKENS),
    "rerank": ("/v1/rerank", "/rerank", "/v1/score", "/score", *TOKENS),
}
ALL = tuple(dict.fromkeys(path for paths in ENDPOINTS.values() for path in paths))
# What Bedrock answers for the models that can be pools (gpt-oss has no Responses at this endpoint).
_HOSTED = ("/v1/chat/completions",)


def endpoints_of(pool: Pool) -> tuple[str, ...]:
    """The paths that a pool answers."""
    return _HOSTED if pool.hosted else ENDPOINTS[pool.role]
