"""What a page shows of an encoder's features, computed once and cached: this alone needs the encoder and its pictures.

Everything is of a fixed number of test pictures and a bank of training pictures, drawn with a fixed seed; nothing is
chosen by it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mizoo import data
from mizoo._tools.arrays import unit_rows
from mizoo._tools.progress import Progress
from mizoo.data import duplicates
from mizoo.data.choosing import load_or_stream
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError
from mizoo.evaluate import copies, measures
from mizoo.evaluate.features import features, pixels, random_copy
from mizoo.evaluate.protocols.knn import class_votes
from mizoo.evaluate.splits import fit_and_test_splits
from mizoo.recipes.starting_weights import copy_weights
from mizoo.report.page.kept import Arrays, kept
from mizoo.report.page.subject import Subject
from mizoo.zoo import interface
from mizoo.zoo.loading import load_hashed

SHOWN, BANK, PICKED = 2000, 10_000, 512
NEIGHBOURS, QUERIES = 8, 10
THUMBNAIL = 32
BINS = 40
_PERPLEXITY, _COMPONENTS = 30, 50
_FORMAT = 3  # another one where the arrays come to mean something else


def study(subject: Subject, endpoint: str, cache: Path, progress: Progress) -> Arrays:
    """The arrays of a page about an encoder, from the cache where they are there.

    Args:
        subject: the encoder and the pictures.
        endpoint: that is shown; an encoder's only output where it has one.
        cache: the folder that keeps them.
        progress: shows the progress.

    Returns:
        {} for an encoder of sounds. Otherwise, of M pictures: `thumbnails` uint8 (M, t, t, 3), `place` (M, 2) of the
        map in 0..1, `labels` (M,) (-1 without), `classes`, `queries` (Q,) and their `neighbours` (Q, k), `taken_for`
        (M,) and `certainty` (M,) of kNN, `hits` (3, M) with the encoder, random weights and pixels, or (4, M) with the
        weights that the run began with, `filters` (n, h, w, 3), `histogram` (bins,) of the values that
        `measures.uniform_where_matched` gives, `state` (rank, relative spread, coordinates), `picks` (trained, others,
        among how many, -1 where the training data are not at hand), `sizes` (bank, M), and `copied`, how many of the M
        are among the training pictures too.
    """
    determining = {
        "format": _FORMAT,
        "encoder": subject.sha256,
        "data": subject.source,
        "trained on": [] if subject.recipe is None else [subject.recipe.data.source, subject.recipe.data.split],
        "endpoint": endpoint,
        **({"without": subject.without} if subject.without else {}),
        **({"start": subject.start} if subject.start else {}),
        **({"prior": subject.prior} if subject.prior == "gaussian" else {}),  # the histogram of others is as it was
    }
    arrays = kept(cache, determining, lambda: _compute(subject, endpoint, progress))
    if not arrays:
        return {}
    # Apart, as only this needs the training data: where they are away it is unknown, and computed once they are back.
    memory = kept(
        cache,
        {**determining, "part": "memory"},
        lambda: _memory(subject, str(arrays["endpoint"])),
        lambda found: bool(found["picks"][2] >= 0),
    )
    return arrays | memory


def _compute(subject: Subject, endpoint: str, progress: Progress) -> Arrays:
    line = progress.start(f"{subject.name}: loading encoder and pictures", 5)
    encoder, _ = load_hashed(subject.given)
    if interface.kind(encoder) != "pictures":
        line.finish("no pictures")
        return {}
    names = interface.endpoint_names(encoder)
    endpoint = endpoint if endpoint in names or not names else names[-1]
    bank, shown, copied = _shown(subject, encoder)
    line.advance(1)

    encode = _encoding(endpoint if names else None)
    made = encode(encoder, shown.images)
    arrays: Arrays = {
        "thumbnails": _thumbnails(shown.images),
        "labels": np.full(len(shown), -1) if shown.labels is None else shown.labels,
        "classes": np.array(shown.classes or ("",)),
        "filters": _first_filters(encoder),
        "histogram": np.histogram(measures.uniform_where_matched(made, subject.prior), BINS, (0, 1))[0],
        "state": np.array([measures.effective_rank(made), _relative_spread(made), made.shape[1]]),
        "sizes": np.array([len(bank), len(shown)]),
        "copied": np.array(copied),
        "endpoint": np.array(endpoint),
    }
    line.advance(1)
    arrays["queries"], arrays["neighbours"] = _neighbours(made)
    arrays["place"] = _map(made)
    line.advance(1)
    arrays |= _recognised(subject, encoder, bank, shown, made, encode)
    line.finish()
    return arrays


def _memory(subject: Subject, endpoint: str) -> Arrays:
    encoder, _ = load_hashed(subject.given)
    named = interface.endpoint_names(encoder)
    _, shown, _ = _shown(subject, encoder)
    return {"picks": _picks(subject, encoder, shown, _encoding(endpoint if named else None))}


def _encoding(endpoint: str | None) -> Callable[[Any, np.ndarray], np.ndarray]:
    """From an encoder and pictures to one endpoint of them, float32 (N, D); None for an encoder's only output."""

    def encode(model: Any, images: np.ndarray) -> np.ndarray:
        """The features."""
        found = features(model, images, endpoints=None if endpoint is None else [endpoint])
        return next(iter(found.values())).astype("float32")

    return encode


