"""Users' optimizers: which ones train, and which are refused in one line."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from support import small_images
from support.usage_errors import usage_error

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
    """As in a command: some Optax optimizers can't be traced in strict mode."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def load(tmp_path: Path, text: str, **options: Any):
    path = tmp_path / "optimizers.py"
    path.write_text(HEAD + text)
    return arms("--arms", f"{path}:arms", **options)


def first_update(optimizer: optax.GradientTransformation) -> Any:
    gradients = jax.tree.map(lambda x: 0.1 * jnp.ones_like(x) + x, PARAMS)
    return optimizer.update(gradients, optimizer.init(PARAMS), PARAMS)[0]


def refusal(tmp_path: Path, text: str, **options: Any) -> str:
    prefix = f"--arms {tmp_path}/optimizers.py:arms: "
    return usage_error(prefix, load, tmp_path, text, **options)


def test_optimizers_of_the_readme_equal_those_of_optax_at_any_rate(tmp_path: Path):
    pattern = "```python\n(# optimizers.py\n.*?)```"
    [example] = re.findall(pattern, README.read_text(), re.S)
    loaded, digest = load(tmp_path, example)
    assert re.fullmatch("[0-9a-f]{16}", digest)
    assert list(loaded) == [arm.title for arm in loaded.values()]
    expected = {
        "adamw": lambda rate: optax.adamw(rate / 10),
        "lion": lambda rate: optax.lion(rate / 100),
        "muon": lambda rate: optax.contrib.muon(rate),
    }
    assert set(expected) < set(loaded)
    rates = 0.03, 0.007

    @jax.jit
    def traced(rates):
        def updates(rate):
            return [first_update(loaded[x].transformation(rate, 0.9)) for x in expected]

        return jax.vmap(updates)(rates)

    @jax.jit
    def of_optax():
        updates = [[first_update(f(rate)) for f in expected.values()] for rate in rates]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *updates)

    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-8)
    jax.tree.map(close, traced(jnp.array(rates)), of_optax())


def test_arm_has_its_name_as_title_and_no_equation(tmp_path: Path):
    name = "<script>$x$ [bold]"
    loaded, _ = load(tmp_path, f"def arms(rate): return {{{name!r}: optax.sgd(rate)}}")
    assert list(loaded) == [name]
    assert (loaded[name].title, loaded[name].equation) == (name, "")


def test_optimizer_uses_its_own_beta(tmp_path: Path):
    loaded, _ = load(tmp_path, "def arms(rate): return {'a': optax.sgd(rate, 0.75)}")
    optimizer = loaded["a"].transformation(0.5, 0.9)
    state = optimizer.init(jnp.zeros(1))
    for expected in (-0.5, -0.875):
        update, state = optimizer.update(jnp.ones(1), state)
        assert update == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("None", "it returned NoneType; a dictionary {name: optimizer} with at least"),
        ("{}", "it returned {}; a dictionary {name: optimizer} with at least one en"),
        ("optax.sgd(rate)", "it returned GradientTransformationExtraArgs; a diction"),
        ("{'a': rate}", "a is of type float; an optax.GradientTransformation is"),
        (
            "{f'a {rate}': optax.sgd(rate)}",
            "for a traced learning rate, a 0.01 is missing: it returned a ",
        ),
        (
            "{'a': optax.sgd(rate, nope=1)}",
            "calling it with learning rate 0.01 raised TypeError at line 2: sgd() got",
        ),
        (
            "{'a': optax.sgd(rate if rate > 0.1 else 0.1)}",
            "with a traced learning rate raised TracerBoolConversionError at line 2: ",
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
            "a changes structure, shapes or dtypes: it returns float32[4, 2, 3, 3], "
            "not float32[3, 3, 2, 4], at ['convolution']['kernel']; updates must have "
            "those of the parameters.",
        ),
        (
            "{'a': optax.stateless(lambda g, p: "
            "jax.tree.map(lambda x: x.astype(jnp.bfloat16), g))}",
            "it returns bfloat16[4], not float32[4], at ['convolution']['bias']; "
            "updates must have those of the parameters.",
        ),
        (
            "{'a': optax.stateless(lambda g, p: jax.tree.leaves(g))}",
            "it returns a tree of another structure; updates must have those of t",
        ),
        (
            "{'a': optax.GradientTransformation(lambda p: jnp.zeros(2), "
            "lambda g, s, p=None: (g, jnp.zeros(3)))}",
            "it returns float32[3], not float32[2]; a state must have those of the ",
        ),
    ],
)
def test_anything_but_a_dictionary_of_optimizers_is_refused(tmp_path, body, message):
    text = f"def arms(rate): return {body}"
    assert message in refusal(tmp_path, text, params=PARAMS)


@pytest.mark.parametrize("name", [3, "", "_a", " a", "a\nb", "a" * 41])
def test_name_that_a_table_cannot_show_is_refused(tmp_path: Path, name):
    message = refusal(tmp_path, f"def arms(rate): return {{{name!r}: optax.sgd(rate)}}")
    assert message.startswith(f"{name!r} can't be the name of an optimizer: a name is ")


def test_name_that_depends_on_the_learning_rate_is_refused(tmp_path: Path):
    name = "'b' if isinstance(rate, float) and rate > 1 else 'a'"
    loaded, _ = load(tmp_path, f"def arms(rate): return {{{name}: optax.sgd(rate)}}")
    with pytest.raises(UsageError, match=r": for learning rate 2\.0, a is missing"):
        loaded["a"].transformation(2.0, 0.9)


def test_optimizer_is_checked_on_the_given_parameters(tmp_path: Path):
    parts = "{'x': optax.sgd(rate), 'y': optax.adam(rate)}"
    labels = "{'convolution': 'x', 'dense': 'y'}"
    text = f"def arms(rate): return {{'a': optax.partition({parts}, {labels})}}"
    assert list(load(tmp_path, text, params=PARAMS)[0]) == ["a"]
    message = refusal(tmp_path, text, params={"head": jnp.zeros(3)})
    assert message.startswith("a step of a raised ValueError: ")


@pytest.mark.slow
@pytest.mark.usefixtures("small_network", "blank_figures")
def test_compare_trains_them_and_refuses_a_changed_file(tmp_path, capsys):
    small_images.write(tmp_path / "data.npz", 60, size=(4, 4), seed=2)
    path, output = tmp_path / "optimizers.py", tmp_path / "output"
    text = "def arms(rate): return {'<b>[x]': optax.sgd(rate), 'sgd': optax.lion(rate)}"
    path.write_text(HEAD + text)
    command = ["compare", "--arms", f"{path}:arms", "--output", str(output)]
    command += f"--dataset {tmp_path}/data.npz --epochs 1 --batch-size 16".split()
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


def test_a_function_that_asks_gets_the_number_of_steps(tmp_path: Path):
    text = "def arms(rate, steps): return {'a': optax.sgd(rate * steps)}"
    loaded, _ = load(tmp_path, text, steps=7)
    gradient = {"x": jnp.ones(2)}
    optimizer = loaded["a"].transformation(0.5, 0.9)
    updates: Any = optimizer.update(gradient, optimizer.init(gradient))[0]
    np.testing.assert_allclose(updates["x"], -3.5)
