"""What a container registry says a tag is, by the OCI distribution API; no image is fetched."""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import httpx

# What a tag may name: an index over machines, or one machine's manifest; each in OCI's words and Docker's.
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_TIMEOUT_SECONDS = 15
_DOCKER_HUB, _DOCKER_HUB_API = "docker.io", "registry-1.docker.io"
_LOGIN_OF_DOCKER_HUB = "https://index.docker.io/v1/"  # where `docker login` keeps it
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class NoDigest(Exception):
    """Why an image's digest is not known, in a few words."""


@dataclass(frozen=True)
class Image:
    """A reference with a tag, taken apart as container runtimes do."""

    host: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, reference: str) -> Image:
        """The first part is a host if it looks like one; otherwise all of it is Docker Hub's."""
        name, _, tag = reference.rpartition(":")
        if not name or "/" in tag:
            name, tag = reference, "latest"
        first, _, rest = name.partition("/")
        if not rest or not (re.search(r"[.:]", first) or first == "localhost"):
            first, rest = _DOCKER_HUB, name
        if first == _DOCKER_HUB and "/" not in rest:
            rest = f"library/{rest}"
        return cls(first, rest, tag)

    @property
    def url(self) -> str:
        host = _DOCKER_HUB_API if self.host == _DOCKER_HUB else self.host
        # A registry on the machine itself has no certificate, which every container runtime knows.
        scheme = "http" if re.fullmatch(r"(localhost|127\.0\.0\.1)(:\d+)?", host) else "https"
        return f"{scheme}://{host}/v2/{self.repository}/manifests/{self.tag}"


def digest_of(client: httpx.Client, reference: str) -> str:
    """`sha256:...` of what the tag names now.

    Raises NoDigest.
    """
    image = Image.parse(reference)
    headers = {"accept": _MANIFESTS}
    try:
        answer = client.head(image.url, headers=headers)
        if answer.status_code == 401:
            headers |= _authorization(client, image, answer.headers.get("www-authenticate", ""))
            answer = client.head(image.url, headers=headers)
    except httpx.HTTPError as error:
        raise NoDigest(f"{image.host} does not answer ({error})") from None
    if answer.status_code == 404:
        raise NoDigest(f"{image.host} has no {image.repository}:{image.tag}")
    if answer.status_code in (401, 403):
        raise NoDigest(f"{image.host} asks for credentials: `docker login {image.host}` keeps some")
    if answer.is_error:
        raise NoDigest(f"{image.host} answers {answer.status_code} {answer.reason_phrase}")
    digest = answer.headers.get("docker-content-digest", "")
    if not _DIGEST.fullmatch(digest):
        raise NoDigest(f"{image.host} names no digest")
    return digest


def new_client() -> httpx.Client:
    return httpx.Client(timeout=_TIMEOUT_SECONDS, follow_redirects=True)


def _authorization(client: httpx.Client, image: Image, challenge: str) -> dict[str, str]:
    """What the registry's challenge asks for: a token from the place that it names, also for public
    images, or user and password at once."""
    login = _login(image.host)
    basic = {"authorization": f"Basic {login}"} if login else {}
    scheme, _, rest = challenge.partition(" ")
    asked = dict(re.findall(r'(\w+)="([^"]*)"', rest))
    if scheme.lower() != "bearer" or "realm" not in asked:
        return basic
    wanted = {
        "service": asked.get("service", image.host),
        "scope": asked.get("scope", f"repository:{image.repository}:pull"),
    }
    answer = client.get(asked["realm"], params=wanted, headers=basic)
    if answer.is_error:
        return {}
    try:
        body = answer.json()
    except ValueError:
        return {}
    token = body.get("token") or body.get("access_token")
    return {"authorization": f"Bearer {token}"} if token else {}


def _login(host: str) -> str | None:
    """`user:password` in base64, as `docker login` keeps it in its file; not from credential helpers."""
    folder = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker"))
    try:
        known = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auths", {})
        kept = known.get(_LOGIN_OF_DOCKER_HUB if host == _DOCKER_HUB else host, {}).get("auth")
        return kept if kept and base64.b64decode(kept, validate=True) else None
    except (OSError, ValueError, AttributeError):
        return None
