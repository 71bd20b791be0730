"""AdamW as PyTorch computes it, with a learning rate for every layer."""

import contextlib
import math
from collections import defaultdict
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_convnext._util.ranges import CountOrZero
from keras_convnext._util.ranges import NotNegative
from keras_convnext._util.ranges import PartBelowOne
from keras_convnext._util.ranges import Positive
from keras_convnext._util.ranges import in_range
from keras_convnext._util.serialization import register
from keras_convnext.models.inspection import all_layers


def outside_of_graphs():
    """Where TensorFlow makes variables at once.

    `fit` builds the optimizer while its first step is traced. Variables made
    there are traced too, and then all of the step once more: 20 s for
    ConvNeXt-Tiny.
    """
    if keras.backend.backend() != "tensorflow" or _replica_count() > 1:
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.init_scope()


def _replica_count():
    """On how many devices TensorFlow runs the step that is being traced."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def has_float16(model):
    """Whether gradients are float16, and losses must be scaled for them."""
    return "float16" in {layer.compute_dtype for layer in all_layers(model)}


def with_loss_scaling(optimizer, model):
    """The optimizer, with scaled losses where gradients are float16."""
    if has_float16(model):
        # Keras looks at the model's policy, which is the global one.
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def _is_fusible(variable):
    """Whether TensorFlow holds it in one place: neither a replica's copy,
    nor in a stateless scope."""
    import tensorflow as tf

    return _replica_count() == 1 and isinstance(variable.value, tf.Variable)


@register
class AdamW(keras.optimizers.AdamW):
    """`torch.optim.AdamW` on every backend, with the paper's groups and EMA.

    It differs from `keras.optimizers.AdamW` (Keras 3.15) as follows. Epsilon
    is added after the bias correction: behind a layer scale of 1e-6,
    gradients are so small that its place decides the step. Biases and all
    tensors of rank 1 (norms, layer scale, GRN) are not decayed, also after
    `load_model`. A schedule counts optimizer steps, not the micro-batches of
    an accumulation. The moving average starts at the weights that training
    starts from, moves once per optimizer step, and stays beside the weights
    when `fit` ends.

    Args:
        learning_rate: float, schedule or callable.
        weight_decay: float, times the learning rate.
        beta_1, beta_2, epsilon: as in PyTorch, and with its defaults.
        learning_rate_scales: dict from layer name to a factor on the learning
            rate, 1 for layers not named; see `layer_decay_scales`.
        undecayed: names as for `exclude_from_weight_decay`, which adds to
            them.
        decayed: parts of the paths of vectors that decay all the same.
        trained_from: dict from layer name to the optimizer step that its
            weights are first trained in, 0 for layers not named: from there
            on their bias correction counts, as in PyTorch. Before it they
            must not be trainable; a recipe with `head_epochs` sees to that.
        global_clipnorm: float; limit of the norm over all gradients together.
        use_ema: whether to keep a moving average of the weights.
        ema_momentum: its decay per optimizer step.
        gradient_accumulation_steps: micro-batches per optimizer step, at
            least 2, or `None`.
        name, **kwargs: as for `keras.optimizers.AdamW`.

    Examples:
        >>> model = keras_convnext.ConvNeXtTiny(weights=None)
        >>> scales = keras_convnext.optimizers.layer_decay_scales(model, 0.8)
        >>> optimizer = keras_convnext.optimizers.AdamW(
        ...     5e-5, learning_rate_scales=scales
        ... )
        >>> model.compile(optimizer, "sparse_categorical_crossentropy")
    """

    @in_range
    def __init__(
        self,
        learning_rate: NotNegative | Callable[..., Any] = 1e-3,
        weight_decay: NotNegative = 0.01,
        beta_1: PartBelowOne = 0.9,
        beta_2: PartBelowOne = 0.999,
        epsilon: Positive = 1e-8,
        learning_rate_scales: Mapping[str, NotNegative] | None = None,
        undecayed: Sequence[str] = (),
        decayed: Sequence[str] = (),
        trained_from: Mapping[str, CountOrZero] | None = None,
        use_ema: bool = False,
        ema_momentum: PartBelowOne = 0.9999,
        name: str = "adamw",
        **kwargs: Any,
    ):
        if kwargs.pop("amsgrad", False) or kwargs.get(
            "ema_overwrite_frequency"
        ):
            raise ValueError(
                "`amsgrad` and `ema_overwrite_frequency` are not part of the "
                "paper's recipe: use `keras.optimizers.AdamW` for them"
            )
        super().__init__(
            learning_rate,
            weight_decay,
            beta_1,
            beta_2,
            epsilon,
            use_ema=use_ema,
            ema_momentum=ema_momentum,
            name=name,
            **kwargs,
        )
        self.learning_rate_scales = dict(learning_rate_scales or {})
        self.decayed = list(decayed)
        self.trained_from = dict(trained_from or {})
        # Whether somebody keeps the weights still that are trained later.
        self.is_staged = False
        self.undecayed: list[str] = []
        if undecayed:
            self.exclude_from_weight_decay(var_names=list(undecayed))

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """Excludes more variables from the decay; survives saving.

        Args:
            var_list: variables, to be told by their paths.
            var_names: parts of the paths or names of variables.
        """
        if self.built:
            raise ValueError(
                "Call `exclude_from_weight_decay` before the optimizer is "
                "built, that is before `fit`"
            )
        names = [variable.path for variable in var_list or ()]
        self.undecayed += names + list(var_names or ())

    def build(self, variables):
        with outside_of_graphs():
            super().build(variables)
        self._scales = [self.scale_of(variable) for variable in variables]
        self._decays = [self.decay_of(variable) for variable in variables]
        self._starts = [self.start_of(variable) for variable in variables]
        self._clocks = sorted({0, *self._starts})

    def add_variable_from_reference(
        self, reference_variable, name=None, initializer="zeros"
    ):
        """Averages begin as copies; Keras begins them at 0."""
        if name == "average":
            initializer = _CopyOf(reference_variable)
        return super().add_variable_from_reference(
            reference_variable, name, initializer
        )

    def scale_of(self, variable: keras.Variable) -> float:
        """A variable's factor on the learning rate: that of its layer."""
        return float(_of_layer(self.learning_rate_scales, variable, 1.0))

    def start_of(self, variable: keras.Variable) -> int:
        """The optimizer step that a variable is first trained in."""
        return int(_of_layer(self.trained_from, variable, 0))

    def decay_of(self, variable: keras.Variable) -> float:
        """A variable's weight decay: 0 for biases and vectors."""

        def is_one_of(names):
            return any(name in variable.path for name in names)

        is_vector = len(variable.shape) <= 1 and not is_one_of(self.decayed)
        excluded = (
            is_vector
            or variable.name.endswith("bias")
            or is_one_of(self.undecayed)
        )
        return 0.0 if excluded else float(self.weight_decay)

    def _get_current_learning_rate(self):
        """Keras hands its schedules a counter of micro-batches."""
        if isinstance(
            self._learning_rate,
            keras.optimizers.schedules.LearningRateSchedule,
        ):
            return self._learning_rate(self.iterations)
        return super()._get_current_learning_rate()

    def _clip_gradients(self, grads):
        """Keras would clip each replica's, and then add them up."""
        replicas = _replica_count()
        clips = self.clipnorm or self.global_clipnorm or self.clipvalue
        if replicas == 1 or not clips:
            return super()._clip_gradients(grads)
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        whole = context.all_reduce(tf.distribute.ReduceOp.SUM, grads)
        # They are still to be added up.
        return [x / replicas for x in super()._clip_gradients(whole)]

    def _apply_weight_decay(self, variables):
        """Part of the step, where the group's learning rate is known."""

    def _update_model_variables_moving_average(self, trainable_variables):
        """Part of the step, which accumulation does not reach too early."""

    def finalize_variable_values(self, var_list):
        """Keras would put the average in the place of the trained weights."""

    def stateless_apply(self, optimizer_variables, grads, trainable_variables):
        """Keras' own asks for all variables; some may be trained later."""
        if len(trainable_variables) == len(self._trainable_variables):
            return super().stateless_apply(
                optimizer_variables, grads, trainable_variables
            )
        trained = [x for x in self._trainable_variables if x.trainable]
        values = _values_after(
            lambda: self.apply(grads, trained),
            [*trained, *self.variables],
            [*trainable_variables, *optimizer_variables],
        )
        return values[: len(trained)], values[len(trained) :]

    def _backend_apply_gradients(self, grads, trainable_variables):
        """On JAX Keras computes the step of each micro-batch, and drops it."""
        if (
            self.gradient_accumulation_steps
            and keras.backend.backend() == "jax"
        ):
            self._jax_accumulate(grads, trainable_variables)
        else:
            super()._backend_apply_gradients(grads, trainable_variables)

    def _jax_accumulate(self, grads, trainable_variables):
        """Adds gradients up, or makes a step of them: one of both is run."""
        import jax

        steps = self.gradient_accumulation_steps
        indices = map(self._get_variable_index, trainable_variables)
        sums = [self._accumulated_gradients[i] for i in indices]
        totals = [a + b for a, b in zip(sums, grads)]
        variables = [*trainable_variables, *self.variables]
        before = [variable.value for variable in variables]

        def add_up():
            for variable, total in zip(sums, totals):
                variable.assign(total)

        def step():
            means = self._clip_gradients([total / steps for total in totals])
            rate = self.learning_rate
            self._backend_update_step(means, trainable_variables, rate)
            for variable in sums:
                variable.assign(ops.zeros(variable.shape, variable.dtype))

        is_last = (self._iterations + 1) % steps == 0
        after = jax.lax.cond(
            is_last,
            lambda: _values_after(step, variables, before),
            lambda: _values_after(add_up, variables, before),
        )
        for variable, value in zip(variables, after):
            variable.assign(value)

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        indices = map(self._get_variable_index, trainable_variables)
        if any(self._starts[i] for i in indices) and not self.is_staged:
            raise ValueError(
                "Some layers are trained later than others. Received: weights "
                "of all in one step, while nobody keeps the others still. "
                "Pass the callbacks of the recipe: `model.fit(…, "
                "callbacks=recipe.callbacks())`"
            )
        if keras.backend.backend() == "torch":
            self._torch_update_step(grads, trainable_variables, learning_rate)
        else:
            super()._backend_update_step(
                grads, trainable_variables, self._rates(learning_rate)
            )

    def _rates(self, learning_rate):
        """What the steps of all variables share, computed once."""
        learning_rate = ops.convert_to_tensor(learning_rate)
        corrections, roots = [], []
        for start in self._clocks:
            # Nothing is trained before its start, and no root is of less.
            step = ops.maximum(self.iterations - start, 0) + 1
            step = ops.cast(step, learning_rate.dtype)
            # -expm1(n·ln β) is 1-βⁿ, which in float32 loses five digits to 1.
            correction_1 = -ops.expm1(step * _log(self.beta_1))
            root_2 = ops.sqrt(-ops.expm1(step * _log(self.beta_2)))
            corrections.append(root_2 / correction_1)
            roots.append(root_2)
        return learning_rate, corrections, roots

    def update_step(self, gradient, variable, rates):
        """One variable's step, on TensorFlow and JAX."""
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        gradient = ops.cast(gradient, dtype)
        rate, *of_clocks = rates
        clock = self._clocks.index(self._starts[index])
        rate, correction, root_2 = (
            ops.cast(x, dtype) for x in (rate, *(x[clock] for x in of_clocks))
        )
        rate = rate * self._scales[index]
        if self._decays[index]:
            self.assign_sub(variable, variable * (rate * self._decays[index]))
        # Both sides of PyTorch's fraction times `root_2`, a scalar.
        rate, epsilon = rate * correction, self.epsilon * root_2
        m, v = self._momentums[index], self._velocities[index]
        if keras.backend.backend() == "tensorflow" and _is_fusible(m):
            self._tf_adam(gradient, variable, m, v, rate, epsilon)
        else:
            self.assign_add(m, (gradient - m) * (1 - self.beta_1))
            self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
            self.assign_sub(variable, m * rate / (ops.sqrt(v) + epsilon))
        if self.use_ema:
            average = self._model_variables_moving_average[index]
            self.assign_add(
                average, (variable - average) * (1 - self.ema_momentum)
            )

    def _tf_adam(self, gradient, variable, m, v, rate, epsilon):
        """One pass over the weights in place of some fifteen."""
        import tensorflow as tf

        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=m.handle,
            v=v.handle,
            # The corrections for the first steps are in `rate` already.
            beta1_power=tf.zeros((), gradient.dtype),
            beta2_power=tf.zeros((), gradient.dtype),
            lr=rate,
            beta1=tf.constant(self.beta_1, gradient.dtype),
            beta2=tf.constant(self.beta_2, gradient.dtype),
            epsilon=epsilon,
            grad=gradient,
        )

    def _torch_update_step(self, grads, trainable_variables, learning_rate):
        """All variables' step, in PyTorch's own kernel, group by group."""
        import torch
        from torch.optim.adamw import adamw
        from torch.optim.swa_utils import get_ema_multi_avg_fn

        groups = defaultdict(list)
        for gradient, variable in zip(grads, trainable_variables):
            index = self._get_variable_index(variable)
            key = self._scales[index], self._decays[index], self._starts[index]
            groups[key].append((gradient, variable, index))
        learning_rate = ops.convert_to_tensor(learning_rate)
        step = ops.cast(self.iterations, "float32")
        update_averages = get_ema_multi_avg_fn(self.ema_momentum)
        with torch.no_grad():
            for (scale, decay, start), group in groups.items():
                gradients, variables, indices = zip(*group)
                values = [variable.value for variable in variables]
                adamw(
                    values,
                    [g.to(v.dtype) for g, v in zip(gradients, values)],
                    [self._momentums[i].value for i in indices],
                    [self._velocities[i].value for i in indices],
                    [],
                    # It counts each of them up.
                    list((step - start).repeat(len(group)).unbind()),
                    fused=True,
                    amsgrad=False,
                    beta1=self.beta_1,
                    beta2=self.beta_2,
                    lr=learning_rate * scale,
                    weight_decay=decay,
                    eps=self.epsilon,
                    maximize=False,
                )
                if self.use_ema:
                    averages = self._model_variables_moving_average
                    update_averages(
                        [averages[i].value for i in indices], values, None
                    )

    def get_config(self):
        config = super().get_config()
        del config["amsgrad"], config["ema_overwrite_frequency"]
        return {
            **config,
            "learning_rate_scales": dict(self.learning_rate_scales),
            "undecayed": list(self.undecayed),
            "trained_from": dict(self.trained_from),
            "decayed": list(self.decayed),
        }


class _CopyOf(keras.initializers.Initializer):
    """Begins a variable as another one.

    An object: JAX cannot compile a function's `__call__`, which Keras asks for
    where a variable is large and on several devices.
    """

    def __init__(self, variable):
        self.variable = variable

    def __call__(self, shape, dtype=None):
        return ops.stop_gradient(ops.copy(self.variable))


def _values_after(change, variables, before):
    """What variables would be if `change` ran where they are `before`."""
    with keras.StatelessScope(list(zip(variables, before))) as scope:
        change()
    return [scope.get_current_value(x) for x in variables]


def _of_layer(values, variable, default):
    """The value of the innermost layer around a variable that has one."""
    for layer in reversed(variable.path.split("/")[:-1]):
        if layer in values:
            return values[layer]
    return default


def _log(beta):
    return math.log(beta) if beta else -math.inf
