"""Real limits, on processes of their own: the message comes before the failure, and what it advises is done."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from faults.trial import forked

from minunet import UNet
from minunet.kernels import groups
from minunet.training import loop
from minunet.training.budget import Training

MB = 2**20
SETTINGS = {"base_channels": 4, "depth": 1, "max_epochs": 1, "verbose": 0, "random_state": 0, "device": "cpu", "n_threads": 1}
MANY = 100  # patches of 128 x 128: 300 MB

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


class EnoughError(Exception):
    """Raised after a few steps."""


def limited(limit, *, runs_out=False):
    """Set a limit, be refused, fail if that is to be tried, and follow the advice. Tell what was told."""
    x = np.random.default_rng(0).random((2, 128, 128))
    y = (x > 0.5).astype(int)
    unet = UNet(**SETTINGS, patch_size=16, batch_size=1).fit(x, y)
    before, predicted = unet.network_.flat.tobytes(), unet.predict(x)
    limit()
    step, loop.step = loop.step, None
    with pytest.raises(ValueError, match="patches of 128 x 128 a step takes about") as refused:
        unet.set_params(batch_size=MANY, patch_size=128).fit(x, y)
    loop.step, advice = step, str(refused.value)
    if runs_out:
        require, Training.require = Training.require, lambda self: None
        with pytest.raises(MemoryError, match=r"^memory ran out.*: training on .* batch_size=\d+ ") as failed:
            unet.fit(x, y)
        Training.require = require
        advice = str(failed.value)  # and the error is kept, as a notebook would
    assert unet.network_.flat.tobytes() == before and np.array_equal(unet.predict(x), predicted)
    steps = []

    def few(*args, **options):
        steps.append(step(*args, **options))
        if len(steps) == 3:
            raise EnoughError
        return steps[-1]

    loop.step = few
    n = int(re.search(r"batch_size=(\d+)", advice)[1])
    with pytest.raises(EnoughError):
        unet.set_params(batch_size=n).fit(x, y)
    os.write(1, f"{refused.value} done".encode())  # and no print: who collects what tests print has it


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="how much is mapped is not known here")
def test_under_a_shells_limit_it_is_refused_and_what_is_advised_is_done():
    """And where memory runs out all the same it is an error, after which all works on."""

    def limit():
        import resource

        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (mapped + 100 * MB,) * 2)

    outcome = forked(lambda: limited(limit, runs_out=True))
    assert outcome.status == 0, outcome.told
    assert re.search(r"^training on 100 .* and `ulimit -v` leaves \d\d\d? MB of .* batch_size=\d\d .* done$", outcome.out.strip())


@contextlib.contextmanager
def group(limit):
    """Make a control group of so many bytes inside this process's own; skip the test where that is not allowed."""
    try:
        made = next(_made(limit), None)
    except (OSError, ValueError) as error:
        pytest.skip(f"no control group may be made here: {error}")
    if made is None:
        pytest.skip("no control group limits memory here")
    try:
        yield made
    finally:
        for _ in range(100):  # until the system has taken note that nobody is in it any more
            with contextlib.suppress(OSError):
                made.rmdir()
                break
            time.sleep(0.02)


def _made(limit):
    """Yield what could be made, of either version."""
    for own in groups.folders(Path("/"), "memory"):
        made = own / f"minunet-{os.getpid()}"
        made.mkdir()
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (made / name).exists():
                (made / name).write_text(str(limit))
                yield made
                return
        made.rmdir()


CONFINED = """
import os, sys, test_limits
test_limits.limited(lambda: open(f"{sys.argv[1]}/cgroup.procs", "w").write(str(os.getpid())))
"""


@pytest.mark.rare
def test_in_a_real_control_group_it_is_refused_and_what_is_advised_is_done():
    """By a process that the system would kill; it begins anew, as a fork's copies of what its parent has would count."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with group(150 * MB) as made:
        words = [sys.executable, "-c", CONFINED, str(made)]
        done = subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"and the container \(cgroup\) leaves \d+ MB of 150 MB: batch_size=\d\d .* done$", done.stdout.strip())
