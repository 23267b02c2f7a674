"""The objectives that a recipe can name, as one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from mizoo._tools.import_path import check_arguments, import_object
from mizoo.recipes.section import Endpoint, Settings, Sizes
from mizoo.zoo import interface


class Phase(NamedTuple):
    """A stretch of a run in which one objective is maximised: from the end of epoch `start` to that of `last`."""

    objective: ObjectiveSettings
    start: int
    last: int


class ObjectiveSettings(Settings):
    """Settings of an objective.

    Attributes:
        takes: what the encoder may take, some of "pictures" and "sounds".
        views: how many augmented views of a picture are compared; a field where the recipe chooses.
        second_optimizer: the key to change for a model with one optimiser, such as "prior_weight: 0"; "" where it has
            one.
        teacher_views: views of each picture that the teachers see.
        takes_labels: whether the classes of the data are its targets: the supervised baseline alone.
        matched_prior: what `global` is pulled to: "uniform" (its sigmoid), "gaussian", or None.
        required_endpoints: endpoints that the recipe names, so that the encoder has to have them.
        paper: where the objective comes from, for the registry and the card.
    """

    takes: ClassVar[tuple[str, ...]] = ("pictures",)
    second_optimizer: ClassVar[Any] = ""
    takes_labels: ClassVar[bool] = False
    matched_prior: ClassVar[Any] = None
    required_endpoints: ClassVar[Any] = ()
    paper: ClassVar[Any] = ""
    if TYPE_CHECKING:  # class attributes of some subclasses, fields of others

        @property
        def views(self) -> int:
            """Augmented views of each picture that are compared."""

        @property
        def teacher_views(self) -> int:
            """Views of each picture that the teachers see."""

    @property
    def teacher_endpoints(self) -> tuple[tuple[str, str], ...]:
        """Pairs of an encoder and one of its endpoints whose features are the targets; () for none."""
        return getattr(self, "teachers", ())

    def build(self, encoder: Any, augment: Any, seed: int, target_size: int | None = None) -> Any:
        """Build the objective around `encoder`.

        Args:
            encoder: a Functional `keras.Model` with a dict of endpoints.
            augment: an augmentation, or None.
            seed: seed of the noise that a batch does not bring.
            target_size: columns of the targets, where there are any.
        """
        return self.constructor()(encoder, augment=augment, seed=seed, **self.arguments)

    def constructor(self) -> Callable[..., Any]:
        """The class of the objective, a `mizoo.objectives.Objective`."""
        return import_object(self.builds)

    def phases(self, start: int, last: int) -> list[Phase]:
        """The stretches of a run from the end of epoch `start` to that of `last`, each with its own objective."""
        return [Phase(self, start, last)]

    def identity(self, epochs: int) -> dict[str, Any]:
        """The keys that have influenced the weights after so many epochs: those that begin later are left out."""
        return self.model_dump(mode="json")

    def check_length(self, epochs: int) -> str:
        """The problem with a run of this many epochs; "" where there is none."""
        return ""


class DeepInfoMaxSettings(ObjectiveSettings):
    """Arguments of `mizoo.DeepInfoMax`, and after how many epochs the occlusion begins."""

    name: Literal["deep_infomax"] = "deep_infomax"
    local_weight: float = Field(1.0, ge=0)
    global_weight: float = Field(0.0, ge=0)
    prior_weight: float = Field(0.1, ge=0)
    bound: Literal["infonce", "jsd", "dv"] = "infonce"
    negatives: Literal["images", "locations", "both"] = "images"
    critic: Literal["encode_dot", "concat_conv"] = "encode_dot"
    critic_width: PositiveInt = 512
    views: int = Field(1, ge=1, le=8)
    pairs: tuple[Annotated[tuple[Endpoint, Endpoint], Field(strict=False)], ...] = Field(
        (("local", "global"),), strict=False, min_length=1
    )
    clip: PositiveFloat | None = None
    score_penalty: float = Field(0.0, ge=0)
    occlusion: float = Field(0.0, ge=0, le=1)
    prior: Literal["uniform", "gaussian"] = "uniform"
    coordinates_weight: float = Field(0.0, ge=0)
    occlusion_from: int = Field(0, ge=0)

    builds: ClassVar[str] = "mizoo.objectives:DeepInfoMax"
    recipe_only: ClassVar[tuple[str, ...]] = ("occlusion_from",)

    @property
    def paper(self) -> str:
        """The paper of one view, or that of two."""
        if self.views == 1:
            return (
                "Hjelm et al. 2018, Learning deep representations by mutual information estimation and maximization, "
                "arXiv:1808.06670"
            )
        return (
            "Bachman et al. 2019, Learning representations by maximizing mutual information across views, "
            "arXiv:1906.00910"
        )

    @property
    def required_endpoints(self) -> tuple[str, ...]:
        """Those of the pairs, where their terms count."""
        needed = [key for pair in self.pairs for key in pair] if self.local_weight else []
        return tuple(dict.fromkeys([*needed, *(("local", "global") if self.coordinates_weight else ())]))

    @property
    def second_optimizer(self) -> str:
        """The prior's discriminator has an optimiser of its own."""
        return "prior_weight: 0" if self.prior_weight else ""

    @property
    def matched_prior(self) -> str | None:
        """The prior, where it has a weight."""
        return self.prior if self.prior_weight else None

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

    def phases(self, start: int, last: int) -> list[Phase]:
        """Up to `occlusion_from` there is no occlusion."""
        turn = self.occlusion_from
        before = self.model_copy(update={"occlusion": 0.0})
        phases = [Phase(before, start, min(turn, last))] if min(turn, last) > start else []
        return [*phases, Phase(self, max(turn, start), last)] if last > max(turn, start) else phases

    def identity(self, epochs: int) -> dict[str, Any]:
        """An occlusion that has not begun is none."""
        keys = super().identity(epochs)
        if not self.occlusion or epochs <= self.occlusion_from:
            keys |= {"occlusion": 0.0, "occlusion_from": 0}
        return keys

    def check_length(self, epochs: int) -> str:
        """The occlusion has to begin before the end."""
        if self.occlusion_from >= epochs:
            return "`objective.occlusion_from` is as long as `training.epochs`: lower it with the length"
        return ""