def _shown(subject: Subject, encoder: Any) -> tuple[Dataset, Dataset, int]:
    of = (subject.dataset, subject.source)
    return _pictures(*of, interface.picture_shape(encoder), subject.depth, subject.without)


@functools.lru_cache(maxsize=2)  # the encoders of a page are shown on the same pictures
def _pictures(
    dataset: str, source: str, size: interface.Shape | None, depth: int | None, without: tuple[str, ...]
) -> tuple[Dataset, Dataset, int]:
    """A bank of training pictures; test pictures, of data without a test split the last fifth; `copied` of `study`.

    `source` says what the data hold now, so that a folder that has changed is read again.
    """
    split = "test" if "test" in data.splits(dataset) else "validation"
    train, test = fit_and_test_splits(dataset, split, "train", size, depth=depth, without=without)
    assert train is not None
    shown = _draw(test, SHOWN)
    return _draw(train, BANK), shown, copies.count(dataset, train.images, shown.images)


def _draw(whole: Dataset, count: int) -> Dataset:
    rows = np.sort(np.random.default_rng(0).permutation(len(whole))[:count])
    labels = None if whole.labels is None else whole.labels[rows]
    return Dataset(whole.name, whole.images[rows], labels, whole.classes)


def _thumbnails(images: np.ndarray) -> np.ndarray:
    from PIL import Image

    if images.shape[-1] != 3:  # the first three of many channels; grey, or the first of two, as grey
        images = images[..., :3] if images.shape[-1] > 3 else np.repeat(images[..., :1], 3, axis=-1)
    if images.shape[1] <= THUMBNAIL and images.shape[1] == images.shape[2]:
        return images
    small = (Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX) for image in images)
    return np.stack([np.asarray(image) for image in small])


def _relative_spread(values: np.ndarray) -> float:
    """Standard deviation of the coordinates over their root mean square."""
    size = float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))
    return float(np.sqrt(np.mean(np.var(values, axis=0, dtype=np.float64)))) / size if size > 0 else 0.0


