"""The small run that most tests of this folder change in something."""

import pytest

from tests.support.small_run import small_config


@pytest.fixture
def config(folder):
    """Three epochs on the images of a module's folder, which are prepared once."""
    return small_config(folder, folder.with_name(f"{folder.name}_tfds"))
