"""Bad inputs 22 to 27: dtypes that differ, or are misspelt, too wide or too narrow."""

import warnings
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.conformance.bad_inputs.expectations import (
    BETA,
    described,
    expect_refused,
    of_ones,
)
from experiments.conformance.bad_inputs.modes import (
    Mode,
    built_inside,
    init_of_constant,
)
from experiments.conformance.bad_inputs.systems import Build, System
from optax_momentum.testing import (
    dtypes,
    expect,
    refusals,
    summarize_error,
    trees,
)


def gradients_of_another_dtype(system: System, mode: Mode) -> None:
    """Bfloat16 for float32 parameters, for one: updates have the gradient's dtype."""
    transformation = mode(system.heavy_ball(BETA))
    params = trees.default_params()
    dtypes.updates_have_the_dtype_of_the_gradients(transformation, params)


def gradients_wider_than_the_parameters(system: System, mode: Mode) -> None:
    """Float32 for bfloat16 parameters, for one: the buffer's dtype stays init's."""
    transformation = mode(system.heavy_ball(BETA))
    dtypes.the_state_never_changes_its_types(transformation, trees.default_params())


def a_buffer_of_int8_or_of_a_misspelt_dtype(system: System, mode: Mode) -> None:
    """Refused when it is built, naming the argument."""
    for dtype in (jnp.int8, "flaot32"):
        build = partial(system.kept_in, BETA, dtype)

        def attempt(build: Build = build) -> str:
            def only_build(params: Any) -> Any:
                build()
                return params

            update = optax.identity().update
            mode(optax.GradientTransformation(only_build, update)).init(())
            try:
                return described(of_ones(mode(built_inside(build))))
            except Exception as error:  # what comes of it later is the outcome
                return f"built; the first step raises {summarize_error(error)}"

        expect_refused(("storage", "accumulator_dtype"), attempt)


def float64_while_x64_is_off(system: System, mode: Mode) -> None:
    """A warning, by its path, that float32 is made of it."""
    wide = {"w": np.ones(3)}
    with warnings.catch_warnings(record=True) as caught, jax.enable_x64(False):
        warnings.simplefilter("always")
        mode(init_of_constant(system.heavy_ball(BETA), wide)).init(())
    said = [str(warning.message) for warning in caught]
    expect(any("['w']" in line and "float64" in line for line in said), "no warning")


def x64_switched_on_after_init(system: System, mode: Mode) -> None:
    """The state's dtypes stay, of float32 and of float64 gradients."""
    transformation = mode(system.heavy_ball(BETA))
    params: Any = {"w": jnp.ones(3)}
    with jax.enable_x64(False):
        state = transformation.init(params)
    before = trees.described(state)
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(True):
            gradients = {"w": jnp.asarray([0.3, -1.7, 0.9], dtype)}
            updates, state = transformation.update(gradients, state, params)
        broken = trees.difference(trees.described(state), before)
        expect(not broken, f"after a {np.dtype(dtype)} gradient {broken}")
        found = f"its updates are {updates['w'].dtype}"
        expect(updates["w"].dtype == dtype, f"of a {np.dtype(dtype)} gradient {found}")


def float8(system: System, mode: Mode) -> None:
    """Refused by its path, as parameter and as gradient: too narrow to sum in."""
    transformation, params = mode(system.heavy_ball(BETA)), trees.default_params()
    path, leaf = trees.largest_leaf(params)
    for dtype in (jnp.float8_e4m3fn, jnp.float8_e5m2):
        narrow = jnp.ones(leaf.shape, dtype)
        refusals.refused_init(transformation, params, path, narrow)
        refusals.refused_update(transformation, params, path, narrow)


DTYPES = (
    gradients_of_another_dtype,
    gradients_wider_than_the_parameters,
    a_buffer_of_int8_or_of_a_misspelt_dtype,
    float64_while_x64_is_off,
    x64_switched_on_after_init,
    float8,
)
