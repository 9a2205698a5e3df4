"""Checks for any gradient transformation, ours or yours.

    check_contract     what every `optax.GradientTransformation` owes its callers
    check_refusals     bad inputs that must raise instead of failing silently
    check_bad_beta     values of β that a momentum method must reject
    check_equations    the updates of a linear momentum method, given its `Claim`

Each check returns one `Result` per promise. A promise is a plain function that raises
AssertionError with the reason when it is broken, and `DoesNotApply` when the
transformation never made it. The promises are also listed for
`pytest.mark.parametrize`: `CONTRACT`, `CONTRACT_OF_LINEAR`, `REFUSALS`, `BAD_BETAS` and
`EQUATIONS`.

To pick single promises, import the module of their group: `dtypes`, `contract`,
`agreement`, `composition`, `refusals` or `equations`. To write promises of your own,
use `expect`, `expect_close`, `expect_same_bits` and `judge`, and the inputs in `trees`.

The promises about sharding need two devices. On a CPU, call
`jax.config.update("jax_num_cpu_devices", 2)` before JAX is first used.

A heavy ball with β = 0.8 that claims β = 0.7 breaks several equations, first these:

>>> import optax
>>> from optax_momentum import Coefficients
>>> heavy_ball = stepping(lambda rate: optax.sgd(rate, momentum=0.8))
>>> [result.name for result in check_equations(
...     heavy_ball, Claim((Coefficients(beta=0.7, gain=1.0),))
... ) if result.passed is False][:2]
['an impulse fades by beta a step', 'a constant gradient settles at the gain']
"""

import optax

from optax_momentum.testing import (
    agreement,
    composition,
    contract,
    dtypes,
    equations,
    refusals,
    trees,
)
from optax_momentum.testing._claims import Claim
from optax_momentum.testing._optimizer import Optimizer, stepping
from optax_momentum.testing._verdicts import (
    DoesNotApply,
    Result,
    expect,
    expect_close,
    expect_same_bits,
    judge,
    name_of,
    summarize_error,
)
from optax_momentum.testing.equations import EQUATIONS, check_equations
from optax_momentum.testing.refusals import (
    BAD_BETAS,
    REFUSALS,
    check_bad_beta,
    check_refusals,
)

__all__ = [
    "BAD_BETAS",
    "CONTRACT",
    "CONTRACT_OF_LINEAR",
    "EQUATIONS",
    "REFUSALS",
    "Claim",
    "DoesNotApply",
    "Optimizer",
    "Result",
    "agreement",
    "check_bad_beta",
    "check_contract",
    "check_equations",
    "check_refusals",
    "composition",
    "contract",
    "dtypes",
    "equations",
    "expect",
    "expect_close",
    "expect_same_bits",
    "judge",
    "name_of",
    "refusals",
    "stepping",
    "summarize_error",
    "trees",
]

CONTRACT = dtypes.OF_ANY + contract.OF_ANY + agreement.OF_ANY + composition.OF_ANY
CONTRACT_OF_LINEAR = contract.OF_LINEAR + agreement.OF_LINEAR + composition.OF_LINEAR


def check_contract(
    transformation: optax.GradientTransformation,
    params: optax.Params | None = None,
    *,
    linear: bool = True,
) -> tuple[Result, ...]:
    """Checks a transformation against the whole contract.

    Args:
      transformation: the transformation to check.
      params: a tree of float32 arrays to run it on; by default three small arrays.
      linear: whether each element's updates are linear in that element's gradients, as
        in linear momentum; if so, `CONTRACT_OF_LINEAR` is checked too.

    Returns:
      One `Result` per promise. Any exception from the transformation breaks the
      promise.
    """
    params = trees.default_params() if params is None else params
    promises = CONTRACT + (CONTRACT_OF_LINEAR if linear else ())
    return judge(promises, transformation, params)
