"""Blocks that say so are run, and must print what the page shows.

`<!-- run -->` in the line before a block of shell or Python: run it, in a copy of the stack files, and
expect exit code 0. `<!-- run: exit 2 -->`: expect that code. A block marked `<!-- shows -->` after it is
compared with what came out: its lines must appear in that order, any number standing for any number
and `...` for anything. `<!-- run: stack -->` needs the laptop stack, here with simulated engines and another
port in place of 8080; these run with the end-to-end tests. `<!-- not run: REASON -->` is for those that could
run here and do not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from ports import free_row

from .pages import ROOT, Block, blocks


@dataclass(frozen=True)
class Example:
    """A block to run and what the page says it shows."""

    block: Block
    shows: Block | None

    @property
    def code(self) -> int:
        found = re.match(r"run: exit (\d+)", self.block.mark)
        return int(found[1]) if found else 0


def examples(*, on_a_stack: bool) -> list[Example]:
    all_of = list(blocks())
    found = []
    for block, after in zip(all_of, [*all_of[1:], None], strict=True):
        if block.mark.startswith("run") and (block.mark == "run: stack") == on_a_stack:
            shows = after if after and after.mark == "shows" and after.page == block.page else None
            found.append(Example(block, shows))
    return found


def stack_files(folder: Path) -> Path:
    """The stack files, with the commands and folders where the docs say they are."""
    for file in ROOT.glob("Pulumi*.yaml"):
        shutil.copy(file, folder)
    for name in (".venv", "docs", "tests", "platform", "workloads", "observability", "loadtests"):
        (folder / name).symlink_to(ROOT / name)
    return folder


_WITH = {"bash": ("bash", "-euo", "pipefail", "-c"), "python": (sys.executable, "-c")}


def run(text: str, checkout: Path, language: str = "bash") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_WITH.get(language, _WITH["bash"]), text],
        cwd=checkout,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def judge(example: Example, done: subprocess.CompletedProcess[str]) -> None:
    output = done.stdout + done.stderr
    assert done.returncode == example.code, output
    if example.shows:
        missing = first_missing(example.shows.text, output)
        assert missing is None, f"the page shows {missing!r}; what came out:\n{output}"


@pytest.mark.parametrize(
    "example", examples(on_a_stack=False), ids=lambda example: example.block.where
)
def test_marked_blocks_do_what_the_page_says(example: Example, tmp_path: Path) -> None:
    judge(example, run(example.block.text, stack_files(tmp_path), example.block.language))


@dataclass(frozen=True)
class Laptop:
    """A checkout whose local stack runs, on ports of its own."""

    checkout: Path
    port: int

    def run(self, text: str, language: str = "bash") -> subprocess.CompletedProcess[str]:
        return run(text.replace(":8080", f":{self.port}"), self.checkout, language)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    """The stack of Pulumi.local.yaml with simulated engines."""
    made = Laptop(stack_files(tmp_path_factory.mktemp("laptop")), free_row(24)[0])
    file = made.checkout / "Pulumi.local.yaml"
    document = yaml.safe_load(file.read_text())
    tree = document["config"]["freehold:stack"]
    tree["gateway"]["port"] = made.port
    tree["engine_ports_from"] = made.port + 8
    tree["cache"]["port"] = made.port + 18
    tree["cache"]["redis"]["port"] = made.port + 19
    tree["observability"]["prometheus"]["port"] = made.port + 20
    file.write_text(yaml.safe_dump(document))
    tools = ROOT / ".freehold" / "tools"
    if tools.is_dir():  # programs that were fetched once need not be fetched again
        (made.checkout / ".freehold").mkdir()
        (made.checkout / ".freehold" / "tools").symlink_to(tools)
    up = made.run("freehold up local --engine simulated")
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        yield made
    finally:
        made.run("freehold down local")


@pytest.mark.e2e
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "example", examples(on_a_stack=True), ids=lambda example: example.block.where
)
def test_blocks_on_a_running_stack(example: Example, laptop: Laptop) -> None:
    judge(example, laptop.run(example.block.text, example.block.language))


# Other programs, accounts and machines; make targets are what CI calls.
_ELSEWHERE = re.compile(
    r"\b(pulumi|kubectl|aws|helm|docker|git|make|vllm serve)\b|<\S+>|\$[A-Z_]{2,}|\.example\.com"
)


def test_what_can_run_here_is_run_or_says_why_not() -> None:
    """Runbooks are for a stack of the reader's; tests/monitoring holds them to the alerts."""
    silent = [
        block.where
        for block in blocks()
        if block.language in ("bash", "sh")
        and not block.page.startswith("docs/runbooks/")
        and not block.mark.startswith(("run", "not run: ", "fork: "))
        and not _ELSEWHERE.search(block.text)
    ]
    assert silent == []


def test_there_are_examples_on_the_pages_a_newcomer_reads() -> None:
    covered = {example.block.page for example in examples(on_a_stack=False)}
    assert {"docs/index.md", "docs/tiers/small.md", "docs/choosing-a-model.md"} <= covered


# --- The shape of an output --------------------------------------------------------------------------


def first_missing(shown: str, output: str) -> str | None:
    """The first shown line that does not come, in order, in the output."""
    lines = iter(output.splitlines())
    for want in shown.splitlines():
        if want.strip() and want.strip() != "..." and not any(_matches(want, got) for got in lines):
            return want
    return None


def _matches(want: str, got: str) -> bool:
    pattern = r"\s+".join(_pattern(word) for word in want.split())
    pattern = pattern.replace(r".*\s+", ".*").replace(r"\s+.*", ".*")
    return re.fullmatch(pattern, got.strip()) is not None


def _pattern(word: str) -> str:
    parts = re.split(r"(\.\.\.|\d[\d.,]*)", word)
    return "".join(
        ".*" if part == "..." else r"\d[\d.,]*" if part[:1].isdigit() else re.escape(part)
        for part in parts
    )


def test_a_shape_matches_other_numbers_and_no_other_words() -> None:
    output = "stack small: EKS\nall in  1.382   1,009\n"
    assert first_missing("stack small: ...\nall in 9.9 1", output) is None
    assert first_missing("all in 9.9 1\nstack small: ...", output) == "stack small: ..."
    assert first_missing("all out 9.9 1", output) == "all out 9.9 1"
