"""Training a classifier on an encoder with labels: frozen, unfrozen, or the same architecture from new weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mizoo._tools.arrays import check_whole, to_numpy
from mizoo._tools.checks import check_choice, check_real, check_seed, check_sizes
from mizoo._tools.keras_backend import fast_precision
from mizoo._tools.keras_private import all_layers
from mizoo.data.pictures import check_images
from mizoo.data.sampling import shuffled_batches, stratified
from mizoo.errors import UserError
from mizoo.zoo import interface
from mizoo.zoo.copies import random_copy, weighted_copy

MODES = ("frozen", "unfrozen", "scratch")
_BATCH = 500  # pictures a call where nothing is trained


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long and how fast a classifier is trained: the same for every mode and any number of labels.

    Args:
        steps: steps of the optimiser at most.
        batch_size: pictures a step; fewer labelled ones are repeated within it.
        rate: Adam's learning rate after the warm-up, from where it falls to 0 along a cosine.
        warmup: steps in which the rate rises from 0.
        check_every: steps between two looks at the validation part.
        patience: looks without an improvement after which training ends.
        held_out: share of the labelled pictures that is held out as validation part, where none is given.
        most_held_out: pictures of it at most.
        augment: a preset of `mizoo.augment` for the training pictures: "dim" shifts by up to 4 pixels and flips.

    Raises:
        UserError: for numbers that make no training, or an unknown preset.
    """

    steps: int = 1500
    batch_size: int = 128
    rate: float = 1e-3
    warmup: int = 100
    check_every: int = 100
    patience: int = 5
    held_out: float = 0.1
    most_held_out: int = 2000
    augment: str = "dim"

    def __post_init__(self) -> None:
        check_sizes(steps=self.steps, batch_size=self.batch_size, check_every=self.check_every, patience=self.patience)
        check_real(self.rate, "rate", above=0)
        check_real(self.warmup, "warmup", minimum=0)
        check_real(self.held_out, "held_out", minimum=0, below=1)
        check_real(self.most_held_out, "most_held_out", minimum=0)


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """A trained classifier.

    Attributes:
        model: a `keras.Model` in float32 from pictures (B, H, W, C), 0..255, to logits (B, classes).
        validation_accuracy: in percent, of the step that was kept; None where there was no validation part.
        step: the step whose weights were kept.
        history: (step, mean training loss since the last look, validation accuracy) of each look.
        settings: everything that decided the training.
    """

    model: Any
    validation_accuracy: float | None
    step: int
    history: tuple[tuple[int, float, float | None], ...]
    settings: dict[str, Any]

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, classes) of pictures (N, H, W, C), 0..255, in inference mode.

        Raises:
            UserError: as of `mizoo.data.pictures.check_images`.
        """
        return _logits(self.model, check_images(images, interface.input_shape(self.model), cast=False))

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
        """Top-1 accuracy in percent, of pictures as of `logits` and their classes (N,).

        Raises:
            UserError: as of `logits`; for labels that are not one whole number for each picture.
        """
        logits = self.logits(images)
        return 100 * float(np.mean(logits.argmax(axis=1) == _check_labels(labels, len(logits))))


def finetune(
    encoder: Any,
    images: np.ndarray,
    labels: np.ndarray,
    classes: int | None = None,
    mode: str = "unfrozen",
    endpoint: str | None = None,
    budget: Budget | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
    precision: str | None = None,
    advance: Callable[[int], None] | None = None,
    class_weights: str | Sequence[float] | None = None,
) -> Finetuned:
    """Train a linear layer on one endpoint of an encoder, and the encoder with it unless it is frozen.

    Args:
        encoder: a Functional `keras.Model` of pictures. It is not changed.
        images: the labelled pictures (N, H, W, C), 0..255, of the encoder's size.
        labels: their classes (N,), 0..classes-1.
        classes: number of classes; by default one more than the largest label.
        mode: "frozen": the linear layer alone is trained. "unfrozen": everything is, but batch normalisation is held:
            its statistics and its scales stay those of the pretraining (with few labels, or a small batch, new
            statistics are worse ones); of an encoder that is frozen in part, so do the frozen layers. "scratch": the
            same architecture from new weights, batch normalisation and layers that pretraining held fixed included.
        endpoint: what the linear layer is put on, flattened; by default `fc`, else `global`, else the only output.
        budget: by default `Budget()`.
        validation: pictures and labels, as `images` and `labels`, that decide when training ends and which weights are
            kept; by default a stratified part of `images`, which is then not trained on.
        seed: of the new weights, the order of the pictures, their augmentation and the validation part.
        precision: dtype policy of Keras for the training; by default bfloat16 products where the machine is fast at
            them. The result is in float32.
        advance: called with the number of steps done, `budget.steps` in all.
        class_weights: None, every picture counts the same; "balanced", every class does, N / (classes its pictures); or
            a weight above 0 for each class. They weigh the loss, and the accuracy by which weights are kept.

    Raises:
        UserError: for an encoder that is no Keras model of pictures, an unknown mode or endpoint, pictures of another
            size, labels that do not fit or are of one class, weights that are none, and a training that diverges.
    """
    import keras

    from mizoo import augment

    budget = budget or Budget()
    mode = check_choice(mode, "mode", MODES)
    check_seed(seed)
    endpoint = _endpoint(encoder, endpoint)
    shape = interface.input_shape(encoder)
    images = check_images(images, shape, cast=False)
    labels, classes = _check_classes(labels, len(images), classes)
    if validation is not None:
        validation = _check_validation(validation, shape, classes)
    weights = _class_weights(class_weights, labels, classes)
    precision = precision or fast_precision()
    augmentation = augment.preset(budget.augment, channels=np.shape(images)[-1])
    train, held_out = _held_out(images, labels, budget, seed) if validation is None else (slice(None), None)
    train_x, train_y = images[train], labels[train]
    checked = validation if held_out is None else (images[held_out], labels[held_out])

    model = build_classifier(encoder, classes, mode, endpoint, seed, precision)
    model.compile(
        optimizer=keras.optimizers.Adam(_rate(budget)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    rng = np.random.default_rng((seed, 1))
    best = _Best(budget.patience, weights)
    history: list[tuple[int, float, float | None]] = []
    losses: list[float] = []
    for step, rows in enumerate(shuffled_batches(len(train_x), budget.batch_size, budget.steps, rng), start=1):
        batch = train_x[rows].astype("float32")
        if augmentation is not None:
            noise = rng.random((len(rows), augmentation.noise_size), dtype=np.float32)
            batch = keras.ops.convert_to_numpy(augmentation(batch, noise))
        sample_weight = None if weights is None else weights[train_y[rows]]
        losses.append(float(model.train_on_batch(batch, train_y[rows], sample_weight=sample_weight)))
        if advance is not None:
            advance(1)
        if step % budget.check_every and step != budget.steps:
            continue
        if not np.isfinite(losses).all():
            raise UserError(f"Training diverged before step {step}: the loss is {losses[-1]}. Lower `rate`.")
        accuracy = None if checked is None else best.look(model, checked, step)
        history.append((step, float(np.mean(losses)), accuracy))
        losses = []
        if checked is not None and best.exhausted:
            break
    if advance is not None:
        advance(budget.steps - history[-1][0])
    if checked is not None:
        model.set_weights(best.weights)
    settings = {
        "mode": mode,
        **dataclasses.asdict(budget),
        "head": "linear",
        "batch_normalisation": "trained" if mode == "scratch" else "held",
        "held_out_size": 0 if checked is None else len(checked[1]),
        "kept_step": best.step or history[-1][0],
        "precision": precision,
        **({} if weights is None else {"class_weights": [round(float(each), 6) for each in weights]}),
    }
    final = _in_float32(encoder, model, classes, mode, endpoint, seed)
    return Finetuned(final, best.accuracy, settings["kept_step"], tuple(history), settings)


def build_classifier(encoder: Any, classes: int, mode: str, endpoint: str, seed: int, precision: str | None) -> Any:
    """A `keras.Model` from pictures to logits (B, classes): a copy of an encoder up to an endpoint, and a linear layer.

    What `mode` does not train is not trainable; held layers run in inference mode. Layers that the encoder holds fixed
    stay so, unless all of it is frozen or `mode` is "scratch", which trains everything.
    """
    import keras

    copy = random_copy(encoder, seed, precision) if mode == "scratch" else weighted_copy(encoder, precision)
    every = all_layers(copy)
    for layer in every if mode == "scratch" or not copy.trainable_variables else []:
        layer.trainable = True
    features = keras.layers.Flatten(dtype="float32", name="classifier_input")(interface.outputs(copy)[endpoint])
    glorot = keras.initializers.GlorotUniform(seed=seed)
    logits = keras.layers.Dense(classes, kernel_initializer=glorot, dtype="float32", name="class_logits")(features)
    model = keras.Model(copy.inputs[0], logits, name="classifier")
    for layer in every:
        if mode == "frozen" or (mode == "unfrozen" and isinstance(layer, keras.layers.BatchNormalization)):
            layer.trainable = False
    return model


class _Best:
    """The weights that do best on the validation part: highest accuracy, among equal ones the lowest loss.

    Both are weighted by class where `class_weights` (classes,) are given.
    """

    def __init__(self, patience: int, class_weights: np.ndarray | None = None) -> None:
        self.patience, self.since, self.class_weights = patience, 0, class_weights
        self.rank: tuple[float, float] = (-1.0, 0.0)
        self.weights: list[np.ndarray] = []
        self.accuracy: float | None = None
        self.step = 0

    def look(self, model: Any, validation: tuple[np.ndarray, np.ndarray], step: int) -> float:
        """Score the weights of a step, keep them if they are the best so far, and return their accuracy in percent."""
        images, labels = validation
        logits = _logits(model, images).astype("float64")
        logits -= logits.max(axis=1, keepdims=True)
        weights = None if self.class_weights is None else self.class_weights[labels]
        losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
        loss = np.average(losses, weights=weights)
        accuracy = 100 * float(np.average(logits.argmax(axis=1) == labels, weights=weights))
        self.since += 1
        if (accuracy, -loss) > self.rank:
            self.rank, self.since = (accuracy, -loss), 0
            self.weights, self.accuracy, self.step = model.get_weights(), accuracy, step
        return accuracy

    @property
    def exhausted(self) -> bool:
        """Whether `patience` looks brought nothing."""
        return self.since >= self.patience


def _endpoint(encoder: Any, endpoint: str | None) -> str:
    import keras

    if not isinstance(encoder, keras.Model):
        raise UserError(
            f"A Keras model is trained. Received: {type(encoder).__name__}. Load the entry with `runtime='keras'`"
        )
    if interface.kind(encoder) != "pictures":
        raise UserError(f"Encoders of pictures are fine-tuned. {encoder.name} takes {interface.kind(encoder)}.")
    known = list(interface.outputs(encoder))
    if endpoint is None:
        return next((name for name in ("fc", "global") if name in known), known[-1])
    if endpoint not in known:
        raise UserError(f"No such endpoint: {endpoint}. This encoder has: {', '.join(known)}")
    return endpoint


def _check_labels(labels: Any, count: int, classes: int | None = None) -> np.ndarray:
    """Labels as int64 (N,), once they are one for each of `count` pictures, and of `classes`."""
    if labels is None:
        raise UserError("Training with labels needs them. Received: labels=None")
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != count:
        remedy = ""
        if labels.ndim == 2:
            remedy = " Take `labels[:, 0]`." if labels.shape[1] == 1 else " Of one-hot rows: `labels.argmax(axis=1)`."
        raise UserError(
            f"`labels` holds one whole number for each of {count} pictures. Received: {labels.dtype} of shape "
            f"{labels.shape}.{remedy}"
        )
    if classes is not None and (labels.min() < 0 or labels.max() >= classes):
        raise UserError(f"Labels are from 0 to {classes - 1}. Received: {labels.min()} to {labels.max()}")
    return labels.astype("int64")


def _check_classes(labels: Any, count: int, classes: int | None) -> tuple[np.ndarray, int]:
    """Labels to train with, and the number of classes."""
    labels = _check_labels(labels, count)
    if len(np.unique(labels)) < 2:
        raise UserError("A classifier distinguishes classes, and these labels are all of one.")
    number = int(labels.max()) + 1 if classes is None else check_whole(classes, "classes", 1)
    return _check_labels(labels, count, number), number


def _check_validation(given: Any, shape: interface.Shape, classes: int) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise UserError(f"`validation` is two arrays, pictures and their labels. Received: {type(given).__name__}")
    images = check_images(given[0], shape, "validation", cast=False)
    return images, _check_labels(given[1], len(images), classes)


def _class_weights(given: str | Sequence[float] | None, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """Weights (classes,), float32; None where every picture counts the same."""
    if given is None:
        return None
    if isinstance(given, str):
        check_choice(given, "class_weights", ("balanced",))
        counts = np.bincount(labels, minlength=classes)
        return (len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))).astype("float32")
    weights = to_numpy(given, "class_weights")
    if weights.shape != (classes,) or weights.dtype.kind not in "iuf" or not (weights > 0).all():
        raise UserError(
            f"`class_weights` is None, 'balanced', or a number above 0 for each of {classes} classes. Received: "
            f"{given!r}"
        )
    return weights.astype("float32")


def _held_out(images: np.ndarray, labels: np.ndarray, budget: Budget, seed: int) -> tuple[Any, Any]:
    """Rows to train on and rows to validate on; none of the latter where a share of the labels makes no picture."""
    count = min(round(budget.held_out * len(labels)), int(budget.most_held_out))
    rows = stratified(labels, count, seed)
    if not len(rows):
        return slice(None), None
    rest = np.setdiff1d(np.arange(len(labels)), rows)
    return rest, rows


def _rate(budget: Budget) -> Any:
    import keras

    warmup = min(int(budget.warmup), budget.steps // 2)
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else budget.rate,
        budget.steps - warmup,
        warmup_target=budget.rate if warmup else None,
        warmup_steps=warmup,
    )


def _logits(model: Any, images: np.ndarray) -> np.ndarray:
    blocks = [
        np.asarray(model.predict_on_batch(images[start : start + _BATCH].astype("float32")), dtype="float32")
        for start in range(0, len(images), _BATCH)
    ]
    return np.concatenate(blocks)


def _in_float32(encoder: Any, trained: Any, classes: int, mode: str, endpoint: str, seed: int) -> Any:
    """The trained classifier in float32: what is measured and saved does not depend on the precision of training."""
    final = build_classifier(encoder, classes, mode, endpoint, seed, None)
    final.set_weights(trained.get_weights())
    return final
