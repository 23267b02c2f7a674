"""Deep InfoMax, within a picture and across views of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import keras
from keras import ops

from mizoo import bounds, critics
from mizoo._tools.checks import check_choice, check_real, check_size
from mizoo.augment import Occlude
from mizoo.errors import UserError
from mizoo.objectives.coordinates import coordinate_classifier, coordinate_losses
from mizoo.objectives.pair_terms import PairTerms
from mizoo.objectives.prior_matching import PRIORS, discriminator, prior_losses

BOUNDS = ("infonce", "jsd", "dv")
NEGATIVES = ("images", "locations", "both")
CRITICS = ("encode_dot", "concat_conv")


@keras.saving.register_keras_serializable("mizoo")
class DeepInfoMax(PairTerms):
    """Deep InfoMax (Hjelm et al. 2018, eq. 8): local and global mutual information, and prior matching.

    Maximises `local_weight` I(local features; Y) + `global_weight` I(whole feature map; Y), both by the chosen bound
    and critic, minus `prior_weight` times the non-saturating loss that pulls sigmoid(Y) towards
    the uniform distribution on [0, 1]^d, or Y towards the standard Gaussian. The paper's DIM(L) is (1, 0, 0.1), DIM(G)
    is (0, 1, 1).

    With `views=2` the two sides of a pair come from two augmented views of a picture, both ways (Bachman et al. 2019:
    AMDIM), and a term is the mean of the two directions.

    Args:
        encoder: pictures to a dict of endpoints: those that `pairs` name, `global` (B, d) for the global term and the
            prior, and `local` (B, h, w, C) for the global term.
        local_weight: beta, weight of the mean of the terms of `pairs`.
        global_weight: alpha, weight of the global term.
        prior_weight: gamma, weight of prior matching; 0 leaves the discriminator out.
        prior: "uniform": sigmoid(Y) is matched to the uniform distribution on [0, 1]^d, so that `global`, which is Y,
            is logistic where it succeeds; "gaussian": Y itself to the standard Gaussian.
        bound: "infonce", "jsd" or "dv". JSD is trained as itself and also reported as the NWJ value of the same critic.
            Donsker-Varadhan compares the mean score of a location with its own vector to the logarithm of the mean of
            exp(score) over all locations of the (gathered) batch with all vectors of other pictures: one expectation
            over pictures and locations together, see `mizoo.bounds.dv`. Its gradient is that of the batch's value,
            biased because the logarithm is.
        negatives: of InfoNCE over `pairs`. "images": each location picks its vector among those of the batch.
            "locations": each vector picks a location of its picture among all locations of all other pictures, as in
            both papers. "both": the mean of the two. Of the values, that of "images" alone is a lower bound of mutual
            information; the locations of one picture are no independent draws, so the others can be larger than it.
        critic: "encode_dot": both sides go through networks of their own, and a score is their dot product.
            "concat_conv": a network on [local feature, vector] scores every pair (the paper's other critic); about
            `critic_width` times the work of the dot products, see `mizoo.critics.ConcatConvolve`.
        critic_width: U, width of the space of the dot products (the paper: 2048), or of the two hidden layers of
            "concat_conv" (the paper: 512).
        views: 1, or 2 and more for across views: each view predicts every other.
        pairs: pairs of endpoints (features, vector). Where the second is a map, one of its locations is drawn for each
            picture. AMDIM has ("local", "global"), ("conv", "global") and ("conv", "conv").
        clip: c of the soft clip c tanh(score / c), or None (AMDIM: 20).
        score_penalty: weight of the mean squared score before the clip (AMDIM: 0.05).
        occlusion: side of a grey square, as a share of the picture's, that covers part of the pictures where the
            vectors (the second endpoint of each pair, Y of the global term and of the prior) are computed, and not
            where the features are (Hjelm et al. 2018, appendix: occlusion); a second pass through the encoder. 0 for
            none.
        coordinates_weight: weight of the coordinates task of the paper's appendix: row and column of each local feature
            are told from it and Y, the sum of two cross-entropies, minimised. With `occlusion` Y is that of the covered
            picture. Logged as `coordinates`, in nats, with `accuracy_coordinates`, the share of which both are right.
            0 for none.
        augment: augmentation applied in the step, such as `mizoo.augment.preset("dim")`, or None.
        seed: seed of noise that a batch does not bring.

    Raises:
        UserError: for a negative weight, an unknown bound, an encoder without the endpoints, or whose `global` is no
            vector where a global term, the coordinates or the prior take it, pairs without content, or two views
            without augmentation.

    Example:

    ```python
    model = mizoo.DeepInfoMax(mizoo.encoders.conv32(), local_weight=1.0, prior_weight=0.1)
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(mizoo.data.batches("cifar10", "train", batch_size=128), epochs=10)
    ```
    """

    settings = ("local_weight", "global_weight", "prior_weight", "bound", "negatives", "critic_width", "views", "pairs")
    settings += ("clip", "score_penalty", "critic", "occlusion", "prior", "coordinates_weight")

    def __init__(
        self,
        encoder: keras.Model,
        local_weight: float = 1.0,
        global_weight: float = 0.0,
        prior_weight: float = 0.1,
        bound: str = "infonce",
        negatives: str = "images",
        critic_width: int = 512,
        views: int = 1,
        pairs: Sequence[Sequence[str]] = (("local", "global"),),
        clip: float | None = None,
        score_penalty: float = 0.0,
        critic: str = "encode_dot",
        occlusion: float = 0.0,
        prior: str = "uniform",
        coordinates_weight: float = 0.0,
        augment=None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(encoder, augment=augment, views=views, seed=seed, name=name)
        self.local_weight = local_weight
        self.global_weight = global_weight
        self.prior_weight = prior_weight
        self.bound = bound
        self.negatives = negatives
        self.critic_width = critic_width
        self.pairs = _as_pairs(pairs)
        self.clip = clip
        self.score_penalty = score_penalty
        self.critic = critic
        self.occlusion = occlusion
        self.prior = prior
        self.coordinates_weight = coordinates_weight
        self._check_arguments()
        self.occlude = Occlude(occlusion) if occlusion else None

        shapes = {key: value.shape[1:] for key, value in encoder.output.items()}
        self.locations = {key: math.prod(shape[:-1]) for key, shape in shapes.items()}
        self.size = shapes["global"][-1] if "global" in shapes else 0
        self.local_critic, self.global_critic, self.discriminator = {}, {}, None
        if local_weight and critic == "encode_dot":
            self.local_critic = {
                key: critics.projection(shapes[key][-1], critic_width, f"local_critic_{key}")
                for key in self._paired_endpoints()
            }
        elif local_weight:
            self.local_critic = {
                term: critics.ConcatConvolve(
                    shapes[first][-1], shapes[second][-1], critic_width, f"local_critic_{term}"
                )
                for term, (first, second) in self._pair_names().items()
            }
        if global_weight and critic == "concat_conv":
            width = math.prod(shapes["local"])
            self.global_critic = {"global": critics.ConcatConvolve(width, self.size, critic_width, "global_critic")}
        elif global_weight:
            self.global_critic = {
                "map": critics.projection(math.prod(shapes["local"]), critic_width, "global_critic_map"),
                "global": critics.projection(self.size, critic_width, "global_critic_vector"),
            }
        if prior_weight:
            self.discriminator = discriminator(self.size)
        if coordinates_weight:
            self.coordinates = coordinate_classifier(shapes["local"], self.size)
        self.track_terms()

    def _paired_endpoints(self) -> list[str]:
        """The endpoints in `pairs`, each once."""
        return list(dict.fromkeys(key for pair in self.pairs for key in pair))

    def _pair_names(self) -> dict[str, tuple[str, str]]:
        """The pairs by the prefix of their terms: the endpoints, without `global` as the second."""
        named = {}
        for first, second in self.pairs if self.local_weight else ():
            named[first if second == "global" != first else f"{first}_{second}"] = (first, second)
        return named

    @property
    def term_names(self) -> tuple[str, ...]:
        """Names of the logged terms; those that end in `_mi` are in nats.

        `local_mi` for the pair (local, global), `conv_conv_mi` for (conv, conv) and so on; `global_mi` is the term of
        `global_weight`.
        """
        names = []
        for term in [*self._pair_names(), *(["global"] if self.global_weight else [])]:
            names += [f"{term}_mi"] + ([f"{term}_jsd"] if self.bound == "jsd" else [])
        names += ["score_penalty"] if self.score_penalty else []
        names += ["coordinates", "accuracy_coordinates"] if self.coordinates_weight else []
        return tuple(names) + (("prior", "adversary") if self.prior_weight else ())

    @property
    def own_noise_size(self) -> int:
        """Columns of noise: one for each location drawn, a sample of the prior and the occlusion of each view."""
        each_view = (self.size if self.prior_weight else 0) + (self.occlude.noise_size if self.occlude else 0)
        return self._drawn_locations() + self.views * each_view

    def _drawn_locations(self) -> int:
        """How many locations are drawn for a picture: one for each direction of a pair whose second side is a map."""
        maps = [pair for pair in self._pair_names().values() if self.locations[pair[1]] > 1]
        return len(self._directions()) * len(maps)

    def ceilings(self, batch_size: int) -> dict[str, float]:
        """The largest value, in nats, that each InfoNCE term can report at a (gathered) batch of `batch_size`."""
        if self.bound != "infonce":
            return {}
        kinds = ("images", "locations") if self.negatives == "both" else (self.negatives,)
        ceilings = {}
        for term, (first, _) in self._pair_names().items():
            each = [bounds.infonce_ceiling(batch_size, self.locations[first], kind) for kind in kinds]
            ceilings[f"{term}_mi"] = sum(each) / len(each)
        if self.global_weight:
            ceilings["global_mi"] = bounds.infonce_ceiling(batch_size)
        return ceilings

    def compute_terms(self, images, noise):
        """Loss and terms of one batch; see `Objective.compute_terms`."""
        endpoints = occluded = self.encoder(images, training=True)
        if self.occlude:
            columns = self.views * self.occlude.noise_size
            squares = ops.concatenate(ops.split(noise[:, :columns], self.views, axis=1))
            # The published encoder sees whole pictures: its moving averages are those of the first pass alone.
            averages = [v for v in self.encoder.non_trainable_variables if v.dtype.startswith("float")]
            saved = [ops.copy(variable) for variable in averages]
            occluded, noise = self.encoder(self.occlude.apply(squares, images), training=True), noise[:, columns:]
            for variable, value in zip(averages, saved):
                variable.assign(value)
        positives = self.positives(ops.shape(images)[0] // self.views)
        loss, terms, penalties = 0.0, {}, []

        if self.local_weight:
            sides_of_pairs = self._local_sides(endpoints, occluded)
            drawn, noise = noise[:, : self._drawn_locations()], noise[:, self._drawn_locations() :]
            for term, (features, candidates) in sides_of_pairs.items():
                sides = []
                for one, other in self._directions():
                    vectors, drawn = self._one_location(candidates[other], drawn)
                    sides.append((features[one], vectors))
                value, logs, penalty = self._mean_terms(term, sides, positives, self.negatives)
                loss, terms = loss - self.local_weight / len(self.pairs) * value, {**terms, **logs}
                penalties.append(penalty)
        if self.global_weight:
            features, vectors = self._global_sides(endpoints, occluded)
            sides = [(features[one], vectors[other][:, 0]) for one, other in self._directions()]
            value, logs, penalty = self._mean_terms("global", sides, positives, "images")
            loss, terms = loss - self.global_weight * value, {**terms, **logs}
            penalties.append(penalty)
        if self.score_penalty:
            terms["score_penalty"] = sum(penalties) / len(penalties)
            loss = loss + self.score_penalty * terms["score_penalty"]
        if self.coordinates_weight:
            places, right = coordinate_losses(self.coordinates, endpoints["local"], occluded["global"])
            loss = loss + self.coordinates_weight * places
            terms |= {"coordinates": places, "accuracy_coordinates": right}
        if self.prior_weight:
            samples = ops.reshape(noise, (-1, self.size))
            prior, adversary = prior_losses(self.discriminator, occluded["global"], samples, self.prior)
            loss = loss + self.prior_weight * prior + adversary
            terms |= {"prior": prior, "adversary": adversary}
        return loss, terms

    def _local_sides(self, endpoints, occluded) -> dict[str, tuple[list, list]]:
        """For each pair what its critic makes of the two sides: of each view (N, L, U) and (N, L', U).

        The first comes from `endpoints`, the second from `occluded`, those of the occluded pictures or the same.
        """
        pairs = self._pair_names()
        firsts, seconds = (dict.fromkeys(pair[side] for pair in pairs.values()) for side in (0, 1))
        if occluded is endpoints:
            seen = covered = self._encoded(endpoints, firsts | seconds)
        else:
            seen, covered = self._encoded(endpoints, firsts), self._encoded(occluded, seconds)
        sides = {term: (seen[first], covered[second]) for term, (first, second) in pairs.items()}
        if self.critic == "concat_conv":
            sides = {term: self.local_critic[term].sides(*both) for term, both in sides.items()}
        return {term: tuple(self._by_view(side) for side in both) for term, both in sides.items()}

    def _encoded(self, endpoints, keys) -> dict:
        """Endpoints (B, ..., C) as (B, locations, C), through the critic's own network of each if it has one."""
        flat = {key: ops.reshape(endpoints[key], (-1, self.locations[key], endpoints[key].shape[-1])) for key in keys}
        if self.critic == "encode_dot":
            return {key: self.local_critic[key](value, training=True) for key, value in flat.items()}
        return flat

    def _global_sides(self, endpoints, occluded) -> tuple[list, list]:
        """The same of the whole map and the global vector: of each view (N, 1, U) twice."""
        local, y = endpoints["local"], occluded["global"][:, None]
        flat = ops.reshape(local, (-1, 1, self.locations["local"] * local.shape[-1]))
        if self.critic == "encode_dot":
            both = self.global_critic["map"](flat, training=True), self.global_critic["global"](y, training=True)
        else:
            both = self.global_critic["global"].sides(flat, y)
        return tuple(self._by_view(side) for side in both)

    def _by_view(self, features) -> list:
        """The features of each view, from those of all views one below the other."""
        return ops.split(features, self.views) if self.views > 1 else [features]

    def _directions(self) -> tuple[tuple[int, int], ...]:
        """Which view gives the features, and which the vectors."""
        return tuple(itertools.permutations(range(self.views), 2)) if self.views > 1 else ((0, 0),)

    def _one_location(self, features, drawn):
        """Vectors (N, U) from features (N, L, U), one location of each row by the next column of `drawn` if L > 1."""
        locations = features.shape[1]
        if locations == 1:
            return features[:, 0], drawn
        index = ops.cast(ops.floor(drawn[:, 0] * locations), "int32")
        chosen = ops.one_hot(index, locations, dtype=features.dtype)[:, None]  # a product: its gradient is cheap
        return ops.matmul(chosen, features)[:, 0], drawn[:, 1:]

    def _check_arguments(self) -> None:
        for name in ("local_weight", "global_weight", "prior_weight", "score_penalty", "coordinates_weight"):
            check_real(getattr(self, name), name, minimum=0)
        if not (self.local_weight or self.global_weight):
            raise UserError("Nothing is maximised: `local_weight` and `global_weight` are both 0.")
        check_choice(self.bound, "bound", BOUNDS)
        check_choice(self.negatives, "negatives", NEGATIVES)
        check_choice(self.critic, "critic", CRITICS)
        check_choice(self.prior, "prior", PRIORS)
        self.critic_width = check_size(self.critic_width, "critic_width")
        check_real(self.occlusion, "occlusion", minimum=0, maximum=1, what="a share of a picture's side")
        if self.clip is not None:
            check_real(self.clip, "clip", above=0)
        _check_pairs(self.pairs, self.views)
        needed = set(self._paired_endpoints()) if self.local_weight else set()
        needed |= {"local"} if self.global_weight or self.coordinates_weight else set()
        self.require_endpoints(needed)
        if self.global_weight or self.coordinates_weight or self.prior_weight:
            self.require_vectors(["global"])
        if self.coordinates_weight and len(self.encoder.output["local"].shape) != 4:
            raise UserError("`coordinates_weight` takes an encoder whose `local` is a map (B, h, w, C).")
        free = [name for name, value in self.encoder.output.items() if None in value.shape[1:]]
        if free:
            raise UserError(
                f"Deep InfoMax takes maps of known size, and the size of {', '.join(free)} is free: give the encoder's "
                "Input a height and a width."
            )


def _as_pairs(pairs: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    listed = [tuple(pair) if isinstance(pair, (list, tuple)) else () for pair in _as_list(pairs)]
    named = all(len(pair) == 2 and all(isinstance(name, str) for name in pair) for pair in listed)
    if not listed or not named or len(set(listed)) < len(listed):
        raise UserError(f"`pairs` are different pairs of endpoints, such as [('local', 'global')]. Received: {pairs!r}")
    return tuple(listed)


def _as_list(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else []


def _check_pairs(pairs: Sequence[Sequence[str]], views: int) -> None:
    if views == 1 and any(first == second for first, second in pairs):
        raise UserError("An endpoint determines itself within one view: equal endpoints take views=2.")
