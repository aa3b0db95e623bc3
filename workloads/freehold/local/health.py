"""Ask a process whether it can work. Standard library only: the supervisor stays light."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlsplit

from freehold.local.process import HealthCheck


def probe(check: HealthCheck) -> str | None:
    """None when healthy, else what was seen, for example `GET /health: connection refused`."""
    if check.url:
        return _http(check.url, check.timeout)
    if check.tcp:
        host, port = check.tcp
        return _connect(socket.AF_INET, (host, port), check.timeout, f"connect to {host}:{port}")
    if check.unix:
        return _connect(socket.AF_UNIX, check.unix, check.timeout, f"connect to {check.unix}")
    return None


def _http(url: str, timeout: float) -> str | None:
    parts = urlsplit(url)
    path = parts.path or "/"
    if parts.query:
        path += f"?{parts.query}"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"GET {url}: {_reason(error)}"
    finally:
        connection.close()
    return None if status == 200 else f"GET {url}: status {status}"


def _connect(
    family: socket.AddressFamily, address: str | tuple[str, int], timeout: float, what: str
) -> str | None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(timeout)
        try:
            client.connect(address)
        except OSError as error:
            return f"{what}: {_reason(error)}"
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
