"""How a command sets JAX up: in a process of its own, for JAX can be set up once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, jax
from experiments.__main__ import configure

configure()
doubled = jax.jit(lambda x: jax.lax.map(lambda row: row @ row.T, x)).lower
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
doubled(jax.ShapeDtypeStruct((3, 5, 7), "float32")).compile()
print(json.dumps([jax.device_count(), jax.config.jax_compilation_cache_dir]))
"""


@pytest.mark.parametrize("chosen", [None, "mine"])
def test_compiled_programs_are_kept_in_the_users_cache(tmp_path, chosen):
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    if chosen is not None:
        env["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / chosen)
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=env,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    devices, directory = json.loads(ran.stdout.splitlines()[-1])
    assert devices == 2
    expected = tmp_path / (chosen or "optax_momentum/compiled")
    assert Path(directory) == expected
    assert list(expected.glob("*-cache"))
