"""The sections of a recipe that are the same for every objective: data, optimiser, training, and what is watched."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mizoo.data.loading import same_source
from mizoo.evaluate.protocols import watchable
from mizoo.recipes.section import Section


class Stage(Section):
    """A stretch of a run with views of its own: how many epochs it lasts, side and area of the crops.

    The last stage lasts to the end of the run and has no `epochs`. Small views first cost little and teach much
    (Touvron et al. 2019; Jordan 2024, section 3.5).
    """

    epochs: PositiveInt | None = None
    view_side: PositiveInt | None = None
    area: Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)] | None = None


Augment = Literal["none", "dim", "amdim", "simclr", "views", "voice"]
AUGMENTS = get_args(Augment)


class Data(Section):
    """Where pictures or sounds come from: arguments of `mizoo.data.load` or `mizoo.data.sounds.load`.

    `depth` and `without_files` are for folders of pictures: the bits of deep files that do not fill their range,
    and files to leave out, by their paths below the folder.

    `view_side` is for resized crops: the height and width of the views that are trained on, where they are smaller than
    the pictures; `stages` lets side and area of the crops change along the run. `window` and `without_speakers` are for
    sounds: samples in a training window, and speakers to leave out; so is the augmentation `voice`.

    `stream` says whether pictures are read from their files as the training goes, by as many processes as `workers`
    says; "auto" does so where all of them, decoded, would take too much of the memory. Neither decides anything of the
    weights.
    """

    source: str
    split: str = "train"
    stream: bool | Literal["auto"] = "auto"
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    augment: Augment = "dim"
    view_side: PositiveInt | None = None
    stages: tuple[Stage, ...] = Field((), strict=False)
    depth: int | None = Field(None, ge=8, le=32)
    without_files: tuple[str, ...] = Field((), strict=False)
    window: PositiveInt | None = None
    without_speakers: tuple[str, ...] = Field((), strict=False)

    resized: ClassVar[tuple[str, ...]] = ("simclr", "views")  # the presets of `augment` with resized crops

    @model_validator(mode="after")
    def _keys_fit(self):
        if self.window is not None and self.stream is True:
            raise ValueError("`stream` is of pictures; sounds are read into memory")
        if self.stages and self.view_side is not None:
            raise ValueError("`view_side` is for a run without `stages`, which have one each")
        if any(stage.epochs is None for stage in self.stages[:-1]):
            raise ValueError("`stages` need `epochs`, but for the last one")
        if self.stages and self.stages[-1].epochs is not None:
            raise ValueError("the last of `stages` lasts to the end of the run: leave out its `epochs`")
        if any(stage.area and not stage.area[0] <= stage.area[1] <= 1 for stage in self.stages):
            raise ValueError("`area` of a stage is a range of shares of the picture, such as [0.2, 1.0]")
        return self

    @property
    def view_sides(self) -> tuple[int, ...]:
        """The sides of views that are smaller than the pictures, in the order of the run."""
        sides = [self.view_side, *(stage.view_side for stage in self.stages)]
        return tuple(side for side in sides if side is not None)

    def stage_at(self, epoch: int) -> tuple[Stage, int | None]:
        """The stage after `epoch` epochs of a run, and the epoch at which it ends; None for the end of the run."""
        end = 0
        for stage in self.stages:
            if stage.epochs is None:
                return stage, None
            end += stage.epochs
            if epoch < end:
                return stage, end
        return Stage(view_side=self.view_side), None


class Watch(Section):
    """A probe that is measured while the run trains: arguments of `mizoo.callbacks.OnlineProbe`.

    Its labels and pictures decide nothing of the run: a recipe may be given another at any time. Pictures of
    `data.source` are read as the run reads them, unless `depth` or `without_files` say otherwise.
    """

    source: str
    split: str = "train"
    depth: Annotated[int, Field(ge=8, le=32)] | None = None
    without_files: tuple[str, ...] = Field((), strict=False)
    protocol: str = "knn"
    every: PositiveInt = 1
    endpoint: str = "global"

    @model_validator(mode="after")
    def _is_a_probe(self):
        watchable(self.protocol)
        return self

    def arguments(self, data: Data) -> dict[str, Any]:
        """The keyword arguments of the probe in a run on `data`."""
        own = data if same_source(self.source, data.source) else self
        depth, without = self.depth or own.depth, self.without_files or own.without_files
        settings = self.model_dump(exclude={"source", "without_files"})
        return {"data": self.source, **settings, "depth": depth, "without": without}


class Optimizer(Section):
    """An optimiser of Keras, or `mizoo.optimizers.Muon`, with a warm-up and a schedule.

    "cosine" decays over the whole run, "trapezoid" linearly over its last `decay_epochs`, both to zero; with
    `decay_epochs: 0` the trapezoid has no decay.

    The weight decay is decoupled and leaves out biases and normalisation. `ema` is the momentum of a running average of
    the weights, which is then what the encoder is saved with; 0 keeps none.

    With "muon" the rate is that of the kernels, relative to their size, `momentum` theirs, and all else is trained by
    Adam with `adam_ratio` times the rate and the betas.
    """

    name: Literal["adamw", "lamb", "muon"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    beta_1: float = Field(0.9, ge=0, lt=1)
    beta_2: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "cosine", "trapezoid"] = "cosine"
    warmup_epochs: float = Field(0.0, ge=0)
    decay_epochs: float = Field(0.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    adam_ratio: PositiveFloat = 0.04

    @model_validator(mode="after")
    def _decay_does_something(self):
        if self.name == "muon" and self.weight_decay:
            raise ValueError("`name: muon` holds kernels at a fixed norm, so that `weight_decay` would change nothing")
        return self

    def build(self, steps_per_epoch: int, epochs: int) -> Any:
        """Build the optimiser for a run of `epochs` epochs."""
        import keras

        from mizoo.recipes.schedules import scheduled

        warmup, decay = (int(length * steps_per_epoch) for length in (self.warmup_epochs, self.decay_epochs))
        rate = scheduled(self.schedule, self.learning_rate, steps_per_epoch * epochs, warmup, decay)
        average: dict[str, Any] = {"use_ema": True, "ema_momentum": self.ema} if self.ema else {}
        if self.name == "muon":
            from mizoo.optimizers import Muon

            return Muon(
                rate,
                momentum=self.momentum,
                adam_lr_ratio=self.adam_ratio,
                adam_beta_1=self.beta_1,
                adam_beta_2=self.beta_2,
                **average,
            )
        kind = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}[self.name]
        optimizer = kind(rate, weight_decay=self.weight_decay, beta_1=self.beta_1, beta_2=self.beta_2, **average)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer


class Training(Section):
    """Length, batch, precision and seed of the run.

    With `batch_statistics: pictures` the encoder that is saved at the end normalises by the statistics of whole
    training pictures, see `mizoo.encoders.fit_statistics`; with "views" by the running means of what it was trained on.
    `jit_compile` is whether TensorFlow compiles the step by XLA; "auto" measures both at the start of a run that is
    long enough. Like `checkpoint_epochs` it decides nothing of the weights, but for rounding. `precision: auto` is
    "mixed_bfloat16" on accelerators and on CPUs that multiply matrices clearly faster in bfloat16, "float32" on others;
    a run that is resumed keeps its own.
    """

    epochs: PositiveInt = 100
    batch_size: int = Field(128, ge=2)
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "mixed_bfloat16"
    seed: int = Field(0, ge=0, lt=1 << 32)
    checkpoint_epochs: PositiveInt = 1
    batch_statistics: Literal["views", "pictures"] = "views"
    jit_compile: Literal["auto"] | bool = "auto"
