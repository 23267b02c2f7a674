"""What a run does at the end of an epoch: log, save, show."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mizoo._tools import files, keras_private
from mizoo._tools.averages import averaged
from mizoo._tools.progress import Progress
from mizoo._version import __version__
from mizoo.callbacks import OnlineProbe
from mizoo.data.order import LAYERS, generator
from mizoo.errors import Diverged
from mizoo.evaluate import measures
from mizoo.export.keras_file import to_float32
from mizoo.pretrain.inputs import Job
from mizoo.runs.columns import CEILING, PROBE
from mizoo.runs.folder import (
    CHECKPOINT,
    ENCODER,
    LOG,
    SavedState,
    keep_previous,
    mark_checkpoint,
    read_log,
    write_log,
)

_FILE, _VARIABLE = 1 << 16, 1 << 12  # bytes of an HDF5 file, and of each array in it, beside the numbers
_REMEDY = "Lower `optimizer.learning_rate`, add `optimizer.warmup_epochs`, or raise `training.batch_size`."


class FreshDraws(keras.callbacks.Callback):
    """Begins each epoch with generators in the layers (of dropout, say) whose state is one of the seed and the epoch.

    So an epoch draws the same whatever was drawn before it: in one go or resumed, also from a checkpoint of an earlier
    version, which holds no such state.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Set every generator's state."""
        for index, each in enumerate(keras_private.seed_generators(self.model)):
            start = generator(self.seed, LAYERS, epoch, index).integers(1 << 31)
            each.state.assign([start, 0])


