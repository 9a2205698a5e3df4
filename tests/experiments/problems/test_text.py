"""Texts: passages in order, a causal network, and refusals in one line."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.usage_errors import usage_error

from experiments.networks.network import random_key
from experiments.problems.check import check_problem
from experiments.problems.problem import task_of
from experiments.problems.text import PERPLEXITY, text

WORDS = "zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. "


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(WORDS * 40, "utf-8")
    return path


@pytest.mark.slow
def test_passages_follow_each_other_through_the_splits(file):
    problem, characters = text(file)
    alphabet = sorted(set(WORDS))
    assert characters == len(alphabet)
    splits = problem.train, problem.validation, problem.test
    codes = np.concatenate([split["text"].reshape(-1) for split in splits])
    written = "".join(alphabet[code] for code in codes)
    assert written == (WORDS * 40)[: len(codes)]
    assert len(WORDS) * 40 - len(codes) < 65
    counts = [len(split["text"]) for split in splits]
    assert counts == [32, 4, 4] and problem.name == "words.txt"
    assert not task_of(check_problem("here", problem)).whole_batches


@pytest.mark.slow
def test_a_prediction_depends_on_earlier_characters_alone(file):
    """The loss of a passage is a mean; its gradient by place shows what it reads."""
    problem, characters = text(file)
    params, _ = problem.init(random_key(0), problem.train)
    passage = jnp.asarray(problem.train["text"][:1])

    def losses_with(changed):
        batch = {"text": changed}
        return problem.loss(params, (), batch, random_key(0), training=False)[0]

    last = passage.at[0, -1].set((passage[0, -1] + 1) % characters)
    first = passage.at[0, 0].set((passage[0, 0] + 1) % characters)
    whole, of_last, of_first = map(losses_with, (passage, last, first))
    # The last character is only predicted: 63 of 64 terms stay as they are.
    assert 0 < abs(of_last - whole)[0] < 1
    assert abs(of_first - whole)[0] > 1e-4
    assert float(jnp.exp(whole[0])) == pytest.approx(characters, rel=0.7)


def test_perplexity_is_the_exponential_of_the_mean_loss():
    assert PERPLEXITY.of(float(np.log(7.0))) == pytest.approx(7)
    assert not PERPLEXITY.higher_is_better


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", " has 0 characters; at least 1,300 are needed, 20 passages of 65."),
        (b"short " * 50, " has 300 characters; at least 1,300 are needed"),
        (b"a" * 2000, " has 1 different characters; 2 to 10,000 can be predicted."),
        (b"fine" * 400 + b"\xff", " is not UTF-8: byte 1600 can't be decoded."),
    ],
)
def test_unsuitable_texts_are_refused(tmp_path, content, message):
    path = tmp_path / "words.txt"
    path.write_bytes(content)
    assert message in usage_error(f"--text {path}", text, path)


def test_missing_files_and_directories_are_refused(tmp_path):
    usage_error(
        f"--text {tmp_path}/no.txt: there is no such file", text, tmp_path / "no.txt"
    )
    usage_error(f"--text {tmp_path} is a directory", text, tmp_path)


@pytest.mark.slow
def test_the_network_learns(file):
    """A hundred steps of SGD halve the perplexity of guessing."""
    problem, characters = text(file)
    params, _ = problem.init(random_key(0), problem.train)

    @jax.jit
    def step(params):
        def mean(params):
            losses, _, _ = problem.loss(
                params, (), problem.train, random_key(0), training=True
            )
            return losses.mean()

        loss, gradients = jax.value_and_grad(mean)(params)
        return jax.tree.map(lambda p, g: p - 0.3 * g, params, gradients), loss

    loss = jnp.inf
    for _ in range(60):
        params, loss = step(params)
    assert float(jnp.exp(loss)) < characters / 2
