"""A text as a problem: a small transformer predicts each of its characters."""

import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jaxtyping import Float32, Int32

from experiments.data.memory import check_fits
from experiments.problems.flax_modules import from_nnx
from experiments.problems.problem import Problem
from experiments.records.config import UsageError
from experiments.records.metric import Metric

CONTEXT = 64  # characters that a prediction may depend on
_WIDTH, _HEADS, _BLOCKS = 64, 4, 2
_SHARES = (0.8, 0.9)  # where training and validation end; the rest is for the test
_FEWEST_PASSAGES = 20
_MOST_CHARACTERS = 10_000  # different ones
# The perplexity e^loss is the number of equally likely characters that would be as hard
# to predict.
PERPLEXITY = Metric("loss", "perplexity", False, np.exp)


class _Block(nnx.Module):
    """Attention to earlier characters, then a layer of each character alone."""

    def __init__(self, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(_WIDTH, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(_HEADS, _WIDTH, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(_WIDTH, rngs=rngs)
        self.wide = nnx.Linear(_WIDTH, 4 * _WIDTH, rngs=rngs)
        self.narrow = nnx.Linear(4 * _WIDTH, _WIDTH, rngs=rngs)

    def __call__(self, x: Array, mask: Array) -> Array:
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.narrow(nnx.gelu(self.wide(self.norm2(x))))


class _Transformer(nnx.Module):
    """Embeds characters and places, applies two blocks, and returns logits."""

    def __init__(self, characters: int, rngs: nnx.Rngs):
        self.embedding = nnx.Embed(characters, _WIDTH, rngs=rngs)
        self.places = nnx.Embed(CONTEXT, _WIDTH, rngs=rngs)
        self.blocks = nnx.List([_Block(rngs) for _ in range(_BLOCKS)])
        self.norm = nnx.LayerNorm(_WIDTH, rngs=rngs)
        self.output = nnx.Linear(_WIDTH, characters, rngs=rngs)

    def __call__(
        self, text: Int32[Array, "batch context"]
    ) -> Float32[Array, "batch context characters"]:
        x = self.embedding(text) + self.places(jnp.arange(text.shape[1]))[None]
        mask = nnx.make_causal_mask(text)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x))


def text(path: Path) -> tuple[Problem, int]:
    """The problem of predicting the characters of a text, and how many differ.

    The text is cut into passages of 65 characters: each of the last 64 is predicted
    from those before it in its passage. The first 80% train, the next 10% validate, the
    last 10% test.

    Raises:
      UsageError: there is no such file, it is not UTF-8, or it is too short.
    """
    characters, codes = _read(f"--text {path}", path.expanduser())
    passages = codes[: len(codes) // (CONTEXT + 1) * (CONTEXT + 1)]
    passages = passages.reshape(-1, CONTEXT + 1)
    ends = [math.floor(len(passages) * share) for share in _SHARES]
    train, validation, test = ({"text": part} for part in np.split(passages, ends))

    def losses(module, batch):
        logits = module(batch["text"][:, :-1])
        following = batch["text"][:, 1:]
        each = optax.softmax_cross_entropy_with_integer_labels(logits, following)
        return each.mean(axis=1), {}

    def make(rngs: nnx.Rngs) -> _Transformer:
        return _Transformer(characters, rngs)

    init, loss = from_nnx(make, losses)
    splits = train, validation, test
    return Problem(path.name, *splits, init, loss, metric=PERPLEXITY), characters


def _read(where: str, path: Path) -> tuple[int, Int32[np.ndarray, " characters"]]:
    """How many different characters there are, and the number of each in the text."""
    try:
        check_fits(where, 8 * path.stat().st_size, "Give a part of it.")
        content = path.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"{where}: there is no such file; correct the path.") from None
    except IsADirectoryError:
        raise UsageError(f"{where} is a directory; name a text file.") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where} is not UTF-8: byte {error.start} can't be decoded. Convert it."
        ) from None
    except OSError as error:
        raise UsageError(f"{where} can't be read: {error.strerror}.") from None
    fewest = _FEWEST_PASSAGES * (CONTEXT + 1)
    if len(content) < fewest:
        raise UsageError(
            f"{where} has {len(content):,} characters; at least {fewest:,} are needed, "
            f"{_FEWEST_PASSAGES} passages of {CONTEXT + 1}. Give a longer text."
        )
    points = np.frombuffer(content.encode("utf-32-le"), np.uint32)
    found, codes = np.unique(points, return_inverse=True)
    if not 2 <= len(found) <= _MOST_CHARACTERS:
        raise UsageError(
            f"{where} has {len(found):,} different characters; 2 to "
            f"{_MOST_CHARACTERS:,} can be predicted. Is it a text?"
        )
    return len(found), codes.astype(np.int32)
