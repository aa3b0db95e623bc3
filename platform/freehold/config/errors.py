"""The one exception a user ever sees."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FreeholdError(Exception):
    """Wrong input or a condition the user can mend; `str(error)` is the whole message.

    The command line prints it and exits with `exit_code`; a traceback never reaches a user.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean "x"?)` for the closest known word, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""
