"""The sections of a recipe that every run has: data, optimiser and training."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from mizoo.recipes.section import Section


class Data(Section):
    """Where pictures or sounds come from: arguments of `mizoo.data.load` or `mizoo.data.sounds.load`.

    `view_side` is for resized crops: the height and width of the views that are trained on, where they are smaller than
    the pictures. `window` and `without_speakers` are for sounds: samples in a training window, and speakers to
    leave out.
    """

    source: str
    split: str = "train"
    augment: Literal["none", "dim", "amdim", "simclr", "views"] = "dim"
    view_side: PositiveInt | None = None
    window: PositiveInt | None = None
    without_speakers: tuple[str, ...] = Field((), strict=False)

    resized: ClassVar[tuple[str, ...]] = ("simclr", "views")  # the presets of `augment` with resized crops


class Optimizer(Section):
    """An optimiser of Keras with a warm-up and a schedule.

    "cosine" decays over the whole run, "trapezoid" linearly over its last `decay_epochs`, both to zero.

    The weight decay is decoupled and leaves out biases and normalisation. `ema` is the momentum of a running average of
    the weights, which is then what the encoder is saved with; 0 keeps none.
    """

    name: Literal["adamw", "lamb"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "trapezoid"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)
    decay_epochs: float = Field(0.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)

    def build(self, steps_per_epoch: int, epochs: int) -> Any:
        """Build the optimiser for a run of `epochs` epochs."""
        import keras

        from mizoo.recipes.schedules import scheduled

        warmup, decay = (int(length * steps_per_epoch) for length in (self.warmup_epochs, self.decay_epochs))
        rate = scheduled(self.schedule, self.learning_rate, steps_per_epoch * epochs, warmup, decay)
        kind = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}[self.name]
        average = {"use_ema": True, "ema_momentum": self.ema} if self.ema else {}
        optimizer = kind(rate, weight_decay=self.weight_decay, beta_1=self.beta_1, beta_2=self.beta_2, **average)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer


class Training(Section):
    """Length, batch, precision and seed of the run."""

    epochs: PositiveInt = 100
    batch_size: int = Field(128, ge=2)
    precision: Literal["float32", "mixed_bfloat16"] = "mixed_bfloat16"
    seed: int = Field(0, ge=0)
    checkpoint_epochs: PositiveInt = 1
