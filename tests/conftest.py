"""Every test runs on two CPU devices, without implicit promotion or broadcasting."""

import atexit
import os
import tempfile

# Set before JAX starts, so that no test depends on an accelerator of this machine.
os.environ["JAX_PLATFORMS"] = "cpu"

# All processes share one cache of compiled programs.
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

# It has no doctests, and its name would clash with that of docs/conftest.py.
collect_ignore = ["conftest.py"]


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def own_cache():
    """Turns off JAX's cache of compiled programs, until the test chooses one."""
    name = "jax_compilation_cache_dir"
    previous = jax.config.values[name]
    jax.config.update(name, None)
    yield
    jax.config.update(name, previous)


@pytest.fixture(params=[AxisType.Auto, AxisType.Explicit])
def rows(request) -> NamedSharding:
    """Shards the first axis over two devices, on both kinds of mesh."""
    mesh = jax.make_mesh((2,), ("x",), axis_types=(request.param,))
    return NamedSharding(mesh, PartitionSpec("x"))


@pytest.fixture(scope="module")
def small_network():
    """Replaces the CNN with one dense layer, which compiles much faster."""
    from support import small_network as small

    from experiments.networks import cnn

    jax.clear_caches()  # jitted functions may have been compiled for the CNN
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnn, "init", small.init)
        patch.setattr(cnn, "apply", small.apply)
        yield
    jax.clear_caches()


@pytest.fixture
def blank_figures(monkeypatch):
    """Draws nothing on pages, for tests of other things: drawing takes seconds."""
    from support import blank_figures

    blank_figures.install(monkeypatch.setattr)


@pytest.fixture
def idle_directory(tmp_path, monkeypatch):
    """An empty current directory; the test fails if anything is compiled."""

    def compile(lowered):
        pytest.fail("a program was compiled")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jax.stages.Lowered, "compile", compile)
    return tmp_path


@pytest.fixture
def no_rest(monkeypatch):
    """Removes the pauses between a benchmark's programs."""
    monkeypatch.setattr("experiments.bench.table.REST", 0.0)
