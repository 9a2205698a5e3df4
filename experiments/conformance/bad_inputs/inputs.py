"""The forty bad inputs. Each function's docstring is the promise that it checks.

Each function gives the input to a library's optimizer in one mode. If the promise is
broken, it raises an AssertionError that says what happened instead.
"""

import tempfile
import warnings
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from inspect import isfunction
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.core import FrozenDict
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import PyTree

from experiments.conformance.bad_inputs import modes
from experiments.conformance.bad_inputs.libraries import Build, Library
from experiments.conformance.bad_inputs.modes import Mode, built_inside
from optax_momentum.testing import (
    DoesNotApply,
    agreement,
    contract,
    dtypes,
    expect,
    expect_close,
    expect_same_bits,
    refusals,
    summarize_error,
    trees,
)

BadInput = Callable[[Library, Mode], None]

BETA = 0.83

# Numbers and schedules.


def a_negative_beta(library: Library, mode: Mode) -> None:
    """Error naming beta; `linear_momentum` accepts it, for training in games."""
    _expect_beta_refused(library, mode, -0.5)
    _expect_unchecked(library, mode, -0.5, [1.0, 0.5, 0.75])


def a_beta_of_one(library: Library, mode: Mode) -> None:
    """Error naming beta; `linear_momentum` accepts it, as the sum of all gradients."""
    _expect_beta_refused(library, mode, 1.0)
    _expect_unchecked(library, mode, 1.0, [1.0, 2.0, 3.0])


def a_beta_above_one(library: Library, mode: Mode) -> None:
    """Error naming beta: the momentum would diverge."""
    _expect_beta_refused(library, mode, 1.5)


def a_beta_of_nan_or_infinity(library: Library, mode: Mode) -> None:
    """Error naming beta."""
    for beta in (np.nan, np.inf):
        _expect_beta_refused(library, mode, beta)


def an_array_or_a_tracer_as_beta(library: Library, mode: Mode) -> None:
    """Works like the Python number; the value of a tracer is not checked."""
    want = _updates_of_ones(mode(library.heavy_ball(BETA)))
    array = mode(built_inside(lambda: library.heavy_ball(jnp.asarray(BETA))))
    expect_close("beta as an array", _updates_of_ones(array), want, 1e-6)

    @jax.jit
    def traced(beta: ArrayLike) -> PyTree:
        return _updates_of_ones(mode(library.heavy_ball(beta)))

    expect_close("beta traced", traced(BETA), want, 1e-6)
    expect_close("a traced beta of 1.5", traced(1.5), [1.0, 2.5, 4.75], 1e-6)


def a_vector_of_betas(library: Library, mode: Mode) -> None:
    """Error naming beta; under `jax.vmap`, each lane may have a different beta."""
    betas = jnp.asarray([0.5, BETA])
    _expect_beta_refused(library, mode, betas)

    def updates(beta: ArrayLike) -> PyTree:
        return _updates_of_ones(mode(library.heavy_ball(beta)))

    for lane, beta in zip(jax.vmap(updates)(betas), betas, strict=True):
        expect_close(f"the lane of {beta}", lane, updates(float(beta)), 1e-6)


def a_float64_beta_of_numpy(library: Library, mode: Mode) -> None:
    """Cast: the updates are those of a Python number, in the gradients' bfloat16."""
    gradients = jnp.asarray([0.3, -1.7, 0.9], jnp.bfloat16)

    def updates(beta: ArrayLike) -> PyTree:
        built = built_inside(partial(library.heavy_ball, beta))
        return _updates(mode(built), gradients)

    expect_same_bits("the updates", updates(np.float64(BETA)), updates(BETA))


def a_beta_of_the_integer_zero(library: Library, mode: Mode) -> None:
    """Plain SGD, bit for bit."""
    params = trees.default_params()
    gradients = trees.gradients_like(params, steps=3)
    got, want = (
        trees.run(optimizer.update, optimizer.init(params), gradients, params)[0]
        for optimizer in (mode(library.sgd(0.1, 0)), mode(library.sgd(0.1, None)))
    )
    expect_same_bits("the updates", got, want)


