"""Random numbers that hang on what they are for, and on nothing that was drawn before."""

from hashlib import blake2b

import numpy as np


def seeded(purpose: str, seed: int, *data: int | bytes) -> np.random.Generator:
    """A generator that is the same wherever and whenever `purpose`, `seed` (any whole number) and `data` are."""
    digest = blake2b(digest_size=32)
    for part in (purpose.encode(), str(seed).encode(), *(str(d).encode() if isinstance(d, int) else d for d in data)):
        # With its length before it, no part can run into the next.
        digest.update(len(part).to_bytes(8, "little") + part)
    return np.random.Generator(np.random.SFC64(int.from_bytes(digest.digest(), "little")))
