"""The stack file: its typed tree, the one loader, and the errors a user sees."""

from .errors import FreeholdError
from .loader import load_stack, parse_stack, stack_file, stack_names
from .stack import Stack

__all__ = ["FreeholdError", "Stack", "load_stack", "parse_stack", "stack_file", "stack_names"]
