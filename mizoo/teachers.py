"""Teachers: the features that frozen encoders give every picture, as targets of `mizoo.Distillation`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mizoo._tools.arrays import check_whole, to_numpy, unit_rows
from mizoo.data.pictures import check_images
from mizoo.data.streams import Stream
from mizoo.errors import UserError
from mizoo.zoo import interface
from mizoo.zoo.loading import load_hashed

SIZE = 384  # columns of an endpoint at most: wider ones are projected
AREA = 0.5  # the smallest share of a picture that a further view shows


def targets(
    teachers: Sequence[tuple[str | os.PathLike, str]],
    images: np.ndarray,
    views: int = 6,
    seed: int = 0,
    batch_size: int = 500,
    advance: Callable[[int], None] | None = None,
    hashes: Mapping[str, str] | None = None,
) -> np.ndarray:
    """One vector for each picture: the mean of the teachers' features over several views of it.

    The first view is the picture as it is, the others are crops of at least half its area, resized and flipped at
    random. The means of each endpoint are centred, put on their first `SIZE` principal axes where they have more
    columns, and scaled to a mean length of 1, so that every teacher weighs the same; those of all teachers together
    have the length 1. The means of one encoder at a time are held in memory, 4 bytes a value, and for the axes the
    square of their number: `local` maps cost gigabytes.

    Args:
        teachers: pairs of an encoder (what `mizoo.load` takes) and one of its endpoints.
        images: pictures, uint8 (N, H, W, C), of the size that the teachers take; or a `mizoo.data.streams.Stream` of
            them, which is decoded once for each view and encoder.
        views: of each picture.
        seed: of the crops.
        batch_size: pictures a call.
        advance: called with the number of pictures done after each batch, N in all for each encoder and view.
        hashes: encoder -> the SHA-256 that its file must have, of those for which it is known.

    Returns:
        float16 (N, D).

    Raises:
        UserError: for no teacher, a file of another hash, pictures of another size or range, an endpoint that a teacher
            does not have, no views, or features that are all the same.
    """
    if not teachers or views < 1:
        raise UserError(f"There is one teacher and one view at least. Received: {len(teachers)} and views={views}")
    by_encoder: dict[str, list[str]] = {}
    for encoder, endpoint in teachers:
        if not isinstance(encoder, (str, os.PathLike)):
            raise UserError(f"A teacher is named as `mizoo.load` takes it. Received: {type(encoder).__name__}")
        by_encoder.setdefault(os.fspath(encoder), []).append(endpoint)
    seed = check_whole(seed, "seed")
    in_memory = not isinstance(images, Stream)
    images = to_numpy(images, "images") if in_memory else images
    encoders = {name: _load(name, (hashes or {}).get(name)) for name in by_encoder}
    for name, endpoints in by_encoder.items():  # all of them before any features, which take minutes
        _check_teacher(name, encoders[name], endpoints, images.shape[1:])
    if in_memory:
        images = check_images(images, (None, None, None), cast=False)
    blocks = {}
    for name, endpoints in by_encoder.items():
        means = _means(encoders[name], endpoints, images, views, seed, batch_size, advance)
        for endpoint in list(means):
            blocks[name, endpoint] = _scaled(means.pop(endpoint), f"{name}, {endpoint}")
    joined = np.concatenate([blocks[os.fspath(encoder), endpoint] for encoder, endpoint in teachers], axis=1)
    return unit_rows(joined, joined.dtype).astype("float16")


def _load(name: str, expected: str | None) -> Any:
    encoder, found = load_hashed(name)
    if expected not in (None, found):
        raise UserError(
            f"The file of the teacher {name} was exchanged while it was used: its SHA-256 was {expected}, now it is "
            f"{found}. Start again with the one that you mean."
        )
    return encoder


def _check_teacher(name: str, encoder: Any, endpoints: list[str], shape: tuple[int, ...]) -> None:
    expected = interface.input_shape(encoder)
    if len(expected) != len(shape) or any(size not in (None, given) for size, given in zip(expected, shape)):
        raise UserError(f"The teacher {name} takes pictures of shape {expected}. Received: {shape}")
    names = interface.endpoint_names(encoder) or ("features",)
    if missing := [endpoint for endpoint in endpoints if endpoint not in names]:
        raise UserError(f"The teacher {name} has no endpoint {missing[0]}; it has {', '.join(names)}.")


def _means(
    encoder: Any, endpoints: list[str], images: np.ndarray, views: int, seed: int, batch_size: int, advance
) -> dict[str, np.ndarray]:
    """Endpoint -> float32 (N, d), the mean over the views of the flattened features."""
    import keras

    from mizoo import augment
    from mizoo.data.batching import VIEWS, generator
    from mizoo.evaluate.features import features

    crops = augment.Compose([augment.RandomResizedCrop((AREA, 1.0)), augment.Flip()])
    sums: dict[str, np.ndarray] = {}
    for view in range(views):
        rng = generator(seed, VIEWS, view)
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            if view:
                noise = rng.random((len(batch), crops.noise_size), dtype=np.float32)
                batch = keras.ops.convert_to_numpy(crops(batch, noise))
            for endpoint, values in features(encoder, batch, batch_size, endpoints).items():
                if endpoint not in sums:
                    sums[endpoint] = np.zeros((len(images), values.shape[1]), "float32")
                sums[endpoint][start : start + len(batch)] += values.astype("float32") / views
            if advance is not None:
                advance(len(batch))
    return sums


def _scaled(mean: np.ndarray, title: str) -> np.ndarray:
    """Centred (in place), on its principal axes where it is wide, and of the mean length 1."""
    before = float(np.linalg.norm(mean, axis=1).mean())
    mean -= mean.mean(axis=0, dtype="float64").astype("float32")
    length = float(np.linalg.norm(mean, axis=1).mean())
    if not length > 1e-4 * before:
        raise UserError(f"The teacher ({title}) gives every picture the same features: nothing can be learned from it.")
    if mean.shape[1] > SIZE:
        _, axes = np.linalg.eigh(mean.T @ mean)  # in the order of rising variance, each with either sign
        axes = axes[:, : -SIZE - 1 : -1]
        mean = mean @ (axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(SIZE)]))
        length = float(np.linalg.norm(mean, axis=1).mean())
    return mean / length
