"""What all tests share: Hypothesis profiles, the backends, the real data where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from proof import counting

from minunet import kernels

# Compilation breaks any deadline. The `backend` fixture is the same for all examples of a test, which is what its
# health check asks about.
_common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    "derandomize": bool(os.environ.get("CI")),  # a gate must not depend on luck
}
settings.register_profile("default", max_examples=60, **_common)
settings.register_profile("nightly", max_examples=600, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser):
    parser.addoption("--proof-counts", action="store_true", help="print how many cases tests/proof executed; fail if too few")


def pytest_sessionfinish(session):
    if session.config.getoption("--proof-counts") and counting.missing() and not session.exitstatus:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    """Print what the proof counted: of each op, and of each geometry that has a name."""
    if config.getoption("--proof-counts"):
        terminalreporter.section("proof")
        for line in [*counting.table(), *(f"TOO FEW  {short}" for short in counting.missing())]:
            terminalreporter.write_line(line)


@pytest.fixture(params=kernels.available())
def backend(request):
    """Run the test on each backend that works here; the fixture is its module."""
    with kernels.use_backend(request.param):
        yield kernels.for_array(None)


@pytest.fixture
def isbi() -> Path:
    """Return the folder of the ISBI 2012 slices: MINUNET_ISBI, or shared/data/isbi2012 beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "isbi2012"
    folder = Path(os.environ.get("MINUNET_ISBI", beside))
    if not folder.is_dir():
        pytest.skip("the ISBI 2012 slices are not here: set MINUNET_ISBI to their folder")
    return folder
