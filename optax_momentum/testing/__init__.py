"""Oracles and the contract: what any gradient transformation can be asked to prove.

    check_contract     what every `optax.GradientTransformation` owes its callers
    check_refusals     what it must refuse, instead of going wrong in silence
    check_bad_beta     likewise, of a momentum method's β
    check_equations    what a linear momentum method computes, given its `Claim`

Each returns a `Result` a promise. The promises themselves are plain functions that
raise AssertionError with the reason, in lists that `pytest.mark.parametrize` takes:
`CONTRACT`, `CONTRACT_OF_LINEAR`, `REFUSALS`, `BAD_BETAS` and `EQUATIONS`; one that does
not apply raises `DoesNotApply`.

The promises about sharding need two devices: on a CPU,
`jax.config.update("jax_num_cpu_devices", 2)` before JAX is first used.

>>> import optax
>>> from optax_momentum import Coefficients
>>> heavy_ball = stepping(lambda rate: optax.sgd(rate, momentum=0.8))
>>> [result.name for result in check_equations(
...     heavy_ball, Claim((Coefficients(beta=0.7, gain=1.0),))
... ) if result.passed is False][:2]
['an impulse fades by beta a step', 'a constant gradient settles at the gain']
"""

from typing import Any

import optax

from optax_momentum.testing import agreement, composition, contract, dtypes, trees
from optax_momentum.testing.claims import Claim
from optax_momentum.testing.equations import EQUATIONS, check_equations
from optax_momentum.testing.optimizer import Optimizer, stepping
from optax_momentum.testing.refusals import (
    BAD_BETAS,
    REFUSALS,
    check_bad_beta,
    check_refusals,
)
from optax_momentum.testing.verdicts import (
    DoesNotApply,
    Result,
    expect_close,
    expect_same_bits,
    judge,
    name_of,
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
    "check_bad_beta",
    "check_contract",
    "check_equations",
    "check_refusals",
    "expect_close",
    "expect_same_bits",
    "judge",
    "name_of",
    "stepping",
]

CONTRACT = dtypes.OF_ANY + contract.OF_ANY + agreement.OF_ANY + composition.OF_ANY
CONTRACT_OF_LINEAR = contract.OF_LINEAR + agreement.OF_LINEAR + composition.OF_LINEAR


def check_contract(
    transformation: optax.GradientTransformation,
    params: Any = None,
    *,
    linear: bool = True,
) -> tuple[Result, ...]:
    """Puts a transformation to the whole contract.

    Args:
      transformation: any.
      params: float32 arrays to try it on; by default three small ones.
      linear: each update is a linear function of the same element's gradients, as in
        linear momentum: then `CONTRACT_OF_LINEAR` holds too.

    Returns:
      One `Result` a promise; whatever the transformation raises is a broken one.
    """
    params = trees.default_params() if params is None else params
    promises = CONTRACT + (CONTRACT_OF_LINEAR if linear else ())
    return judge(promises, transformation, params)