class Record(keras.callbacks.Callback):
    """Writes the log, the encoder and the checkpoint.

    Args:
        job: what is trained.
        encoder: for whole pictures; the objective may train a copy of it for smaller views.
        folder: the run folder.
        start: the epoch that this training begins at.
        last: the epoch that it ends at.
        probes: measured at the end of an epoch, on the encoder for whole pictures.
    """

    def __init__(
        self,
        job: Job,
        encoder: keras.Model,
        folder: Path,
        start: int,
        last: int,
        probes: Sequence[OnlineProbe] = (),
    ) -> None:
        super().__init__()
        self.job, self.encoder, self.folder, self.last = job, encoder, folder, last
        self.probes = probes
        self.kind = "pictures" if job.window is None else "sequences"
        logged = read_log(folder) if (folder / LOG).exists() else []
        self.lines = [line for line in logged if line["epoch"] <= start]
        self.seconds = self.lines[-1]["seconds"] if self.lines else 0.0
        self.saved = start
        self.settled = False  # whether the encoder was saved with the statistics of the end

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Log the terms, the ceilings, the collapse measures and the probes, also for later callbacks; save."""
        elapsed = time.perf_counter() - self.began
        self.seconds += elapsed
        training = self.job.training
        if not np.isfinite(logs["loss"]):
            raise Diverged(
                f"The loss of epoch {epoch + 1} is {logs['loss']}: the run stopped before its checkpoint was replaced. "
                f"{_REMEDY}"
            )
        _check_finite(self.model, epoch + 1)
        encoder = self._whole_encoder()
        features = encoder.predict(self.job.sample, batch_size=250, verbose=0)["global"]
        optimizer = self.model.optimizer
        optimizer = optimizer.optimizers[-1] if hasattr(optimizer, "optimizers") else optimizer
        line = {"epoch": epoch + 1, **{key: float(logs[key]) for key in self.model.term_metrics}}
        line |= {f"{key}{CEILING}": value for key, value in self.model.ceilings(training.batch_size).items()}
        line |= {"spread": measures.spread(features), "effective_rank": measures.effective_rank(features)}
        line |= {
            "learning_rate": float(keras.ops.convert_to_numpy(optimizer.learning_rate)),
            f"{self.kind}_per_second": self.params["steps"] * training.batch_size / elapsed,
            "seconds": self.seconds,
        }
        with averaged(self.model):  # as the encoder is saved
            encoder = self._whole_encoder()
            for probe in self.probes:
                line |= probe.measure(encoder, epoch + 1)
        logs.update({key: value for key, value in line.items() if key != "epoch"})
        self.lines.append({key: float(f"{value:.6g}") for key, value in line.items()})
        if (epoch + 1) % training.checkpoint_epochs == 0 or epoch + 1 == self.last:
            self.save(epoch + 1)

    def save(self, epochs: int) -> None:
        """Write log, encoder and checkpoint, the checkpoint last: it records how far the others are valid."""
        encoder = self._final_encoder(epochs)
        write_log(self.folder, self.lines)
        self._save_encoder(encoder)
        with files.atomic(self.folder / CHECKPOINT) as path:
            files.reserve(path, _bytes(self.model))
            self.model.save_weights(path)
            state = SavedState(epochs, self.job.targets_hash)
            mark_checkpoint(path, dict(self.job.identity), state, __version__)
            keep_previous(self.folder, path)
        self.saved = epochs

    def save_stopped(self, epochs: int) -> None:
        """Save an epoch that another callback has made the last one, as far as it is not saved as that already."""
        if epochs > self.saved:
            self.save(epochs)
        elif not self.settled:
            self._save_encoder(self._final_encoder(epochs))

    def _final_encoder(self, epochs: int) -> keras.Model:
        """The encoder that is saved, at the end of a run with the statistics of its end."""
        encoder = self._float32_encoder()
        self.settled = self._ends(epochs)
        if self.settled:
            self.job.settle_statistics(encoder)
        _check_finite(encoder, epochs)
        return encoder

    def _save_encoder(self, encoder: keras.Model) -> None:
        with files.atomic(self.folder / ENCODER) as path:
            encoder.save(path)

    def _ends(self, epochs: int) -> bool:
        """Whether the run is at its end, that of the recipe or one that a callback made."""
        return epochs == self.job.training.epochs or bool(self.model.stop_training)

    def _whole_encoder(self) -> keras.Model:
        """The encoder for whole pictures, with the weights as they are now."""
        if self.encoder is not self.model.encoder:
            self.encoder.set_weights(self.model.encoder.get_weights())
        return self.encoder

    def _float32_encoder(self) -> keras.Model:
        """The encoder in float32, with the averages of its weights if the optimiser keeps them."""
        with averaged(self.model):
            return to_float32(self._whole_encoder())


def _bytes(model: Any) -> int:
    """What a checkpoint of a model takes at most."""
    variables = [*model.variables, *model.optimizer.variables]
    return _FILE + sum(_VARIABLE + math.prod(each.shape) * 8 for each in variables)


def _check_finite(model: Any, epochs: int) -> None:
    """Refuse to go on with weights that are NaN or infinite: nothing of them is written."""
    for variable in model.variables:
        value = keras.ops.convert_to_numpy(variable)
        if not np.isfinite(value.astype("float32")).all():
            raise Diverged(
                f"The weights {variable.path} are not finite after epoch {epochs}: the run stopped before its encoder "
                f"and its checkpoint were replaced. {_REMEDY}"
            )


class SaveStopped(keras.callbacks.Callback):
    """Saves the epoch at which a callback before it stops the training.

    At the end of the training Keras has put averages of the weights (`optimizer.ema`), and a callback perhaps those of
    its best epoch, in the place of what was trained.
    """

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """Save, where this epoch is the last."""
        if self.model.stop_training:
            self.record.save_stopped(epoch + 1)


class ProgressLines(keras.callbacks.Callback):
    """Shows a bar on a terminal, and everywhere a line for each epoch: its terms, the rate and the time left.

    Args:
        job: what is trained.
        batches: what it is trained on.
        last: the epoch that this training ends at.
        progress: the display. Who made it opens and closes it: Keras does not call `on_train_end` where a training is
            interrupted or fails.
    """

    def __init__(self, job: Job, batches: Any, last: int, progress: Progress) -> None:
        super().__init__()
        self.job, self.batches, self.last, self.progress = job, batches, last, progress

    def on_train_begin(self, logs=None) -> None:
        """Announce the run."""
        batches = self.batches
        first = batches.start_epoch
        self.progress.print(
            f"{self.job.name}: epochs {first + 1} to {self.last} of {self.job.training.epochs}, "
            f"{batches.steps_per_epoch} steps of {batches.batch_size} {batches.kind}"
        )
        total = (self.last - first) * batches.steps_per_epoch * batches.batch_size
        self.line = self.progress.start("training", total, batches.kind)
        self.began, self.steps = time.perf_counter(), 0

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        """Move the bar."""
        self.steps += 1
        self.line.advance(self.batches.batch_size)

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        """One line an epoch, bar or not."""
        batches = self.batches
        done = (epoch + 1 - batches.start_epoch) * batches.steps_per_epoch
        ceilings = self.model.ceilings(self.job.training.batch_size)
        terms = "  ".join(
            f"{key} {logs[key]:.3f}" + (f" (at most {ceilings[key]:.2f})" if key in ceilings else "")
            for key in self.model.term_metrics
            if not key.startswith("accuracy")  # the log has them
        )
        probes = [key for key in logs if key.startswith(PROBE)]
        terms = "  ".join([terms, *(f"{key.removeprefix(PROBE)} {logs[key]:.1f} %" for key in probes)])
        self.line.advance((done - self.steps) * batches.batch_size, note=terms)
        self.steps = done
        elapsed = time.perf_counter() - self.began
        speed = f"{done * batches.batch_size / elapsed:,.0f} {batches.kind}/s"
        left = elapsed / done * (self.last - epoch - 1) * batches.steps_per_epoch
        self.progress.print(f"epoch {epoch + 1}/{self.last}  {terms}  {speed}  {left / 60:.0f} min left")
