"""A study's directory, held by process 0 for all that train together."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax

from experiments.distributed import processes
from experiments.records import plan
from experiments.records.config import JSON, UsageError
from experiments.records.runs import FILE_NAME, Run, parse, to_json

# What changes the figures of a run, besides its config; a plan names no default.
_NUMERICS = {
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
}


def numerics() -> dict[str, JSON]:
    """JAX's settings on which figures depend, where they differ from the defaults.

    They belong to the plan, so that a directory never mixes runs of different ones.
    Records without them have the defaults.
    """
    values = {n: getattr(jax.config, n, default) for n, default in _NUMERICS.items()}
    return {name: value for name, value in values.items() if value != _NUMERICS[name]}


@contextmanager
def hold(output: Path, held: plan.Plan) -> Iterator[tuple[Run, ...]]:
    """`plan.hold`, for one process or for several.

    Raises:
      UsageError: as there; or the processes' plans differ, for example in the data.
    """
    with ExitStack() as stack:
        refusal, finished = None, ()
        if processes.is_first():
            try:
                finished = stack.enter_context(plan.hold(output, held))
            except UsageError as error:
                refusal = str(error)
        refusal = processes.all_gather_json(refusal)[0]
        if refusal is not None:
            raise UsageError(refusal)
        processes.check_same({"plan": to_json(held)})
        yield finished if jax.process_count() == 1 else _of_first(output)


def _of_first(output: Path) -> tuple[Run, ...]:
    """The runs that process 0 finds finished, for all processes."""
    path = output / FILE_NAME
    there = processes.is_first() and path.exists()
    content = path.read_bytes() if there else b""
    return parse(processes.all_gather_bytes(content)[0], path)
