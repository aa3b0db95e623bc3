"""Digests by tag, from a registry that asks for a token as Docker Hub does, and what `render` makes of it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from checkouts import changed_checkout
from click.testing import CliRunner
from ports import free_ports

from freehold.catalog.release import load_release
from freehold.cli.registry import Image, NoDigest, digest_of, new_client
from freehold.cli.render import command
from freehold.config import FreeholdError


def digest(tag: str) -> str:
    return f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}"


@dataclass
class Registry:
    """Knows `tags` (repository:tag); `login` is who may ask, where not everybody."""

    port: int = 0
    tags: set[str] = field(default_factory=set)
    login: str | None = None
    silent: bool = False
    """Leaves the digest out."""
    seen: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def token(self, scope: str) -> str:
        return hashlib.sha256(scope.encode()).hexdigest()[:16]


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None: ...

        def do_HEAD(self) -> None:
            made.seen.append(self.path)
            _, _, path = self.path.partition("/v2/")
            repository, _, tag = path.rpartition("/manifests/")
            scope = f"repository:{repository}:pull"
            if self.headers.get("authorization") != f"Bearer {made.token(scope)}":
                self.send_response(401)
                realm = f'Bearer realm="http://{made.host}/token",service="stub",scope="{scope}"'
                self.send_header("www-authenticate", realm)
            elif f"{repository}:{tag}" not in made.tags:
                self.send_response(404)
            elif "image.index" not in self.headers.get("accept", ""):
                self.send_response(406)
            else:
                self.send_response(200)
                if not made.silent:
                    self.send_header("docker-content-digest", digest(f"{repository}:{tag}"))
            self.end_headers()

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            basic = (
                f"Basic {base64.b64encode(made.login.encode()).decode()}" if made.login else None
            )
            allowed = basic is None or self.headers.get("authorization") == basic
            self.send_response(200 if allowed and asked["service"] == ["stub"] else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"token": made.token(asked["scope"][0])}).encode())

    server = ThreadingHTTPServer(("127.0.0.1", free_ports(1)[0]), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ("redis:7", "https://registry-1.docker.io/v2/library/redis/manifests/7"),
        ("vllm/vllm-openai", "https://registry-1.docker.io/v2/vllm/vllm-openai/manifests/latest"),
        ("docker.io/a/b:1", "https://registry-1.docker.io/v2/a/b/manifests/1"),
        ("registry.internal/mirror/docker.io/a/b:1", "https://registry.internal/v2/mirror/docker.io/a/b/manifests/1"),
        ("127.0.0.1:5000/a:1", "http://127.0.0.1:5000/v2/a/manifests/1"),
        ("registry.internal:5000/a", "https://registry.internal:5000/v2/a/manifests/latest"),
    ],
)  # fmt: skip
def test_references_are_read_as_container_runtimes_do(reference: str, url: str) -> None:
    assert Image.parse(reference).url == url


def asked(reference: str) -> str:
    with new_client() as client:
        return digest_of(client, reference)


def test_a_public_image_with_a_token_for_everybody(registry: Registry) -> None:
    registry.tags = {"team/engine:1"}
    assert asked(f"{registry.host}/team/engine:1") == digest("team/engine:1")


def test_a_private_image_with_the_login_that_docker_keeps(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.tags, registry.login = {"team/engine:1"}, "anna:secret"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(NoDigest, match=f"credentials: `docker login {registry.host}`"):
        asked(f"{registry.host}/team/engine:1")
    auth = base64.b64encode(b"anna:secret").decode()
    known = {"auths": {registry.host: {"auth": auth}}}
    (tmp_path / "config.json").write_text(json.dumps(known))
    assert asked(f"{registry.host}/team/engine:1") == digest("team/engine:1")


def test_what_is_not_there_is_named(registry: Registry) -> None:
    with pytest.raises(NoDigest, match="has no team/engine:2"):
        asked(f"{registry.host}/team/engine:2")
    registry.tags, registry.silent = {"a:1"}, True
    with pytest.raises(NoDigest, match="names no digest"):
        asked(f"{registry.host}/a:1")
    with pytest.raises(NoDigest, match="does not answer"):
        asked(f"127.0.0.1:{free_ports(1)[0]}/a:1")


@pytest.fixture
def mirrored(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose stack `onprem` takes all images from the registry, in which it works."""
    mirror = {"target": {"registry_mirror": f"{registry.host}/mirror"}}
    checkout = changed_checkout(tmp_path / "checkout", "onprem", mirror)
    monkeypatch.chdir(checkout)
    return checkout


def render(out: Path) -> str:
    done = CliRunner().invoke(
        command,
        ["onprem", "--out", str(out), "--resolve-digests", "--bundle"],
        standalone_mode=False,
    )
    if done.exception:
        raise done.exception
    return done.output


def images(out: Path) -> set[str]:
    found: set[str] = set()
    for file in (out / "kubernetes").glob("*-deployment-*.yaml"):
        pod = yaml.safe_load(file.read_text())["spec"]["template"]["spec"]
        found |= {c["image"] for c in [*pod.get("initContainers", []), *pod["containers"]]}
    return found


def test_images_are_rendered_by_digest(registry: Registry, mirrored: Path, tmp_path: Path) -> None:
    """Nothing is written while one is missing; then everything names digests, and says how to keep them."""
    envoy = load_release().images["envoy"]
    registry.tags = {f"mirror/{envoy}"}
    out = tmp_path / "out"
    with pytest.raises(FreeholdError, match=r"nothing was written(?s:.*)/engine:(?s:.*)/gateway:"):
        render(out)
    assert not out.exists()

    own = [path.partition("/v2/")[2].replace("/manifests/", ":") for path in registry.seen]
    registry.tags |= set(own)
    told = render(out)
    written = images(out)
    assert len(written) == 3
    assert written == {f"{registry.host}/{tag}@{digest(tag)}" for tag in registry.tags}
    assert f"  envoy: {envoy}@{digest(f'mirror/{envoy}')}\n" in told
    resources = (out / "resources.json").read_text()
    assert all(image in resources for image in written)
    bundle = json.loads((out / "bundle" / "bundle.json").read_text())
    assert {image["digest"] for image in bundle["images"]} == {digest(tag) for tag in registry.tags}
    (foreign,) = (image["reference"] for image in bundle["images"] if not image["own"])
    assert foreign == envoy, "carried over from where its makers put it"


def test_a_chart_behind_a_mirror_comes_from_it_with_its_images(
    registry: Registry, mirrored: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(command, ["onprem", "--out", str(out), "--bundle"])
    assert done.exit_code == 0, done.output
    (file,) = (out / "helm").glob("*.yaml")
    chart = yaml.safe_load(file.read_text())
    mirror = f"{registry.host}/mirror"
    assert (chart["repository"], chart["chart"]) == (f"oci://{mirror}/charts", file.stem)
    operator = chart["values"]["prometheusOperator"]
    assert operator["image"]["registry"] == f"{mirror}/quay.io"
    # What fills the mirror takes both from their makers.
    bundle = json.loads((out / "bundle" / "bundle.json").read_text())
    (carried,) = bundle["charts"]
    assert carried["repository"] == load_release().charts[file.stem]["repository"]
    assert registry.host not in json.dumps(bundle)
