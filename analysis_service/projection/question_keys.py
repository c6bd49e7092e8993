"""What makes a question the same one: its text where that is known, else its id. Pure.

Runs of one benchmark that come through different harnesses have ids of their own; they meet by the hash of the text.
"""

from collections.abc import Sequence

from shared.submission import Question

_BY_ID = "id:"


def question_keys(questions: Sequence[Question]) -> tuple[str, ...]:
    """The key of each attempt's question, by which runs share questions; it depends on these attempts alone.

    Without a hash the id, as `id:<id>`. With one `<n>:<hash>`: n is 1, and more for the second distinct id that has
    this hash, in order of first appearance, and so on, since a benchmark may hold a text twice. Attempts without a
    hash are at the question whose hash was told first with their id. No hash or id can imitate another one's key.
    """
    hashes: dict[str, str] = {}
    for question in questions:
        if question.content_hash:
            hashes.setdefault(question.question_id, question.content_hash)
    if not hashes:
        return tuple(_BY_ID + question.question_id for question in questions)
    known: dict[tuple[str, str], str] = {}
    copies: dict[str, int] = {}
    keys = []
    for question in questions:
        content_hash = question.content_hash or hashes.get(question.question_id)
        if content_hash is None:
            keys.append(_BY_ID + question.question_id)
            continue
        text = (content_hash, question.question_id)
        if text not in known:
            copies[content_hash] = copies.get(content_hash, 0) + 1
            known[text] = f"{copies[content_hash]}:{content_hash}"
        keys.append(known[text])
    return tuple(keys)


def hash_in(key: str) -> str | None:
    """The content hash of the question that has this key; None if it is known by its id."""
    return None if key.startswith(_BY_ID) else key.partition(":")[2]


def copy_in(key: str) -> int:
    """Which of the questions with this text it is, from 1; 1 if it is known by its id."""
    return 1 if key.startswith(_BY_ID) else int(key.partition(":")[0])
