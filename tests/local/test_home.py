"""What a stack keeps in its folder between one start and the next."""

from __future__ import annotations

from pathlib import Path

from freehold.local.home import StackHome


def test_a_pool_keeps_its_row_of_ports_while_others_come_and_go(tmp_path: Path) -> None:
    home = StackHome.of(tmp_path, "local")
    home.prepare()
    assert home.port_rows(["chat", "assistant", "embed"]) == {"chat": 0, "assistant": 1, "embed": 2}
    assert home.port_rows(["chat", "embed"]) == {"chat": 0, "embed": 2}
    assert home.port_rows(["wide", "embed", "chat"]) == {"embed": 2, "chat": 0, "wide": 1}


def test_a_damaged_file_only_costs_the_memory_of_it(tmp_path: Path) -> None:
    home = StackHome.of(tmp_path, "local")
    home.prepare()
    (home.folder / "ports.json").write_text("{")
    assert home.port_rows(["chat"]) == {"chat": 0}
