"""The measures that take no labels: which pictures they use, what they return, as rows are made of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mizoo import measures
from mizoo.errors import UserError
from mizoo.evaluate.features import features, pixels
from mizoo.evaluate.parts import fitted_and_scored
from mizoo.evaluate.protocols import ALL

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
        scored: pictures that the measures without a fit use.
    """

    name: str
    split: str
    train: np.ndarray | None
    held_out: np.ndarray
    scored: np.ndarray


def pictures(dataset: Any, split: str, train_split: str, size: int | None, fitted: bool) -> Pictures:
    """The pictures of the measures.

    Args:
        dataset: as `mizoo.data.load` takes it; labels are not looked at.
        split, train_split: what is fitted on and what is scored (`mizoo.evaluate.parts`). Data of a single split are
            measured whole, and for the fitted measures a fifth of them, 5,000 at most, drawn at random, is held out.
        size: height and width that the pictures get.
        fitted: whether any measure is fitted.

    Raises:
        UserError: for what `mizoo.data.load` refuses, data that are no pictures, and fewer than two pictures.
    """
    from mizoo import data

    given = getattr(dataset, "images", dataset)
    if isinstance(given, np.ndarray):
        _check(given)
    splits = data.splits(dataset)
    if len(splits) == 1:
        whole = data.load(dataset, splits[0], size=size)
        _check(whole.images)
        order = np.random.default_rng(SEED).permutation(len(whole))
        cut = min(round(HELD_OUT * len(order)), AT_MOST)
        train, held = whole.images[np.sort(order[cut:])], whole.images[np.sort(order[:cut])]
        return Pictures(whole.name, WHOLE, train if fitted else None, held, whole.images)
    train, scored = fitted_and_scored(dataset, split, train_split, size, fitted)
    _check(scored.images)
    return Pictures(scored.name, split, train.images if fitted else None, scored.images, scored.images)


def _check(images: np.ndarray) -> None:
    if images.ndim != 4 or len(images) < 2:
        raise UserError(
            f"The measures take two pictures at least, (N, H, W, C). Received: an array of shape {images.shape}."
        )


def default_endpoints(model: Any) -> list[str] | None:
    """`global` alone where an encoder has it, as fitted measures of wide endpoints are slow; else all."""
    declared = getattr(model, "output", None)
    names = list(declared) if isinstance(declared, dict) else list(getattr(model, "endpoints", None) or ())
    return [ENDPOINT] if ENDPOINT in names else None


def measure(
    model: Any,
    data: Pictures,
    protocols: Sequence[str],
    endpoints: Sequence[str] | None,
    steps: Any,
) -> Iterator[tuple[str, str, float, dict[str, Any], tuple[int, int], tuple[float, float]]]:
    """Measure an encoder.

    Args:
        model: the encoder; None for raw pixels.
        data: from `pictures`.
        protocols: names of `mizoo.evaluate.protocols.MEASURES`.
        endpoints: endpoints to measure; by default `default_endpoints`.
        steps: the display of the progress.

    Yields:
        Protocol, endpoint, value, settings, (pictures fitted on, scored), (seconds, CPU seconds).
    """
    if "alignment" in protocols and data.scored.shape[-1] != 3:
        raise UserError(
            "`alignment` compares views that differ in colour, and these pictures have one channel: name the other "
            "measures one by one (`--protocol effective_rank`, ...)."
        )
    chosen = default_endpoints(model) if endpoints is None else list(endpoints)

    def extracted(images: np.ndarray, title: str) -> dict[str, np.ndarray]:
        """Features of the pictures by endpoint, with progress."""
        step = steps.start(title, len(images))
        found = extract(model, images, chosen, step.advance)
        return {name: value.astype("float32") for name, value in found.items()}

    scored = extracted(data.scored, "features to measure")
    train, held = {}, scored
    if data.train is not None:
        train = extracted(data.train, "features to fit on")
        held = scored if data.held_out is data.scored else extracted(data.held_out, "features held out")
    views: list[dict[str, np.ndarray]] = []
    for protocol in protocols:
        if protocol == "alignment" and not views:
            views = [augmented(model, data.scored, chosen, number, steps) for number in (0, 1)]
        for endpoint, whole in scored.items():
            fits = ALL[protocol].fits
            sizes = (len(data.train), len(data.held_out)) if fits else (0, len(data.scored))
            for variant, _ in ALL[protocol].columns:
                title = f"{protocol}{f', {variant}' if variant else ''}, {endpoint}"
                started, cpu = time.perf_counter(), time.process_time()
                if protocol == "mine":
                    fitted = (data.train, train[endpoint], data.held_out, held[endpoint])
                    value, settings = _fitted(protocol, fitted, {}, steps, title)
                elif protocol == "ndm":
                    fitted = (train[endpoint], held[endpoint])
                    value, settings = _fitted(protocol, fitted, {"sigmoid": variant == "sigmoid"}, steps, title)
                elif protocol == "alignment":
                    value = measures.alignment(views[0][endpoint], views[1][endpoint])
                    settings = {"alpha": 2, "augment": AUGMENT, "augment_seed": SEED}
                else:
                    value, settings = _CLOSED[protocol, variant](whole)
                seconds = (time.perf_counter() - started, time.process_time() - cpu)
                yield protocol, endpoint, value, settings, sizes, seconds


