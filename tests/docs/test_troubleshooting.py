"""Messages on the troubleshooting page are ones that the code can say."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from .pages import DOCS, ROOT

_SOURCES = ("platform/freehold", "workloads/freehold", "loadtests/freehold", "Makefile")
# What others say: the shell, EC2, the kubelet.
_OTHERS = {"command not found", "InsufficientInstanceCapacity", "ImagePullBackOff"}


@cache
def said() -> str:
    """Every string of the code, a placeholder where one is filled in."""
    texts = [(ROOT / "Makefile").read_text()]
    for source in _SOURCES:
        for file in (ROOT / source).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (
                        part.value if isinstance(part, ast.Constant) else "\0"
                        for part in node.values
                    )
                    texts.append("".join(map(str, parts)))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def messages() -> list[str]:
    """What stands in code in the first column of a table of messages."""
    page = (DOCS / "troubleshooting.md").read_text()
    tables = re.findall(r"^\| message \|.*\n\| ---.*\n((?:\|.*\n)+)", page, re.MULTILINE)
    cells = [row.split(" | ")[0] for table in tables for row in table.splitlines()]
    return [
        text for cell in cells for text in re.findall(r"`([^`]+)`", cell) if text not in _OTHERS
    ]


@pytest.mark.parametrize("message", messages())
def test_the_message_exists(message: str) -> None:
    missing = [
        part for part in message.split("...") if part.strip(' "') and part.strip() not in said()
    ]
    assert missing == []
