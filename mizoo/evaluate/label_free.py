"""The tasks of the protocols that take no labels: which pictures are fitted on and which are scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mizoo import data
from mizoo._tools.progress import Progress
from mizoo.errors import UserError
from mizoo.evaluate.cache import FeatureCache
from mizoo.evaluate.features import extract
from mizoo.evaluate.protocols import Protocol, Task
from mizoo.evaluate.splits import fit_and_test_splits
from mizoo.zoo import interface

ENDPOINT = "global"
AUGMENT = "views"
SEED = 0
HELD_OUT = 0.2
AT_MOST = 5000
WHOLE = "whole"
_BLOCK = 500


@dataclass(frozen=True)
class Pictures:
    """What is fitted on and what is scored.

    Attributes:
        name: of the data set.
        split: for the rows.
        train: pictures to fit on, or None where nothing is fitted.
        held_out: pictures that a fitted critic is scored on.
        whole: pictures that the protocols without a fit use.
    """

    name: str
    split: str
    train: np.ndarray | None
    held_out: np.ndarray
    whole: np.ndarray


def load_pictures(
    dataset: Any,
    split: str,
    train_split: str,
    size: interface.Shape | None,
    fitted: bool,
    depth: int | None = None,
) -> Pictures:
    """The pictures of the protocols without labels.

    Args:
        dataset: as `mizoo.data.load` takes it; labels are ignored.
        split, train_split: what is fitted on and what is scored (`mizoo.evaluate.splits`). Data of a single split are
            measured whole, and for the fitted protocols a fifth of them, 5,000 at most, drawn at random, is held out.
        size: what the pictures are brought to, as of `mizoo.data.load`.
        fitted: whether any protocol is fitted.
        depth: as of `mizoo.data.load`.

    Raises:
        UserError: for what `mizoo.data.load` refuses, data that are no pictures, and fewer than two pictures.
    """
    given = getattr(dataset, "images", dataset)
    if isinstance(given, np.ndarray) and given.ndim in (2, 3) and given.dtype.kind == "f":
        _check_pictures(given)  # sequences; what else is no pictures `data.load` refuses
    splits = data.splits(dataset)
    if len(splits) == 1:
        only = data.load(dataset, splits[0], size=size, depth=depth)
        _check_pictures(only.images)
        order = np.random.default_rng(SEED).permutation(len(only))
        cut = min(round(HELD_OUT * len(order)), AT_MOST)
        train, held_out = only.images[np.sort(order[cut:])], only.images[np.sort(order[:cut])]
        return Pictures(only.name, WHOLE, train if fitted else None, held_out, only.images)
    fitted_on, scored = fit_and_test_splits(dataset, split, train_split, size, fitted, depth)
    _check_pictures(scored.images)
    return Pictures(scored.name, split, fitted_on.images if fitted_on else None, scored.images, scored.images)


def _check_pictures(images: np.ndarray) -> None:
    if images.ndim != 4 or len(images) < 2:
        raise UserError(
            "The protocols without labels take two pictures at least, (N, H, W, C). Received: an array of shape "
            f"{images.shape}."
        )


def default_endpoints(encoder: Any) -> list[str] | None:
    """`global` alone where an encoder has it, as fitted protocols of wide endpoints are slow; else all."""
    return [ENDPOINT] if ENDPOINT in interface.endpoint_names(encoder) else None


class LabelFreeTasks:
    """The tasks of one encoder, made once: its features of each set of pictures are extracted when first needed.

    Args:
        encoder: the encoder; None for raw pixels.
        pictures: from `load_pictures`.
        protocols: those that will be run.
        endpoints: endpoints to measure; by default `default_endpoints`.
        cache: keeps the features of whole pictures.
        progress: shows the progress.

    Raises:
        UserError: for a protocol that takes views in colour, and pictures of one channel.
    """

    def __init__(
        self,
        encoder: Any,
        pictures: Pictures,
        protocols: Sequence[Protocol],
        endpoints: Sequence[str] | None,
        cache: FeatureCache,
        progress: Progress,
    ) -> None:
        self.encoder, self.pictures, self.cache, self.progress = encoder, pictures, cache, progress
        self.endpoints = default_endpoints(encoder) if endpoints is None else list(endpoints)
        with_views = [protocol.name for protocol in protocols if "views" in protocol.takes]
        channels = pictures.whole.shape[-1]
        if with_views and channels != 3:
            raise UserError(
                f"`{with_views[0]}` compares views that differ in colour, and these pictures have {channels} "
                f"channel{'s' * (channels > 1)}, not 3: name the other protocols one by one (`--protocol "
                "effective_rank`, ...)."
            )
        self.whole = self._features(pictures.whole, "features to measure")
        self.train: dict[str, np.ndarray] = {}
        self.held_out = self.whole
        if pictures.train is not None:
            self.train = self._features(pictures.train, "features to fit on")
            if pictures.held_out is not pictures.whole:
                self.held_out = self._features(pictures.held_out, "features held out")
        self._views: list[dict[str, np.ndarray]] = []

    def for_protocol(self, protocol: Protocol) -> list[Task]:
        """A task for each endpoint, as the protocol takes it."""
        if "views" in protocol.takes and not self._views:
            self._views = [self._view(number) for number in (0, 1)]
        pictures = self.pictures
        return [
            Task(
                dataset=pictures.name,
                split=pictures.split,
                endpoint=endpoint,
                test_x=self.held_out[endpoint] if protocol.fits else whole,
                train_x=self.train[endpoint] if protocol.fits else None,
                train_images=pictures.train if protocol.fits else None,
                test_images=pictures.held_out if protocol.fits else pictures.whole,
                views=tuple(view[endpoint] for view in self._views) if "views" in protocol.takes else (),
                encoder=self.encoder,
            )
            for endpoint, whole in self.whole.items()
        ]

    def _features(self, images: np.ndarray, title: str) -> dict[str, np.ndarray]:
        line = self.progress.start(title, len(images), "pictures")
        features = self.cache.features(self.encoder, images, self.endpoints, line.advance)
        return {name: value.astype("float32") for name, value in features.items()}

    def _view(self, number: int) -> dict[str, np.ndarray]:
        """Features of one augmented view of each picture: view `number` of the preset `AUGMENT`."""
        from keras import ops

        from mizoo import augment

        images, augmentation = self.pictures.whole, augment.preset(AUGMENT)
        rng = np.random.default_rng((SEED, number))
        line = self.progress.start(f"features of view {number + 1}", len(images), "pictures")
        blocks: dict[str, list[np.ndarray]] = {}
        for start in range(0, len(images), _BLOCK):
            block = images[start : start + _BLOCK]
            noise = rng.random((len(block), augmentation.noise_size), dtype=np.float32)
            view = ops.convert_to_numpy(augmentation(block, noise))
            for name, value in extract(self.encoder, view, self.endpoints).items():
                blocks.setdefault(name, []).append(value)
            line.advance(len(block))
        return {name: np.concatenate(values) for name, values in blocks.items()}
