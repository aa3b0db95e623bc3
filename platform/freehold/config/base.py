"""The base of every config model: unknown keys are refused, values do not change."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$")]
"""Lower-case letters, digits and dashes: it names pods, processes and metrics."""
Port = Annotated[int, Field(ge=1024, le=65535)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
