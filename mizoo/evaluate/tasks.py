"""The tasks of the protocols that take labels: pictures with classes, and the digits and speakers of sounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mizoo import data
from mizoo._tools.progress import Progress
from mizoo.data.dataset import Dataset
from mizoo.errors import UserError
from mizoo.evaluate.cache import FeatureCache
from mizoo.evaluate.features import clip_features
from mizoo.evaluate.protocols import Protocol, Task
from mizoo.evaluate.splits import fit_and_test_splits
from mizoo.zoo import interface

SOUND_SPLITS = {"test": ("train", "test"), "validation": ("fit", "validation")}
SOUND_LABELS = ("digit", "speaker")
SOUND_ENDPOINTS = ("local", "global")


class PictureTasks:
    """The tasks of labelled pictures: the features of an endpoint are extracted when a protocol first takes them.

    Args:
        encoder: the encoder; None for raw pixels.
        dataset: as `mizoo.data.load` takes it, with labels.
        split, train_split: see `mizoo.evaluate.splits.fit_and_test_splits`.
        size: what the pictures are brought to, as of `mizoo.data.load`.
        endpoints: names; by default those of each protocol (`Protocol.endpoints`).
        cache: keeps the features.
        progress: shows the progress.
        depth: as of `mizoo.data.load`.

    Raises:
        UserError: for data without labels, labels of one class, and a class that is scored and was never fitted on.
    """

    def __init__(
        self,
        encoder: Any,
        dataset: Any,
        split: str,
        train_split: str,
        size: interface.Shape | None,
        endpoints: Sequence[str] | None,
        cache: FeatureCache,
        progress: Progress,
        depth: int | None = None,
    ) -> None:
        train, test = fit_and_test_splits(dataset, split, train_split, size, depth=depth)
        assert train is not None
        self.encoder, self.split, self.endpoints = encoder, split, endpoints
        self.train, self.test, self.cache, self.progress = train, test, cache, progress
        self.labels = probe_labels(train, test)
        self._features: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def for_protocol(self, protocol: Protocol) -> list[Task]:
        """A task for each endpoint.

        Raises:
            UserError: for an endpoint that is not there, and a protocol that trains what is no Keras encoder.
        """
        if "encoder" in protocol.takes:
            _check_trainable(self.encoder, protocol.name)
        names = self._names(protocol)
        if "features" in protocol.takes:
            features = self._extracted(names)
        else:
            none = tuple(np.zeros((len(each), 0), "float16") for each in (self.train, self.test))
            features = dict.fromkeys(names or [], none)
        train_y, test_y = self.labels
        return [
            Task(
                dataset=self.train.name,
                split=self.split,
                endpoint=endpoint,
                train_x=train_x,
                train_y=train_y,
                test_x=test_x,
                test_y=test_y,
                classes=max(len(self.train.classes), int(train_y.max()) + 1),
                train_images=self.train.images,
                test_images=self.test.images,
                encoder=self.encoder,
            )
            for endpoint, (train_x, test_x) in features.items()
        ]

    def _names(self, protocol: Protocol) -> list[str] | None:
        """The endpoints that a protocol is run on; None for all of an encoder that does not name them."""
        if self.endpoints is not None:
            if "features" not in protocol.takes:
                known = tuple(interface.outputs(self.encoder))
                if unknown := [name for name in self.endpoints if name not in known]:
                    raise UserError(f"No such endpoint: {', '.join(unknown)}. This encoder has: {', '.join(known)}")
            return list(self.endpoints)
        known = interface.endpoint_names(self.encoder) if self.encoder is not None else ()
        if usual := [name for name in protocol.endpoints if name in known]:
            return usual[:1]
        if not known and "features" not in protocol.takes:
            return list(interface.outputs(self.encoder))
        return list(known) or None

    def _extracted(self, names: list[str] | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        missing = None if names is None else [name for name in names if name not in self._features]
        if missing or missing is None and not self._features:
            parts = []
            for images, title in ((self.train.images, "features to fit on"), (self.test.images, "features to score")):
                line = self.progress.start(title, len(images), "pictures")
                parts.append(self.cache.features(self.encoder, images, missing, line.advance))
            self._features |= {name: (value, parts[1][name]) for name, value in parts[0].items()}
        return {name: self._features[name] for name in names or self._features}


def _check_trainable(encoder: Any, protocol: str) -> None:
    if encoder is None or not hasattr(encoder, "get_weights"):
        kind = "raw pixels" if encoder is None else type(encoder).__name__
        raise UserError(f"`{protocol}` trains a Keras encoder of pictures. Received: {kind}.")


def probe_labels(train: Dataset, test: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The labels of both splits, once a probe can be fitted to them."""
    for each, use in ((train, "fitted on"), (test, "scored")):
        if each.labels is None:
            raise UserError(
                f"A probe needs labels, and the split of {each.name} that is {use} has none. Without labels there are "
                'the measures: protocols=("measures",), on the command line `--protocol measures`'
            )
    assert train.labels is not None and test.labels is not None
    fitted, scored = set(train.labels.tolist()), set(test.labels.tolist())
    if len(fitted) < 2:
        raise UserError(f"A probe distinguishes classes, and the labels of {train.name} are all of one.")
    if unseen := sorted(scored - fitted):
        names = [train.classes[label] if label < len(train.classes) else str(label) for label in unseen]
        raise UserError(
            f"The split of {train.name} that is fitted on holds no picture of {', '.join(names)}, which the scored one "
            "has: a probe recognises only what it was fitted on. Put some there, or leave them out of both."
        )
    return train.labels, test.labels