def _neighbours(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Some pictures, evenly over all, and the nearest other ones by cosine similarity, nearest first."""
    queries = np.linspace(0, len(values) - 1, min(QUERIES, len(values))).astype(int)
    units = unit_rows(values)
    similar = units[queries] @ units.T
    similar[np.arange(len(queries)), queries] = -np.inf
    return queries, np.argsort(-similar, axis=1)[:, : min(NEIGHBOURS, len(values) - 1)]


def _map(values: np.ndarray) -> np.ndarray:
    """A t-SNE of the directions of the features, (M, 2) in 0..1 (van der Maaten and Hinton 2008)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    units = unit_rows(values)
    if min(units.shape) > _COMPONENTS:
        units = PCA(_COMPONENTS, random_state=0).fit_transform(units)
    if len(units) < 4 or not np.ptp(units):
        return np.random.default_rng(0).random((len(units), 2))
    perplexity = min(_PERPLEXITY, (len(units) - 1) / 3)
    with threadpool_limits(1):  # a second thread gains little, and waits in vain on a busy machine: 34 against 12 s
        place = TSNE(perplexity=perplexity, random_state=0, init="random", n_jobs=1).fit_transform(units)
    low, high = place.min(axis=0), place.max(axis=0)
    return ((place - low) / np.maximum(high - low, 1e-9)).astype("float32")


def _first_filters(encoder: Any) -> np.ndarray:
    """The kernels of the first convolution where they are seen as colours, uint8 (n, h, w, 3); else none."""
    for layer in encoder.layers:
        kernel = next((np.asarray(each) for each in layer.weights if each.name == "kernel"), None)
        if kernel is not None:
            break
    else:
        return np.zeros((0, 1, 1, 3), np.uint8)
    if kernel.ndim != 4 or kernel.shape[2] not in (1, 3) or kernel.shape[0] < 2:
        return np.zeros((0, 1, 1, 3), np.uint8)
    filters = np.moveaxis(kernel, -1, 0).astype("float32")
    filters /= np.maximum(np.abs(filters).max(axis=(1, 2, 3), keepdims=True), 1e-9)
    shown = np.clip(127.5 + 127.5 * filters, 0, 255).astype("uint8")
    return np.repeat(shown, 3, axis=-1) if shown.shape[-1] == 1 else shown


def _recognised(subject: Subject, encoder: Any, bank: Dataset, shown: Dataset, made: np.ndarray, encode: Any) -> Arrays:
    """What kNN takes the pictures for, and whether it is right with the encoder and with what it is compared to."""
    count = len(shown)
    if bank.labels is None or shown.labels is None:
        return {"taken_for": np.full(count, -1), "certainty": np.zeros(count), "hits": np.zeros((0, count), bool)}
    classes = max(len(bank.classes), int(bank.labels.max()) + 1, int(shown.labels.max()) + 1)
    blank = random_copy(encoder, seed=0)
    pairs = [
        (encode(encoder, bank.images), made),
        (encode(blank, bank.images), encode(blank, shown.images)),
        (pixels(bank.images)["pixels"].astype("float32"), pixels(shown.images)["pixels"].astype("float32")),
    ]
    if subject.start is not None and subject.recipe is not None:
        began = subject.recipe.encoder.build()
        copy_weights(subject.recipe, began)
        pairs.append((encode(began, bank.images), encode(began, shown.images)))
    votes = [class_votes(fitted, bank.labels, scored, classes) for fitted, scored in pairs]
    first = votes[0] / np.maximum(votes[0].sum(axis=1, keepdims=True), 1e-12)
    return {
        "taken_for": first.argmax(axis=1),
        "certainty": first.max(axis=1),
        "hits": np.stack([each.argmax(axis=1) == shown.labels for each in votes]),
    }


def _picks(subject: Subject, encoder: Any, shown: Dataset, encode: Any) -> np.ndarray:
    """How often a view finds the other view of its picture, in percent: among trained pictures, and among others."""
    recipe, unknown = subject.recipe, np.zeros(3)
    if recipe is None or len(shown.images.shape) != 4 or shown.images.shape[-1] != 3:
        return unknown
    try:
        shape, of = interface.picture_shape(encoder), recipe.data
        trained = load_or_stream(of.source, of.split, shape, of.stream, depth=of.depth, without=of.without_files).images
    except (UserError, OSError):  # of another machine, or gone: unknown until they are back
        return np.array([0.0, 0.0, -1.0])
    others = shown.images[~duplicates.seen(shown.images, trained)]
    count = min(len(trained), len(others), PICKED)
    if count < 2:
        return unknown
    rng = np.random.default_rng(0)
    drawn = [each[np.sort(rng.permutation(len(each))[:count])] for each in (trained, others)]
    preset = "dim" if recipe.data.augment == "none" else recipe.data.augment
    return np.array([*(_share_found(images, preset, encode, encoder) for images in drawn), count])


def _share_found(images: np.ndarray, preset: str, encode: Any, encoder: Any) -> float:
    from keras import ops

    from mizoo import augment

    augmentation = augment.preset(preset)
    views: list[np.ndarray] = []
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        noise = rng.random((len(images), augmentation.noise_size), dtype=np.float32)
        views.append(unit_rows(encode(encoder, ops.convert_to_numpy(augmentation(images, noise)))))
    return float(100 * np.mean((views[0] @ views[1].T).argmax(axis=1) == np.arange(len(images))))


def class_name(classes: Sequence[str], label: int) -> str:
    """What a class is called; its number where it has no name."""
    return classes[label] if 0 <= label < len(classes) and classes[label] else str(label)
