"""The parts of a recipe: an encoder, an objective, data, an optimiser and the training."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

Endpoint = Literal["local", "conv", "fc", "global"]
_Sizes = Annotated[tuple[PositiveInt, ...], Field(strict=False)]


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Encoder(Part):
    def build(self):
        """Build the encoder, with fresh weights: the function of `mizoo.encoders` of this name."""
        from mizoo import encoders

        return getattr(encoders, self.name)(**self.model_dump(exclude={"name"}))


class Conv32(_Encoder):
    """Arguments of `mizoo.encoders.conv32`."""

    name: Literal["conv32"] = "conv32"
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((64, 128, 256), strict=False)
    fc_size: PositiveInt = 1024
    global_size: PositiveInt = 64


class ResNet18(_Encoder):
    """Arguments of `mizoo.encoders.resnet18`."""

    name: Literal["resnet18"] = "resnet18"
    width: PositiveFloat = 1.0
    head_size: PositiveInt = 512
    global_size: PositiveInt = 128
    side: PositiveInt = Field(32, multiple_of=8)


class PatchGrid(_Encoder):
    """Arguments of `mizoo.encoders.patch_grid`."""

    name: Literal["patch_grid"] = "patch_grid"
    side: PositiveInt = 32
    patch: int = Field(8, ge=4)
    width: PositiveInt = 128
    size: PositiveInt = 256
    blocks: int = Field(3, ge=0)


class Waveform(_Encoder):
    """Arguments of `mizoo.encoders.waveform`; `sampling_rate` is that of the data, in Hz."""

    name: Literal["waveform"] = "waveform"
    sampling_rate: PositiveInt = 16000
    kernels: _Sizes | None = None
    strides: _Sizes | None = None
    widths: PositiveInt | _Sizes = 512
    context_size: PositiveInt = 256
    norm: bool = True


class DeepInfoMax(Part):
    """Arguments of `mizoo.DeepInfoMax`."""

    name: Literal["deep_infomax"] = "deep_infomax"
    local_weight: float = Field(1.0, ge=0)
    global_weight: float = Field(0.0, ge=0)
    prior_weight: float = Field(0.1, ge=0)
    bound: Literal["infonce", "jsd", "dv"] = "infonce"
    negatives: Literal["images", "locations", "both"] = "images"
    critic: Literal["encode_dot", "concat_conv"] = "encode_dot"
    critic_width: PositiveInt = 512
    views: Literal[1, 2] = 1
    pairs: tuple[Annotated[tuple[Endpoint, Endpoint], Field(strict=False)], ...] = Field(
        (("local", "global"),), strict=False, min_length=1
    )
    clip: PositiveFloat | None = None
    score_penalty: float = Field(0.0, ge=0)
    occlusion: float = Field(0.0, ge=0, le=1)
    occlusion_from: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _something_is_maximised(self):
        if not (self.local_weight or self.global_weight):
            raise ValueError("`local_weight` and `global_weight` are both 0: nothing is maximised")
        if len(set(self.pairs)) < len(self.pairs):
            raise ValueError("`pairs` names a pair twice")
        if self.views == 1 and any(first == second for first, second in self.pairs):
            raise ValueError("`pairs` of equal endpoints take `views: 2`")
        if self.occlusion_from and not self.occlusion:
            raise ValueError("`occlusion_from` takes an `occlusion` above 0")
        return self

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives

        settings = self.model_dump(exclude={"name", "occlusion_from"})
        return objectives.DeepInfoMax(encoder, augment=augment, seed=seed, **settings)

    @property
    def second_optimizer(self) -> str:
        """What to change for a model with one optimiser; empty where it has one."""
        return "prior_weight: 0" if self.prior_weight else ""


class SimCLR(Part):
    """Arguments of `mizoo.SimCLR`."""

    name: Literal["simclr"] = "simclr"
    temperature: PositiveFloat = 0.5

    views: ClassVar[int] = 2
    second_optimizer: ClassVar[str] = ""

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives

        return objectives.SimCLR(encoder, self.temperature, augment=augment, seed=seed)


class Distillation(Part):
    """Arguments of `mizoo.Distillation`, and of `mizoo.teachers.targets`: whom to learn from, by how many views."""

    name: Literal["distillation"] = "distillation"
    teachers: tuple[Annotated[tuple[str, Endpoint], Field(strict=False)], ...] = Field(strict=False, min_length=1)
    teacher_views: PositiveInt = 6
    endpoints: tuple[Endpoint, ...] = Field(("conv", "fc", "global"), strict=False, min_length=1)
    temperature: PositiveFloat = 0.1
    head_width: PositiveInt = 512

    views: ClassVar[int] = 1
    second_optimizer: ClassVar[str] = ""

    @model_validator(mode="after")
    def _each_once(self):
        for key in ("teachers", "endpoints"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"`{key}` names one twice")
        return self

    def build(self, encoder, augment, seed: int, teacher_size: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives

        settings = self.model_dump(include={"endpoints", "temperature", "head_width"})
        return objectives.Distillation(encoder, teacher_size, augment=augment, seed=seed, **settings)


class DeepCoTraining(Part):
    """Arguments of `mizoo.DeepCoTraining`."""

    name: Literal["deep_co_training"] = "deep_co_training"
    beta: float = Field(0.0, ge=0, lt=1)
    form: Literal["doe", "cpc"] = "doe"
    family: Literal["gaussian", "logistic"] = "gaussian"
    hidden: _Sizes = Field((256,), min_length=1)
    scale_range: float = Field(0.0, ge=0)
    resolution: PositiveFloat = 0.25
    inner_steps: PositiveInt = 4
    density_rate: PositiveFloat = 2e-3

    views: ClassVar[int] = 2

    @model_validator(mode="after")
    def _entropy_to_weigh(self):
        if self.beta and self.form == "cpc":
            raise ValueError("`beta` weighs an entropy, and `form: cpc` has none")
        return self

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives

        return objectives.DeepCoTraining(encoder, augment=augment, seed=seed, **self.model_dump(exclude={"name"}))

    @property
    def second_optimizer(self) -> str:
        """What to change for a model with one optimiser; empty where it has one."""
        return "form: cpc" if self.form == "doe" else ""


class CPC(Part):
    """Arguments of `mizoo.CPC`; `patch_augment` names a preset of `mizoo.augment`."""

    name: Literal["cpc"] = "cpc"
    steps: PositiveInt = 12
    first_step: PositiveInt = 1
    negatives: Literal["batch", "sequence", "both"] = "batch"
    directions: tuple[Literal["down", "up", "left", "right"], ...] = Field(("down",), strict=False, min_length=1)
    context: Literal["masked_conv", "row_gru"] = "masked_conv"
    context_size: PositiveInt = 256
    context_blocks: PositiveInt = 3
    patch_augment: Literal["none", "patches"] = "none"

    views: ClassVar[int] = 1
    second_optimizer: ClassVar[str] = ""

    @model_validator(mode="after")
    def _first_before_last(self):
        if self.first_step > self.steps:
            raise ValueError("`first_step` is above `steps`: nothing is predicted")
        return self

    def build(self, encoder, augment, seed: int):
        """Build the objective around `encoder`."""
        from mizoo import objectives
        from mizoo.augment import preset

        settings = self.model_dump(exclude={"name", "patch_augment"})
        return objectives.CPC(encoder, augment=augment, patch_augment=preset(self.patch_augment), seed=seed, **settings)


class Data(Part):
    """Where pictures or sounds come from: arguments of `mizoo.data.load` or `mizoo.data.sounds.load`.

    `view_side` is for resized crops: the height and width of the views that are trained on, where they are smaller than
    the pictures. `window` and `without_speakers` are for sounds: samples in a training window, and whom to leave out.
    """

    source: str
    split: str = "train"
    augment: Literal["none", "dim", "amdim", "simclr", "views"] = "dim"
    view_side: PositiveInt | None = None
    window: PositiveInt | None = None
    without_speakers: tuple[str, ...] = Field((), strict=False)


class Optimizer(Part):
    """An optimiser of Keras with a warm-up and a schedule.

    "cosine" decays over the whole run, "trapezoid" linearly over its last `decay_epochs`, both to zero.

    The weight decay is decoupled and spares biases and normalisation. `ema` is the momentum of a running average of
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

    def build(self, steps_per_epoch: int, epochs: int):
        """Build the optimiser for a run of `epochs` epochs."""
        import keras

        from mizoo.schedules import scheduled

        warmup, decay = (int(part * steps_per_epoch) for part in (self.warmup_epochs, self.decay_epochs))
        rate = scheduled(self.schedule, self.learning_rate, steps_per_epoch * epochs, warmup, decay)
        kind = {"adamw": keras.optimizers.AdamW, "lamb": keras.optimizers.Lamb}[self.name]
        average = {"use_ema": True, "ema_momentum": self.ema} if self.ema else {}
        optimizer = kind(rate, weight_decay=self.weight_decay, beta_1=self.beta_1, beta_2=self.beta_2, **average)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        return optimizer


class Training(Part):
    """Length, batch, precision and seed of the run."""

    epochs: PositiveInt = 100
    batch_size: int = Field(128, ge=2)
    precision: Literal["float32", "mixed_bfloat16"] = "mixed_bfloat16"
    seed: int = Field(0, ge=0)
    checkpoint_epochs: PositiveInt = 1
