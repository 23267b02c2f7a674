"""The demo: which pieces of real photographs does a published encoder find alike? `mizoo demo`

Needs no network: the photographs come with scikit-image and scikit-learn, the encoder with this package.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.arrays import unit_rows
from mizoo._tools.files import atomic, user_path
from mizoo.data import photographs as installed_photographs
from mizoo.data import pictures
from mizoo.errors import UserError
from mizoo.zoo import interface
from mizoo.zoo.loading import load

# File inside the package -> what it shows. The first twelve give the queries.
PHOTOGRAPHS = {
    "skimage/data/chelsea.png": "cat",
    "skimage/data/motorcycle_left.png": "motorcycle",
    "sklearn/datasets/images/china.jpg": "temple",
    "skimage/data/coffee.png": "coffee",
    "skimage/data/rocket.jpg": "rocket",
    "sklearn/datasets/images/flower.jpg": "flower",
    "skimage/data/astronaut.png": "astronaut",
    "skimage/data/coins.png": "coins",
    "skimage/data/hubble_deep_field.jpg": "galaxies",
    "skimage/data/brick.png": "bricks",
    "skimage/data/camera.png": "cameraman",
    "skimage/data/ihc.png": "tissue",
    "skimage/data/retina.jpg": "retina",
    "skimage/data/moon.png": "moon",
    "skimage/data/grass.png": "grass",
    "skimage/data/gravel.png": "gravel",
}
CREDITS = (
    "Photographs: scikit-image (public domain, CC0); "
    "scikit-learn (temple: danielbuechele, flower: vultilion, CC BY 2.0)"
)
QUERIES = 12
NEIGHBOURS = 5
SAME, OTHER, INK, FAINT = "#2e9e5b", "#c9c9c9", "#222222", "#777777"


@dataclass(frozen=True)
class Crops:
    """Square pieces of photographs.

    Attributes:
        images: uint8 (N, size, size, 3), as the encoder takes them.
        photo: int (N,), the photograph that each is cut from.
        box: int (N, 4), left, top, right, bottom in that photograph, in pixels.
    """

    images: np.ndarray
    photo: np.ndarray
    box: np.ndarray


@dataclass(frozen=True)
class DemoReport:
    """What the demo did. Shares are fractions of all crops whose nearest neighbour is of the same photograph."""

    encoder: str
    endpoint: str
    written: Path
    photographs: int
    crops: int
    encoder_share: float
    pixel_share: float
    chance: float
    encode_seconds: float
    seconds: float

    def __str__(self) -> str:
        return (
            f"Loaded the encoder {self.encoder} (ONNX Runtime, no Keras).\n"
            f"Cut {self.photographs} real photographs into {self.crops} overlapping pieces and encoded them in "
            f"{self.encode_seconds:.2f} s ({self.crops / self.encode_seconds:,.0f} pieces a second).\n"
            "Then looked up, for each piece, the one most like it among all those that do not overlap it.\n"
            "It comes from the same photograph for\n"
            f"  {self.encoder_share:6.1%} of the pieces by the encoder's features ({self.endpoint}),\n"
            f"  {self.pixel_share:6.1%} by raw pixels,\n"
            f"  {self.chance:6.1%} by chance.\n"
            f"Wrote {self.written}: the nearest neighbours of {QUERIES} pieces. {self.seconds:.1f} s in all."
        )


def photographs() -> dict[str, np.ndarray]:
    """Photographs with free licences that are installed with scikit-image and scikit-learn: name -> uint8 (H, W, 3).

    Raises:
        UserError: if neither package is installed.
    """
    paths = {name: installed_photographs.installed(file) for file, name in PHOTOGRAPHS.items()}
    photos = {name: pictures.read(path) for name, path in paths.items() if path is not None}
    if len(photos) < 2:
        raise UserError(
            "The demo shows photographs that come with scikit-image and scikit-learn, and found none. "
            "Install them: `pip install scikit-image scikit-learn`"
        )
    return photos


def cut(photos: Sequence[np.ndarray], size: int) -> Crops:
    """Cut photographs into overlapping squares: a third of the shorter side, at steps of half a square.

    Args:
        photos: uint8 arrays (H, W, 3).
        size: side to which each square is resized, in pixels.
    """
    images, photo, boxes = [], [], []
    for index, picture in enumerate(photos):
        height, width = picture.shape[:2]
        side = min(height, width) // 3
        tops, lefts = (
            np.linspace(0, length - side, 1 + round(2 * (length - side) / side)).astype(int)
            for length in (height, width)
        )
        for top in tops:
            for left in lefts:
                images.append(pictures.square(picture[top : top + side, left : left + side], size))
                photo.append(index)
                boxes.append((left, top, left + side, top + side))
    return Crops(np.stack(images), np.array(photo), np.array(boxes))


def similarities(features: np.ndarray, crops: Crops) -> np.ndarray:
    """Cosine similarity of every crop to every other, (N, N); -inf where both overlap in one photograph.

    The mean over all crops is subtracted first: it is what they have in common.
    """
    flat = features.reshape(len(features), -1).astype(np.float32)
    flat -= flat.mean(axis=0)
    flat = unit_rows(flat)
    scores = flat @ flat.T
    left, top, right, bottom = crops.box.T
    overlap = (
        (crops.photo[:, None] == crops.photo)
        & (left[:, None] < right)
        & (left < right[:, None])
        & (top[:, None] < bottom)
        & (top < bottom[:, None])
    )
    return np.where(overlap, -np.inf, scores)


def share_of_same(scores: np.ndarray, crops: Crops) -> tuple[float, float]:
    """Share of crops whose nearest neighbour is of the same photograph, and the share that chance would give."""
    nearest = scores.argmax(axis=1)
    allowed = np.isfinite(scores)
    same = crops.photo[:, None] == crops.photo
    chance = ((allowed & same).sum(axis=1) / allowed.sum(axis=1)).mean()
    return float((crops.photo[nearest] == crops.photo).mean()), float(chance)


def queries(crops: Crops, count: int = QUERIES) -> list[int]:
    """The middle crop of each of the first `count` photographs: a rule, so that nobody picks winners."""
    chosen = []
    for photo in np.unique(crops.photo)[:count]:
        members = np.flatnonzero(crops.photo == photo)
        centres = (crops.box[members, :2] + crops.box[members, 2:]) / 2
        middle = (centres.min(axis=0) + centres.max(axis=0)) / 2
        chosen.append(int(members[np.abs(centres - middle).sum(axis=1).argmin()]))
    return chosen


def run(
    out: str | os.PathLike = "demo.png", encoder: str | os.PathLike = "dim_local_cifar10", endpoint: str = "fc"
) -> DemoReport:
    """Find the nearest neighbours of pieces of real photographs by an encoder's features, and draw them.

    Args:
        out: the picture to write (.png, .pdf or .svg).
        encoder: a published encoder or the path of one, as for `mizoo.load`. It runs on ONNX Runtime.
        endpoint: the endpoint to compare by.

    Raises:
        UserError: unknown encoder or endpoint, no photographs, an `out` that cannot be written.
    """
    began = time.perf_counter()
    out = user_path(out)
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"The picture must be a .png, .pdf or .svg file. Received: {out}")
    model = load(encoder, endpoint, runtime="onnx")
    size, shape = interface.side(model), interface.input_shape(model)
    if size is None or shape != (size, size, 3):
        raise UserError(f"The demo needs an encoder of square RGB pictures of one size. {encoder} takes {shape}.")
    photos = photographs()
    crops = cut(list(photos.values()), size)

    started = time.perf_counter()
    features = np.asarray(model.predict(crops.images))
    encode_seconds = time.perf_counter() - started

    by_encoder = similarities(features, crops)
    by_pixels = similarities(crops.images, crops)
    encoder_share, chance = share_of_same(by_encoder, crops)
    pixel_share, _ = share_of_same(by_pixels, crops)

    report = DemoReport(
        model.name,
        endpoint,
        out,
        len(photos),
        len(crops.photo),
        encoder_share,
        pixel_share,
        chance,
        encode_seconds,
        0.0,
    )
    figure = _draw(photos, crops, by_encoder, by_pixels, model.name, endpoint, report)
    try:
        with atomic(out) as temporary:
            figure.savefig(temporary, dpi=110, facecolor="white")
    except OSError as error:
        raise UserError(f"Cannot write {out}: {error.strerror or error}") from error
    return DemoReport(**{**vars(report), "seconds": time.perf_counter() - began})


def _draw(
    photos: dict[str, np.ndarray],
    crops: Crops,
    by_encoder: np.ndarray,
    by_pixels: np.ndarray,
    name: str,
    endpoint: str,
    report: DemoReport,
) -> Any:
    """A figure with one block a query: the photograph, and two rows of neighbours. One unit is one neighbour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chosen = queries(crops)
    columns = 3
    rows = -(-len(chosen) // columns)
    block_width, block_height = 9.4, 2.8
    width, height = columns * block_width + 0.1, rows * block_height + 2.4
    figure = Figure((width * 0.62, height * 0.62))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")

    axes.text(0.1, -1.15, f"Pieces of photographs that {name} finds alike", size=17, color=INK, weight="bold")
    axes.text(
        0.1,
        -0.68,
        f"Marked: the query. Upper row: its nearest among {report.crops} pieces of {report.photographs} photographs by "
        f"the encoder's features ({endpoint}); lower row: by raw pixels. Pieces that overlap the query are left out. "
        "Green: from the same photograph.",
        size=10.5,
        color=FAINT,
    )
    names = list(photos)
    for number, query in enumerate(chosen):
        left, top = (number % columns) * block_width, (number // columns) * block_height
        title = names[crops.photo[query]]
        axes.text(left + 0.1, top - 0.1, title, size=11, color=INK)
        _photograph(axes, photos[title], crops.box[query], left + 0.1, top)
        for line, (label, scores) in enumerate((("encoder", by_encoder), ("pixels", by_pixels))):
            y = top + line * 1.1
            axes.text(left + 3.22, y + 0.5, label, size=9, color=FAINT, rotation=90, ha="center", va="center")
            for rank, other in enumerate(np.argsort(-scores[query])[:NEIGHBOURS]):
                x0, y0, x1, y1 = crops.box[other]
                piece = photos[names[crops.photo[other]]][y0:y1, x0:x1]
                same = crops.photo[other] == crops.photo[query]
                _tile(axes, piece, left + 3.4 + rank * 1.1, y, SAME if same else OTHER)
    axes.text(
        0.1,
        rows * block_height + 0.15,
        f"Nearest neighbour from the same photograph, over all {report.crops} pieces: encoder "
        f"{report.encoder_share:.0%}, raw pixels {report.pixel_share:.0%}, chance {report.chance:.0%}.",
        size=12.5,
        color=INK,
    )
    axes.text(width - 0.5, rows * block_height + 0.15, CREDITS, size=8, color=FAINT, ha="right")
    axes.set_xlim(-0.25, width - 0.25)
    axes.set_ylim(height - 1.8, -1.8)
    return figure


def _tile(axes: Any, image: np.ndarray, x: float, y: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    small = pictures.square(image, 96)
    axes.imshow(small, extent=(x, x + 1, y + 1, y), interpolation="antialiased", aspect="auto")
    axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor=colour, linewidth=3))


def _photograph(axes: Any, photo: np.ndarray, box: np.ndarray, x: float, y: float) -> None:
    """The photograph with the query marked, cut to 2.9 by 2.1 units without losing the query."""
    from matplotlib.patches import Rectangle

    height, width = photo.shape[:2]
    left, top, right, bottom = box
    if width / height > 2.9 / 2.1:
        cut_width, cut_height = round(height * 2.9 / 2.1), height
    else:
        cut_width, cut_height = width, round(width * 2.1 / 2.9)
    x0 = int(np.clip((left + right - cut_width) // 2, 0, width - cut_width))
    y0 = int(np.clip((top + bottom - cut_height) // 2, 0, height - cut_height))
    unit = 2.9 / cut_width
    view = photo[y0 : y0 + cut_height, x0 : x0 + cut_width]
    axes.imshow(view, extent=(x, x + 2.9, y + 2.1, y), interpolation="antialiased", aspect="auto")
    corner, side = (x + (left - x0) * unit, y + (top - y0) * unit), (right - left) * unit
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor="white", linewidth=4))
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=INK, linewidth=1.5))