class SimCLRSettings(ObjectiveSettings):
    """Arguments of `mizoo.SimCLR`."""

    name: Literal["simclr"] = "simclr"
    temperature: PositiveFloat = 0.5
    views: int = Field(2, ge=2, le=16)
    projection: PositiveInt | None = None

    builds: ClassVar[str] = "mizoo.objectives:SimCLR"
    takes: ClassVar[tuple[str, ...]] = ("pictures", "sounds")
    paper: ClassVar[str] = (
        "Chen et al. 2020, A simple framework for contrastive learning of visual representations, arXiv:2002.05709"
    )


class InformationMaximizationSettings(ObjectiveSettings):
    """Arguments of `mizoo.InformationMaximization`."""

    name: Literal["information_maximization"] = "information_maximization"
    resolution: PositiveFloat = 0.3
    views: int = Field(2, ge=2, le=16)

    builds: ClassVar[str] = "mizoo.objectives:InformationMaximization"
    takes: ClassVar[tuple[str, ...]] = ("pictures", "sounds")
    paper: ClassVar[str] = (
        "Ozsoy et al. 2022, Self-supervised learning with an information maximization criterion, arXiv:2209.07999"
    )


class DistillationSettings(ObjectiveSettings):
    """Arguments of `mizoo.Distillation`, and of `mizoo.teachers.targets`: the teachers and their number of views."""

    name: Literal["distillation"] = "distillation"
    teachers: tuple[Annotated[tuple[str, Endpoint], Field(strict=False)], ...] = Field(strict=False, min_length=1)
    teacher_views: PositiveInt = 6
    endpoints: tuple[Endpoint, ...] = Field(("conv", "fc", "global"), strict=False, min_length=1)
    temperature: PositiveFloat = 0.1
    head_width: PositiveInt = 512

    builds: ClassVar[str] = "mizoo.objectives:Distillation"
    recipe_only: ClassVar[tuple[str, ...]] = ("teachers", "teacher_views")
    views: ClassVar[int] = 1
    paper: ClassVar[str] = "Tian et al. 2020, Contrastive representation distillation, arXiv:1910.10699"

    @property
    def required_endpoints(self) -> tuple[str, ...]:
        """Each endpoint that learns from the targets."""
        return self.endpoints

    def build(self, encoder: Any, augment: Any, seed: int, target_size: int | None = None) -> Any:
        """Build the objective around `encoder`; arguments as of `ObjectiveSettings.build`."""
        model = self.constructor()
        return model(encoder, target_size, augment=augment, seed=seed, **self.arguments)

    @model_validator(mode="after")
    def _each_once(self):
        for key in ("teachers", "endpoints"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise ValueError(f"`{key}` names one twice")
        return self


class DeepCoTrainingSettings(ObjectiveSettings):
    """Arguments of `mizoo.DeepCoTraining`."""

    name: Literal["deep_co_training"] = "deep_co_training"
    beta: float = Field(0.0, ge=0, lt=1)
    form: Literal["doe", "cpc"] = "doe"
    family: Literal["gaussian", "logistic"] = "gaussian"
    hidden: Sizes = Field((256,), min_length=1)
    scale_range: float = Field(0.0, ge=0)
    resolution: PositiveFloat = 0.25
    inner_steps: PositiveInt = 4
    density_rate: PositiveFloat = 2e-3

    builds: ClassVar[str] = "mizoo.objectives:DeepCoTraining"
    takes: ClassVar[tuple[str, ...]] = ("pictures", "sounds")
    views: ClassVar[int] = 2
    paper: ClassVar[str] = "McAllester 2018, Information theoretic co-training, arXiv:1802.07572"

    @model_validator(mode="after")
    def _entropy_to_weigh(self):
        if self.beta and self.form == "cpc":
            raise ValueError("`beta` weighs an entropy, and `form: cpc` has none")
        return self

    @property
    def second_optimizer(self) -> str:
        """The densities have an optimiser of their own."""
        return "form: cpc" if self.form == "doe" else ""


class CPCSettings(ObjectiveSettings):
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

    builds: ClassVar[str] = "mizoo.objectives:CPC"
    takes: ClassVar[tuple[str, ...]] = ("pictures", "sounds")
    views: ClassVar[int] = 1
    paper: ClassVar[str] = (
        "van den Oord et al. 2018, Representation learning with contrastive predictive coding, arXiv:1807.03748"
    )

    @model_validator(mode="after")
    def _first_before_last(self):
        if self.first_step > self.steps:
            raise ValueError("`first_step` is above `steps`: nothing is predicted")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `mizoo.CPC`, the augmentation of the patches built."""
        from mizoo.augment import preset

        return super().arguments | {"patch_augment": preset(self.patch_augment)}

    def build(self, encoder: Any, augment: Any, seed: int, target_size: int | None = None) -> Any:
        """Build the objective, with an augmentation of patches for the encoder's channels."""
        from mizoo.augment import preset

        of_patches = preset(self.patch_augment, channels=interface.channels(encoder) or 3)
        settings = self.arguments | {"patch_augment": of_patches}
        return self.constructor()(encoder, augment=augment, seed=seed, **settings)


class CustomObjectiveSettings(ObjectiveSettings):
    """An objective of the user's own: `name` is the import path of its class, the other keys are its arguments.

    The class is a `mizoo.objectives.Objective` whose constructor takes the encoder, `augment` and `seed`.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    views: Literal[1, 2] = 1  # as the class has it: two views have to differ, so that an augmentation is asked for
    recipe_only: ClassVar[tuple[str, ...]] = ("views",)
    takes: ClassVar[tuple[str, ...]] = ("pictures", "sounds")

    @property
    def teacher_endpoints(self) -> tuple[tuple[str, str], ...]:
        """None: a key `teachers` is an argument of the class like any other."""
        return ()

    def constructor(self) -> Callable[..., Any]:
        """The class that `name` names."""
        model = import_object(self.name)
        check_arguments(model, self.name, self.arguments)
        return model


class AutoencoderSettings(ObjectiveSettings):
    """What the recipes of autoencoders share: one view, and the decoder that mirrors the encoder."""

    views: ClassVar[int] = 1

    @property
    def required_endpoints(self) -> tuple[str, ...]:
        """The code, and what a VAE's variance is computed from."""
        return ("fc", "global")


class VAESettings(AutoencoderSettings):
    """Arguments of `mizoo.VAE`."""

    name: Literal["vae"] = "vae"

    builds: ClassVar[str] = "mizoo.objectives:VAE"
    matched_prior: ClassVar[str] = "gaussian"
    paper: ClassVar[str] = "Kingma and Welling 2013, Auto-encoding variational Bayes, arXiv:1312.6114"


class AAESettings(AutoencoderSettings):
    """Arguments of `mizoo.AAE`."""

    name: Literal["aae"] = "aae"
    prior_weight: PositiveFloat = 0.1
    prior: Literal["uniform", "gaussian"] = "uniform"

    builds: ClassVar[str] = "mizoo.objectives:AAE"
    second_optimizer: ClassVar[str] = "objective.name: vae"
    paper: ClassVar[str] = "Makhzani et al. 2015, Adversarial autoencoders, arXiv:1511.05644"

    @property
    def matched_prior(self) -> str:
        """The prior."""
        return self.prior


class SupervisedSettings(ObjectiveSettings):
    """`mizoo.Supervised`: its targets are the labels of the data."""

    name: Literal["supervised"] = "supervised"

    builds: ClassVar[str] = "mizoo.objectives:Supervised"
    views: ClassVar[int] = 1
    takes_labels: ClassVar[bool] = True
    paper: ClassVar[str] = (
        "the supervised baseline of Hjelm et al. 2018, Learning deep representations by mutual information estimation "
        "and maximization, arXiv:1808.06670"
    )

    def build(self, encoder: Any, augment: Any, seed: int, target_size: int | None = None) -> Any:
        """Build the objective around `encoder`; arguments as of `ObjectiveSettings.build`."""
        return self.constructor()(encoder, target_size, augment=augment, seed=seed, **self.arguments)


DEFAULT = "deep_infomax"
"""The objective of a recipe that names none."""
OBJECTIVES: dict[str, type[ObjectiveSettings]] = {
    "deep_infomax": DeepInfoMaxSettings,
    "simclr": SimCLRSettings,
    "information_maximization": InformationMaximizationSettings,
    "cpc": CPCSettings,
    "deep_co_training": DeepCoTrainingSettings,
    "distillation": DistillationSettings,
    "vae": VAESettings,
    "aae": AAESettings,
    "supervised": SupervisedSettings,
}