def a_beta_that_float32_barely_distinguishes_from_one(
    library: Library, mode: Mode
) -> None:
    """1 − 2⁻²⁴, 1 − 10⁻⁷: 1 − β keeps its digits; a debiased average of ones is 1."""
    for one_minus_beta in (2**-24, 1e-7):
        beta, steps = 1 - one_minus_beta, np.arange(1, 4)
        biased = _updates_of_ones(mode(library.ema(beta, debias=False)))
        expect_close("the average of ones", biased, 1 - beta**steps, 1e-6)
        debiased = _updates_of_ones(mode(library.ema(beta, debias=True)))
        expect_close("the debiased average of ones", debiased, np.ones(3), 1e-6)


def nesterov_with_dampening(library: Library, mode: Mode) -> None:
    """Error naming dampening, as in PyTorch."""
    if library.dampened_nesterov is None:
        raise DoesNotApply(f"{library.name} has no dampening")
    expect_refused(("dampening",), _attempt(mode, library.dampened_nesterov, BETA))


def a_learning_rate_below_zero_or_nan(library: Library, mode: Mode) -> None:
    """Error naming learning_rate: the loss would rise, or all become NaN."""
    for learning_rate in (-0.1, np.nan):
        build = partial(library.sgd, beta=BETA)
        expect_refused(("learning_rate",), _attempt(mode, build, learning_rate))


def a_schedule_that_returns_another_dtype(library: Library, mode: Mode) -> None:
    """An int, NumPy float64 or bfloat16 is cast: updates keep the gradients' dtype."""
    for returned in (2, np.float64(0.25), jnp.bfloat16(0.25)):
        for dtype in (jnp.float32, jnp.bfloat16):
            gradients = jnp.asarray([0.3, -1.7, 0.9], dtype)
            got, want = (
                _updates(mode(library.sgd(learning_rate, BETA)), gradients)
                for learning_rate in (lambda step, rate=returned: rate, float(returned))
            )
            expect_same_bits(f"the updates by a {type(returned).__name__}", got, want)


# Trees without leaves, and leaves that aren't real numbers.


def an_empty_tree(library: Library, mode: Mode) -> None:
    """Works: an empty tuple, dict or list, alone or inside another container."""
    contract.empty_trees_are_trees(mode(library.heavy_ball(BETA)), None)


def a_tree_of_none_only(library: Library, mode: Mode) -> None:
    """Works: the updates are the same tree."""
    transformation = mode(library.heavy_ball(BETA))
    tree = {"a": None, "b": [None, None]}
    updates, _ = transformation.update(tree, transformation.init(tree), tree)
    expect(updates == tree, f"the updates are {updates}")


def a_gradient_that_is_none_once(library: Library, mode: Mode) -> None:
    """Its update is None, its buffer keeps every bit, and the next step works."""
    transformation, params = mode(library.heavy_ball(BETA)), trees.default_params()
    with jax.disable_jit(mode is modes.eager):
        contract.a_leaf_without_gradient_is_passed_on(transformation, params)
        contract.a_leaf_without_gradient_keeps_its_state(transformation, params)


def a_masked_leaf(library: Library, mode: Mode) -> None:
    """`optax.MaskedNode` passes through; other leaves are updated as without it."""
    transformation, params = mode(library.heavy_ball(BETA)), trees.default_params()
    path, _ = trees.largest_leaf(params)

    def masked(tree: PyTree) -> PyTree:
        return trees.replaced(tree, path, optax.MaskedNode())

    def updates(gradients: PyTree, params: PyTree) -> PyTree:
        state = transformation.init(params)
        return trees.run(transformation.update, state, gradients, params)[0]

    gradients = trees.gradients_like(params, steps=3)
    got, want = updates(masked(gradients), masked(params)), updates(gradients, params)
    expect_same_bits("the updates", got, masked(want))


def an_integer_parameter(library: Library, mode: Mode) -> None:
    """Error naming its path: the update would be rounded when it is applied."""
    optimizer, params = mode(library.sgd(0.1, BETA)), {"count": jnp.asarray([5])}

    def step() -> str:
        gradients = {"count": jnp.asarray([0.25])}
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        after: PyTree = optax.apply_updates(params, updates)
        update, count = updates["count"][0], after["count"][0]
        return f"an update of {update:.3f} turned 5 into {count}"

    expect_refused(("['count']",), step)