def _fitted(protocol: str, data: tuple, options: dict[str, Any], steps: Any, title: str) -> tuple[float, dict]:
    from mizoo.evaluate import mine, ndm  # they import Keras

    module = mine if protocol == "mine" else ndm
    step = steps.start(title, module.SCHEDULE.max_steps)
    value, settings = module.fit_score(*data, **options, advance=step.advance)
    step.finish(f"{value:.3f} nats")
    return value, settings


def _prior_fit(summary: Callable) -> Callable:
    name = "worst" if summary is np.max else "mean"
    return lambda x: (float(summary(measures.prior_fit(x))), {"variant": name, "prior": "uniform", "of": "sigmoid"})


_CLOSED: dict[tuple[str, str], Callable[[np.ndarray], tuple[float, dict[str, Any]]]] = {
    ("prior_fit", "mean"): _prior_fit(np.mean),
    ("prior_fit", "worst"): _prior_fit(np.max),
    ("effective_rank", ""): lambda x: (measures.effective_rank(x), {"of": x.shape[1]}),
    ("uniformity", ""): lambda x: (measures.uniformity(x), {"t": 2}),
}


def extract(
    model: Any, images: np.ndarray, endpoints: Sequence[str] | None, advance: Callable[[int], None] | None = None
) -> dict[str, np.ndarray]:
    """Features of an encoder, or of raw pixels where it is None; see `mizoo.evaluate.features.features`."""
    if model is not None:
        return features(model, images, endpoints=endpoints, advance=advance)
    if endpoints is not None and list(endpoints) != ["pixels"]:
        raise UserError(f"Raw pixels have the one endpoint `pixels`. Received: {', '.join(endpoints)}")
    return pixels(images)


def augmented(
    model: Any, images: np.ndarray, endpoints: Sequence[str] | None, number: int, steps: Any
) -> dict[str, np.ndarray]:
    """Features of one augmented view of each picture: view `number` of the preset `AUGMENT`."""
    from keras import ops

    from mizoo import augment

    change = augment.preset(AUGMENT)
    rng = np.random.default_rng((SEED, number))
    step = steps.start(f"features of view {number + 1}", len(images))
    found: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        noise = rng.random((len(block), change.noise_size), dtype=np.float32)
        view = ops.convert_to_numpy(change(block, noise))
        for name, value in extract(model, view, endpoints).items():
            found.setdefault(name, []).append(value)
        step.advance(len(block))
    return {name: np.concatenate(values) for name, values in found.items()}
