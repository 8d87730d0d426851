"""MD5 of many short messages of equal length at once (RFC 1321), vectorized over the messages.

`hashlib` spends over a microsecond a message on call overhead, which dominates where millions of messages of
about a hundred bytes are hashed, as in the enumeration of NAS-Bench-101.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_SHIFTS = [(7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21)]
_CONSTANTS = [np.uint32(int(abs(math.sin(i + 1)) * 2**32)) for i in range(64)]
_START = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_WORD_ORDER = [(1, 0), (5, 1), (3, 5), (7, 0)]
_CHUNK = 16384  # messages at a time: the working set stays in the processor's cache
_Words = NDArray[np.uint32]


def md5_hex(messages: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Return the hexadecimal MD5 ("S32", [n]) of each row of `messages` [n, length].

    >>> md5_hex(np.frombuffer(b"abcabd", dtype=np.uint8).reshape(2, 3)).tolist()
    [b'900150983cd24fb0d6963f7d28e17f72', b'4911e516e5aa21d327512e0c8b197616']
    """
    count, length = messages.shape
    blocks = (length + 8) // 64 + 1
    words = np.empty((count, 4), dtype="<u4")
    padded = np.zeros((min(count, _CHUNK), blocks * 64), dtype=np.uint8)
    padded[:, length] = 0x80
    padded[:, -8:] = np.frombuffer((8 * length).to_bytes(8, "little"), dtype=np.uint8)
    for start in range(0, count, _CHUNK):
        rows = messages[start : start + _CHUNK]
        padded[: len(rows), :length] = rows
        words[start : start + _CHUNK] = _digests(padded[: len(rows)].view("<u4").T.copy())
    return np.frombuffer(words.tobytes().hex().encode(), dtype="S32")


def _digests(words: _Words) -> _Words:
    """Digest words [n, 4] of padded messages, given as words [16 blocks, n]."""
    state = [np.full(words.shape[1], word, dtype=np.uint32) for word in _START]
    for block in range(0, len(words), 16):
        mixed = _compressed(state, words[block : block + 16])
        state = [before + after for before, after in zip(state, mixed, strict=True)]
    return np.stack(state, axis=1)


def _compressed(state: list[_Words], words: _Words) -> list[_Words]:
    """Mix 16 words into the state; buffers are reused, because fresh memory is what would cost most."""
    a, b, c, d = (word.copy() for word in state)
    mixed, rotated = np.empty_like(a), np.empty_like(a)
    for step in range(64):
        quarter = step // 16
        factor, offset = _WORD_ORDER[quarter]
        if quarter == 0:
            np.bitwise_xor(c, d, out=mixed)
            np.bitwise_and(b, mixed, out=mixed)
            np.bitwise_xor(d, mixed, out=mixed)
        elif quarter == 1:
            np.bitwise_xor(b, c, out=mixed)
            np.bitwise_and(d, mixed, out=mixed)
            np.bitwise_xor(c, mixed, out=mixed)
        elif quarter == 2:
            np.bitwise_xor(b, c, out=mixed)
            np.bitwise_xor(d, mixed, out=mixed)
        else:
            np.invert(d, out=mixed)
            np.bitwise_or(b, mixed, out=mixed)
            np.bitwise_xor(c, mixed, out=mixed)
        mixed += a
        mixed += words[(factor * step + offset) % 16]
        mixed += _CONSTANTS[step]
        shift = _SHIFTS[quarter][step % 4]
        np.left_shift(mixed, np.uint32(shift), out=rotated)
        np.right_shift(mixed, np.uint32(32 - shift), out=mixed)
        mixed |= rotated
        mixed += b
        a, b, c, d, mixed = d, mixed, b, c, a
    return [a, b, c, d]