def a_gradient_of_float0(library: Library, mode: Mode) -> None:
    """Treated as None and returned: JAX's gradients of integers have this dtype."""
    transformation = mode(library.heavy_ball(BETA))
    zero = {"kernel": jnp.zeros(2), "count": None}
    gradients = {"kernel": jnp.ones(2), "count": np.zeros(3, jax.dtypes.float0)}
    updates, state = transformation.update(gradients, transformation.init(zero), zero)
    without = {**gradients, "count": None}
    want = transformation.update(without, transformation.init(zero), zero)
    returned = getattr(updates["count"], "dtype", None) == jax.dtypes.float0
    expect(returned, f"it came back as {updates['count']}")
    expect_same_bits("the updates", {**updates, "count": None}, want[0])
    expect_same_bits("the state", state, want[1])


def a_boolean_or_a_random_key_among_the_parameters(
    library: Library, mode: Mode
) -> None:
    """Error naming its path."""
    transformation, params = mode(library.heavy_ball(BETA)), trees.default_params()
    refusals.boolean_parameters(transformation, params)
    refusals.random_keys_among_the_parameters(transformation, params)


def a_string_or_a_function_among_the_parameters(library: Library, mode: Mode) -> None:
    """Error naming its path."""
    for leaf in ("relu", jax.nn.relu):
        params = {"kernel": jnp.ones(2), "activation": leaf}
        init = mode(modes.init_of_constant(library.heavy_ball(BETA), params)).init
        refusals.refused("it", ("['activation']",), init, ())


def complex_numbers(library: Library, mode: Mode) -> None:
    """Treated as pairs of real and imaginary part, bit for bit."""
    transformation = mode(library.heavy_ball(BETA))
    with jax.disable_jit(mode is modes.eager):
        agreement.complex_numbers_are_pairs_of_real_ones(transformation, None)


# Dtypes that differ, are misspelled, or are too wide or too narrow.


def gradients_of_another_dtype(library: Library, mode: Mode) -> None:
    """For example bfloat16 for float32: the updates have the gradients' dtype."""
    transformation = mode(library.heavy_ball(BETA))
    params = trees.default_params()
    dtypes.updates_have_the_dtype_of_the_gradients(transformation, params)


def gradients_wider_than_the_parameters(library: Library, mode: Mode) -> None:
    """For example float32 for bfloat16: the buffer keeps the dtype that init chose."""
    transformation = mode(library.heavy_ball(BETA))
    dtypes.the_state_never_changes_its_types(transformation, trees.default_params())


def a_buffer_of_int8_or_of_a_misspelled_dtype(library: Library, mode: Mode) -> None:
    """Error naming the argument, when the optimizer is built."""
    for dtype in (jnp.int8, "flaot32"):
        build = partial(library.with_buffer_dtype, BETA, dtype)

        def attempt(build: Build = build) -> str:
            def only_build(params: PyTree) -> PyTree:
                build()
                return params

            update = optax.identity().update
            mode(optax.GradientTransformation(only_build, update)).init(())
            try:
                return _describe(_updates_of_ones(mode(built_inside(build))))
            except Exception as error:  # too late: it was built without an error
                return f"built; the first step raises {summarize_error(error)}"

        expect_refused(("storage", "accumulator_dtype"), attempt)


def float64_while_x64_is_off(library: Library, mode: Mode) -> None:
    """Warning with its path: JAX makes it float32."""
    wide = {"w": np.ones(3)}
    with warnings.catch_warnings(record=True) as caught, jax.enable_x64(False):
        warnings.simplefilter("always")
        mode(modes.init_of_constant(library.heavy_ball(BETA), wide)).init(())
    messages = [str(warning.message) for warning in caught]
    warned = any("['w']" in text and "float64" in text for text in messages)
    expect(warned, "no warning")


def x64_enabled_after_init(library: Library, mode: Mode) -> None:
    """The state keeps its dtypes, with float32 and with float64 gradients."""
    transformation = mode(library.heavy_ball(BETA))
    params: PyTree = {"w": jnp.ones(3)}
    with jax.enable_x64(False):
        state = transformation.init(params)
    before = trees.described(state)
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(True):
            gradients = {"w": jnp.asarray([0.3, -1.7, 0.9], dtype)}
            updates, state = transformation.update(gradients, state, params)
        change = trees.difference(trees.described(state), before)
        expect(not change, f"after a {np.dtype(dtype)} gradient {change}")
        got = updates["w"].dtype
        expect(got == dtype, f"a {np.dtype(dtype)} gradient gives a {got} update")


