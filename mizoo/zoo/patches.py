"""The Keras file of an entry, made of its ONNX file: both hold the same weights, so a wheel carries them once.

A patch says which pieces of the Keras file stand in the ONNX file, byte for byte, and holds the rest. What it makes has
the pinned hash, or is not used.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable

from mizoo.errors import UserError

SUFFIX = ".patch"
_MAGIC = b"mizoo-patch-1\n"
_SMALLEST = 64  # bytes of a piece that is worth an entry in the list


def make(wanted: bytes, source: bytes, pieces: Iterable[bytes]) -> bytes:
    """The patch that makes `wanted` out of `source`.

    Args:
        wanted: the content of the Keras file.
        source: that of the ONNX file.
        pieces: what both hold: the bytes of the weights.
    """
    found: list[tuple[int, int, int]] = []  # (where in `wanted`, where in `source`, length)
    for piece in sorted(set(pieces), key=len, reverse=True):
        there, here = source.find(piece), wanted.find(piece)
        if len(piece) >= _SMALLEST and there >= 0 and here >= 0:
            found.append((here, there, len(piece)))
    copies, rest, at = [], [], 0
    for here, there, length in sorted(found):
        if here < at:
            continue  # a piece inside another one
        rest.append(wanted[at:here])
        copies.append([here - at, there, length])
        at = here + length
    rest.append(wanted[at:])
    head = json.dumps(copies).encode()
    return _MAGIC + struct.pack("<I", len(head)) + head + zlib.compress(b"".join(rest), 9)


def apply(patch: bytes, source: bytes) -> bytes:
    """The content that a patch makes of the content of the ONNX file.

    Raises:
        UserError: for a damaged patch.
    """
    try:
        if not patch.startswith(_MAGIC):
            raise ValueError("it does not begin as one")
        (size,) = struct.unpack_from("<I", patch, len(_MAGIC))
        begin = len(_MAGIC) + 4
        copies = json.loads(patch[begin : begin + size])
        rest = zlib.decompress(patch[begin + size :])
        parts, at = [], 0
        for own, there, length in copies:
            parts += [rest[at : at + own], source[there : there + length]]
            at += own
    except (ValueError, TypeError, struct.error, zlib.error) as error:
        raise UserError(f"A patch is damaged: {error}. Install this version again.") from error
    return b"".join([*parts, rest[at:]])
