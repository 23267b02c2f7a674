"""Contrastive Predictive Coding of sequences and of grids of patches."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import ops

from mizoo import bounds, critics
from mizoo._tools.arrays import check_whole
from mizoo._tools.checks import check_choice, check_names, check_size
from mizoo.augment.layers import as_augmentation, layer_of
from mizoo.encoders.patch_grid import PATCHES, patch_geometry
from mizoo.errors import UserError
from mizoo.objectives import contexts
from mizoo.objectives.base import Objective

NEGATIVES = ("batch", "sequence", "both")
DIRECTIONS = ("down", "up", "left", "right")
_NEVER = -1e9  # a score without a share in a softmax, yet finite: 0 times infinity is NaN


@keras.saving.register_keras_serializable("mizoo")
class CPC(Objective):
    """Contrastive Predictive Coding (van den Oord et al. 2018): contexts c_t predict features z_{t+k} of k steps later.

    For every step k a log-bilinear critic exp(z^T W_k c / sqrt(size of z)), with a W_k of its own, picks z_{t+k} among
    the candidates that `negatives` names; the value of InfoNCE (eq. 4) is the term `mi_k`, in nats, never above its
    ceiling, and `accuracy_k` is the share of right picks. The loss is minus the mean of the terms.

    On a sequence the encoder gives `local` z (B, L, C) and `context` c (B, L, D), where c_t depends on nothing after t.
    On a grid `local` is (B, H, W, C), the steps are rows, and the objective brings a context of its own for each of
    `directions`; a term is the mean over them.

    Args:
        encoder: such as `mizoo.encoders.waveform`, `series` or `patch_grid`.
        steps: K, the last step predicted.
        first_step: the first one. Patches that overlap by half share pixels at k = 1: 2 leaves that step out.
        negatives: "batch": the same position of the other rows of the (gathered) batch. "sequence": every other
            position of the same row. "both": those together in one softmax. Only "batch" draws its negatives
            independently of c_t, and only that value is a lower bound of I(z_{t+k}; c_t); the other two rank positions
            of one sequence, for features that tell them apart.
        directions: of a grid, some of "down", "up", "left", "right"; not for sequences.
        context: of a grid: "masked_conv" or "row_gru".
        context_size: channels of that context.
        context_blocks: residual blocks of "masked_conv".
        augment: augmentation of whole pictures or sounds, such as `mizoo.augment.preset("voice")`, or None.
        patch_augment: augmentation of every patch by itself, such as `mizoo.augment.preset("patches")`, or None; takes
            an encoder of `mizoo.encoders.patch_grid`.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for steps that the grid does not have, unknown negatives, directions or contexts, or an encoder
            without the endpoints.

    Example:

    ```python
    model = mizoo.CPC(mizoo.encoders.series(features=3), steps=8)
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(mizoo.data.batches(series, batch_size=64), epochs=10)  # series: float32 (N, T, 3)
    ```
    """

    settings = ("steps", "first_step", "negatives", "context", "context_size", "context_blocks")
    serialised = ("encoder", "augment", "patch_augment")

    def __init__(
        self,
        encoder: keras.Model,
        steps: int = 12,
        first_step: int = 1,
        negatives: str = "batch",
        directions: Sequence[str] = ("down",),
        context: str = "masked_conv",
        context_size: int = 256,
        context_blocks: int = 3,
        augment=None,
        patch_augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, seed=seed, name=name)
        self.steps = steps
        self.first_step = first_step
        self.negatives = negatives
        self.directions = check_names(directions, "directions")
        self.context = context
        self.context_size = context_size
        self.context_blocks = context_blocks
        self.patch_augment = as_augmentation(patch_augment, "patch_augment")
        self.patch_augment_layer = layer_of(self.patch_augment)
        self._check_arguments()

        local = encoder.output["local"].shape[1:]
        self.on_grid = len(local) == 3
        self.location_count = local[0] * local[1] if self.on_grid else local[0]  # None until the first batch
        if self.on_grid:
            width = self.context_size
            self.context_nets = {each: self._context_net(local, each) for each in self.directions}
        else:
            width, self.directions, self.context_nets = encoder.output["context"].shape[-1], ("forward",), {}
        self.critics = {
            f"{direction}_{k}": critics.log_bilinear(width, local[-1], f"critic_{direction}_{k}")
            for direction in self.directions
            for k in self._predicted()
        }
        self.track_terms()

    def _context_net(self, shape: Sequence[int], direction: str) -> keras.Model:
        name = f"context_{direction}"
        if self.context == "row_gru":
            height, width, size = shape
            turned = (width, height, size) if direction in ("left", "right") else shape
            return contexts.row_gru(turned, self.context_size, name)
        return contexts.masked_conv(shape[-1], self.context_size, self.context_blocks, name)

    def _predicted(self) -> range:
        return range(self.first_step, self.steps + 1)

    @property
    def term_names(self) -> tuple[str, ...]:
        """`mi_k` in nats, and `accuracy_k`, the share of right picks, for every predicted step k."""
        return tuple(f"mi_{k}" for k in self._predicted()) + tuple(f"accuracy_{k}" for k in self._predicted())

    @property
    def fewest_rows(self) -> int:
        """Inputs in a batch: two, or one where the other positions of a sequence are the negatives."""
        return 1 if self.negatives == "sequence" else 2

    @property
    def own_noise_size(self) -> int:
        """Columns of noise that the patches of a picture take."""
        return self.location_count * self.patch_augment.noise_size if self.patch_augment else 0

    def ceilings(self, batch_size: int) -> dict[str, float]:
        """The largest value of each `mi_k` at a (gathered) batch of `batch_size`, in nats.

        With negatives from sequences of free length they are known once a batch has shown the length.
        """
        if self.negatives == "batch":
            candidates = batch_size
        elif self.location_count is None:
            return {}
        else:
            candidates = self.location_count + (batch_size - 1 if self.negatives == "both" else 0)
        return {f"mi_{k}": bounds.infonce_ceiling(candidates) for k in self._predicted()}

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`."""
        z, c = self._features(images, noise)
        sums = {name: 0.0 for name in self.term_names}
        for direction in self.directions:
            grid = contexts.facing_down(z, direction)
            context = self.context_nets[direction](grid, training=True) if self.on_grid else c
            others = self.gather(grid) if self.negatives != "sequence" else None
            for k in self._predicted():
                prediction = self.critics[f"{direction}_{k}"](context[:, :-k])  # W_k c_t, (N, H - k, W, C)
                value, accuracy = self._step(prediction, grid, others, k)
                sums[f"mi_{k}"] += value / len(self.directions)
                sums[f"accuracy_{k}"] += accuracy / len(self.directions)
        return -sum(sums[f"mi_{k}"] for k in self._predicted()) / len(self._predicted()), sums

    def _features(self, images, noise):
        """z as a grid (N, H, W, C), with W = 1 for sequences, and c likewise (None on a grid)."""
        if self.on_grid:
            if self.patch_augment is None:
                return self.encoder(images, training=True)["local"], None
            return self._augmented_patches(images, noise), None
        endpoints = self.encoder(images, training=True)
        z, c = endpoints["local"], endpoints["context"]
        if z.shape[1] is not None:
            self.location_count = z.shape[1]
            if self.location_count <= self.steps:
                raise UserError(self._too_short(f"{self.location_count} frames"))
        else:
            self.require(ops.shape(z)[1] > self.steps, self._too_short("no more frames"))
        return z[:, :, None], c[:, :, None]

    def _too_short(self, frames: str) -> str:
        return (
            f"`steps` is less than the number of frames. Received: steps={self.steps} with sequences of {frames}. Give "
            "longer sequences, or predict fewer steps."
        )

    def _augmented_patches(self, images, noise):
        patches = cut_patches(images, *patch_geometry(self.encoder))  # (N, H, W, p, p, channels)
        rows, columns, side, channels = *patches.shape[1:4], patches.shape[-1]
        flat = ops.reshape(patches, (-1, side, side, channels))
        flat = self.patch_augment(flat, ops.reshape(noise, (-1, self.patch_augment.noise_size)))
        _, z = self.encoder.get_layer(PATCHES)(flat, training=True)
        return ops.cast(ops.reshape(z, (-1, rows, columns, z.shape[-1])), "float32")

    def _step(self, prediction, grid, others, k: int):
        """InfoNCE and accuracy of step k, from predictions (N, H - k, W, C) of a grid (N, H, W, C)."""
        size, columns = prediction.shape[-1], ops.shape(grid)[2]
        rows = ops.shape(prediction)[0]
        prediction = ops.reshape(prediction, (rows, -1, size))  # (N, L, C)
        positives, scores, excess = self.positives(rows), None, 0.0
        if others is not None:
            targets = ops.reshape(others[:, k:], (ops.shape(others)[0], -1, size))
            scores = critics.aligned_scores(prediction, targets)  # (N, L, M)
        if self.negatives == "batch":
            return bounds.infonce(scores, positives), _accuracy(scores, positives[:, None])
        within = critics.within_scores(prediction, ops.reshape(grid, (rows, -1, size)))  # (N, L, S)
        target = ops.arange(ops.shape(prediction)[1]) + k * columns  # the position that each location predicts
        if self.negatives == "sequence":
            return bounds.infonce(ops.transpose(within, (1, 0, 2)), target), _accuracy(within, target[None])
        # One softmax over both kinds: the target is among the columns of the batch, so it is left out here.
        count = ops.shape(within)[2]
        within = ops.where(ops.one_hot(target, count, dtype="float32")[None] > 0, _NEVER, within)
        together = ops.concatenate([scores, within], axis=-1)
        candidates = ops.cast(ops.shape(together)[2], "float32")
        excess = ops.log(candidates) - ops.log(candidates - 1.0)
        return bounds.infonce(together, positives) - excess, _accuracy(together, positives[:, None])

    def get_config(self) -> dict:
        """Everything the constructor takes, for `model.save`."""
        return {**super().get_config(), "directions": list(self.directions) if self.on_grid else ["down"]}

    def _check_arguments(self) -> None:
        check_choice(self.negatives, "negatives", NEGATIVES)
        check_choice(self.context, "context", contexts.CONTEXTS)
        if set(self.directions) - set(DIRECTIONS):
            raise UserError(f"`directions` are some of {', '.join(DIRECTIONS)}. Received: {self.directions}")
        for name in ("steps", "context_size", "context_blocks"):
            setattr(self, name, check_size(getattr(self, name), name))
        self.first_step = check_whole(self.first_step, "first_step", 1)
        if self.first_step > self.steps:
            raise UserError(f"`first_step` is 1 to `steps`. Received: first_step={self.first_step}, steps={self.steps}")
        shapes = {key: value.shape[1:] for key, value in self.encoder.output.items()}
        if "local" not in shapes or len(shapes["local"]) not in (2, 3):
            raise UserError(
                "CPC predicts along the endpoint `local`, (B, L, C) or (B, H, W, C). The encoder has "
                + ", ".join(f"{key} {tuple(shape)}" for key, shape in shapes.items())
            )
        local = shapes["local"]
        if len(local) == 2 and len(shapes.get("context", ())) != 2:
            raise UserError(f"A sequence takes the endpoint `context` (B, L, D); there is {', '.join(shapes)}.")
        if len(local) == 2 and (self.patch_augment is not None or self.directions != ("down",)):
            raise UserError("`directions` and `patch_augment` are for grids, and this encoder gives sequences.")
        if len(local) == 3 and None in local[:2]:
            raise UserError("CPC takes a grid of known size: give the encoder's Input a height and a width.")
        if len(local) == 3:
            for direction in self.directions:
                length = local[0] if direction in ("down", "up") else local[1]
                if self.steps >= length:
                    raise UserError(
                        f"`steps` is less than the side of the grid. Received: steps={self.steps} {direction} on "
                        f"{local[0]}x{local[1]}."
                    )
        if self.patch_augment is not None:
            patch_geometry(self.encoder)


def cut_patches(images, side: int, stride: int):
    """Patches (N, H', W', side, side, C) of pictures (N, H, W, C), whole ones only."""
    height, width, channels = images.shape[1:]
    counts = []
    for axis, length in ((1, height), (2, width)):
        starts = range(0, length - side + 1, stride)
        index = ops.convert_to_tensor([[start + i for i in range(side)] for start in starts], "int32")
        counts.append(len(starts))
        images = ops.take(images, ops.reshape(index, (-1,)), axis=axis)
    images = ops.reshape(images, (-1, counts[0], side, counts[1], side, channels))
    return ops.transpose(images, (0, 1, 3, 2, 4, 5))


def _accuracy(scores, columns):
    """Share of the locations of scores (N, L, M) whose largest score is at `columns`, of a shape that fits (N, L)."""
    return ops.mean(ops.cast(ops.equal(ops.argmax(scores, axis=-1), ops.cast(columns, "int32")), "float32"))
