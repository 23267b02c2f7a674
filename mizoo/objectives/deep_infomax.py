"""Deep InfoMax."""

from __future__ import annotations

import keras
from keras import ops

from mizoo import bounds, critics
from mizoo.errors import UserError
from mizoo.objectives.base import Objective
from mizoo.objectives.prior_matching import discriminator, prior_losses

BOUNDS = ("infonce", "jsd")
NEGATIVES = ("images", "locations")


@keras.saving.register_keras_serializable("mizoo")
class DeepInfoMax(Objective):
    """Deep InfoMax (Hjelm et al. 2018, eq. 8): local and global mutual information, and prior matching.

    Maximises `local_weight` I(local features; Y) + `global_weight` I(whole feature map; Y), both by the chosen bound
    with an encode-and-dot critic, minus `prior_weight` times the non-saturating loss that pulls sigmoid(Y) towards
    the uniform distribution on [0, 1]^d. The paper's DIM(L) is (1, 0, 0.1), DIM(G) is (0, 1, 1).

    Args:
        encoder: pictures to a dict with the endpoints `local` (B, h, w, C) and `global` (B, d).
        local_weight: beta, weight of the local term.
        global_weight: alpha, weight of the global term.
        prior_weight: gamma, weight of prior matching; 0 leaves the discriminator out.
        bound: "infonce" or "jsd". JSD is trained as itself and also reported as the NWJ value of the same critic.
        negatives: of InfoNCE's local term. "images": each location picks its global vector among those of the batch.
            "locations": each global vector picks a location of its picture among all locations of all other
            pictures, as in the paper.
        critic_width: U, width of the space in which the critic takes dot products (the paper: 2048).
        augment: augmentation applied in the step, such as `mizoo.augment.CropFlip()`, or None.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for a negative weight, an unknown bound, or an encoder without the endpoints.

    Example:

    ```python
    model = mizoo.DeepInfoMax(mizoo.encoders.conv32(), local_weight=1.0, prior_weight=0.1)
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(mizoo.data.batches("cifar10", "train", batch_size=128), epochs=10)
    ```
    """

    def __init__(
        self,
        encoder: keras.Model,
        local_weight: float = 1.0,
        global_weight: float = 0.0,
        prior_weight: float = 0.1,
        bound: str = "infonce",
        negatives: str = "images",
        critic_width: int = 512,
        augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, seed=seed, name=name)
        _check(encoder, local_weight, global_weight, prior_weight, bound, negatives, critic_width)
        self.local_weight = local_weight
        self.global_weight = global_weight
        self.prior_weight = prior_weight
        self.bound = bound
        self.negatives = negatives
        self.critic_width = critic_width

        height, width, channels = encoder.output["local"].shape[1:]
        self.locations = height * width
        self.size = encoder.output["global"].shape[-1]
        self.local_critic = self.global_critic = self.discriminator = None
        if local_weight:
            self.local_critic = {
                "local": critics.projection(channels, critic_width, "local_critic_map"),
                "global": critics.projection(self.size, critic_width, "local_critic_vector"),
            }
        if global_weight:
            self.global_critic = {
                "map": critics.projection(self.locations * channels, critic_width, "global_critic_map"),
                "global": critics.projection(self.size, critic_width, "global_critic_vector"),
            }
        if prior_weight:
            self.discriminator = discriminator(self.size)
        self.track_terms()
        self.built = True  # every part is Functional: all variables exist already

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the logged terms; those that end in `_mi` are in nats."""
        names = []
        for part in ("local", "global"):
            if getattr(self, f"{part}_weight"):
                names += [f"{part}_mi"] + ([f"{part}_jsd"] if self.bound == "jsd" else [])
        return tuple(names) + (("prior", "adversary") if self.prior_weight else ())

    @property
    def own_noise_size(self) -> int:
        """Columns of noise: one sample of the prior for each picture."""
        return self.size if self.prior_weight else 0

    def ceilings(self, batch_size: int) -> dict[str, float]:
        """The largest value, in nats, that each InfoNCE term can report at a (gathered) batch of `batch_size`."""
        if self.bound != "infonce":
            return {}
        ceilings = {}
        if self.local_weight:
            ceilings["local_mi"] = bounds.infonce_ceiling(batch_size, self.locations, self.negatives)
        if self.global_weight:
            ceilings["global_mi"] = bounds.infonce_ceiling(batch_size)
        return ceilings

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`."""
        endpoints = self.encoder(images, training=True)
        local, y = endpoints["local"], endpoints["global"]
        rows = ops.shape(y)[0]
        positives = self.positives(rows)
        loss, terms = 0.0, {}

        if self.local_weight:
            features = ops.reshape(local, (-1, self.locations, local.shape[-1]))
            features = self.local_critic["local"](features, training=True)  # (N, L, U)
            vectors = self.local_critic["global"](y[:, None], training=True)[:, 0]  # (N, U)
            value, logs = self._bound_terms("local", features, vectors, positives)
            loss, terms = loss - self.local_weight * value, {**terms, **logs}
        if self.global_weight:
            flat = ops.reshape(local, (-1, 1, self.locations * local.shape[-1]))
            features = self.global_critic["map"](flat, training=True)  # (N, 1, U)
            vectors = self.global_critic["global"](y[:, None], training=True)[:, 0]
            value, logs = self._bound_terms("global", features, vectors, positives)
            loss, terms = loss - self.global_weight * value, {**terms, **logs}
        if self.prior_weight:
            prior, adversary = prior_losses(self.discriminator, y, noise)
            loss = loss + self.prior_weight * prior + adversary
            terms |= {"prior": prior, "adversary": adversary}
        return loss, terms

    def _bound_terms(self, part: str, features, vectors, positives):
        """The value to maximise and what is logged, from features (N, L, U) and vectors (N, U) of this replica."""
        if self.bound == "infonce" and part == "local" and self.negatives == "locations":
            scores = critics.dot_scores(self.gather(features), vectors)  # (M, L, N)
            value = bounds.infonce_locations(ops.transpose(scores, (2, 1, 0)), positives)
            return value, {f"{part}_mi": value}
        scores = critics.dot_scores(features, self.gather(vectors))  # (N, L, M)
        if self.bound == "infonce":
            value = bounds.infonce(scores, positives)
            return value, {f"{part}_mi": value}
        value = bounds.jsd(scores, positives)
        return value, {f"{part}_mi": bounds.nwj(scores, positives), f"{part}_jsd": value}

    def get_config(self) -> dict:
        """Everything the constructor takes, for `model.save`."""
        names = ("local_weight", "global_weight", "prior_weight", "bound", "negatives", "critic_width", "seed", "name")
        return {
            **{name: getattr(self, name) for name in names},
            "encoder": keras.saving.serialize_keras_object(self.encoder),
            "augment": keras.saving.serialize_keras_object(self.augment),
        }

    @classmethod
    def from_config(cls, config: dict) -> DeepInfoMax:
        """Build the model again from `get_config`."""
        config = dict(config)
        for name in ("encoder", "augment"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def _check(encoder, local_weight, global_weight, prior_weight, bound, negatives, critic_width) -> None:
    for name, weight in {"local": local_weight, "global": global_weight, "prior": prior_weight}.items():
        if not weight >= 0:
            raise UserError(f"`{name}_weight` is 0 or more. Received: {weight}")
    if not (local_weight or global_weight):
        raise UserError("Nothing is maximised: `local_weight` and `global_weight` are both 0.")
    if bound not in BOUNDS:
        raise UserError(f"`bound` is one of {', '.join(BOUNDS)}. Received: bound={bound!r}")
    if negatives not in NEGATIVES:
        raise UserError(f"`negatives` is one of {', '.join(NEGATIVES)}. Received: negatives={negatives!r}")
    if critic_width < 1:
        raise UserError(f"`critic_width` is 1 or more. Received: {critic_width}")
    missing = {"local", "global"} - set(encoder.output)
    if missing:
        raise UserError(
            f"The encoder has no endpoint {' and '.join(sorted(missing))}; it has {', '.join(encoder.output)}."
        )
