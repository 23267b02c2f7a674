"""Pictures carried in a page: thumbnails on one sheet, and filters, as data addresses."""

from __future__ import annotations

import base64
import io

import numpy as np

COLUMNS = 50
_QUALITY = 72


def sprite(thumbnails: np.ndarray) -> str:
    """Thumbnails (N, t, t, 3) in rows of `COLUMNS` on one sheet, as the address of a WebP picture."""
    count, side = thumbnails.shape[:2]
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * side, COLUMNS * side, 3), np.uint8)
    for i, picture in enumerate(thumbnails):
        row, column = divmod(i, COLUMNS)
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = picture
    return _address(sheet, "WEBP", quality=_QUALITY, method=6)


def filter_sheet(filters: np.ndarray, columns: int = 16) -> tuple[str, int, int]:
    """Filters (n, h, w, 3) side by side with a gap, as the address of a PNG picture, its width and height."""
    count, height, width = filters.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1) + 1, min(columns, count) * (width + 1) + 1, 4), 0, np.uint8)
    for i, each in enumerate(filters):
        y, x = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        sheet[y : y + height, x : x + width, :3] = each
        sheet[y : y + height, x : x + width, 3] = 255
    return _address(sheet, "PNG", optimize=True), sheet.shape[1], sheet.shape[0]


def packed(values: np.ndarray) -> str:
    """Numbers of 0..1 as 16-bit ones, as text that the page's script reads."""
    numbers = np.round(np.clip(values, 0, 1) * 65535).astype("<u2")
    return base64.b64encode(numbers.tobytes()).decode()


def _address(sheet: np.ndarray, form: str, **settings: object) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, form, **settings)
    return f"data:image/{form.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"
