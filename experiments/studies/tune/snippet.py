"""The recommendation of `tune` as Python code to paste, with Optax and this library."""

import keyword
from pathlib import Path

from experiments.records.config import Config
from experiments.studies.options import StudyOptions
from experiments.user_code import file_and_function

_OPTIMIZERS = {
    "sgd": "optax.sgd(learning_rate)",
    "momentum": "optax_momentum.keras(learning_rate, {beta!r})",
    "nesterov": "optax_momentum.keras(learning_rate, {beta!r}, nesterov=True)",
}
# The schedules of `experiments.optimizers.schedules`, built with Optax's functions.
_SCHEDULES = {
    "constant": "learning_rate = {rate!r}",
    "step": """\
learning_rate = optax.piecewise_constant_schedule(
    {rate!r}, {{-(-steps // 2): 0.1, -(-3 * steps // 4): 0.1}}
)""",
    "cosine": "learning_rate = optax.cosine_decay_schedule({rate!r}, steps)",
    "warmup_cosine": """\
warm_up = 0.05 * steps
learning_rate = optax.join_schedules(
    [
        optax.linear_schedule(0.0, {rate!r}, warm_up),
        optax.cosine_decay_schedule({rate!r}, steps - warm_up),
    ],
    [warm_up],
)""",
    "one_cycle": """\
rise = 0.3 * steps
up = optax.cosine_decay_schedule({rate!r}, rise, alpha=1 / 25)  # run backwards
down = optax.cosine_decay_schedule({rate!r}, steps - rise, alpha=1e-4 / 25)
learning_rate = optax.join_schedules([lambda step: up(rise - step), down], [rise])""",
}


_JAX = "import jax\n"
# The leaves that --decay-kernels-only decays.
_KERNELS = "lambda params: jax.tree.map(lambda x: x.ndim >= 2, params)"
_TRAINING = """\
@jax.jit
def train_step(params, model_state, opt_state, batch, key):
    key, augment_key = jax.random.split(key)
    if problem.augment is not None:
        batch = problem.augment(augment_key, batch)

    def mean_loss(params):
        losses, _, after = problem.loss(params, model_state, batch, key, training=True)
        return losses.mean(), after

    value_and_grad = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, after), gradients = value_and_grad(params)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), after, opt_state, loss


key, init_key = jax.random.split(jax.random.key(0))
few = jax.tree.map(lambda x: x[:8], problem.train)
params, model_state = jax.jit(problem.init)(init_key, few)
opt_state = optimizer.init(params)
random = np.random.default_rng(0)
for epoch in range(epochs):
    order, total = random.permutation(examples), 0.0
    for start in range(0, examples, batch_size):
        rows = order[start : start + batch_size]
        batch = jax.tree.map(lambda x: x[rows], problem.train)
        key, step_key = jax.random.split(key)
        params, model_state, opt_state, loss = train_step(
            params, model_state, opt_state, batch, step_key
        )
        total += loss * len(rows)
    print(f"epoch {epoch + 1}: training loss {total / examples:.4g}")
"""


def snippet(config: Config, images: int) -> str:
    """Code that builds the `optimizer` of a run.

    Only numbers in it come from the data: no name of a file or class. `images` is the
    number of training images.
    """
    optimizer = _optimizer(config, "images")
    return f"""\
{_imports(optimizer)}
images = {images!r}  # training images: change this if you train on more or fewer
{optimizer}"""


def training_snippet(config: Config, making: str) -> str:
    """Code that trains a problem as a run did; `making` is from `make_problem`."""
    optimizer = _optimizer(config, "examples")
    return f"""\
import jax
import numpy as np
{_imports(optimizer).removeprefix(_JAX)}{making}
problem = make_problem()
examples = len(jax.tree.leaves(problem.train)[0])
{optimizer}

{_TRAINING}"""


def make_problem(options: StudyOptions) -> str:
    """Code that defines `make_problem()`, which returns what was trained.

    Empty for images, of which the code says nothing; there is a case here for each
    other kind of data.
    """
    if options.problem is not None:
        file, function = file_and_function("--problem", options.problem)
        file = Path(file)
        if all(map(_can_be_imported, (file.stem, function))):
            return f"from {file.stem} import {function} as make_problem\n"
        run = f"runpy.run_path({file.name!a})[{function!a}]"
        return f"import runpy\n\nmake_problem = {run}\n"
    if options.table is not None:
        how = f"{options.target!r}, {options.table_task!r}, impute={options.impute}"
        return (
            "from experiments.problems.table import table\n\n"
            f"def make_problem():\n"
            f"    return table({options.table!r}, {how}).problem\n"
        )
    if options.text is not None:
        return (
            "from pathlib import Path\n\nfrom experiments.problems.text import text\n\n"
            f"def make_problem():\n"
            f"    return text(Path({str(options.text)!r}))[0]\n"
        )
    return ""


def _can_be_imported(name: str) -> bool:
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def _optimizer(config: Config, examples: str) -> str:
    """The lines that build the optimizer; `examples` is the variable of their count."""
    optimizer = _OPTIMIZERS[config.arm].format(beta=config.beta)
    if config.weight_decay:
        decay = repr(config.weight_decay)
        if config.decay_kernels_only:
            decay = f"\n        {decay}, {_KERNELS}\n    "
        decay = f"optax.add_decayed_weights({decay})"
        optimizer = f"optax.chain(\n    {decay},\n    {optimizer},\n)"
    return f"""\
batch_size = {config.batch_size!r}
epochs = {config.epochs!r}
steps = epochs * -(-{examples} // batch_size)
{_SCHEDULES[config.schedule].format(rate=config.learning_rate)}
optimizer = {optimizer}
"""


def _imports(code: str) -> str:
    """The imports of what the code uses, one a line."""
    library = "import optax_momentum\n" if "optax_momentum" in code else ""
    return f"{_JAX if 'jax.' in code else ''}import optax\n{library}"
