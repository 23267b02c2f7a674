"""Pictures that are drawn: four shapes in any colour, at any place, on any ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ("cross", "disc", "ring", "stripes")


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 (count, 32, 32, 3) and the numbers of their shapes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(SHAPES)
    y, x = np.mgrid[:32, :32]
    images = np.empty((count, 32, 32, 3), np.uint8)
    for i, label in enumerate(labels):
        cx, cy, size = *rng.uniform(11, 21, 2), rng.uniform(6, 10)
        far = np.hypot(x - cx, y - cy)
        inside = {
            "disc": far < size,
            "ring": (far < size) & (far > size - 3),
            "cross": ((abs(x - cx) < 2) | (abs(y - cy) < 2)) & (far < size),
            "stripes": (far < size) & ((x + y).astype(int) % 6 < 3),
        }[SHAPES[label]]
        ground, ink = rng.uniform(0, 120, 3), rng.uniform(130, 255, 3)
        picture = np.where(inside[..., None], ink, ground) + rng.normal(0, 8, (32, 32, 3))
        images[i] = np.clip(picture, 0, 255)
    return images, labels


def write(folder: Path, count: int, seed: int) -> Path:
    """Write them to a folder of class folders."""
    for i, (image, label) in enumerate(zip(*draw(count, seed))):
        file = folder / SHAPES[label] / f"{i:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return folder
