"""Bad answers are told to the picker, which then looks whether their worker is ill."""

from __future__ import annotations

from .endpoints import TOKENS
from .names import Json, cel, typed
from .picking import CLUSTER
from .usage import GARBLED, PROMPT, USAGE

_usage = f"metadata.filter_metadata['{USAGE}']"
_NO_USAGE = f"!('{USAGE}' in metadata.filter_metadata && '{PROMPT}' in {_usage})"
_GARBLED = f"'{USAGE}' in metadata.filter_metadata && '{GARBLED}' in {_usage}"
_NOT_TOKENS = f"!(request.url_path in [{', '.join(map(repr, TOKENS))}])"
_WHOLE = "response.code_details == 'via_upstream'"
# In CEL, by the names of Envoy's attributes. A full queue's 503 is no illness; a worker that dies is found
# by its health check, and one that ends its answers halfway only here; who left without a byte may have
# waited in vain; and every answer that counts tokens names them at its end.
_BAD = " || ".join(
    f"({one})"
    for one in (
        f"response.code >= 500 && response.code != 503 && {_WHOLE}",
        "response.code_details.startsWith('upstream_reset')",
        "response.code_details == 'downstream_remote_disconnect' && response.size == 0",
        f"response.code == 200 && {_WHOLE} && {_NOT_TOKENS} && ({_NO_USAGE})",
        f"response.code == 200 && {_GARBLED}",
    )
)
_FLUSH_SECONDS = 0.2


def bad_answers() -> Json:
    """An access logger that says nothing while all is well."""
    logger = typed(
        "bad answers",
        "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        common_config={
            "log_name": "bad-answers",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": CLUSTER}},
            "buffer_flush_interval": f"{_FLUSH_SECONDS}s",
        },
    )
    return {**logger, "filter": cel(_BAD)}
