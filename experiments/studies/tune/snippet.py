"""What `tune` recommends as Python to paste: Optax and this library, nothing else."""

from experiments.records.config import Config

_OPTIMIZERS = {
    "sgd": "optax.sgd(learning_rate)",
    "momentum": "optax_momentum.keras(learning_rate, {beta!r})",
    "nesterov": "optax_momentum.keras(learning_rate, {beta!r}, nesterov=True)",
}
# The courses of `experiments.schedules`, in Optax's words.
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
    """Builds `optimizer` as it was trained.

    Nothing in it comes from the data but numbers: no name of a file or class.

    Args:
      config: of a run of sgd, momentum or nesterov.
      images: that it was trained on.
    """
    optimizer = _OPTIMIZERS[config.arm].format(beta=config.beta)
    library = "import optax_momentum\n" if "optax_momentum" in optimizer else ""
    return f"""\
import optax
{library}
images = {images!r}  # that are trained on; with others, change it
batch_size = {config.batch_size!r}
epochs = {config.epochs!r}
steps = epochs * -(-images // batch_size)
{_SCHEDULES[config.schedule].format(rate=config.learning_rate)}
optimizer = {optimizer}
"""
