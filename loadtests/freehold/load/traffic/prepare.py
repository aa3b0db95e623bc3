"""Makes the texts ready before a run: whoever counts tokens, the counted corpus, the chat template."""

from __future__ import annotations

import logging

from freehold.config import FreeholdError

from ..test import LoadTest
from .corpus import load_corpus
from .sessions import TOOLS
from .text import Template, TextMaker
from .tokens import fingerprint, token_counter


def make_texts(test: LoadTest, key: str | None) -> TextMaker:
    """Count the corpus with the model's tokenizer, or take the counts of an earlier run."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would tell each of a thousand counts
    counter = token_counter(test.base_url, key, test.model, test.tokenizer)
    name = fingerprint(counter)
    try:
        corpus = load_corpus(test.corpora, name, counter.count, counter.exact)
    except OSError as error:
        where = error.filename or test.corpora
        raise FreeholdError(f"cannot keep the counted texts: {where}: {error.strerror}") from None
    return TextMaker(corpus, Template.measured(counter, TOOLS), test.salt)
