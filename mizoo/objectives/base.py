"""What every objective shares: terms and weights, two optimisers, metrics, and the step of the backend in use."""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterable, Sequence

import keras
from keras import ops

from mizoo._tools import keras_private
from mizoo._tools.arrays import check_whole
from mizoo._tools.checks import check_name, check_real, check_seed
from mizoo._tools.keras_backend import training_backend
from mizoo.augment.layers import as_augmentation, layer_of
from mizoo.errors import UserError
from mizoo.objectives import inputs

if training_backend("Training runs") == "tensorflow":
    from mizoo.objectives._tensorflow import TensorFlowStep as Step
else:
    from mizoo.objectives._jax import JaxStep as Step

ADVERSARY = "adversary"  # prefix of the names of the layers that the second optimiser trains
INNER_INPUT = "_inner_input"  # the tensor among the terms that the inner loop of the second optimiser works on
COUNTS = "_counts"  # a number among the terms: 0 for a batch that says nothing, and is left out of the running means
_GENERATOR = "generator"  # prefix of the names under which files hold the states of generators
_NO_VALIDATION = (
    "An objective has no validation step: leave out `validation_data` and `validation_split`, and measure the encoder "
    "by mizoo.evaluate.evaluate(model.encoder, ...), with split='validation' to keep the test split."
)


