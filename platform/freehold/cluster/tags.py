"""Tags on everything, so that an invoice can be read by stack."""

from __future__ import annotations


def tags(stack: str, name: str | None = None, **more: str) -> dict[str, str]:
    named = {"Name": name} if name else {}
    return {"freehold:stack": stack, **named, **more}
