"""The cache's tiers: LMCache takes the command line, Redis forgets before it is full, nobody waits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from freehold.config.stack import KvCache
from freehold.engine.cache_server import with_password
from freehold.serving.kv_cache import RedisAddress, server_arguments
from freehold.serving.redis import redis_configuration

from .programs import ROOT, changed_plan, container, pod, program_of, run

OWN = RedisAddress("redis.medium-cache.svc.cluster.local.", 6379, tls=False, own=True)
THEIRS = RedisAddress("cache.example", 6380, tls=True, own=False)


def adapters(arguments: list[str]) -> list[dict[str, Any]]:
    return [
        json.loads(arguments[place + 1])
        for place, argument in enumerate(arguments)
        if argument == "--l2-adapter"
    ]


def test_the_sidecar_says_what_the_engine_expects() -> None:
    sidecar = container(program_of("medium"), "Deployment", "chat", "cache")
    engine = container(program_of("medium"), "Deployment", "chat", "engine")
    given = engine["args"][engine["args"].index("--kv-transfer-config") + 1]
    extra = json.loads(given)["kv_connector_extra_config"]
    arguments = sidecar["args"]
    assert arguments[arguments.index("--port") + 1] == str(extra["lmcache.mp.port"])
    assert ("--isolated-ipc" in arguments) == extra["lmcache.mp.isolated_ipc"]
    assert sidecar["image"] == engine["image"]


def test_tiers_are_as_large_as_the_stack_file_says() -> None:
    sidecar = container(program_of("medium"), "Deployment", "chat", "cache")
    disk, redis = adapters(sidecar["args"])
    assert disk["max_capacity_gb"] == 500 and disk["eviction"]["eviction_policy"] == "LRU"
    assert redis == {"type": "resp", "host": OWN.host, "port": OWN.port}
    assert sidecar["args"][sidecar["args"].index("--l1-size-gb") + 1] == "64"
    volumes = {
        v["name"]: v["emptyDir"] for v in pod(program_of("medium"), "Deployment", "chat")["volumes"]
    }
    assert volumes["kv"]["sizeLimit"] == f"{500 * 1024}Mi"
    assert volumes["cache-shm"] == {"medium": "Memory", "sizeLimit": f"{64 * 1024 + 512}Mi"}


def test_no_engine_waits_for_its_cache() -> None:
    """A sidecar with a startup or readiness probe would hold the engine's start, or the pod's place in
    DNS, for a cache."""
    sidecar = container(program_of("medium"), "Deployment", "chat", "cache")
    assert sidecar["restartPolicy"] == "Always"
    assert "startupProbe" not in sidecar and "readinessProbe" not in sidecar
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/healthcheck"


def test_pools_that_keep_no_kv_have_no_sidecar() -> None:
    assert "initContainers" not in pod(program_of("medium"), "Deployment", "embed")
    assert "initContainers" not in pod(program_of("small"), "Deployment", "chat")


@pytest.mark.parametrize("redis", [None, OWN, THEIRS])
@pytest.mark.parametrize("nvme", [None, 100.0])
def test_lmcache_s_own_parser_takes_it(redis: RedisAddress | None, nvme: float | None) -> None:
    pytest.importorskip("lmcache", reason="the pinned LMCache is not installed (make env-cpu)")
    arguments = server_arguments(KvCache(host_memory_gib=4, nvme_gib=nvme), redis)
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    known = json.loads(done.stdout.splitlines()[-1])
    expected = ["FSNativeL2AdapterConfig"] if nvme else []
    if redis:
        expected.append("ValkeyL2AdapterConfig" if redis.tls else "RESPL2AdapterConfig")
    assert known == expected


# What `lmcache server` itself does with its command line (LMCache 0.5.6), short of starting.
_PARSE = """
import argparse, json, sys
from lmcache.cli.commands.server import ServerCommand
from lmcache.v1.distributed.l2_adapters.config import parse_args_to_l2_adapters_config
parser = argparse.ArgumentParser()
ServerCommand().add_arguments(parser)
namespace = parser.parse_args(sys.argv[1:])
config = parse_args_to_l2_adapters_config(namespace)
print(json.dumps([type(each).__name__ for each in config.adapters]))
"""


def test_the_password_of_redis_is_in_no_command_line() -> None:
    program = program_of("medium")
    sidecar = container(program, "Deployment", "chat", "cache")
    assert "made-up" not in json.dumps(sidecar["args"])
    (password,) = (e for e in sidecar["env"] if e["name"] == "LMCACHE_RESP_PASSWORD")
    assert password["valueFrom"]["secretKeyRef"] == {
        "name": "redis",
        "key": "password",
        "optional": False,
    }
    redis = container(program, "StatefulSet", "redis", "redis")
    assert redis["command"] == ["redis-server", "/etc/redis/redis.conf"]
    secrets = [item for item in program.all("Secret") if item["metadata"]["name"] == "redis"]
    assert {item["metadata"]["namespace"] for item in secrets} == {"medium-cache", "medium-models"}
    assert secrets[0]["stringData"] == secrets[1]["stringData"]


def test_the_launcher_gives_the_password_to_valkey_alone() -> None:
    arguments = server_arguments(KvCache(host_memory_gib=4), THEIRS)
    (valkey,) = adapters(with_password(arguments, "hidden"))
    assert valkey == {
        "type": "valkey",
        "startup_nodes": "cache.example:6380",
        "tls_enable": True,
        "password": "hidden",
    }
    plain = server_arguments(KvCache(host_memory_gib=4), OWN)
    assert with_password(plain, "hidden") == plain
    assert with_password(arguments, None) == arguments


def test_redis_evicts_before_its_container_is_killed() -> None:
    redis = container(program_of("medium"), "StatefulSet", "redis", "redis")
    configuration = redis_configuration(8)
    most = int(configuration.split("maxmemory ")[1].split()[0])
    assert most == 8 * 2**30
    limit = int(redis["resources"]["limits"]["memory"].removesuffix("Mi")) * 2**20
    assert limit >= 1.25 * most
    assert "maxmemory-policy allkeys-lru" in configuration and "appendonly no" in configuration


def test_redis_of_one_s_own_needs_no_pods() -> None:
    cache = {"cache": {"redis": {"endpoint": "cache.example", "tls": True, "port": 6380}}}
    program = run(changed_plan("medium", cache))
    assert not program.all("StatefulSet")
    assert "medium-cache" not in {item["metadata"]["name"] for item in program.all("Namespace")}
    sidecar = container(program, "Deployment", "chat", "cache")
    assert [each["type"] for each in adapters(sidecar["args"])] == ["fs_native", "valkey"]
    assert not [line for line in program.result.warnings if "cache.redis" in line]


def test_what_goes_in_clear_is_warned_of() -> None:
    cache = {"cache": {"redis": {"endpoint": "cache.example"}}}
    assert any("in clear" in line for line in run(changed_plan("medium", cache)).result.warnings)
    assert any("in clear" in line for line in program_of("medium").result.warnings)


def test_redis_takes_the_configuration(tmp_path: Path) -> None:
    """The real server of the laptop, where it is."""
    binary = shutil.which("redis-server", path=f"{ROOT}/.freehold/tools/bin:{os.environ['PATH']}")
    if binary is None:
        pytest.skip("no redis-server here (make up fetches one)")
    (tmp_path / "auth.conf").write_text("requirepass hidden\n")
    text = redis_configuration(0.125).replace("/etc/redis-auth", str(tmp_path))
    text = text.replace("port 6379", "port 0").replace("dir /tmp", f"dir {tmp_path}")
    (tmp_path / "redis.conf").write_text(text + f"unixsocket {tmp_path}/redis.sock\n")
    process = subprocess.Popen([binary, tmp_path / "redis.conf"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "redis.sock").exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        client = redis.Redis(unix_socket_path=f"{tmp_path}/redis.sock", password="hidden")
        assert client.config_get("maxmemory") == {"maxmemory": str(2**27)}
        assert client.config_get("save") == {"save": ""}
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(unix_socket_path=f"{tmp_path}/redis.sock").ping()
    finally:
        process.kill()
        process.wait()
