"""Pictures: each is shown somewhere, and the drawing of a stack says what its run said."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from .pages import DOCS, pages

PICTURES = DOCS / "pictures"


def test_every_picture_is_shown() -> None:
    shown = {
        Path(found).name
        for page in pages()
        for found in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
    }
    # One by night is shown with the one by day (docs/.site/hooks.py).
    made = {file.name.replace("-dark.", ".") for file in PICTURES.glob("*.[ps][nv]g")}
    assert made - shown == set()


def drawing() -> Any:
    spec = importlib.util.spec_from_file_location("stack_drawing", PICTURES / "stack_drawing.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for its annotations
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("simulated", [True, False])
def test_a_stack_is_drawn_with_what_it_did(simulated: bool) -> None:
    names = {"gateway": "gateway", "picker": "picker", "chat-0": "engine", "chat-1": "engine"}
    processes = [
        {"name": n, "role": role, "pool": "chat", "port": 1, "memory_gib": 0.5, "health": "healthy"}
        for n, role in names.items()
    ]
    counted = {
        "vllm:request_success_total": 30.0,
        "vllm:prefix_cache_queries_total": 200.0,
        "vllm:prefix_cache_hits_total": 90.0,
        "vllm:external_prefix_cache_hits_total": 10.0,
    }
    report = {
        "max_concurrent_requests": 6,
        "model_id": "chat",
        "date": "20261124-101112",
        "completed": 60,
        "failed": 0,
        "duration": 30.2,
        "median_ttft_ms": 28.4,
        "median_tpot_ms": 10.1,
    }
    module = drawing()
    metrics = {"chat-0": counted, "chat-1": counted}
    svg = module.draw(module.Running(processes, metrics, report, simulated))
    said = [element.text for element in ElementTree.fromstring(svg).iter() if element.text]
    assert said.count("30 answers, 50% cached") == 2
    assert "6 requests in flight" in said
    caption = next(text for text in said if text.startswith("Drawn from a run"))
    assert ("simulated engines" in caption) == simulated and "2026-11-24" in caption
