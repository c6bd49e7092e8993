"""Compression: whole values and streams, damaged and greedy ones."""

import gzip
import random
import sys
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression import (
    PIECE_BYTES,
    CompressionError,
    Decoder,
    GzipDecoder,
    ZstdDecoder,
    compress,
    decompress,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODECS = [(ZstdDecoder, compress), (GzipDecoder, gzip.compress)]
BOTH = pytest.mark.parametrize(("make_decoder", "encode"), CODECS, ids=["zstd", "gzip"])
LARGE = random.Random(1).randbytes(600_000) + b"a" * 3_000_000 + b"end"


def decode(decoder: Decoder, stream: bytes, block: int) -> bytes:
    """All that comes out when `stream` goes in by blocks of so many bytes."""
    pieces = [
        piece for start in range(0, len(stream), block) for piece in decoder.decode(stream[start : start + block])
    ]
    assert all(0 < len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@given(st.binary(max_size=5000), st.integers(1, 19))
def test_what_is_compressed_comes_back(data: bytes, level: int) -> None:
    packed = compress(data, level)
    assert decompress(packed, len(data)) == data
    assert zstd.get_frame_info(packed).decompressed_size == len(data)


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 128 * 1024 + 1, 5_000_000])
def test_a_value_of_any_size_comes_back(size: int) -> None:
    data = LARGE[:size]
    assert decompress(compress(data), size) == data


@pytest.mark.parametrize(
    ("packed", "max_bytes", "says"),
    [
        (compress(b"12345"), 4, "more than 4 bytes"),
        (compress(bytes(10**8)), 10**6, "more than 1,000,000 bytes"),
        (compress(b"12345")[:-1], 99, "cut off"),
        (b"", 99, "cut off"),
        (compress(b"1") + compress(b"2"), 99, "something follows"),
        (b"not zstd at all", 99, "not zstd"),
        (compress(b"1" * 9)[:4] + b"\xff" * 30, 99, "damaged"),
    ],
)
def test_values_that_are_refused(packed: bytes, max_bytes: int, says: str) -> None:
    with pytest.raises(CompressionError, match=says):
        decompress(packed, max_bytes)


@BOTH
@settings(max_examples=30)
@given(parts=st.lists(st.binary(max_size=2000), min_size=1, max_size=4), block=st.integers(1, 300))
def test_frames_in_a_row_are_one_stream(
    make_decoder: Callable[[], Decoder], encode: Callable[[bytes], bytes], parts: list[bytes], block: int
) -> None:
    decoder = make_decoder()
    assert decode(decoder, b"".join(map(encode, parts)), block) == b"".join(parts)
    assert decoder.is_complete()


@BOTH
@pytest.mark.parametrize("block", [1000, 10**9])
def test_large_streams_come_in_pieces(
    make_decoder: Callable[[], Decoder], encode: Callable[[bytes], bytes], block: int
) -> None:
    decoder = make_decoder()
    assert decode(decoder, encode(LARGE) + encode(LARGE[:70_000]), block) == LARGE + LARGE[:70_000]
    assert decoder.is_complete()


@BOTH
def test_a_stream_is_complete_only_after_a_frame(
    make_decoder: Callable[[], Decoder], encode: Callable[[bytes], bytes]
) -> None:
    stream = encode(b"some text")
    decoder = make_decoder()
    assert not decoder.is_complete()
    for position in range(len(stream)):
        assert not decoder.is_complete(), position
        decode(decoder, stream[position : position + 1], 1)
    assert decoder.is_complete()
    decode(decoder, stream[:5], 5)
    assert not decoder.is_complete()


@BOTH
@pytest.mark.parametrize("stream", ["text", "good then text", "bit turned"])
def test_damaged_streams(make_decoder: Callable[[], Decoder], encode: Callable[[bytes], bytes], stream: str) -> None:
    good = encode(LARGE[:5000])
    damaged = {
        "text": b'{"run_id": "r"}',
        "good then text": good + b'{"run_id": "r"}',
        "bit turned": good[:-3] + bytes([good[-3] ^ 1]) + good[-2:],
    }[stream]
    if stream == "bit turned" and make_decoder is ZstdDecoder:
        damaged = b"\x28\xb5\x2f\xfd\xff" + good  # its content has no checksum, so break the header
    with pytest.raises(CompressionError):
        decode(make_decoder(), damaged, 10**6)


def test_zeros_after_gzip_are_padding() -> None:
    decoder = GzipDecoder()
    padded = gzip.compress(b"a", mtime=0) + bytes(7) + gzip.compress(b"b", mtime=0) + bytes(512)
    assert decode(decoder, padded, 5) == b"ab"
    assert decoder.is_complete()


@pytest.mark.parametrize(("window_log", "passes"), [(23, True), (24, False)])
def test_zstd_windows_over_8_mib_are_refused(window_log: int, passes: bool) -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window_log})
    stream = compressor.compress(b"x" * 100) + compressor.flush()  # of unknown size, or the window would shrink to it
    if passes:
        assert decode(ZstdDecoder(), stream, 10**6) == b"x" * 100
    else:
        with pytest.raises(CompressionError, match="8 MiB"):
            decode(ZstdDecoder(), stream, 10**6)