def float8(library: Library, mode: Mode) -> None:
    """Error naming its path, as parameter and as gradient: too narrow for sums."""
    transformation, params = mode(library.heavy_ball(BETA)), trees.default_params()
    path, leaf = trees.largest_leaf(params)
    for dtype in (jnp.float8_e4m3fn, jnp.float8_e5m2):
        narrow = jnp.ones(leaf.shape, dtype)
        refusals.refused_init(transformation, params, path, narrow)
        refusals.refused_update(transformation, params, path, narrow)


# Shapes, containers, kinds of arrays, and the devices that hold them.


def a_gradient_whose_shape_would_broadcast(library: Library, mode: Mode) -> None:
    """(3,) for (3, 1): error naming its path."""
    params, gradients = {"w": jnp.ones((3, 1))}, {"w": jnp.ones(3)}
    _expect_gradients_refused(library, mode, params, gradients, "['w']")


def gradients_in_another_tree(library: Library, mode: Mode) -> None:
    """Leaves swapped, added, missing or renamed: error naming the path."""
    params = {"a": jnp.ones(3), "b": jnp.ones(2)}
    for gradients, path in (
        ({"a": params["b"], "b": params["a"]}, "['a']"),
        ({**params, "c": jnp.ones(1)}, "['c']"),
        ({"a": jnp.ones(3)}, "['b']"),
        ({"a": jnp.ones(3), "c": jnp.ones(2)}, "['c']"),
    ):
        _expect_gradients_refused(library, mode, params, gradients, path)


def gradients_in_another_container(library: Library, mode: Mode) -> None:
    """An OrderedDict or a FrozenDict for a dict: error naming the container."""
    params = {"w": jnp.ones(3)}
    for container in (OrderedDict, FrozenDict):
        gradients, name = container(params), container.__name__
        _expect_gradients_refused(library, mode, params, gradients, name)


def leaves_of_unusual_sizes(library: Library, mode: Mode) -> None:
    """(), (0,), (1,), (3, 0, 2) work; so does 2³¹ + 1, under jit on accelerators."""
    transformation = mode(library.heavy_ball(BETA))
    contract.scalars_and_empty_arrays_are_leaves(transformation, None)
    if mode is modes.jit and jax.default_backend() != "cpu":
        huge: PyTree = jnp.ones(2**31 + 1, jnp.bfloat16)
        updates, _ = transformation.update(huge, transformation.init(huge), huge)
        expect(updates.shape == huge.shape, f"the update has shape {updates.shape}")
        expect(updates[-1] == 1, f"the last update is {updates[-1]}")


def numpy_arrays_of_every_kind(library: Library, mode: Mode) -> None:
    """Not contiguous, read-only or memory-mapped: same bits as with JAX arrays."""
    numbers = np.random.default_rng(14).normal(size=(4, 6)).astype(np.float32)
    read_only = numbers.copy()
    read_only.flags.writeable = False
    transformation = mode(library.heavy_ball(BETA))

    def last_step(array: PyTree) -> PyTree:
        state, updates = transformation.init(array), None
        for _ in range(3):
            updates, state = transformation.update(array, state, array)
        return updates, state

    with tempfile.TemporaryDirectory() as directory:
        np.save(file := Path(directory) / "array.npy", numbers)
        memory_mapped = np.load(file, mmap_mode="r")
        for array in (numbers.T[::2], read_only, memory_mapped):
            want = last_step(jnp.array(np.ascontiguousarray(array)))
            expect_same_bits("the last step", last_step(array), want)


def gradients_on_another_device(library: Library, mode: Mode) -> None:
    """Error naming the path if both arrays are committed to devices; else it works."""
    devices = _two_devices()
    first, second = ({"w": jax.device_put(jnp.ones(3), x)} for x in devices)
    plain = library.heavy_ball(BETA)
    state, transformation = plain.init(first), mode(plain)
    got, _ = transformation.update({"w": jnp.ones(3)}, plain.init(second))
    want, _ = transformation.update(first, state)
    expect_same_bits("the updates of an uncommitted gradient", got, want)

    def step() -> str:
        updates: PyTree = transformation.update(second, state)[0]
        return f"the update is on {updates['w'].device}"

    try:
        expect_refused(("['w']",), step)
    except AssertionError as broken:
        if mode is modes.vmap and "incompatible devices" in str(broken):
            raise DoesNotApply(
                "JAX raises its own error, without a path: "
                "under vmap, an array doesn't show its device"
            ) from None
        raise


