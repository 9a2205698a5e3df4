"""Strict mode for every test: two CPU devices, no silent promotion or broadcasting."""

import atexit
import os
import tempfile

# Set before JAX starts: tests never depend on an accelerator that happens to be there.
os.environ["JAX_PLATFORMS"] = "cpu"

# Nor does one test compile what another has compiled, in whatever process.
if "PYTEST_XDIST_WORKER" not in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="compiled-")
    atexit.register(compiled.cleanup)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import jax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Not a module with doctests; and docs/ has one of that name too.
collect_ignore = ["conftest.py"]


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def own_cache():
    """JAX keeps compiled programs nowhere, until the test says where."""
    name = "jax_compilation_cache_dir"
    kept = jax.config.values[name]
    jax.config.update(name, None)
    yield
    jax.config.update(name, kept)


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit])
def rows(request) -> NamedSharding:
    """The first axis of an array is spread over two devices; on both kinds of mesh."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(request.param,))
    return NamedSharding(mesh, PartitionSpec("x"))


@pytest.fixture(scope="module")
def small_network():
    """One dense layer in place of the CNN, for tests of all that is around it.

    Compiling the CNN takes longer than the rest of such a test.
    """
    from support import small_network as small

    from experiments.networks import cnn

    jax.clear_caches()  # the jitted functions may have been compiled for the CNN
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnn, "init", small.init)
        patch.setattr(cnn, "apply", small.apply)
        yield
    jax.clear_caches()


@pytest.fixture
def idle_directory(tmp_path, monkeypatch):
    """The current directory, empty at first; in it nothing can train."""

    def compile(lowered):
        pytest.fail("it began to compute")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax.stages.Lowered, "compile", compile)
    return tmp_path


@pytest.fixture
def no_rest(monkeypatch):
    """Programs of a benchmark follow one another at once."""
    monkeypatch.setattr("experiments.bench.table.REST", 0.0)
