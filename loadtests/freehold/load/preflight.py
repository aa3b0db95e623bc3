"""Before any load: is the server there, does it take the key, does it know the model?"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from freehold.config import FreeholdError
from freehold.config.errors import nearest

_TIMEOUT = 10.0


@dataclass(frozen=True)
class Served:
    """What the server says of the model."""

    models: tuple[str, ...]
    max_model_len: int | None


def clean_url(url: str) -> str:
    """The base URL without /v1 and slash; refuses what is no http(s) URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FreeholdError(
            f'--base-url {url}: must be like http://127.0.0.1:8080 or https://host/v1 (given: "{url}")'
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def look(base_url: str, api_key: str | None, model: str) -> Served:
    """Ask for the list of models; FreeholdError says what is wrong in words."""
    headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        answer = httpx.get(
            f"{base_url}/v1/models", headers=headers, timeout=_TIMEOUT, trust_env=False
        )
    except (httpx.HTTPError, ssl.SSLError, UnicodeError) as error:
        raise FreeholdError(
            f"cannot reach {base_url}: {error or type(error).__name__}. Is it up "
            "(`freehold status`), and is --base-url right?"
        ) from None
    if answer.status_code in (401, 403):
        given = "the key was refused" if api_key else "it wants a key: give --api-key"
        raise FreeholdError(f"{base_url} answered {answer.status_code}: {given}")
    if answer.status_code != 200:
        raise FreeholdError(
            f"{base_url}/v1/models answered {answer.status_code}: is this an OpenAI-compatible server?"
        )
    try:
        listed: list[dict[str, Any]] = answer.json()["data"]
        names = tuple(str(entry["id"]) for entry in listed)
    except (ValueError, KeyError, TypeError):
        raise FreeholdError(
            f"{base_url}/v1/models did not answer a list of models: is this an OpenAI-compatible server?"
        ) from None
    if model not in names:
        known = ", ".join(names) or "none"
        raise FreeholdError(
            f'{base_url} does not serve "{model}"{nearest(model, names)}; it serves: {known}'
        )
    length = next((entry.get("max_model_len") for entry in listed if entry["id"] == model), None)
    return Served(names, length if isinstance(length, int) else None)