def a_parameter_on_two_devices(library: Library, mode: Mode) -> None:
    """Each holds half of the buffer: from init on; after step 1 if init is compiled."""
    _two_devices()
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    params: PyTree = jnp.asarray(np.arange(8.0), jnp.float32)
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec("x")))
    plain = library.heavy_ball(BETA)
    transformation = mode(plain)

    def expect_halves(state: PyTree, when: str) -> None:
        (buffer,) = trees.beside(state, (), params.shape)
        sizes = [shard.data.nbytes for shard in buffer.addressable_shards]
        expect(sizes == [16, 16], f"{when} the devices hold {sizes} of 32 bytes")

    expect_halves(plain.init(params), "at init")
    for state in (plain.init(params), transformation.init(params)):
        for step in (1, 2):
            _, state = transformation.update(params, state, params)
            expect_halves(state, f"after step {step}")


# Extreme values, and states from elsewhere.


def nan_in_one_element(library: Library, mode: Mode) -> None:
    """Stays in that element, forever; `guard` skips any number of such steps."""
    updates = _updates_beside_a_healthy_element(library, mode, [np.nan, 0.5, 0.5])
    expect(np.isnan(updates).all(), f"its updates are {_numbers(updates)}")
    _expect_skipped(library, mode, [np.nan] * 3)


def infinities_that_cancel(library: Library, mode: Mode) -> None:
    """∞, then −∞: NaN, in that element only; `guard` skips both steps."""
    updates = _updates_beside_a_healthy_element(library, mode, [np.inf, -np.inf])
    expect(np.isnan(updates[1]), f"its updates are {_numbers(updates)}")
    _expect_skipped(library, mode, [np.inf, -np.inf])


def numbers_at_the_ends_of_float32(library: Library, mode: Mode) -> None:
    """1e-45 stays or becomes 0; a sum above 3.4e38 becomes ∞, which `guard` skips."""
    smallest, largest = (
        _updates_beside_a_healthy_element(library, mode, [value] * 2)
        for value in (1e-45, 3e38)
    )
    expect(0 <= smallest[1] <= 4e-45, f"1e-45 became {smallest[1]}")
    expect(largest[1] == np.inf, f"3e38 became {largest[1]}")
    skipping = mode(library.skip_nonfinite(library.heavy_ball(BETA)))
    gradients = jnp.asarray([[0.5, 1e-45, 3e38]] * 2, jnp.float32)
    last = _updates(skipping, gradients)[1]
    expect(not last.any(), f"an update of {_numbers(last)} is applied")


def negative_zeros(library: Library, mode: Mode) -> None:
    """β·m + g has the sign of zero that IEEE 754 gives it."""
    transformation = mode(library.heavy_ball(0.5))
    gradients = jnp.asarray([-0.0, -0.0, 1.0, -0.0])
    state = transformation.init(jnp.zeros(4))
    negated = jax.tree.map(lambda leaf: -leaf if jnp.ndim(leaf) else leaf, state)
    first, state = transformation.update(gradients, negated, jnp.zeros(4))
    signs = np.signbit(first).tolist()
    expect(signs == [True, True, False, True], f"−0.5·0 − 0 gave {first}")
    opposite = jnp.asarray([0.0, -0.0, -0.5, 0.0])
    second, _ = transformation.update(opposite, state, jnp.zeros(4))
    signs = np.signbit(second).tolist()
    expect(signs == [False, True, False, False], f"then {opposite} gave {second}")


def a_state_of_another_optimizer(library: Library, mode: Mode) -> None:
    """Error naming the state; or the path, if only the buffer's storage differs."""
    params = {"w": jnp.ones(3)}
    transformation = mode(library.heavy_ball(BETA))

    def step(state: PyTree) -> str:
        updates: PyTree = transformation.update(params, state, params)[0]
        return f"gradients of 1 give {updates['w']}"

    for other in (optax.adam(0.1), optax.scale_by_adam(), optax.sgd(0.1)):
        expect_refused(("state",), partial(step, other.init(params)))
    narrow = library.low_precision(BETA).init(params)
    expect_refused(("['w']",), partial(step, narrow))


def a_state_restored_as_a_dictionary_or_donated(library: Library, mode: Mode) -> None:
    """Error that says so; a state that is merely old repeats its step, bit for bit."""
    params = trees.default_params()
    transformation = mode(library.heavy_ball(BETA))
    refusals.a_state_that_was_restored_as_a_dictionary(transformation, params)
    _, old = transformation.update(params, transformation.init(params), params)
    first = transformation.update(params, old, params)
    transformation.update(params, first[1], params)
    again = transformation.update(params, old, params)
    expect_same_bits("an old state's step", again, first)
    jax.tree.map(lambda leaf: leaf.delete(), old)
    expect_refused(("deleted",), lambda: str(transformation.update(params, old)[0]))


