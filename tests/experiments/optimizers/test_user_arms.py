"""Users' own optimizers: what of them trains, and what is refused in one line."""

import json
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.__main__ import main
from experiments.optimizers.user_arms import arms
from experiments.records.config import UsageError

PARAMS = {
    "convolution": {"kernel": jnp.full((3, 3, 2, 4), 0.5), "bias": jnp.zeros(4)},
    "dense": {"kernel": jnp.full((6, 5), -0.25), "bias": jnp.ones(5)},
}
HEAD = "import jax, jax.numpy as jnp, optax\n"
README = Path(__file__).parents[3] / "README.md"


@pytest.fixture(autouse=True)
def default_promotion():
    """That of a command: some of Optax's optimizers can't be traced under strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def made(tmp_path: Path, text: str, **options: Any):
    path = tmp_path / "own.py"
    path.write_text(HEAD + text)
    return arms("--arms", f"{path}:arms", **options)


def first_update(optimizer: optax.GradientTransformation) -> Any:
    gradients = jax.tree.map(lambda x: 0.1 * jnp.ones_like(x) + x, PARAMS)
    return optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)[0]


def refusal(tmp_path: Path, text: str, **options: Any) -> str:
    with pytest.raises(UsageError) as refused:
        made(tmp_path, text, **options)
    message = str(refused.value)
    assert message.startswith(f"--arms {tmp_path}/own.py:arms: ")
    assert "\n" not in message
    return message.split(":arms: ", 1)[1]


def test_arms_of_the_readme_are_optaxs_optimizers_at_any_learning_rate(tmp_path: Path):
    [example] = re.findall(
        "```python\n(# optimizers.py\n.*?)```", README.read_text(), re.S
    )
    own, digest = made(tmp_path, example)
    assert re.fullmatch("[0-9a-f]{16}", digest)
    assert list(own) == [arm.title for arm in own.values()]
    expected = {
        "adamw": lambda rate: optax.adamw(rate / 10),
        "lion": lambda rate: optax.lion(rate / 100),
        "muon": lambda rate: optax.contrib.muon(rate),
    }
    assert set(expected) < set(own)
    rates = 0.03, 0.007

    @jax.jit
    def traced(rates):
        def updates(rate):
            return [first_update(own[x].transformation(rate, 0.9)) for x in expected]

        return jax.vmap(updates)(rates)

    @jax.jit
    def of_optax():
        each = [[first_update(f(rate)) for f in expected.values()] for rate in rates]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, 1e-4, 1e-8),
        traced(jnp.array(rates)),
        of_optax(),
    )


def test_arm_has_the_name_for_its_title_and_no_equation(tmp_path: Path):
    name = "<script>$x$ [bold]"
    own, _ = made(tmp_path, f"def arms(rate): return {{{name!r}: optax.sgd(rate)}}")
    assert [(key, arm.title, arm.equation) for key, arm in own.items()] == [
        (name, name, "")
    ]


def test_arm_keeps_what_beta_its_optimizer_has(tmp_path: Path):
    own, _ = made(tmp_path, "def arms(rate): return {'a': optax.sgd(rate, 0.75)}")
    optimizer = own["a"].transformation(0.5, 0.9)
    state = optimizer.init(jnp.zeros(1))
    for expected in (-0.5, -0.875):
        update, state = optimizer.update(jnp.ones(1), state)
        assert update == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("None", "it returned NoneType, and a dictionary {name: optimizer} with at"),
        ("{}", "it returned {}, and a dictionary {name: optimizer} with at least one"),
        ("optax.sgd(rate)", "it returned GradientTransformationExtraArgs, and a dict"),
        ("{'a': rate}", "a is of type float, and an optax.GradientTransformation is"),
        ("{3: optax.sgd(rate)}", "3 is no name for an optimizer: it must be printable"),
        ("{'': optax.sgd(rate)}", "'' is no name for an optimizer: it must be print"),
        ("{'_a': optax.sgd(rate)}", "'_a' is no name for an optimizer: it must be pr"),
        ("{' a': optax.sgd(rate)}", "' a' is no name for an optimizer: it must be pr"),
        (r"{'a\nb': optax.sgd(rate)}", r"'a\nb' is no name for an optimizer: it must"),
        ("{'a' * 41: optax.sgd(rate)}", "' is no name for an optimizer: it must be p"),
        (
            "{f'a {rate}': optax.sgd(rate)}",
            "a 0.01 is missing at a traced learning rate, where it returns a ",
        ),
        (
            "{'a': optax.sgd(rate, nope=1)}",
            "calling it with learning rate 0.01 raised TypeError at line 2: sgd() got",
        ),
        (
            "{'a': optax.sgd(rate if rate > 0.1 else 0.1)}",
            "calling it with a traced learning rate raised TracerBoolConversionError "
            "at line 2: ",
        ),
        (
            "{'a': optax.GradientTransformation(lambda params: 1 / 0, None)}",
            "a step of a raised ZeroDivisionError at line 2: division by zero.",
        ),
        (
            "{'a': optax.contrib.reduce_on_plateau()}",
            "missing 1 required keyword-only argument: 'value'.",
        ),
        (
            "{'a': optax.stateless(lambda g, p: jax.tree.map(jnp.transpose, g))}",
            "a returns float32[4, 2, 3, 3], not float32[3, 3, 2, 4], at "
            "['convolution']['kernel']; updates must be like the parameters.",
        ),
        (
            "{'a': optax.stateless(lambda g, p: "
            "jax.tree.map(lambda x: x.astype(jnp.bfloat16), g))}",
            "a returns bfloat16[4], not float32[4], at ['convolution']['bias']; "
            "updates must be like the parameters.",
        ),
        (
            "{'a': optax.stateless(lambda g, p: jax.tree.leaves(g))}",
            "a returns a tree of another structure; updates must be like the param",
        ),
        (
            "{'a': optax.GradientTransformation(lambda p: jnp.zeros(2), "
            "lambda g, s, p=None: (g, jnp.zeros(3)))}",
            "a returns float32[3], not float32[2]; the next state must be like the ",
        ),
    ],
)
def test_what_is_no_dictionary_of_optimizers_is_refused(tmp_path: Path, body, message):
    text = f"def arms(rate): return {body}"
    assert message in refusal(tmp_path, text, params=PARAMS)


def test_name_that_comes_and_goes_is_refused_when_it_is_missing(tmp_path: Path):
    text = (
        "def arms(rate):\n"
        "    name = 'b' if isinstance(rate, float) and rate > 1 else 'a'\n"
        "    return {name: optax.sgd(rate)}\n"
    )
    own, _ = made(tmp_path, text)
    with pytest.raises(UsageError, match=r": a is missing at learning rate 2\.0, whe"):
        own["a"].transformation(2.0, 0.9)


def test_optimizer_is_tried_on_the_parameters_that_it_is_for(tmp_path: Path):
    text = (
        "def arms(rate):\n"
        "    parts = {'x': optax.sgd(rate), 'y': optax.adam(rate)}\n"
        "    labels = {'convolution': 'x', 'dense': 'y'}\n"
        "    return {'a': optax.partition(parts, labels)}\n"
    )
    assert list(made(tmp_path, text, params=PARAMS)[0]) == ["a"]
    message = refusal(tmp_path, text, params={"head": jnp.zeros(3)})
    assert message.startswith("a step of a raised ValueError: ")


@pytest.mark.usefixtures("small_network")
def test_compare_trains_them_and_knows_a_changed_file_for_another_plan(
    tmp_path, capsys
):
    rng = np.random.default_rng(2)
    labels = rng.permutation(60) % 3
    images = labels[:, None, None] * 80 + rng.integers(0, 60, (60, 4, 4))
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    path, output = tmp_path / "own.py", tmp_path / "output"
    text = "def arms(rate): return {'<b>[x]': optax.sgd(rate), 'sgd': optax.lion(rate)}"
    path.write_text(HEAD + text)
    command = ["compare", "--arms", f"{path}:arms", "--output", str(output)]
    command += ["--dataset", str(tmp_path / "data.npz")]
    command += ["--epochs", "1", "--batch-size", "16"]
    assert main([*command, "--seeds", "2"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "optimizer: sgd instead of <b>[x]: sgd − <b>[x] = " in printed
    summary = json.loads((output / "summary.json").read_text())
    assert list(summary["arms"]) == ["<b>[x]", "sgd"]
    [compared] = summary["comparisons"]
    assert (compared["first"], compared["second"]) == ("sgd", "<b>[x]")
    page = (output / "report.html").read_text()
    assert "2 optimizers on data.npz" in page and "<b>" not in page
    path.write_text(HEAD + text + "  # changed")
    assert main(command) == 2
    assert "holds runs of another plan" in capsys.readouterr().err
