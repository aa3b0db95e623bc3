"""Runs a Pulumi program without an engine and keeps what it would have created."""

from .recorder import record
from .resource import Recording, Resource

__all__ = ["Recording", "Resource", "record"]
