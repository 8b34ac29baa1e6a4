"""The frame around every page."""

import pytest

pytestmark = pytest.mark.chromium


def test_overview(looks_right):
    looks_right("/")


def test_error_page(looks_right):
    looks_right("/nothing-here", expect=404)