def sound_tasks(
    encoder: Any, dataset: Any, split: str, train_split: str, endpoints: Sequence[str] | None, progress: Progress
) -> list[Task]:
    """The tasks of one encoder of sounds: for the digits and for the speakers one for each endpoint.

    Args:
        encoder: a Keras encoder as `mizoo.encoders.waveform` builds.
        dataset: "spoken_digit", the one set of sounds with labels.
        split: "test": takes 5-49 are fitted on and takes 0-4 scored. "validation": takes 10-49, and takes 5-9.
        train_split: "train"; nothing else is supported.
        endpoints: some of `local` (the mean of the frames) and `global` (that of the contexts); both if None.
        progress: shows the progress.

    Raises:
        UserError: for another data set, split or endpoint, or an encoder of ONNX Runtime.
    """
    known = data.sounds.SPOKEN_DIGIT
    if not isinstance(dataset, str) or dataset != known:
        given = repr(dataset) if isinstance(dataset, str) else type(dataset).__name__
        raise UserError(
            f"{interface.encoder_name(encoder)} takes sounds, and the labelled sounds are dataset={known!r}. "
            f"Received: {given}"
        )
    if train_split != "train":
        raise UserError(f"Probes of sounds are fitted on the whole of 'train'. Received: {train_split!r}")
    if unknown := [name for name in endpoints or () if name not in SOUND_ENDPOINTS]:
        raise UserError(
            f"Whole clips are probed by `local` (the mean of the frames) and `global` (that of the contexts). "
            f"Received: {', '.join(unknown)}"
        )
    if not hasattr(encoder, "layers"):
        raise UserError("Encoders of sounds are measured as Keras models: pass the name of the entry or a .keras file.")
    train, test = (data.sounds.load(known, name) for name in SOUND_SPLITS[split])
    features = []
    for clips, title in ((train.clips, "features to fit on"), (test.clips, "features to score")):
        line = progress.start(title, len(clips), "clips")
        means = clip_features(encoder, clips, advance=line.advance)
        features.append({name: means[name] for name in endpoints or SOUND_ENDPOINTS})
    return label_tasks(train, test, features[0], features[1], split)


def label_tasks(
    train: data.sounds.Sounds,
    test: data.sounds.Sounds,
    train_x: dict[str, np.ndarray],
    test_x: dict[str, np.ndarray],
    split: str = "test",
    labels: Sequence[str] = SOUND_LABELS,
) -> list[Task]:
    """A task for each kind of label and each endpoint, from two sets of sounds and their features by endpoint."""
    from mizoo.data.batching import epoch_order

    # The linear probe holds out its last tenth, and clips come sorted by digit.
    order = epoch_order(0, 0, len(train))
    return [
        Task(
            dataset=f"{train.name}/{label}",
            split=split,
            endpoint=endpoint,
            train_x=values[order],
            train_y=train.labels[label][order],
            test_x=test_x[endpoint],
            test_y=test.labels[label],
            classes=len(train.classes[label]),
        )
        for label in labels
        for endpoint, values in train_x.items()
    ]
