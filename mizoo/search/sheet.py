"""Queries and what was found for them, as one picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mizoo._tools.files import atomic, user_path
from mizoo.data import pictures
from mizoo.errors import UserError
from mizoo.search.index import Hit

_TILE, _GAP, _TEXT = 128, 8, 16  # pixels
_INK, _FAINT, _GONE = "#222222", "#777777", "#dddddd"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_ROWS = 50  # queries on a sheet


def draw(
    found: Sequence[tuple[Path, Sequence[Hit]]],
    out: str | os.PathLike,
    depth: int | None = None,
    max_pixels: int | None = None,
) -> Path:
    """Write a row for each query: its picture, then what was found, with similarity and file name below each.

    A picture that is gone, or cannot be read as RGB, is a grey tile.

    Args:
        found: as of `PictureIndex.search`; the first 50 queries are drawn.
        out: a .png, .jpg or .webp file.
        depth, max_pixels: those of the index.

    Raises:
        UserError: for another suffix, or a file that cannot be written.
    """
    out = user_path(out)
    if out.suffix.lower() not in _SUFFIXES:
        raise UserError(f"The picture must be one of {', '.join(_SUFFIXES)}. Received: {out}")
    found = found[:_ROWS]
    columns = 1 + max(len(hits) for _, hits in found)
    cell, row = _TILE + _GAP, _TILE + 2 * _TEXT + _GAP
    sheet = Image.new("RGB", (columns * cell + 3 * _GAP, len(found) * row + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (query, hits) in enumerate(found):
        top = _GAP + number * row
        cells = [(query, "query"), *((hit.path, f"{hit.similarity:.3f}") for hit in hits)]
        for column, (path, label) in enumerate(cells):
            left = _GAP + column * cell + (2 * _GAP if column else 0)
            sheet.paste(_tile(path, depth, max_pixels), (left, top))
            pen.text((left, top + _TILE + 1), label, fill=_INK, font=font)
            pen.text((left, top + _TILE + _TEXT), _fitting(path.name, font), fill=_FAINT, font=font)
    try:
        with atomic(out) as temporary:
            sheet.save(temporary)
    except OSError as error:
        raise UserError(f"Cannot write {out}: {error.strerror or error}") from error
    except UserError:  # no room for it
        raise
    except ValueError as error:  # of WebP, which takes 16,383 pixels a side
        raise UserError(
            f"Cannot write {out}: {sheet.width} x {sheet.height} pixels are too large ({error}). Name a .png file, or "
            "show fewer pictures (-k)."
        ) from error
    return out


def _tile(path: Path, depth: int | None, max_pixels: int | None) -> Image.Image:
    try:
        return Image.fromarray(pictures.square(pictures.read(path, depth, max_pixels, notes=[], channels=3), _TILE))
    except UserError:
        return Image.new("RGB", (_TILE, _TILE), _GONE)


def _fitting(name: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """A file name, its beginning left out where it is too long for a tile."""
    shown = name
    while len(shown) > 1 and font.getlength(shown) > _TILE:
        name = name[1:]
        shown = f"…{name}"
    return shown
