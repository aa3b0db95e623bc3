"""A load test as data: what the command line decides and every generator process reads."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

from pydantic import Field

from freehold.config import FreeholdError
from freehold.config.base import Model

from .arrivals import Process
from .stages import Stage
from .traffic import Traffic

TEST_FILE = "FREEHOLD_LOAD_TEST"
"""Environment variable: the file of the test that locust should run."""
API_KEY = "FREEHOLD_API_KEY"
"""Environment variable: the gateway key. A key is in no file and no command line."""


def new_salt() -> str:
    return secrets.token_hex(8)


class LoadTest(Model):
    """One run. `base_url` is without /v1."""

    base_url: str
    model: str
    out: Path
    """Folder of the records and the report."""
    corpora: Path
    """Folder of the counted texts, kept from run to run."""
    stack: str = ""
    traffic: Traffic | None = None
    """None: what the tier file says."""
    stages: tuple[Stage, ...]
    requests: Annotated[int, Field(ge=1)] | None = None
    """Measured requests of a stage without a length."""
    open_loop: bool = False
    process: Process = "poisson"
    burstiness: Annotated[float, Field(gt=0)] = 1.0
    trace: Path | None = None
    until_saturated: bool = False
    """End with the first stage at which more load brought no more output."""
    processes: Annotated[int, Field(ge=1)] = 1
    """Generator processes, all machines together."""
    warm_users: bool = False
    """The first request of each user of a closed loop is warm-up."""
    salt: str = Field(default_factory=new_salt)
    timeout: Annotated[float, Field(gt=0)] = 600.0
    """Seconds without a byte after which a request has failed."""
    tokenizer: Path | None = None
    max_model_len: int | None = None
    embed_model: str | None = None
    rerank_model: str | None = None
    self_check: bool = True

    @property
    def seconds(self) -> float | None:
        """All stages; None when one has no length."""
        total = 0.0
        for stage in self.stages:
            if stage.seconds is None:
                return None
            total += stage.seconds
        return total


def read_test(path: Path) -> LoadTest:
    try:
        return LoadTest.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FreeholdError(f"cannot read the load test {path}: {error}") from None
