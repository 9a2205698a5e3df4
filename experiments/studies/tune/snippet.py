"""The recommendation of `tune` as Python code to paste, with Optax and this library."""

from experiments.records.config import Config

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


def snippet(config: Config, images: int) -> str:
    """Code that builds the `optimizer` of a run.

    Only numbers in it come from the data: no name of a file or class. `images` is the
    number of training images.
    """
    optimizer = _OPTIMIZERS[config.arm].format(beta=config.beta)
    library = "import optax_momentum\n" if "optax_momentum" in optimizer else ""
    return f"""\
import optax
{library}
images = {images!r}  # training images: change this if you train on more or fewer
batch_size = {config.batch_size!r}
epochs = {config.epochs!r}
steps = epochs * -(-images // batch_size)
{_SCHEDULES[config.schedule].format(rate=config.learning_rate)}
optimizer = {optimizer}
"""
