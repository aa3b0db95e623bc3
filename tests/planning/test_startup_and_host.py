"""Seconds to the first token, and pods that fit their nodes."""

from __future__ import annotations

from typing import Any

import pytest

from freehold.catalog.instances import load_instances
from freehold.config.cache import KvCache
from freehold.config.stack import ModelPool
from freehold.planning.host import allocatable, engine_need, replicas_that_fit
from freehold.planning.plan import PoolPlan, make_plan
from freehold.planning.startup import Startup

from .stacks import eks_stack

CHAT = ModelPool(name="chat", role="generate", model="llama-3.1-8b")
EMBED = ModelPool(name="embed", role="embed", model="bge-m3")


def startup(*arguments: Any, **keywords: Any) -> Startup:
    pool: PoolPlan = make_plan("test", eks_stack(*arguments, **keywords)).pools[0]
    assert pool.sizing
    return pool.sizing.startup


def on(instance: str, **more: Any) -> dict[str, Any]:
    return {"placement": {"instance_type": instance}, **more}


def test_it_adds_up() -> None:
    start = startup("llama-3.1-8b")
    assert start.total == start.node + start.image + start.weights + start.warm_up
    assert min(start.node, start.image, start.weights, start.warm_up) > 0


def test_a_small_node_pulls_its_image_the_slow_way() -> None:
    small = startup("llama-3.1-8b", pool=on("g6e.xlarge"))
    larger = startup("llama-3.1-8b", pool=on("g6e.2xlarge"))
    assert small.image == 334 and larger.image < 60


def test_weights_come_as_fast_as_the_network_or_the_stream() -> None:
    bf16 = {"quantization": "bf16"}
    slow = startup("llama-3.1-8b", pool=on("g6e.xlarge", **bf16))  # 2.5 Gbit/s
    fast = startup("llama-3.1-8b", pool=on("p5.48xlarge", **bf16))
    assert slow.weights == pytest.approx(16.06e9 / (2.5e9 / 8 * 0.8), rel=0.01)
    assert fast.weights == pytest.approx(16.06 / 3.0, rel=0.01)


def test_eager_engines_neither_compile_nor_capture() -> None:
    eager = startup("llama-3.1-8b", pool={"engine": {"enforce_eager": True}})
    assert eager.warm_up == 94
    assert startup("llama-3.1-8b").warm_up == 200


def test_a_cache_sidecar_and_offloading_take_host_memory() -> None:
    bare = engine_need(CHAT, 1, None)
    cache = KvCache(host_memory_gib=20, nvme_gib=100)
    assert engine_need(CHAT, 1, cache).ram_gib - bare.ram_gib > 20
    assert engine_need(CHAT, 1, cache).nvme_gib == 100
    assert engine_need(EMBED, 1, cache) == engine_need(EMBED, 1, None)
    offloading = CHAT.model_copy(
        update={"engine": CHAT.engine.model_copy(update={"kv_offload_gib": 8.0})}
    )
    assert engine_need(offloading, 1, None).ram_gib - bare.ram_gib == 8


@pytest.mark.parametrize(
    ("name", "gib"),
    # What kubectl describes of such nodes is a little more: 30.8 GiB of a g6e.xlarge's 32 before
    # its DaemonSets.
    [("g6e.xlarge", (28, 30.8)), ("p5.48xlarge", (1900, 2048))],
)
def test_a_node_offers_less_than_it_has(name: str, gib: tuple[float, float]) -> None:
    instance = load_instances()[name]
    has = allocatable(instance)
    assert gib[0] < has.ram_gib < gib[1]
    assert instance.vcpu * 0.8 < has.vcpu < instance.vcpu


def test_three_engines_do_not_fit_four_vcpu() -> None:
    need = engine_need(CHAT, 1, None) + engine_need(EMBED, 1, None) + engine_need(EMBED, 1, None)
    instances = load_instances()
    assert replicas_that_fit(instances["g6.xlarge"], need) == 0
    assert replicas_that_fit(instances["g6.2xlarge"], need) == 1
    assert replicas_that_fit(instances["g6.xlarge"], engine_need(CHAT, 1, None)) == 1


@pytest.mark.parametrize("instance", load_instances().values(), ids=lambda i: i.name)
def test_every_instance_holds_an_engine_on_all_its_gpus(instance: Any) -> None:
    assert replicas_that_fit(instance, engine_need(CHAT, instance.gpus, None)) >= 1


def test_a_cache_larger_than_the_node_is_no_option_and_says_so() -> None:
    search = (
        make_plan("test", eks_stack("llama-3.1-8b", cache={"host_memory_gib": 64})).pools[0].search
    )
    assert search and search.chosen and search.chosen.offer.instance.ram_gib > 64
    assert any("a replica's pods ask for" in why for why in search.misfits["g6.xlarge"])
