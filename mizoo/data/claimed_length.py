"""Sound files that were cut off: the length that the header claims, against what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mizoo.errors import UserError

# What libsndfile writes in its log of a header, such as "data : 160000 (should be 79978)".
_SIZES = re.compile(r"^ *([\w ]+?) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
_FRAMES = re.compile(r"Calculated frame count (\d+) does not match value from 'ds64' chunk of (\d+)")
_OF_SAMPLES = ("data", "SSND", "Data Size")  # the other sizes are of the whole file, which some programs get wrong
_OUTER_SLACK = 64  # bytes of those that may be missing
_STREAM = 0x7FFFF000  # sizes from here on stand for "unknown", as programs that write to a pipe put them
_MP3_SLACK = 3 * 1152  # frames: what encoders put before and after the sound
_OGG_TAIL = 1 << 17  # bytes: more than the largest page


def check(path: Path, file: Any, read: int) -> None:
    """Refuse a sound file that is shorter than it says.

    An MP3 without the header of a variable bit rate does not say its length, and an Ogg that was cut exactly between
    two of its pages looks whole: these pass.

    Args:
        path: the file.
        file: the `soundfile.SoundFile` of it, open.
        read: frames that could be read.

    Raises:
        UserError: naming both lengths.
    """
    if file.format == "OGG":
        if _ends_inside_a_page(path):
            raise UserError("the file is cut off: its last page is not whole. Copy or record it again.")
    elif file.format == "MP3":
        if _says_its_length(path) and read < file.frames - _MP3_SLACK:
            _refuse(f"{file.frames:,} samples", f"{read:,}")
    else:
        _check_log(str(file.extra_info))


def _check_log(log: str) -> None:
    for name, claimed, there in _SIZES.findall(log):
        slack = 1 if name in _OF_SAMPLES else _OUTER_SLACK
        if int(there) + slack < int(claimed) and not _STREAM <= int(claimed) <= 0xFFFFFFFF:
            _refuse(f"{int(claimed):,} bytes", f"{int(there):,}")
    for there, claimed in _FRAMES.findall(log):
        if int(there) < int(claimed):
            _refuse(f"{int(claimed):,} samples", f"{int(there):,}")


def _refuse(claimed: str, there: str) -> None:
    raise UserError(
        f"the file is cut off: its header says {claimed}, and {there} are there. Copy or record it again, or save what "
        "is left as a new file."
    )


def _ends_inside_a_page(path: Path) -> bool:
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - _OGG_TAIL))
        tail = stream.read()
    page = tail[tail.rfind(b"OggS") :]
    if not page.startswith(b"OggS"):
        return False
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


def _says_its_length(path: Path) -> bool:
    """Whether an MP3 begins with a frame that holds the number of frames."""
    with open(path, "rb") as stream:
        head = stream.read(10)
        if head.startswith(b"ID3") and len(head) == 10:
            size = sum((byte & 127) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            stream.seek(10 + size)
        else:
            stream.seek(0)
        first = stream.read(1 << 12)
    return any(name in first for name in (b"Xing", b"Info", b"VBRI"))
