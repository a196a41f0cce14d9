"""What all tests share: Hypothesis profiles, the backends, the real data where it is."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from pathlib import Path

import pytest
from cuda_on_cpu.door import compiler
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
settings.register_profile("default", max_examples=40, **_common)
settings.register_profile("nightly", max_examples=600, **_common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process that a test starts would compile all sources anew
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: what is to be interrupted would not end
    signal.signal(signal.SIGINT, signal.default_int_handler)
gc.disable()  # until all tests are there: nothing of them is garbage


def pytest_addoption(parser):
    parser.addoption("--proof-counts", action="store_true", help="print how many cases tests/proof executed; fail if too few")


def pytest_collection_finish():
    gc.freeze()  # seven thousand tests that no search for garbage has to go through
    gc.enable()


def pytest_collection_modifyitems(items):
    """Mark what runs on a real GPU, by its row in the proof; leave what is rare to the gate, and to the night."""
    night = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
    for item in items:
        if not (night or os.environ.get("CI")) and item.get_closest_marker("rare"):
            item.add_marker(pytest.mark.skip(reason="rare: it runs where CI is set, or HYPOTHESIS_PROFILE=nightly"))
        if not night and item.get_closest_marker("nightly"):
            item.add_marker(pytest.mark.skip(reason="nightly: it runs where HYPOTHESIS_PROFILE=nightly"))
        params = getattr(item, "callspec", None)
        if params and any(getattr(value, "backend", None) == "cuda" for value in params.params.values()):
            item.add_marker("gpu")


# What proves the CUDA sources without a GPU: a gate must not open because that was skipped where compilers are.
WITHOUT_A_GPU = ("tests/cuda_on_cpu/", "tests/kernels/gpu/")
MAY_SKIP = "test_the_table_is_of_this_nvcc"  # nvcc counts registers as its version likes


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = [report.nodeid for report in reporter.stats.get("skipped", ())] if reporter else []
    left_out = [name for name in skipped if name.startswith(WITHOUT_A_GPU) and MAY_SKIP not in name]
    if os.environ.get("CI") and left_out and shutil.which("nvcc") and compiler():
        reporter.write_line(f"\nskipped, although nvcc and a C++ compiler are here: {', '.join(left_out)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
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
