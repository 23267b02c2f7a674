"""Teachers: what frozen encoders say of every picture, as targets of `mizoo.Distillation`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mizoo import files
from mizoo.errors import UserError
from mizoo.progress import bar

if TYPE_CHECKING:
    from mizoo.recipes import Recipe

KEPT = "targets.npz"

SIZE = 384  # columns that are kept of an endpoint with more
_AREA = 0.5  # the smallest share of a picture that a further view shows


def targets(
    teachers: Sequence[tuple[str | os.PathLike, str]],
    images: np.ndarray,
    views: int = 6,
    seed: int = 0,
    batch_size: int = 500,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """One vector for each picture: the mean of the teachers' features over several views of it.

    The first view is the picture as it is, the others are crops of at least half its area, resized and flipped at
    random. The means of each endpoint are centred, put on their first `SIZE` principal axes where they have more
    columns, and scaled to a mean length of 1, so that every teacher weighs the same; those of all teachers together
    have the length 1. The means of one encoder at a time are held in memory, 4 bytes a value, and for the axes the
    square of their number: `local` maps cost gigabytes.

    Args:
        teachers: pairs of an encoder (what `mizoo.load` takes) and one of its endpoints.
        images: pictures, uint8 (N, H, W, C), of the size that the teachers take.
        views: of each picture.
        seed: of the crops.
        batch_size: pictures a call.
        advance: called with the number of pictures done after each batch, N in all for each encoder and view.

    Returns:
        float16 (N, D).

    Raises:
        UserError: for no teacher, pictures of another size, an endpoint that a teacher does not have, no views, or
            features that are all the same.
    """
    from mizoo import zoo

    if not teachers or views < 1:
        raise UserError(f"There is one teacher and one view at least. Received: {len(teachers)} and views={views}")
    by_encoder: dict[str, list[str]] = {}
    for encoder, endpoint in teachers:
        if not isinstance(encoder, (str, os.PathLike)):
            raise UserError(f"A teacher is named as `mizoo.load` takes it. Received: {type(encoder).__name__}")
        by_encoder.setdefault(os.fspath(encoder), []).append(endpoint)
    encoders = {name: zoo.load(name) for name in by_encoder}
    for name, endpoints in by_encoder.items():  # all of them before the first is asked, which takes its time
        _check(name, encoders[name], endpoints, images.shape[1:])
    parts = {}
    for name, endpoints in by_encoder.items():
        means = _means(encoders[name], endpoints, images, views, seed, batch_size, advance)
        for endpoint in list(means):
            parts[name, endpoint] = _scaled(means.pop(endpoint), f"{name}, {endpoint}")
    together = np.concatenate([parts[os.fspath(encoder), endpoint] for encoder, endpoint in teachers], axis=1)
    length = np.linalg.norm(together, axis=1, keepdims=True)
    return (together / np.maximum(length, 1e-12)).astype("float16")


def of_run(
    recipe: Recipe, images: np.ndarray, folder: Path, taught_by: str | None
) -> tuple[np.ndarray | None, str | None]:
    """The targets that a recipe's objective asks for, kept in the run folder, and a hash of all that decides them.

    Args:
        recipe: of the run.
        images: what it trains on.
        folder: of the run.
        taught_by: the hash that the run began with, or None.

    Returns:
        Targets and hash, None and None where the objective has no teachers.

    Raises:
        UserError: for a run that began with teachers of other weights, or on other pictures.
    """
    chosen = getattr(recipe.objective, "teachers", ())
    if not chosen:
        return None, None
    views, seed = recipe.objective.teacher_views, recipe.training.seed
    said = {"teachers": chosen, "weights": facts(recipe)["teachers"], "views": views, "area": _AREA, "size": SIZE}
    said |= {"seed": seed, "shape": images.shape, "pictures": hashlib.sha256(np.ascontiguousarray(images)).hexdigest()}
    key = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    if taught_by not in (None, key):
        raise UserError(
            f"{folder} has been trained with other targets than its teachers give now: their weights or the pictures "
            "are others. Put those back, or choose another folder with --out."
        )
    file = folder / KEPT
    if file.is_file():
        with np.load(file) as kept:
            if str(kept["key"]) == key:
                return kept["targets"], key
    total = len(images) * views * len({encoder for encoder, _ in chosen})
    with bar("what the teachers say", total, shown=True) as advance:
        found = targets(chosen, images, views, seed, advance=advance)
    with files.atomic(file) as path:
        np.savez(path, targets=found, key=key)
    return found, key


def facts(recipe: Recipe) -> dict[str, Any]:
    """`teachers`: the name of each teacher of a recipe and the SHA-256 of its file; empty where it has none."""
    from mizoo import zoo

    names = {encoder for encoder, _ in getattr(recipe.objective, "teachers", ())}
    return {"teachers": {name: files.sha256(zoo.encoder_file(name)) for name in sorted(names)}} if names else {}


def _check(name: str, encoder: Any, endpoints: list[str], shape: tuple[int, ...]) -> None:
    takes = tuple(encoder.input_shape[1:])
    if len(takes) != len(shape) or any(size not in (None, given) for size, given in zip(takes, shape)):
        raise UserError(f"The teacher {name} takes pictures of shape {takes}. Received: {shape}")
    has = list(encoder.output) if isinstance(encoder.output, dict) else ["features"]
    if missing := [endpoint for endpoint in endpoints if endpoint not in has]:
        raise UserError(f"The teacher {name} has no endpoint {missing[0]}; it has {', '.join(has)}.")


def _means(
    encoder: Any, endpoints: list[str], images: np.ndarray, views: int, seed: int, batch_size: int, advance
) -> dict[str, np.ndarray]:
    """Endpoint -> float32 (N, d), the mean over the views of the flattened features."""
    import keras

    from mizoo import augment
    from mizoo.data.batching import VIEWS, generator
    from mizoo.evaluate.features import features

    crops = augment.Compose([augment.RandomResizedCrop((_AREA, 1.0)), augment.Flip()])
    sums: dict[str, np.ndarray] = {}
    for view in range(views):
        rng = generator(seed, VIEWS, view)
        for start in range(0, len(images), batch_size):
            seen = images[start : start + batch_size]
            if view:
                noise = rng.random((len(seen), crops.noise_size), dtype=np.float32)
                seen = keras.ops.convert_to_numpy(crops(seen, noise))
            for endpoint, found in features(encoder, seen, batch_size, endpoints).items():
                if endpoint not in sums:
                    sums[endpoint] = np.zeros((len(images), found.shape[1]), "float32")
                sums[endpoint][start : start + len(seen)] += found.astype("float32") / views
            if advance is not None:
                advance(len(seen))
    return sums


def _scaled(mean: np.ndarray, title: str) -> np.ndarray:
    """Centred (in place), on its principal axes where it is wide, and of the mean length 1."""
    before = float(np.linalg.norm(mean, axis=1).mean())
    mean -= mean.mean(axis=0, dtype="float64").astype("float32")
    length = float(np.linalg.norm(mean, axis=1).mean())
    if not length > 1e-4 * before:
        raise UserError(f"The teacher ({title}) says the same of every picture: there is nothing to learn from it.")
    if mean.shape[1] > SIZE:
        _, axes = np.linalg.eigh(mean.T @ mean)  # in the order of rising variance, each with either sign
        axes = axes[:, : -SIZE - 1 : -1]
        mean = mean @ (axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(SIZE)]))
        length = float(np.linalg.norm(mean, axis=1).mean())
    return mean / length
