"""Runs Optax's own tests with the transformations of this library in place of Optax's.

    uv run --with absl-py python tests/library/parity/campaign_optax.py CHECKOUT

CHECKOUT is a directory that contains Optax's package `optax` with its tests, such as a
checkout of its repository at the installed version, or the installed site-packages.
Prints a table for docs/conformance.md, and fails if a test fails that `EXPECTED` does not
name, or if one that it names passes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any
