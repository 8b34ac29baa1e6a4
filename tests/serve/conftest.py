"""One world per module: routes are asked many times, and every request uses its own ids."""

import logging

import pytest
from serve_world import Objects, World

# The client of the tests tells every address it asks; what the product says is looked at without that.
logging.getLogger("httpx").setLevel(logging.WARNING)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("home"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def objects(world):
    return Objects(world)
