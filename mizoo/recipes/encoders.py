"""The encoders that a recipe can name, as one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, PlainValidator, PositiveFloat, PositiveInt, model_validator

from mizoo._tools.import_path import check_arguments, import_object
from mizoo.errors import UserError
from mizoo.recipes.section import Settings, Sizes

_ENDPOINTS = ("local", "conv", "fc", "global")


def _side(value: Any) -> int | tuple[int, int]:
    """The height and width of pictures: one number, or [height, width], which may be equal.

    Raises:
        ValueError: for anything else.
    """
    both = value if isinstance(value, (list, tuple)) else (value, value)
    if len(both) != 2 or any(not isinstance(each, int) or isinstance(each, bool) or each < 1 for each in both):
        raise ValueError("the side of pictures is a whole number from 1 on, or two, [height, width]")
    return both[0] if both[0] == both[1] else (both[0], both[1])


Side = Annotated[Any, PlainValidator(_side)]  # int or (int, int), of which one serialiser would refuse the other


class EncoderSettings(Settings):
    """Settings of an encoder.

    Attributes:
        takes: what it encodes, "pictures" or "sounds".
        any_side: whether its weights fit pictures of every size, so that it can be trained on smaller views.
        endpoints: those that it has, or () where that is not known before it is built.
    """

    takes: ClassVar[Literal["pictures", "sounds"]] = "pictures"
    any_side: ClassVar[bool] = False
    endpoints: ClassVar[tuple[str, ...]] = ()

    @property
    def step(self) -> int:
        """What the side of a view that it is trained on is a multiple of."""
        return 8

    if TYPE_CHECKING:  # keys of some encoders

        @property
        def side(self) -> int | tuple[int, int]:
            """Height and width of the pictures, one number of square ones."""

        @property
        def channels(self) -> int:
            """Of the pictures."""

        @property
        def sampling_rate(self) -> int:
            """Of the sounds, in Hz."""

    def build(self) -> Any:
        """Build the encoder, with fresh weights."""
        return import_object(self.builds)(**self.arguments)

    def fit_to(self, encoder: Any, inputs: Any) -> None:
        """Set what is not trained from the training inputs, once, before a run begins: nothing for most encoders."""


class Conv32Settings(EncoderSettings):
    """Arguments of `mizoo.encoders.conv32`."""

    name: Literal["conv32"] = "conv32"
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((64, 128, 256), strict=False)
    fc_size: PositiveInt = 1024
    global_size: PositiveInt = 64
    channels: PositiveInt = 3

    builds: ClassVar[str] = "mizoo.encoders:conv32"
    endpoints: ClassVar[tuple[str, ...]] = _ENDPOINTS


class Conv64Settings(EncoderSettings):
    """Arguments of `mizoo.encoders.conv64`."""

    name: Literal["conv64"] = "conv64"
    widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = Field(
        (96, 192, 384, 384, 192), strict=False
    )
    fc_sizes: Sizes = Field((4096, 4096), strict=False, min_length=1)
    global_size: PositiveInt = 64
    channels: PositiveInt = 3

    builds: ClassVar[str] = "mizoo.encoders:conv64"
    endpoints: ClassVar[tuple[str, ...]] = _ENDPOINTS


class ResNet18Settings(EncoderSettings):
    """Arguments of `mizoo.encoders.resnet18`."""

    name: Literal["resnet18"] = "resnet18"
    width: PositiveFloat = 1.0
    head_size: PositiveInt = 512
    global_size: PositiveInt = 128
    side: Side = 32
    channels: PositiveInt = 3
    stem: Literal["small", "large"] = "small"

    builds: ClassVar[str] = "mizoo.encoders:resnet18"
    endpoints: ClassVar[tuple[str, ...]] = _ENDPOINTS
    any_side: ClassVar[bool] = True

    @property
    def step(self) -> int:
        """The same for its pictures: a multiple of the pixels for one of its last map."""
        return {"small": 8, "large": 32}[self.stem]

    @model_validator(mode="after")
    def _halves(self):
        if any(each % self.step for each in (self.side if isinstance(self.side, tuple) else (self.side,))):
            raise ValueError(f"`side` is a multiple of {self.step} with `stem: {self.stem}`")
        return self


class PatchGridSettings(EncoderSettings):
    """Arguments of `mizoo.encoders.patch_grid`."""

    name: Literal["patch_grid"] = "patch_grid"
    side: Side = 32
    patch: int = Field(8, ge=4)
    width: PositiveInt = 128
    size: PositiveInt = 256
    blocks: int = Field(3, ge=0)
    channels: PositiveInt = 3

    builds: ClassVar[str] = "mizoo.encoders:patch_grid"
    endpoints: ClassVar[tuple[str, ...]] = ("local", "fc", "global")


class ThreeStageSettings(EncoderSettings):
    """Arguments of `mizoo.encoders.three_stage`."""

    name: Literal["three_stage"] = "three_stage"
    widths: tuple[PositiveInt, PositiveInt, PositiveInt] = Field((64, 256, 256), strict=False)
    head_size: PositiveInt = 512
    global_size: PositiveInt = 128
    side: Side = 32
    whitening: bool = True
    padding: Literal["same", "valid"] = "same"
    channels: PositiveInt = 3

    builds: ClassVar[str] = "mizoo.encoders:three_stage"
    endpoints: ClassVar[tuple[str, ...]] = _ENDPOINTS
    any_side: ClassVar[bool] = True

    def fit_to(self, encoder: Any, inputs: Any) -> None:
        """Fix the whitening from patches of the training pictures."""
        if self.whitening:
            from mizoo.encoders.three_stage import fit_whitening

            fit_whitening(encoder, inputs)


class WaveformSettings(EncoderSettings):
    """Arguments of `mizoo.encoders.waveform`; `sampling_rate` is that of the data, in Hz."""

    name: Literal["waveform"] = "waveform"
    sampling_rate: PositiveInt = 16000
    kernels: Sizes | None = None
    strides: Sizes | None = None
    widths: PositiveInt | Sizes = 512
    context_size: PositiveInt = 256
    norm: bool = True

    builds: ClassVar[str] = "mizoo.encoders:waveform"
    endpoints: ClassVar[tuple[str, ...]] = ("local", "context", "global")
    takes: ClassVar[Literal["pictures", "sounds"]] = "sounds"


class LogMelSettings(EncoderSettings):
    """Arguments of `mizoo.encoders.log_mel`; `sampling_rate` is that of the data, in Hz."""

    name: Literal["log_mel"] = "log_mel"
    sampling_rate: PositiveInt = 16000
    mels: PositiveInt = 40
    widths: Sizes = Field((32, 64, 128), strict=False)
    frame_size: PositiveInt = 256
    context_size: PositiveInt = 256

    builds: ClassVar[str] = "mizoo.encoders:log_mel"
    endpoints: ClassVar[tuple[str, ...]] = ("local", "context", "global")
    takes: ClassVar[Literal["pictures", "sounds"]] = "sounds"


class CustomEncoderSettings(EncoderSettings):
    """An encoder of the user's own: `name` is the import path of a function, the other keys are its arguments.

    The function takes pictures and returns a Functional `keras.Model` with a dict of named endpoints, one of which is
    `global`.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    def build(self) -> Any:
        """Build the encoder, with fresh weights.

        Raises:
            UserError: if the function returns anything else.
        """
        function = import_object(self.name)
        check_arguments(function, self.name, self.arguments)
        encoder = function(**self.arguments)
        endpoints = getattr(encoder, "output", None)
        if not isinstance(endpoints, dict) or "global" not in endpoints:
            received = f"the endpoints {', '.join(endpoints)}" if isinstance(endpoints, dict) else repr(encoder)
            raise UserError(
                f"{self.name} returns a Functional keras.Model from pictures to a dict of endpoints, one of which is "
                f"'global': what a run logs of the embedding is measured on it. Received: {received}."
            )
        return encoder


ENCODERS: dict[str, type[EncoderSettings]] = {
    "conv32": Conv32Settings,
    "conv64": Conv64Settings,
    "resnet18": ResNet18Settings,
    "patch_grid": PatchGridSettings,
    "waveform": WaveformSettings,
    "log_mel": LogMelSettings,
    "three_stage": ThreeStageSettings,
}
