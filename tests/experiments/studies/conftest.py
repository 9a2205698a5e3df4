"""Finished studies for the modules that name a `STUDY` and its `SMALL` options."""

from dataclasses import replace

import pytest
from support import small_images
from support.small_studies import printed

collect_ignore = ["conftest.py"]  # as in the directory above


@pytest.fixture(scope="module")
def options(request, tmp_path_factory):
    """A study of a small data set with a hostile name; 38 images are trained on."""
    path = tmp_path_factory.mktemp("small") / "<b>$_{$.npz"
    small_images.write(path, 60, size=(24, 24), seed=4)
    return replace(request.module.SMALL, dataset=str(path))


@pytest.fixture(scope="module")
def finished(request, small_network, options, tmp_path_factory):
    """The directory of a finished study, which no test may change."""
    output = tmp_path_factory.mktemp("finished") / "study"
    printed(request.module.STUDY, options, output)
    return output
