"""The picker in Go chooses, answers and counts as the one in Python does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.gateway import compiled, names
from freehold.gateway.picker import index, policy, prompt

from . import vectors

ROOT = Path(__file__).parents[2]
# Not its own, and what no picker has a part in.
_NOT_AGAIN = ("test_picker.py", "test_bedrock.py", "test_bedrock_here.py")


def _go(*arguments: str) -> str:
    command = ["go", *arguments]
    done = subprocess.run(
        command, cwd=compiled.SOURCES, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_vectors_are_what_the_picker_in_python_does() -> None:
    written = vectors.FILE.read_text()
    assert written == vectors.as_text(), "python tests/picker/vectors.py"


def test_the_compiled_picker_does_the_same() -> None:
    _go("vet", ".")
    assert _go("test", ".").startswith("ok")


def test_its_sources_are_in_form() -> None:
    command = ["gofmt", "-l", "."]
    done = subprocess.run(command, cwd=compiled.SOURCES, capture_output=True, text=True, check=True)
    assert not done.stdout


def test_both_use_the_same_names_and_limits() -> None:
    source = "\n".join(path.read_text() for path in compiled.SOURCES.glob("*.go"))
    told = dict(re.findall(r'^\s*(?:const )?(\w+)\s+= "?([^"\s]+)"?$', source, re.MULTILINE))
    same = {
        "bodyNamespace": names.BODY,
        "modelKey": names.MODEL,
        "streamKey": names.STREAM,
        "usageAskedKey": names.USAGE_ASKED,
        "destination": names.DESTINATION,
        "sessionHeader": names.SESSION,
        "lotHeader": names.LOT,
        "lots": names.LOTS,
        "pickerAgent": names.PICKER_AGENT,
        "filterName": names.PICKER_FILTER,
        "capacity": index.CAPACITY,
        "chunkBytes": prompt.CHUNK_BYTES,
        "maxChunks": prompt.MAX_CHUNKS,
        "loadFactor": policy.LOAD_FACTOR,
        "idleShare": policy.IDLE_SHARE,
        "candidates": policy.CANDIDATES,
    }
    assert {name: told[name].replace("_", "") for name in same} == {
        name: str(value).replace("_", "") for name, value in same.items()
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("folder", [".", "fuzz"])
def test_every_gateway_holds_with_the_compiled_picker(folder: str) -> None:
    """The gateway's own tests once more, and the attacks: those before sound configurations."""
    files = (ROOT / "tests" / "gateway" / folder).glob("test_*.py")
    again = [str(path) for path in files if path.name not in _NOT_AGAIN]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *again]
    marks = "not vllm and not e2e" + (" and not long" if folder == "fuzz" else "")
    done = subprocess.run(
        [*command, "-k", "not test_catches", "-m", marks],
        cwd=ROOT,
        env={**os.environ, "FREEHOLD_PICKER": "compiled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
