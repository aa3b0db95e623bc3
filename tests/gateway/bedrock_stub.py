"""A stand-in for Bedrock's runtime endpoint: TLS, and an answer only for what is signed right.

The signature is computed anew with botocore's own SigV4, over what arrived.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

REGION = "us-east-2"
PATH = "/openai/v1/chat/completions"
KEY_ID, SECRET, TOKEN = "AKIAEXAMPLEEXAMPLE12", "a/secret/that+only/aws/and+we/know", "a-session"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<scope>[^,]+), ?"
    r"SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True)
class Arrived:
    path: str
    headers: dict[str, str]
    body: bytes
    problem: str | None
    """Why the request is refused; None: it is not."""


class _Exactly(SigV4Auth):
    """Signs exactly these headers: botocore's own list leaves some out that others may sign."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(Credentials(KEY_ID, SECRET, TOKEN), "bedrock", REGION)
        self._names = names

    def headers_to_sign(self, request: Any) -> HTTPHeaders:
        chosen = HTTPHeaders()
        for name in self._names:
            chosen[name] = request.headers[name]
        return chosen


def problem_of(path: str, headers: dict[str, str], body: bytes) -> str | None:
    """As AWS would see it: the first thing that is wrong with a request's signature."""
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if not found:
        return "Missing Authentication Token"
    day = headers["x-amz-date"][:8]
    if found["scope"] != f"{day}/{REGION}/bedrock/aws4_request":
        return f"Credential should be scoped to a valid region or service, not {found['scope']}"
    if found["id"] != KEY_ID or headers.get("x-amz-security-token") != TOKEN:
        return "The security token included in the request is invalid."
    names = found["headers"].split(";")
    if not {"host", "x-amz-date", "x-amz-security-token"} <= set(names):
        return "'host', 'x-amz-date' and the token must be signed"
    if headers.get("x-amz-content-sha256", "") != hashlib.sha256(body).hexdigest():
        return "The body is not the one that was signed"
    auth = _Exactly(names)
    request = AWSRequest("POST", f"https://{headers['host']}{path}", headers, body)
    request.context["timestamp"] = headers["x-amz-date"]
    canonical = auth.canonical_request(request)
    signature = auth.signature(auth.string_to_sign(request, canonical), request)
    return None if signature == found["signature"] else "The request signature does not match"


@dataclass
class BedrockStub:
    """`arrived` is everything that came, refused or not."""

    folder: Path
    busy: int = 0
    """So many requests are first answered with 503."""
    arrived: list[Arrived] = field(default_factory=list)

    def __enter__(self) -> BedrockStub:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = self._certificate()
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def trusted_ca(self) -> str:
        return str(self.folder / "bedrock.crt")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                problem = problem_of(self.path, headers, body)
                stub.arrived.append(Arrived(self.path, headers, body, problem))
                if problem:
                    self._answer(403, {"message": problem})
                elif stub.busy > 0:
                    stub.busy -= 1
                    self._answer(503, {"message": "Too many connections"})
                elif json.loads(body).get("stream"):
                    self._stream(json.loads(body))
                else:
                    self._answer(200, _completion(json.loads(body)["model"]))

            def _answer(self, status: int, answer: Any) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, asked: Any) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                words = [{"content": word} for word in ("Hello", " there")]
                events = [json.dumps(_chunk(asked["model"], delta)) for delta in words]
                for event in [*events, "[DONE]"]:
                    data = f"data: {event}\n\n".encode()
                    self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.write(b"0\r\n\r\n")

        return Handler

    def _certificate(self) -> tuple[Path, Path]:
        """For 127.0.0.1, its own authority."""
        private = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in for Bedrock")])
        now = datetime.datetime.now(datetime.UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(private, hashes.SHA256())
        )
        certificate, key = Path(self.trusted_ca), self.folder / "bedrock.key"
        certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key


@dataclass
class IdentityAgent:
    """A stand-in for EKS Pod Identity's agent."""

    token: str
    asked: list[str] = field(default_factory=list)
    """Paths that were asked for with the token."""

    def __enter__(self) -> IdentityAgent:
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                known = self.headers["authorization"] == agent.token
                if known:
                    agent.asked.append(self.path)
                ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=6)
                answer = {
                    "AccessKeyId": KEY_ID,
                    "SecretAccessKey": SECRET,
                    "Token": TOKEN,
                    "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
                }
                data = json.dumps(answer if known else {}).encode()
                self.send_response(200 if known else 401)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        return self._server.server_address[1]


def _completion(model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello there"}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def _chunk(model: str, delta: dict[str, str]) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": model,
        "choices": [choice],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
