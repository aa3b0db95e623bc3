"""Every GPU row is complete and plausible; the all-reduce between its rows behaves."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.catalog.gpus import Gpu, find_gpu, load_gpus

GPUS = list(load_gpus().values())


def named(name: str) -> Gpu:
    found = find_gpu(name)
    assert found, name
    return found


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_a_row_is_complete_and_plausible(gpu: Gpu) -> None:
    assert 16_000 < gpu.memory_mib < 400_000
    assert 200 < gpu.bandwidth_gbps < 10_000
    assert gpu.flops("bf16") > 1e14
    assert gpu.flops("int8") >= 2 * gpu.flops("bf16")
    assert ("fp8" in gpu.tflops) == (gpu.sm >= 89)
    assert ("fp4" in gpu.tflops) == (gpu.sm >= 100)
    assert gpu.systems
    assert gpu.source
    date.fromisoformat(gpu.date)
    assert {row.ranks for row in gpu.all_reduce} == {2, 4, 8}
    assert bool(gpu.all_reduce_from) == ("all_reduce" in gpu.unverified)


def test_the_families_of_the_tiers_have_their_gpu() -> None:
    assert {"L4", "L40S", "RTX PRO 6000", "H100", "H200"} <= load_gpus().keys()


def test_a_measured_file_s_system_names_a_gpu() -> None:
    assert named("h100_sxm").name == "H100"
    assert named("l40s").name == "L40S"
    assert find_gpu("tpu_v9") is None
    systems = [system for gpu in GPUS for system in gpu.systems]
    assert len(systems) == len(set(systems))


def test_measured_sizes_come_back_as_measured() -> None:
    """256 KiB: 16 sequences of hidden size 8192. Four L40S take 16 times as long as four H200."""
    assert named("L40S").all_reduce_seconds(4, 262_144) == pytest.approx(0.1156e-3)
    assert named("H200").all_reduce_seconds(4, 262_144) == pytest.approx(0.006985e-3)
    assert named("H200").all_reduce_seconds(1, 262_144) == 0


@given(
    gpu=st.sampled_from(GPUS),
    ranks=st.integers(2, 16),
    sizes=st.lists(st.floats(1, 1e10), min_size=2, max_size=6),
)
def test_more_bytes_never_take_less_time(gpu: Gpu, ranks: int, sizes: list[float]) -> None:
    times = [gpu.all_reduce_seconds(ranks, size) for size in sorted(sizes)]
    assert all(later >= earlier for earlier, later in pairwise(times))
    assert times[0] > 0


@given(gpu=st.sampled_from(GPUS), size=st.floats(1, 1e9))
def test_between_measured_rank_counts_lies_between(gpu: Gpu, size: float) -> None:
    low, mid, high = (gpu.all_reduce_seconds(ranks, size) for ranks in (2, 3, 4))
    assert min(low, high) * 0.999 <= mid <= max(low, high) * 1.001
