"""What is sent: real text of exact token lengths, in the patterns of real clients."""

from .spec import Kind, Traffic, tier_traffic
from .text import TextMaker

__all__ = ["Kind", "TextMaker", "Traffic", "tier_traffic"]