# All functions above, in their order, which numbers them from 1 on the page.
INPUTS: tuple[BadInput, ...] = tuple(
    x for x in globals().values() if isfunction(x) and x.__module__ == __name__
)


def expect_refused(names: tuple[str, ...], attempt: Callable[[], str]) -> None:
    """Raises AssertionError unless the attempt raises an error with one of the names.

    A name is an argument or a leaf's path; an attempt returns the outcome if the
    input was accepted.
    """
    outcomes: list[str] = []
    try:
        refusals.refused("it", names, lambda: outcomes.append(attempt()))
    except AssertionError:
        if not outcomes:
            raise
        raise AssertionError(f"accepted: {outcomes[0]}") from None


def _expect_beta_refused(library: Library, mode: Mode, beta: ArrayLike) -> None:
    expect_refused(refusals.ARGUMENT, _attempt(mode, library.heavy_ball, beta))


def _expect_unchecked(library: Library, mode: Mode, beta: float, want: PyTree) -> None:
    updates = _updates_of_ones(mode(built_inside(partial(library.unchecked, beta))))
    expect(updates.tolist() == want, f"unchecked, {_describe(updates)}")


def _attempt(mode: Mode, build: Build, number: ArrayLike) -> Callable[[], str]:
    """Builds the optimizer in the mode, and describes its first three updates."""
    built = built_inside(partial(build, number))
    return lambda: _describe(_updates_of_ones(mode(built)))


def _updates_of_ones(transformation: optax.GradientTransformation) -> PyTree:
    """The updates of three steps whose gradient is 1."""
    return _updates(transformation, jnp.ones(3))


def _updates(transformation: optax.GradientTransformation, gradients: PyTree) -> PyTree:
    """The updates of all steps, whose gradients are [step, …]."""
    params = jnp.zeros_like(gradients[0])
    state = transformation.init(params)
    return trees.run(transformation.update, state, gradients, params)[0]


def _describe(updates: PyTree) -> str:
    """The updates of three gradients of 1, in words."""
    numbers = [str(np.round(np.asarray(u, np.float64), 4).tolist()) for u in updates]
    return f"gradients of 1 give {', '.join(numbers)}"


def _numbers(update: PyTree) -> str:
    return str(np.round(np.asarray(update, np.float64), 3).tolist())


def _expect_gradients_refused(
    library: Library, mode: Mode, params: PyTree, gradients: PyTree, name: str
) -> None:
    def step() -> str:
        transformation = mode(library.heavy_ball(BETA))
        state = transformation.init(params)
        updates, _ = transformation.update(gradients, state, params)
        return f"the updates have shapes {jax.tree.map(jnp.shape, updates)}"

    expect_refused((name,), step)


def _two_devices() -> list[Any]:
    if len(jax.devices()) < 2:
        raise DoesNotApply("it takes two devices")
    return jax.devices()[:2]


def _updates_beside_a_healthy_element(
    library: Library, mode: Mode, values: list[float]
) -> np.ndarray:
    """The updates of an element with these gradients, which must affect no other."""
    transformation = mode(library.heavy_ball(BETA))
    gradients = jnp.asarray([[0.5, value] for value in values], jnp.float32)
    updates = _updates(transformation, gradients)
    healthy = _updates(transformation, gradients.at[:, 1].set(0.5))
    expect_same_bits("beside it", updates[:, 0], healthy[:, 0])
    return np.asarray(updates[:, 1])


def _expect_skipped(library: Library, mode: Mode, poison: list[float]) -> None:
    """Raises unless poisoned steps between two good ones leave no trace."""
    good = jnp.asarray([[0.3, -1.7], [0.9, 0.5]])
    bad = jnp.asarray([[0.5, value] for value in poison])
    skipping = mode(library.skip_nonfinite(library.heavy_ball(BETA)))
    updates = _updates(skipping, jnp.concatenate([good[:1], bad, good[1:]]))
    for number, update in enumerate(updates[1:-1], start=1):
        message = f"number {number} in a row is applied: the update is"
        expect(not update.any(), f"{message} {_numbers(update)}")
    want = _updates(mode(library.heavy_ball(BETA)), good)
    expect_same_bits("the next step", updates[-1], want[-1])
