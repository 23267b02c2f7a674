"""A few steps of a recipe on this machine: seconds a picture, memory, and the precision that is faster."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mizoo._tools.progress import Progress
from mizoo.new.choose import Cost

_BATCH = 64  # pictures a step while measuring
_STEPS = 3
_LONGEST = 15.0  # seconds of steps of a stage, after which no more are taken
_PRECISIONS = ("mixed_bfloat16", "float32")


def measure(
    content: dict[str, Any], precision: str | None = None, progress: Progress | None = None, pictures: int = _BATCH
) -> Cost:
    """Train a recipe for a few steps on noise, stage by stage.

    Args:
        content: the recipe, with `data.stages`. Its data are not read, and weights to start from are not loaded.
        precision: that to train in; None tries the first stage in both and takes the faster.
        progress: shows what is measured.
        pictures: in a step, at most; what a step takes beside them, such as the optimiser, counts for more in few.

    Returns:
        The cost in that precision.
    """
    from mizoo import recipes

    recipe = recipes.validate(content)
    title = f"measuring {recipe.encoder.name} at {recipe.encoder.side} pixels"
    line = None if progress is None else progress.start(title, len(recipe.data.stages))
    tried = _PRECISIONS if precision is None else (precision,)
    import keras  # noqa: F401  # before the memory of the process is looked at

    count = min(pictures, recipe.training.batch_size)
    scale = recipe.training.batch_size / count
    before = _peak_memory()
    first = {each: _seconds_per_picture(recipe, recipe.data.stages[0], each, count) for each in tried}
    taken = scale * max(0, _peak_memory() - before)
    if line is not None:
        line.advance()
    precision = min(first, key=lambda each: first[each])
    seconds = [first[precision]]
    for stage in recipe.data.stages[1:]:
        seconds.append(_seconds_per_picture(recipe, stage, precision, count))
        taken += scale * max(0, _peak_memory() - before)  # a run keeps what an earlier stage has allocated
        if line is not None:
            line.advance()
    if line is not None:
        line.finish(f"{1 / np.mean(seconds):.0f} pictures/s in {precision}")
    return Cost(tuple(seconds), round(before + taken), precision)


def _peak_memory() -> int:
    """The most bytes of memory that this process has held since the last call, or, not on Linux, since it began.

    0 where the system does not tell.
    """
    status, forget = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        peak = int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) * 1024  # type: ignore[index]
        forget.write_text("5")
        return peak
    except (OSError, TypeError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _seconds_per_picture(recipe: Any, stage: Any, precision: str, count: int) -> float:
    """The fastest of a few steps of one stage, after a first one that is traced."""
    import keras

    from mizoo import augment
    from mizoo._tools.keras_backend import dtype_policy

    side = recipe.encoder.side
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    views = augment.preset(recipe.data.augment, stage.view_side, stage.area)
    with dtype_policy(precision):
        encoder = recipe.encoder.model_copy(update={"side": stage.view_side}).build()
        model = recipe.objective.build(encoder, views, 0)
        model.compile(recipe.optimizer.build(_STEPS, recipe.training.epochs))
    times: list[float] = []
    for _ in range(1 + _STEPS):
        began = time.perf_counter()
        model.train_on_batch(images)
        times.append(time.perf_counter() - began)
        if sum(times[1:]) > _LONGEST:
            break
    keras.backend.clear_session()
    return min(times[1:]) / count
