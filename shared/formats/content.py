"""What makes two questions the same question, whichever harness asked it: their words."""

import unicodedata
from collections.abc import Sequence
from hashlib import sha256

_BETWEEN = "\x1f"


def content_hash(question: str, choices: Sequence[str] = ()) -> str:
    """The hash that a question is known by: of its text and its choices.

    How white space is written and in which order the choices stand makes no difference; anything else does.
    """
    text = _normal(question)
    if choices:
        text = _BETWEEN.join([text, *sorted(map(_normal, choices))])
    return "sha256:" + sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _normal(text: str) -> str:
    return " ".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())
