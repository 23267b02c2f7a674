"""What was found and how fast the machine is -> side, encoder, batch, views, length: a recipe, and why it is so.

The recipes are those of `fast_cifar10`: InfoNCE between four small views of a picture, which grow along the run, with
Muon. What was measured for them stands in docs/recipes.md; sides above 32 pixels scale their views alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from mizoo._tools import hardware
from mizoo._tools.checks import check_real
from mizoo.data.reading import default_workers
from mizoo.errors import UserError
from mizoo.new.survey import FULL, Survey

FEWEST = 100
"""Pictures below which nothing is trained."""
FEW = 10_000
"""Pictures below which a run starts from the weights of `simclr_views_cifar10` (docs/own-pictures.md has numbers)."""
PASSES = 20
"""Epochs that a side and an encoder have to leave room for."""
MOST_PASSES = 400
"""Epochs beyond which a run is not made longer."""
TALL = 2.0
"""Longer side over shorter one beyond which the centre square is less than half of a picture."""
SIDES = (128, 96, 64, 48, 32)
START = "simclr_views_cifar10"
"""The entry whose weights those are."""
MUCH_DECODING = 0.5
"""Share of the time of an epoch from which on decoding dominates."""
VIEWS = 4
"""Views of each picture in a step."""

_BATCHES = (256, 128, 64, 32, 16)
_STEPS = 4  # an epoch at least
_SAMPLE = 1000  # pictures on which a run measures its embedding after each epoch
_FORWARD = 1 / 3  # of a training step
_CHECKPOINT_SECONDS = 120
_FIRST_STAGE = 0.6  # of the run
_DEEP_SIDE = 96  # from which on the deeper network is taken, if there is time: the other one sees 51 pixels at a place
_SHARE_OF_MEMORY = 0.5
_SHARE_OF_TIME = 0.9  # the rest is for starting, reading and saving
_MOST_BROKEN = 0.1
_RATE = 0.05
_THREE_STAGE = {"name": "three_stage", "widths": [64, 256, 256], "padding": "valid"}
_RESNET = {"name": "resnet18", "width": 0.5}

Measure = Callable[[dict[str, Any], str | None], "Cost"]


@dataclass(frozen=True)
class Cost:
    """What training takes on this machine.

    Attributes:
        seconds_per_picture: of each stage in turn, with all views of a picture.
        memory: bytes of the process while it trains, without the pictures.
        precision: the faster of "float32" and "mixed_bfloat16".
    """

    seconds_per_picture: tuple[float, ...]
    memory: int
    precision: str


@dataclass(frozen=True)
class Plan:
    """A recipe, and what it is expected to take.

    Attributes:
        content: the recipe, for `mizoo.recipes.validate`.
        cost: what was measured for it.
        seconds: how long the run is expected to take.
        memory: bytes that it is expected to take.
        decoding: the share of it that decoding of pictures takes, 0..1, where they are streamed; else 0.
        watched: what was found in the labelled folder, or None without one.
    """

    content: dict[str, Any]
    cost: Cost
    seconds: float
    memory: int
    decoding: float = 0.0
    watched: Survey | None = None


def refuse(survey: Survey, centre: bool = False) -> None:
    """Refuse pictures that no recipe does justice to.

    Args:
        survey: what was found.
        centre: take the centre square of pictures that are much longer than wide.

    Raises:
        UserError: for too few pictures, too many broken ones, tiny ones, and long ones.
    """
    where = survey.folder / survey.split
    if len(survey.broken) > _MOST_BROKEN * survey.checked:
        listed = "\n".join(f"  {path}: {reason}" for path, reason in survey.broken[:10])
        raise UserError(
            f"{len(survey.broken)} of the {survey.checked} files that were opened below {survey.folder} cannot "
            f"be read, too many to leave out. Repair or remove:\n{listed}"
        )
    if survey.usable < FEWEST:
        raise UserError(
            f"{where} has {survey.usable} pictures, and fewer than {FEWEST} teach an encoder nothing. Use one that is "
            f"trained: `mizoo embed {START} {where} -o features.npz`, `mizoo search index {where}`, or, with a "
            f"subfolder for each class, `mizoo finetune {START} --data {where}`."
        )
    if survey.short_side < 8:
        raise UserError(
            f"The pictures below {where} are {survey.short_side:.0f} pixels wide or high (median of the shorter side), "
            "and the smallest encoder takes 32: name the folder of the pictures themselves, not of thumbnails."
        )
    if survey.elongation > TALL and not centre:
        raise UserError(
            f"The pictures below {where} are {survey.elongation:.1f} times as long as wide (median), and training sees "
            f"the centre square of each, {100 / survey.elongation:.0f} % of it. Cut them into squares first, or take "
            "the centres: --centre."
        )


@dataclass(frozen=True)
class Wishes:
    """What the user asks for.

    Attributes:
        source: the folder, as the recipe names it.
        name: of the run.
        hours: how long the run may take.
        side: height and width that the encoder takes, a multiple of 8; chosen if None.
        labelled: a folder of class folders to watch the run by, or None.

    Raises:
        UserError: for hours or a side that are none.
    """

    source: str
    name: str
    hours: float = 2.0
    side: int | None = None
    labelled: str | None = None

    def __post_init__(self) -> None:
        check_real(self.hours, "hours", above=0)
        if self.side is not None and (self.side < SIDES[-1] or self.side % 8):
            raise UserError(f"`side` (--side) is a multiple of 8, {SIDES[-1]} or more. Received: {self.side}")


def choose(
    survey: Survey,
    wishes: Wishes,
    measure: Measure,
    ram: int | None = None,
    cores: int | None = None,
    watched: Survey | None = None,
) -> Plan:
    """Choose a recipe.

    The options are tried in order of preference: large sides before small ones, and for large ones the deeper network
    before the faster one. The first for which `PASSES` epochs fit into the time is taken. A network is measured at the
    smallest side in question and estimated for others by their area; the option that is taken is measured itself.
    Pictures that take more than half of the memory are decoded anew in every epoch (`data.stream`), which counts.

    Args:
        survey: what was found, once `refuse` let it pass.
        wishes: what the user asks for.
        measure: from a recipe's content, and its precision or None for the faster one, to what training by it takes.
        ram: bytes of memory of the machine; those of this one if None.
        cores: of the machine; those of this one if None.
        watched: what was found in the labelled folder, where there is one.

    Raises:
        UserError: for too little time for one epoch.
    """
    ram = (hardware.memory() or 8 << 30) if ram is None else ram
    source = _Source(survey, ram, hardware.cores() if cores is None else cores)
    options = [(encoder, side) for side in _sides(survey, wishes) for encoder in _networks(survey, side)]
    measured: dict[str, tuple[int, Cost]] = {}

    def precision() -> str | None:
        """The faster precision, once something was measured."""
        return next((cost.precision for _, cost in measured.values()), None)

    def cost_of(encoder: dict[str, Any], side: int) -> Cost:
        """Measured at the smallest side of this network, and scaled from there."""
        name = encoder["name"]
        if name not in measured:
            smallest = min(each for other, each in options if other["name"] == name)
            measured[name] = smallest, measure(_content(survey, wishes, encoder, smallest, 2), precision())
        return _scaled(measured[name][1], (side / measured[name][0]) ** 2)

    def fits(encoder: dict[str, Any], side: int) -> bool:
        """Whether enough epochs of an option fit into the time; the slower network is not measured in vain."""
        if (_THREE_STAGE, side) in options and encoder is not _THREE_STAGE and not fits(_THREE_STAGE, side):
            return False
        return source.passes(side, cost_of(encoder, side), wishes.hours) >= PASSES

    encoder, side = next((option for option in options if fits(*option)), options[-1])
    cost = cost_of(encoder, side)
    if side != measured[encoder["name"]][0]:
        cost = measure(_content(survey, wishes, encoder, side, 2), precision())
    passes = int(min(source.passes(side, cost, wishes.hours), MOST_PASSES))
    decoding = 1 - _training_seconds(survey, side, cost) / source.epoch_seconds(side, cost)
    if passes < 1:
        needed = (source.epoch_seconds(side, cost) + source.seconds_before(side)) / _SHARE_OF_TIME
        share = f", {int(100 * decoding)} % of it to decode them" if decoding >= MUCH_DECODING else ""
        raise UserError(
            f"One epoch over {survey.usable:,} pictures of {side} pixels takes about {duration(needed)} on this "
            f"machine{share}: allow more than {wishes.hours:g} hours (--hours), take a smaller --side, or train on a "
            f"part of them{', or on smaller copies' if share else ''}."
        )
    content = _content(survey, wishes, encoder, side, passes)
    every = max(1, round(_CHECKPOINT_SECONDS / source.epoch_seconds(side, cost)))
    content["training"] |= {"precision": cost.precision, "checkpoint_epochs": min(every, passes)}
    depth, watched_depth = _depths(survey, watched)
    content["data"] |= _how_to_read(survey, depth)
    if source.streamed(side):
        content["data"]["stream"] = True
    if watched is not None:
        content["watch"] |= _how_to_read(watched, watched_depth)
    seconds = passes * source.epoch_seconds(side, cost) + source.seconds_before(side)
    memory = cost.memory + (0 if source.streamed(side) else _picture_bytes(survey, side))
    return Plan(content, cost, seconds, memory, decoding, watched)


@dataclass(frozen=True)
class _Source:
    """The pictures on a machine of so much memory and so many cores: read once, or decoded anew in every epoch."""

    survey: Survey
    ram: int
    cores: int

    def streamed(self, side: int) -> bool:
        """Whether all pictures at once would take too much of the memory."""
        return _picture_bytes(self.survey, side) > _SHARE_OF_MEMORY * self.ram

    def seconds_before(self, side: int) -> float:
        """Of reading all pictures into memory, on one core."""
        return 0.0 if self.streamed(side) else _decoding_seconds(self.survey)

    def epoch_seconds(self, side: int, cost: Cost) -> float:
        """Training, and decoding where the pictures are streamed."""
        training = _training_seconds(self.survey, side, cost)
        if not self.streamed(side):
            return training
        # Training on CPU keeps all cores busy, so that what other processes decode comes on top, shared over the cores
        # (docs/scale.md: 1.7 ms a picture from memory and 1.0 ms of decoding on 2 cores took 2.2 ms). Beside an
        # accelerator it takes less. Either way the processes that decode, half as many as cores, set a bound.
        decoding, workers = _decoding_seconds(self.survey), default_workers(self.cores)
        return max(training + decoding / self.cores, decoding / workers)

    def passes(self, side: int, cost: Cost, hours: float) -> float:
        """Epochs that fit into the time."""
        return (_SHARE_OF_TIME * hours * 3600 - self.seconds_before(side)) / self.epoch_seconds(side, cost)


def batch_size(survey: Survey) -> int:
    """Pictures a step: 256, or so many fewer that an epoch has four steps."""
    return next((each for each in _BATCHES if survey.usable >= _STEPS * each), _BATCHES[-1])


def _sides(survey: Survey, wishes: Wishes) -> list[int]:
    """Sides that are worth trying, the largest first: not above the pictures' own by more than a quarter."""
    if wishes.side is not None:
        return [wishes.side]
    return [side for side in SIDES if side <= 1.25 * survey.short_side] or [SIDES[-1]]