class Objective(Step, keras.Model):
    """A mutual-information objective over an encoder.

    A subclass builds its networks in the constructor and states its terms in `compute_terms`. The training step, the
    same for all, differentiates the loss that `compute_terms` returns. Networks that work against the encoder (a
    discriminator) have layers whose names begin with "adversary"; the second optimiser trains those and nothing else.

    Args:
        encoder: a Functional `keras.Model` from pictures to a dict of endpoints.
        augment: what `mizoo.augment.as_augmentation` takes: an augmentation of this package, a Keras layer, a callable
            of (images, noise) with a `noise_size`, or None.
        views: how often each picture of a batch is augmented.
        seed: seed of the noise that is drawn in the step when a batch brings none.
        name: name of the model.

    Raises:
        UserError: for an encoder without named endpoints, anything else as `augment`, too few views, and a
            seed below 0.
    """

    def __init__(
        self, encoder: keras.Model, augment=None, views: int = 1, seed: int = 0, name: str | None = None
    ) -> None:
        super().__init__(name=check_name(name))
        if not isinstance(encoder, keras.Model) or not isinstance(getattr(encoder, "output", None), dict):
            raise UserError(
                "`encoder` is a keras.Model whose output is a dict of named endpoints, such as "
                f"mizoo.encoders.conv32(). Received: {type(encoder).__name__}"
            )
        if check_whole(views, "views", self.fewest_views) > 1 and augment is None:
            raise UserError(
                "Two views of a picture differ by `augment`: give one, such as mizoo.augment.preset('views')."
            )
        self.encoder = encoder
        self.augment = as_augmentation(augment)
        inputs.check_augmentation(encoder, self.augment)
        self.augment_layer = layer_of(self.augment)  # so that Keras keeps the state of its generators
        self.views = views
        self.seed = check_seed(seed)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.term_metrics = {}
        self.seen_larger_batch = False
        self.batch_rows: int | None = (
            None  # of the batches of `fit`, where they are known: a step on TensorFlow may not
        )

    # What a subclass defines.

    term_names: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()  # arguments of its constructor that are plain values, besides `seed` and `name`
    serialised: tuple[str, ...] = ("encoder", "augment")  # and those that are objects

    fewest_views = 1  # of each picture, for an objective that compares views
    fewest_rows = 2  # inputs in a batch: with one there is nothing to tell it apart from
    fewest_because = "the others of a batch are what each is told apart from, and a batch of one trains on nothing"

    target_size = 0  # columns of the targets that a batch brings, appended to the noise that `compute_terms` takes
    targets_are = "targets"  # what they are, for messages

    inner_steps = 1  # steps of the second optimiser for each update: the first with it, the others by `inner_loss`

    def compute_terms(self, images, noise):
        """State the objective on one batch.

        Args:
            images: float32 (views * N, H, W, C) in 0..255, augmented: the first view of every picture, then the
                second, and so on.
            noise: (N, K), uniform in [0, 1): the columns that the augmentation left over, and the targets after them.

        Returns:
            The loss to minimise, a scalar, and a dict with a scalar for each of `term_names`; with several
            `inner_steps` it also has, as `INNER_INPUT`, the tensor that `inner_loss` works on; where some batches say
            nothing, as `COUNTS`, 0 for those and 1 for the others.
        """
        raise UserError(f"{type(self).__name__} does not state its terms: override `compute_terms`.")

    def inner_loss(self, terms):
        """The loss that the second optimiser minimises in its further steps, from what the terms hold: a scalar."""
        raise UserError(f"{type(self).__name__} has no inner loop: leave `inner_steps` at 1.")

    def ceilings(self, batch_size: int) -> dict[str, float]:
        """The largest value of each term that has one, in its unit, at a (gathered) batch of `batch_size`."""
        return {}

    @property
    def own_noise_size(self) -> int:
        """Columns of noise that `compute_terms` takes."""
        return 0

    # What every objective has.

    def get_config(self) -> dict:
        """Everything the constructor takes, for `model.save`."""
        config = {name: getattr(self, name) for name in (*self.settings, "seed", "name")}
        return config | {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.serialised}

    @classmethod
    def from_config(cls, config: dict) -> Objective:
        """The model of a `get_config`."""
        objects = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.serialised}
        return cls(**config | objects)

    @property
    def noise_size(self) -> int:
        """Columns of uniform noise a batch brings: those of the augmentation, then those of the terms."""
        return self.own_noise_size + (self.views * self.augment.noise_size if self.augment else 0)

    def require_endpoints(self, names: Iterable[str]) -> None:
        """Refuse an encoder that lacks one of the named endpoints.

        Raises:
            UserError: naming those that are missing, and those that it has.
        """
        if missing := sorted(set(names) - set(self.encoder.output)):
            raise UserError(
                f"The encoder has no endpoint {' and '.join(missing)}; it has {', '.join(self.encoder.output)}."
            )

    def require_vectors(self, names: Sequence[str]) -> None:
        """Refuse an encoder that lacks one of the named endpoints, or of which one is no vector (B, d).

        Raises:
            UserError: naming those that are missing, or the first that is no vector, and its shape.
        """
        self.require_endpoints(names)
        for name in names:
            shape = tuple(self.encoder.output[name].shape)
            if len(shape) != 2:
                raise UserError(
                    f"The endpoint `{name}` is a vector (B, d) here. Received: an encoder that gives it the shape "
                    f"{shape}. Pool or flatten it."
                )

    def require_positive(self, *names: str) -> None:
        """Refuse arguments, named as the attributes that hold them, that are no numbers above 0.

        Raises:
            UserError: naming the first.
        """
        for name in names:
            check_real(getattr(self, name), name, above=0)

    def track_terms(self) -> None:
        """Create a metric for each term; a subclass calls it last in its constructor, when every layer is built.

        Raises:
            UserError: for a term whose name the step uses itself.
        """
        if taken := sorted({"loss", COUNTS, INNER_INPUT} & set(self.term_names)):
            raise UserError(
                f"The names loss, {COUNTS} and {INNER_INPUT} have a meaning of their own among the terms. Received: "
                f"`term_names` with {', '.join(taken)}. Give the term another name."
            )
        self.term_metrics = {name: keras.metrics.Mean(name=name) for name in ("loss", *self.term_names)}
        self.built = True

    def call(self, images, training: bool = False):
        """The endpoints of the encoder for pictures (B, H, W, C): `predict` gives features."""
        if isinstance(images, dict):
            images = images[inputs.input_key(images)]
        return self.encoder(images, training=training)

    def __call__(self, images, *args, **kwargs):
        """As `keras.Model.__call__`; arrays are checked as in `predict`, tensors are taken as they are."""
        if inputs.is_plain(images):
            images = self._encoder_inputs(images)
        return super().__call__(images, *args, **kwargs)

    def _encoder_inputs(self, x):
        """Pictures or sequences as the encoder takes them, from an array or a dict that holds one."""
        values = x[inputs.input_key(x)] if isinstance(x, dict) else x
        return inputs.check_inputs(values, inputs.wanted_shape(self.encoder))

    def unpack(self, data):
        """Pictures (or sequences) and noise of a batch: a dict from `mizoo.data.batches`, or plain pictures.

        The targets of an objective that takes some stand behind the columns of noise.
        """
        if isinstance(data, (tuple, list)):
            inputs.check_unweighted({"sample_weight": data[2] if len(data) == 3 else None})
            data = data[0]
        if not isinstance(data, dict):
            data = {"images": data}
        images = data[inputs.input_key(data)]
        self._check_batch(images)
        noise = data.get("noise")
        if noise is None:
            shape = (ops.shape(images)[0], self.noise_size)
            noise = self.draw_noise(shape)
        elif noise.shape[-1] != self.noise_size:
            raise UserError(
                f"A batch for {type(self).__name__} brings {self.noise_size} columns of noise. Received: "
                f"{noise.shape[-1]}. Pass `noise_size=model.noise_size` to mizoo.data.batches."
            )
        if not self.target_size:
            return images, noise
        targets = data.get("targets")
        if targets is None or targets.shape[-1] != self.target_size:
            received = "none" if targets is None else f"{targets.shape[-1]} columns"
            raise UserError(
                f"A batch for {type(self).__name__} brings {self.targets_are}, {self.target_size} columns. Received: "
                f"{received}. Pass `targets=` to mizoo.data.batches, or batches with the key `targets`."
            )
        return images, ops.concatenate([noise, ops.cast(targets, "float32")], axis=1)

    def _check_batch(self, images) -> None:
        """Refuse a batch by what is known of it while the step is traced: its shape, and whether it holds one input."""
        dtype = keras.backend.standardize_dtype(images.dtype)
        inputs.check_batch_shape(images.shape, dtype, inputs.wanted_shape(self.encoder, self.augment))
        rows = images.shape[0] if images.shape is not None and len(images.shape) else None
        if rows != 1 or self.replicas > 1:
            self.seen_larger_batch = True
        elif not self.seen_larger_batch:  # after larger ones it is the last, which teaches nothing and does no harm
            inputs.check_rows(self, rows)

    def forward(self, images, noise):
        """Augment, and compute loss and terms: what the steps of both backends differentiate."""
        if self.augment:
            columns = self.augment.noise_size
            views = [self.augment(images, noise[:, i * columns : (i + 1) * columns]) for i in range(self.views)]
            images, noise = ops.concatenate(views) if self.views > 1 else views[0], noise[:, self.views * columns :]
            inputs.check_batch_shape(images.shape, "float32", inputs.wanted_shape(self.encoder))
        loss, terms = self.compute_terms(ops.cast(images, "float32"), noise)
        return loss, {"loss": loss, **terms}

    def compile(self, optimizer="adam", prior_optimizer=None, **kwargs) -> None:
        """Configure training.

        Args:
            optimizer: trains the encoder and the critics.
            prior_optimizer: trains the discriminator of the prior; by default a fresh copy of `optimizer`.
            **kwargs: `jit_compile`, `run_eagerly` and the like, as in `keras.Model.compile`.

        Raises:
            UserError: for settings that cannot work with this step, such as a `loss` beside the objective's own, and if
                every layer is frozen.

        Warns:
            UserWarning: if the encoder is frozen, and only what is around it is trained.
        """
        for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise UserError(
                    f"{type(self).__name__} has its own loss and terms, and sees no labels. Received: {name}="
                    f"{kwargs[name]!r}. Leave it out; a subclass states others in `compute_terms`."
                )
        self._check_trainable()
        optimizer = keras.optimizers.get(optimizer)
        adversary = [v for v in self.trainable_variables if ADVERSARY in v.path]
        if adversary and not isinstance(_innermost(optimizer), keras.optimizers.MultiOptimizer):
            if prior_optimizer is None:
                prior_optimizer = optimizer.from_config(optimizer.get_config())
                keras_private.copy_decay_exclusions(_innermost(optimizer), _innermost(prior_optimizer))
            prior_optimizer = keras.optimizers.get(prior_optimizer)
            for each in (optimizer, prior_optimizer):
                if each.use_ema:
                    raise UserError("`use_ema` is not for optimisers that train parts of a model: average afterwards.")
            optimizer = keras.optimizers.MultiOptimizer(
                keras.optimizers.OptimizerMap(optimizer, {f".*{ADVERSARY}.*": prior_optimizer})
            )
        elif prior_optimizer is not None and not adversary:
            raise UserError(
                f"`prior_optimizer` trains a second set of layers, and this {type(self).__name__} trains one alone."
            )
        super().compile(optimizer=optimizer, **kwargs)
        self.optimizer.build(self.trainable_variables)

    def _check_trainable(self) -> None:
        frozen = bool(self.encoder.weights) and not self.encoder.trainable_variables
        if not self.trainable_variables:
            raise UserError(
                f"Nothing is trained: {type(self).__name__} has no layers but those of the encoder "
                f"{self.encoder.name!r}, which are all frozen. Set `encoder.trainable = True` (or that of some layers) "
                "before `compile`."
            )
        if frozen:
            warnings.warn(
                f"The encoder {self.encoder.name!r} is frozen: {type(self).__name__} trains its critics, heads or "
                "densities alone. If it should be trained, set `encoder.trainable = True` before `compile`.",
                UserWarning,
                stacklevel=3,
            )

    def inner_optimizer(self) -> tuple[keras.optimizers.Optimizer | None, list]:
        """The second optimiser and its variables, for the inner loop; (None, []) where there is none."""
        variables = [v for v in self.trainable_variables if ADVERSARY in v.path]
        if not variables or self.inner_steps == 1:
            return None, []
        # MultiOptimizer puts the default one, the encoder's, last.
        return _innermost(self.optimizer).optimizers[0], variables

    def save_own_variables(self, store) -> None:
        """As `keras.Model.save_own_variables`, and the state of the generators of noise, which Keras leaves out."""
        super().save_own_variables(store)
        for i, each in enumerate(keras_private.seed_generators(self)):
            store[f"{_GENERATOR}{i}"] = each.state

    def load_own_variables(self, store) -> None:
        """What `save_own_variables` saved; files of earlier versions hold no generators, which then begin anew."""
        super().load_own_variables({key: store[key] for key in store.keys() if not key.startswith(_GENERATOR)})
        for i, each in enumerate(keras_private.seed_generators(self)):
            if f"{_GENERATOR}{i}" in store.keys():
                each.state.assign(store[f"{_GENERATOR}{i}"])

    def get_compile_config(self) -> dict:
        """Both optimisers as one, for `model.save`."""
        return {"optimizer": keras.saving.serialize_keras_object(self.optimizer)}

    def compile_from_config(self, config: dict) -> None:
        """Compile as before saving; Keras restores the state of the optimisers afterwards."""
        self.compile(keras.saving.deserialize_keras_object(config["optimizer"]))

    @property
    def metrics(self) -> list:
        """One running mean for each term."""
        return list(self.term_metrics.values())

    def update_metrics(self, terms, rows) -> dict:
        """Add the terms of a batch, or of a replica's share, of so many inputs to the running means and return them."""
        weight = ops.cast(rows, "float32") * terms.get(COUNTS, 1.0)
        for name, metric in self.term_metrics.items():
            metric.update_state(terms[name], sample_weight=weight)
        return {name: metric.result() for name, metric in self.term_metrics.items()}

    def test_step(self, *args):
        """There is none: what features are worth is measured on frozen ones, by `mizoo.evaluate`."""
        raise UserError(_NO_VALIDATION)

    def fit(self, x=None, y=None, batch_size=None, *args, steps_per_epoch=None, **kwargs):
        """As `keras.Model.fit`, without validation; `mizoo.data.batches` brings its own number of steps.

        A batch is pictures (N, H, W, C) in 0..255 or a dict {"images": pictures, "noise": (N, noise_size)}. Arrays, and
        the first batch of a generator, are looked at first; of a `tf.data.Dataset` and other data sets the shape is.
        Labels (`y`, or the second part of a batch) are not used.

        Raises:
            UserError: for validation; for weights of inputs or classes, also those that a batch brings; for inputs that
                the encoder does not take (another shape, NaN, masked values, pictures outside 0..255, sounds that are
                whole numbers); for batches of one, which have no negatives (a last one is taken); and for arrays or
                `mizoo.data.batches` whose batch several replicas cannot share equally. A last, smaller one they can, as
                long as there is a picture for each.

        Warns:
            UserWarning: for pictures that all lie within 0..1.
        """
        given = inspect.signature(super().fit).bind(x, y, batch_size, *args, **kwargs).arguments
        if given.get("validation_data") is not None or given.get("validation_split"):
            raise UserError(_NO_VALIDATION)
        inputs.check_unweighted(given)
        if x is None:
            raise UserError("`fit` takes pictures or batches of them, such as mizoo.data.batches(...). Received: None")
        if not self.trainable_variables:
            self._check_trainable()
        if steps_per_epoch is None:
            steps_per_epoch = getattr(x, "steps_per_epoch", None)
        if inputs.is_arrays(x):
            x = inputs.check_arrays(self, x)
            rows = inputs.check_batch_size(self, batch_size, inputs.rows_of(x))
        elif inputs.is_generator(x):
            x, rows = inputs.with_first_batch_checked(self, x)
        else:
            rows = inputs.check_declared_rows(self, x)
        if rows != self.batch_rows:
            self.batch_rows, self.train_function = rows, None  # traced again: how the scores are formed may change
        if self.replicas > 1:
            inputs.check_shared(x, batch_size, self.replicas)
        if isinstance(x, keras.utils.PyDataset):
            kwargs.setdefault("shuffle", False)  # it has its own order, and Keras warns when asked for another
        named: contextlib.AbstractContextManager = contextlib.nullcontext()
        of_tf_data = hasattr(x, "element_spec") and hasattr(x, "enumerate")
        if of_tf_data or keras.backend.backend() == "tensorflow":
            from mizoo.objectives import _tf_data

            x = _tf_data.with_first_rows_checked(self, x) if of_tf_data else x
            named = _tf_data.errors_named(self)
        with inputs.failures_named(x), named:
            return super().fit(x, y, batch_size, *args, steps_per_epoch=steps_per_epoch, **kwargs)

    def train_on_batch(self, x, *args, **kwargs):
        """As `keras.Model.train_on_batch`; `x` is a batch as of `fit`, checked likewise."""
        inputs.check_unweighted(inspect.signature(super().train_on_batch).bind(x, *args, **kwargs).arguments)
        if inputs.is_arrays(x):
            x = inputs.check_arrays(self, x)
            inputs.check_rows(self, inputs.rows_of(x))
        return super().train_on_batch(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        """As `keras.Model.predict`: the endpoints of the encoder, arrays checked by its contract.

        Raises:
            UserError: for inputs that the encoder does not take, and for the endless batches of `mizoo.data.batches`.
        """
        if inputs.is_arrays(x):
            x = self._encoder_inputs(x)
        elif hasattr(x, "steps_per_epoch") and kwargs.get("steps") is None:
            raise UserError("`predict` takes pictures; training batches have no end and another order. Pass the array.")
        return super().predict(x, *args, **kwargs)

    def predict_on_batch(self, x):
        """As `keras.Model.predict_on_batch`, arrays checked as in `predict`."""
        return super().predict_on_batch(self._encoder_inputs(x) if inputs.is_arrays(x) else x)


def _innermost(optimizer):
    """The optimiser inside one that scales the loss, or the optimiser itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)
