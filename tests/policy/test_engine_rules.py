"""The real engine keeps every rule, too: a program that breaks all of them is refused, by each one's name."""

from __future__ import annotations

import re
from pathlib import Path

from policy.test_rules import BREAKS
from program.engine import NEEDS_PULUMI, PACK, Engine
from program.programs import ROOT

pytestmark = NEEDS_PULUMI

PROGRAM = f"""
import sys

import pulumi

sys.path.insert(0, "{ROOT / "tests"}")
from policy.test_rules import BREAKS

made, here = pulumi.Resource.__init__, ""


def renamed(self, type_, name, *more, **options):
    made(self, type_, here + name, *more, **options)  # the programs use the same few names


pulumi.Resource.__init__ = renamed
for rule, programs in BREAKS.items():
    for place, program in enumerate(programs):
        here = f"{{rule}}-{{place}}-"
        program()
"""


def test_every_rule_refuses_a_program_that_breaks_it(tmp_path: Path) -> None:
    engine = Engine.of(tmp_path, "small")
    engine.program.write_text(PROGRAM)
    refused = engine.attempt("preview", "--policy-pack", str(PACK))
    assert refused.returncode != 0
    said = re.findall(r"\[mandatory\]\s+(\S+)", refused.stdout)
    assert set(said) == set(BREAKS), refused.stdout + refused.stderr