def _networks(survey: Survey, side: int) -> list[dict[str, Any]]:
    """The encoders for a side, the better one first."""
    if survey.usable < FEW:
        return [_THREE_STAGE]
    return [_RESNET, _THREE_STAGE] if side >= _DEEP_SIDE else [_THREE_STAGE]


def _content(survey: Survey, wishes: Wishes, encoder: dict[str, Any], side: int, passes: int) -> dict[str, Any]:
    """The recipe of one option, but for what its cost decides."""
    data: dict[str, Any] = {"source": wishes.source, "augment": "views", **_stages(side, passes)}
    training: dict[str, Any] = {"epochs": passes, "batch_size": batch_size(survey)}
    content: dict[str, Any] = {"name": wishes.name, "summary": f"InfoNCE between views of {survey.folder.name}"}
    if survey.usable < FEW:
        content["init_from"] = START
    content |= {
        "encoder": {**encoder, "side": side},
        "objective": {"name": "simclr", "views": VIEWS, "temperature": 0.2},
        "data": data,
        "optimizer": {
            "name": "muon",
            "learning_rate": _RATE,
            "beta_2": 0.98,
            "warmup_epochs": round(0.1 * passes, 1),
        },
        "training": training,
    }
    if wishes.labelled is not None:
        content["watch"] = {"source": wishes.labelled, "every": max(1, passes // 20), "endpoint": "fc"}
    return content


def _depths(survey: Survey, watched: Survey | None) -> tuple[int | None, int | None]:
    """`data.depth` and `watch.depth`: the same scale for both, which the labels, if they fill 16 bits, do not set.

    Pictures of fewer bits would be almost black on theirs.
    """
    own, theirs = (None if each is None else each.depth for each in (survey, watched))
    if own == FULL:
        return None, None
    if theirs in (None, FULL):
        return own, None
    both = max(own or 0, theirs)
    return None if own is None else both, both


def _how_to_read(survey: Survey, depth: int | None) -> dict[str, Any]:
    """Bits of the deep files, and files to leave out."""
    keys: dict[str, Any] = {}
    if depth is not None:
        keys["depth"] = depth
    if survey.broken:
        keys["without_files"] = [path for path, _ in survey.broken]
    return keys


def _stages(side: int, passes: int) -> dict[str, Any]:
    """Small views of small crops for the first 60 % of the run, then larger ones."""
    small, large = (max(16, -(-side * share // 32) * 8) for share in (2, 3))
    first = round(_FIRST_STAGE * passes)
    stages = [{"epochs": first, "view_side": small, "area": [0.1, 0.5]}] if 0 < first < passes else []
    return {"stages": [*stages, {"view_side": large, "area": [0.2, 1.0]}]}


def _training_seconds(survey: Survey, side: int, cost: Cost) -> float:
    """Of an epoch, over both stages, and the look at the embedding at the end."""
    batch = batch_size(survey)
    shares = (_FIRST_STAGE, 1 - _FIRST_STAGE) if len(cost.seconds_per_picture) == 2 else (1.0,)
    each = sum(share * seconds for share, seconds in zip(shares, cost.seconds_per_picture, strict=True))
    view = max(stage["view_side"] for stage in _stages(side, 2)["stages"])
    look = cost.seconds_per_picture[-1] / VIEWS * (side / view) ** 2 * _FORWARD
    return survey.usable // batch * batch * each + min(survey.usable, _SAMPLE) * look


def _decoding_seconds(survey: Survey) -> float:
    """Of all pictures once, on one core."""
    return survey.usable * survey.seconds_per_picture


def _picture_bytes(survey: Survey, side: int) -> int:
    """Of all pictures in memory, twice: they are shuffled once."""
    return 2 * survey.usable * side * side * 3


def _scaled(cost: Cost, factor: float) -> Cost:
    return replace(cost, seconds_per_picture=tuple(factor * each for each in cost.seconds_per_picture))


def duration(seconds: float) -> str:
    """A time in words, such as "25 minutes" or "2.1 hours"."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} minute{'s' if minutes > 1 else ''}" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
