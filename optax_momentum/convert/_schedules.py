"""Learning-rate schedules of PyTorch and Keras that Optax doesn't have.

A schedule maps the step, 0 at the first update, to the learning rate of that update.
PyTorch's `scheduler.step()` is taken to follow each `optimizer.step()`; for schedulers
that are stepped once an epoch, see `stepped_per_epoch`.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from optax_momentum._base.checks import check_scalar

Shape = Callable[[jax.Array], jax.Array]


class CycledMomentum(NamedTuple):
    """Two schedules that belong together, such as `keras(*cycled)` takes them."""

    learning_rate: optax.Schedule
    beta: optax.Schedule


def stepped_per_epoch(schedule: optax.Schedule, steps_per_epoch: int) -> optax.Schedule:
    """The schedule of a scheduler that PyTorch steps once after each epoch.

    Args:
      schedule: of the epoch, 0 in the first one.
      steps_per_epoch: optimizer steps in one epoch, at least 1.

    Returns:
      A schedule of the step, constant within each epoch.

    Raises:
      ValueError: steps_per_epoch is below 1.

    >>> rate = stepped_per_epoch(lambda epoch: 0.5**epoch, steps_per_epoch=3)
    >>> [float(rate(step)) for step in (0, 2, 3, 6)]
    [1.0, 1.0, 0.5, 0.25]
    """
    _check_steps("stepped_per_epoch: steps_per_epoch", steps_per_epoch, at_least=1)
    return lambda step: schedule(jnp.asarray(step) // steps_per_epoch)


def pytorch_cosine_annealing(
    learning_rate: float, t_max: int, eta_min: float = 0.0
) -> optax.Schedule:
    """`torch.optim.lr_scheduler.CosineAnnealingLR`, which rises again after t_max.

        αₜ = α_min + (α − α_min)·(1 + cos(π·t/T))/2

    Args:
      learning_rate: α at step 0.
      t_max: T > 0, steps of half a period.
      eta_min: α_min, reached at steps T, 3T, …

    Returns:
      A schedule.

    Raises:
      ValueError: t_max is not above 0.

    Differs from `optax.cosine_decay_schedule`, which stays at its minimum after T.

    >>> rate = pytorch_cosine_annealing(1.0, t_max=4)
    >>> [round(float(rate(step)), 3) for step in (0, 2, 4, 6, 8)]
    [1.0, 0.5, 0.0, 0.5, 1.0]

    References:
      PyTorch `torch/optim/lr_scheduler.py`, `CosineAnnealingLR`.
    """
    _check_steps("pytorch_cosine_annealing: t_max", t_max)

    def schedule(step: ArrayLike) -> jax.Array:
        return _cosine(learning_rate, eta_min, _float(step) / t_max)

    return schedule


def pytorch_warm_restarts(
    learning_rate: float, t_0: int, t_mult: int = 1, eta_min: float = 0.0
) -> optax.Schedule:
    """`torch.optim.lr_scheduler.CosineAnnealingWarmRestarts`.

        αₜ = α_min + (α − α_min)·(1 + cos(π·s/Tᵢ))/2,   Tᵢ = T₀·mⁱ

    s counts the steps since the i-th restart.

    Args:
      learning_rate: α at step 0 and after each restart.
      t_0: T₀ ≥ 1, steps until the first restart.
      t_mult: m ≥ 1, by which each period is longer than the one before.
      eta_min: α_min, which is approached before each restart.

    Returns:
      A schedule, for up to 2³¹ steps.

    Raises:
      ValueError: t_0 or t_mult is below 1.

    >>> rate = pytorch_warm_restarts(1.0, t_0=2, t_mult=2)
    >>> [round(float(rate(step)), 3) for step in range(7)]
    [1.0, 0.5, 1.0, 0.854, 0.5, 0.146, 1.0]

    References:
      PyTorch `torch/optim/lr_scheduler.py`, `CosineAnnealingWarmRestarts`.
      Loshchilov and Hutter 2017, arXiv:1608.03983.
    """
    _check_steps("pytorch_warm_restarts: t_0", t_0, at_least=1)
    _check_steps("pytorch_warm_restarts: t_mult", t_mult, at_least=1)
    starts, periods = [0], [t_0]
    while t_mult > 1 and starts[-1] + periods[-1] < 2**31:
        starts.append(starts[-1] + periods[-1])
        periods.append(periods[-1] * t_mult)

    def schedule(step: ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        if t_mult == 1:
            return _cosine(learning_rate, eta_min, _float(step % t_0) / t_0)
        bounds = jnp.asarray(starts, step.dtype)
        number = jnp.searchsorted(bounds, step, side="right") - 1
        period = jnp.asarray(periods, float)[number]
        since = _float(step - bounds[number])
        return _cosine(learning_rate, eta_min, since / period)

    return schedule


def pytorch_one_cycle(
    max_learning_rate: float,
    total_steps: int,
    *,
    pct_start: float = 0.3,
    linear: bool = False,
    base_beta: float = 0.85,
    max_beta: float = 0.95,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> CycledMomentum:
    """`torch.optim.lr_scheduler.OneCycleLR`, with the momentum that it cycles.

    The rate rises from max/div_factor to max while β falls from max_beta to base_beta.
    Then the rate falls to max/(div_factor·final_div_factor) while β rises again.

    Args:
      max_learning_rate: the largest rate, reached at step pct_start·total_steps − 1.
      total_steps: the number of updates, at least 2; the last one is total_steps − 1.
      pct_start: share of the steps in which the rate rises, in (0, 1).
      linear: whether to move along straight lines, not along half cosines.
      base_beta: β at the largest rate. For `cycle_momentum=False` use the first
        schedule alone.
      max_beta: β at both ends.
      div_factor: the largest rate over the first one.
      final_div_factor: the first rate over the last one.
      three_phase: whether the fall mirrors the rise and a third phase ends it.

    Returns:
      Schedules of the learning rate and of β. After the last step both stay.

    Raises:
      ValueError: total_steps or pct_start is out of range.

    Differs from `optax.cosine_onecycle_schedule` in the steps at which phases end, and
    from `schedules.one_cycle`, which is linear and symmetric.

    >>> rate, beta = pytorch_one_cycle(1.0, 10, pct_start=0.5, linear=True)
    >>> [round(float(rate(step)), 3) for step in (0, 4, 9)]
    [0.04, 1.0, 0.0]
    >>> [round(float(beta(step)), 3) for step in (0, 4, 9)]
    [0.95, 0.85, 0.95]

    References:
      PyTorch `torch/optim/lr_scheduler.py`, `OneCycleLR`.
      Smith and Topin 2018, arXiv:1708.07120.
    """
    _check_steps("pytorch_one_cycle: total_steps", total_steps, at_least=2)
    check_scalar(
        "pytorch_one_cycle: pct_start",
        pct_start,
        lambda share: 0 < share < 1,
        "lie in (0, 1)",
        "It is the share of the steps in which the rate rises: 0.3 in PyTorch.",
    )
    first = max_learning_rate / div_factor
    last = first / final_div_factor
    ends = [pct_start * total_steps - 1, total_steps - 1.0]
    rates = [first, max_learning_rate, last]
    betas = [max_beta, base_beta, max_beta]
    if three_phase:
        ends.insert(1, 2 * pct_start * total_steps - 2)
        rates.insert(2, first)
        betas.append(max_beta)
    shape = _straight if linear else _half_cosine
    return CycledMomentum(_phases(ends, rates, shape), _phases(ends, betas, shape))


def pytorch_cyclic(
    base_learning_rate: float,
    max_learning_rate: float,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    *,
    scale_of_cycle: Shape = lambda cycle: jnp.ones_like(cycle),
    scale_of_step: Shape = lambda step: jnp.ones_like(step),
    base_beta: float = 0.8,
    max_beta: float = 0.9,
) -> CycledMomentum:
    """`torch.optim.lr_scheduler.CyclicLR`, with the momentum that it cycles.

    Between step_size_up steps up and step_size_down steps down, the height of the
    rate's triangle is (max − base) times both scales; β falls while the rate rises.

    Args:
      base_learning_rate: the rate at both ends of a cycle.
      max_learning_rate: the rate at its top.
      step_size_up: steps from base to top, at least 1.
      step_size_down: steps back; as many as up if None.
      scale_of_cycle: of the number of the cycle, 1 in the first one. PyTorch's
        "triangular2" is `lambda cycle: 0.5 ** (cycle - 1)`.
      scale_of_step: of the step. "exp_range" is `lambda step: gamma**step`.
      base_beta: β at the top of the rate. For `cycle_momentum=False` use the first
        schedule alone.
      max_beta: β at both ends of a cycle.

    Returns:
      Schedules of the learning rate and of β.

    Raises:
      ValueError: step_size_up or step_size_down is below 1.

    >>> rate, beta = pytorch_cyclic(0.25, 0.75, step_size_up=2)
    >>> [float(rate(step)) for step in range(5)]
    [0.25, 0.5, 0.75, 0.5, 0.25]
    >>> [round(float(beta(step)), 3) for step in (0, 1, 2)]
    [0.9, 0.85, 0.8]

    References:
      PyTorch `torch/optim/lr_scheduler.py`, `CyclicLR`.
      Smith 2017, arXiv:1506.01186.
    """
    _check_steps("pytorch_cyclic: step_size_up", step_size_up, at_least=1)
    down = step_size_up if step_size_down is None else step_size_down
    _check_steps("pytorch_cyclic: step_size_down", down, at_least=1)
    total = step_size_up + down

    def height(step: ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        cycle, within = _float(step // total + 1), _float(step % total)
        triangle = jnp.where(
            within <= step_size_up, within / step_size_up, (total - within) / down
        )
        return triangle * scale_of_cycle(cycle) * scale_of_step(_float(step))

    return CycledMomentum(
        lambda step: (
            base_learning_rate + (max_learning_rate - base_learning_rate) * height(step)
        ),
        lambda step: max_beta - (max_beta - base_beta) * height(step),
    )


def keras_cosine_decay(
    initial_learning_rate: float,
    decay_steps: int,
    alpha: float = 0.0,
    warmup_target: float | None = None,
    warmup_steps: int = 0,
) -> optax.Schedule:
    """`keras.optimizers.schedules.CosineDecay`, with or without its warm-up.

        αₜ = α·((1 − a)·(1 + cos(π·t/T))/2 + a)                      a = alpha, T steps

    With a warm-up, the rate first rises linearly from the initial one to the target,
    and then decays from there.

    Args:
      initial_learning_rate: at step 0.
      decay_steps: T > 0, without the warm-up.
      alpha: the last rate as a share of the one from which it decays.
      warmup_target: the rate after the warm-up; None for no warm-up.
      warmup_steps: steps of the warm-up.

    Returns:
      A schedule, constant after the decay.

    Raises:
      ValueError: decay_steps is not above 0, or a warm-up has no steps.

    >>> rate = keras_cosine_decay(0.25, 4, warmup_target=1.0, warmup_steps=3)
    >>> [round(float(rate(step)), 3) for step in (0, 1, 3, 5, 7, 9)]
    [0.25, 0.5, 1.0, 0.5, 0.0, 0.0]

    References:
      Keras `keras/src/optimizers/schedules/learning_rate_schedule.py`.
    """
    _check_steps("keras_cosine_decay: decay_steps", decay_steps)
    if warmup_target is None:
        return optax.cosine_decay_schedule(initial_learning_rate, decay_steps, alpha)
    _check_steps("keras_cosine_decay: warmup_steps", warmup_steps)
    rise = optax.linear_schedule(initial_learning_rate, warmup_target, warmup_steps)
    fall = optax.cosine_decay_schedule(warmup_target, decay_steps, alpha)
    return optax.join_schedules([rise, fall], [warmup_steps])


def keras_inverse_time_decay(
    initial_learning_rate: float,
    decay_steps: float,
    decay_rate: float,
    staircase: bool = False,
) -> optax.Schedule:
    """`keras.optimizers.schedules.InverseTimeDecay`.

        αₜ = α/(1 + r·t/T),   or with staircase  α/(1 + r·⌊t/T⌋)

    Args:
      initial_learning_rate: α.
      decay_steps: T > 0.
      decay_rate: r.
      staircase: whether the rate falls only at multiples of T.

    Returns:
      A schedule.

    Raises:
      ValueError: decay_steps is not above 0.

    >>> float(keras_inverse_time_decay(1.0, decay_steps=2, decay_rate=0.5)(4))
    0.5

    References:
      Keras `keras/src/optimizers/schedules/learning_rate_schedule.py`.
    """
    _check_steps("keras_inverse_time_decay: decay_steps", decay_steps)

    def schedule(step: ArrayLike) -> jax.Array:
        progress = _float(step) / decay_steps
        if staircase:
            progress = jnp.floor(progress)
        return initial_learning_rate / (1 + decay_rate * progress)

    return schedule


def keras_polynomial_decay(
    initial_learning_rate: float,
    decay_steps: int,
    end_learning_rate: float = 1e-4,
    power: float = 1.0,
    cycle: bool = False,
) -> optax.Schedule:
    """`keras.optimizers.schedules.PolynomialDecay`.

        αₜ = (α − α_end)·(1 − min(t, T)/T)ᵖ + α_end

    With cycle, T is replaced by the smallest multiple of T that is at least t.

    Args:
      initial_learning_rate: α at step 0.
      decay_steps: T > 0.
      end_learning_rate: α_end.
      power: p.
      cycle: whether the rate rises again after T.

    Returns:
      A schedule.

    Raises:
      ValueError: decay_steps is not above 0.

    >>> rate = keras_polynomial_decay(1.0, 4, end_learning_rate=0.0, cycle=True)
    >>> [float(rate(step)) for step in (0, 2, 4, 5, 8)]
    [1.0, 0.5, 0.0, 0.375, 0.0]

    References:
      Keras `keras/src/optimizers/schedules/learning_rate_schedule.py`.
    """
    _check_steps("keras_polynomial_decay: decay_steps", decay_steps)
    if not cycle:
        return optax.polynomial_schedule(
            initial_learning_rate, end_learning_rate, power, decay_steps
        )

    def schedule(step: ArrayLike) -> jax.Array:
        step = _float(step)
        total = decay_steps * jnp.maximum(1, jnp.ceil(step / decay_steps))
        height = initial_learning_rate - end_learning_rate
        return height * (1 - step / total) ** power + end_learning_rate

    return schedule


def keras_piecewise_constant(values: Mapping[float, float]) -> optax.Schedule:
    """`keras.optimizers.schedules.PiecewiseConstantDecay`.

    Each value holds up to its boundary and at the boundary itself.

    Args:
      values: the rate by the last step that has it; the last key is `math.inf`.

    Returns:
      A schedule.

    Raises:
      ValueError: there is no value for `math.inf`.

    Differs from `optax.piecewise_constant_schedule` and PyTorch's `MultiStepLR`, in
    which the step at a boundary already has the next value, and which take factors
    instead of values. `jax.example_libraries.optimizers.piecewise_constant` agrees with
    Keras.

    >>> import math
    >>> rate = keras_piecewise_constant({100: 1.0, 200: 0.5, math.inf: 0.25})
    >>> [float(rate(step)) for step in (100, 101, 200, 201)]
    [1.0, 0.5, 0.5, 0.25]

    References:
      Keras `keras/src/optimizers/schedules/learning_rate_schedule.py`.
    """
    *boundaries, last = sorted(values)
    if last != math.inf:
        raise ValueError(
            "keras_piecewise_constant: values must have a value for math.inf, the rate "
            f"after the last boundary; they end at {last}."
        )
    rates = [values[boundary] for boundary in (*boundaries, last)]

    def schedule(step: ArrayLike) -> jax.Array:
        step = jnp.asarray(step)
        place = jnp.searchsorted(jnp.asarray(boundaries, step.dtype), step)
        return jnp.asarray(rates, float)[place]

    return schedule


def _phases(
    ends: list[float], values: list[float], shape: Shape
) -> Callable[[ArrayLike], jax.Array]:
    """Moves from each value to the next one, which is reached at the end of a phase."""

    def schedule(step: ArrayLike) -> jax.Array:
        step, start, found = _float(step), 0.0, None
        for end, before, after in zip(ends, values[:-1], values[1:], strict=True):
            done = shape(jnp.clip((step - start) / (end - start), 0, 1))
            value = before + (after - before) * done
            found = value if found is None else jnp.where(step > start, value, found)
            start = end
        assert found is not None
        return found

    return schedule


def _cosine(high: ArrayLike, low: ArrayLike, half_periods: jax.Array) -> jax.Array:
    height = _float(high) - _float(low)
    return _float(low) + height * (1 + jnp.cos(math.pi * half_periods)) / 2


def _half_cosine(progress: jax.Array) -> jax.Array:
    return (1 - jnp.cos(math.pi * progress)) / 2


def _straight(progress: jax.Array) -> jax.Array:
    return progress


def _float(x: ArrayLike) -> jax.Array:
    return jnp.asarray(x, float)


def _check_steps(name: str, steps: object, *, at_least: int | None = None) -> None:
    bound = "lie in (0, inf)" if at_least is None else f"be at least {at_least}"
    check_scalar(
        name,
        steps,
        lambda known: known > 0 if at_least is None else known >= at_least,
        bound,
        "It is a number of update calls.",
    )
