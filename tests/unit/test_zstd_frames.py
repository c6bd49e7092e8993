"""Frames put together: readers of every kind see one frame of it all."""

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results_service.zstd_frames import splice
from shared.compression import compress, decompress

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHANCE = random.Random(0)
CONTENTS = {
    "nothing": b"",
    "one byte": b"x",
    "text": b'{"questions": [1, 2, 3]}',
    "255 bytes": b"a" * 255,
    "256 bytes": bytes(range(256)),
    "65,791 bytes": CHANCE.randbytes(65_791),
    "65,792 bytes": CHANCE.randbytes(65_792),
    "a block of one byte": b"a" * 200_000,
    "several blocks": b" ".join(b"%x" % CHANCE.getrandbits(20) for _ in range(100_000)),
    "not compressible": CHANCE.randbytes(300_000),
    "a chunk": CHANCE.randbytes(100_000) * 42,
}


@pytest.mark.parametrize("level", [1, 3, 19])
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_head_and_tail_are_in_the_frame(content: bytes, level: int) -> None:
    head, tail = b'{"name": "n", "data":', b"}"
    for prefix, suffix in ((head, tail), (head, b""), (b"", tail), (b"", b""), (head * 20_000, tail * 200_000)):
        frame = splice(prefix, compress(content[: 2**20] if level == 19 else content, level), suffix)
        whole = prefix + (content[: 2**20] if level == 19 else content) + suffix
        assert decompress(frame, len(whole)) == whole
        assert zstd.get_frame_info(frame).decompressed_size == len(whole)


@given(prefix=st.binary(max_size=300), content=st.binary(max_size=300), suffix=st.binary(max_size=300))
def test_any_bytes(prefix: bytes, content: bytes, suffix: bytes) -> None:
    assert decompress(splice(prefix, compress(content), suffix), 900) == prefix + content + suffix


def test_a_checksum_of_the_former_content_goes_away() -> None:
    options: dict[int, int] = {zstd.CompressionParameter.checksum_flag: 1}
    frame = zstd.compress(b"content" * 100, options=options)
    assert decompress(splice(b"<", frame, b">"), 1000) == b"<" + b"content" * 100 + b">"


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"plain text, not compressed",
        compress(b"content")[:-1],
        compress(b"content" * 1000)[:12],
        compress(b"content") + b"more",
        # written as a stream, it does not tell its size
        (streaming := zstd.ZstdCompressor()).compress(b"content") + streaming.flush(),
    ],
    ids=["empty", "plain", "cut", "cut in a block", "followed", "size unknown"],
)
def test_what_is_no_whole_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(ValueError, match="zstd frame"):
        splice(b"<", frame, b">")
