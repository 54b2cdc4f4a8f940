"""The machine's own Chromium."""

from __future__ import annotations

import shutil

import pytest


def chromium() -> str:
    """Its path; .ci/run installs Debian's. A machine without one does not run the test that needs it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine: apt-get install chromium")
