"""What exceeds the memory is told before the first step, with what would fit; and after a MemoryError all works on."""

from __future__ import annotations

import copy
import importlib
import re
import tracemalloc
import warnings
import weakref
from dataclasses import replace
from types import FunctionType
from unittest import mock

import numpy as np
import pytest
from cuda_on_cpu.door import emulated
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

import minunet
from minunet import Network, UNet, fitting, losses, optim
from minunet.cli import main
from minunet.data.sampling import PatchSampler
from minunet.network import outlined
from minunet.room import Limit
from minunet.sizes import fitting_patch
from minunet.training import budget, loop
from minunet.training.budget import Training, release, require_weights

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "verbose": 0, "random_state": 0, "device": "cpu"}
MB = 2**20
SLACK, AMPLE = 1.1, 1.2  # a tenth more may be taken than is told; a sixth of what there is stays free after an advice


def images(seed=0, n=2):
    x = np.random.default_rng(seed).random((n, 32, 32))
    return x, (x > 0.5).astype(int)


@pytest.fixture
def limited(monkeypatch):
    """Let there be so much room and so much that is free."""

    def limit(room, free=None, whose="the container (cgroup)"):
        found = Limit(whose, 2 * room, room, room if free is None else free)
        for name in ("tightest", "scarcest"):
            monkeypatch.setattr(budget, name, lambda place="cpu": found)

    return limit


def training(network=None, batch_size=4, patch_size=64, **others):
    network = network or Network(1, 2, 8, 2)
    return Training(network, batch_size, patch_size, losses.CrossEntropy(), optim.Adam, **others)


# ---- What would fit ----


@pytest.fixture
def simple(monkeypatch):
    """Let a training take a byte for each pixel of each channel of the top level."""
    monkeypatch.setattr(budget, "training_bytes", lambda network, n, h, w, loss, **how: n * h * w * network.base_channels)


@pytest.mark.parametrize("settings", [{}, {"padding": "valid"}])
@given(share=st.floats(0.0001, 1), batch_size=st.integers(1, 9), wanted=st.integers(1, 200))
@settings_of(max_examples=20)
def test_a_change_is_the_largest_that_fits(limited, simple, settings, share, batch_size, wanted):
    network = Network(1, 2, 8, 2, **settings)
    patch_size = fitting_patch(network, wanted, [(300, 300)])
    asked = training(network, batch_size, patch_size)
    room = share * asked.takes
    limited(room)
    more = room * (1 - 1e-9)  # than fits
    for change in asked.changes():
        assert change.takes == asked._with(change.parameters).takes and AMPLE * change.takes <= room * (1 + 1e-9)
        name, value = list(change.parameters.items())[-1]
        larger = asked._with(change.parameters | {name: value + (4 if name == "patch_size" else 1)})
        assert getattr(larger, name, larger.network.base_channels) > getattr(asked, name, 8) or AMPLE * larger.takes > more
        size = change.parameters.get("patch_size", patch_size)
        assert fitting_patch(network, size, [(300, 300)]) == size <= patch_size
    if not asked.changes():
        smallest = asked._with({"batch_size": 1, "patch_size": network.fitting_output(1), "base_channels": 1})
        assert AMPLE * smallest.takes > more or (batch_size, patch_size) == (1, network.fitting_output(1))


@pytest.mark.parametrize(
    ("share", "changes"),
    [
        (0.61, [{"batch_size": 2}, {"patch_size": 44}]),
        (0.1, [{"patch_size": 16}]),
        (0.002, [{"batch_size": 1, "patch_size": 4}]),
        (0.0006, [{"batch_size": 1, "patch_size": 4, "base_channels": 4}]),
        (0.00001, []),
    ],
)
def test_one_change_is_told_before_two_and_fewer_channels_last(limited, simple, share, changes):
    limited(share * training().takes)
    assert [change.parameters for change in training().changes()] == changes
    single = training(Network(1, 2, 40, 2), 1, 4)
    limited(0.61 * single.takes)
    assert [change.parameters for change in single.changes()] == [{"base_channels": 20}]


def test_what_is_advised_fits_by_the_real_estimate(limited):
    asked = training(Network(1, 2, 8, 1, block="residual"), 4, 32)
    limited(0.95 * asked.takes)
    assert len(asked.changes()) == 2
    assert all(AMPLE * asked._with(change.parameters).takes <= 0.95 * asked.takes for change in asked.changes())


def test_what_is_only_not_free_is_not_advised_to_be_a_little_less(limited, simple):
    limited(10**9, 10)
    assert training().doubt.endswith("; no batch_size, patch_size or base_channels is small enough for that")
    limited(0.91 * training().takes, 10)
    assert [change.parameters for change in training().changes()] == [{"batch_size": 3}, {"patch_size": 52}]


def test_few_estimates_are_made(limited, simple, monkeypatch):
    calls, counted = [], budget.training_bytes
    monkeypatch.setattr(budget, "training_bytes", lambda *args, **how: calls.append(args) or counted(*args, **how))
    limited(10)
    assert training(batch_size=10**9, patch_size=4096).changes() == []
    assert len(calls) < 120


def test_blocks_of_the_users_keep_their_channels(limited):
    """Of others nobody has seen what they promise."""

    def own(c, k, **settings):
        return minunet.layers.Sequential(minunet.layers.Conv2d(c, k, 3, **settings), minunet.layers.ReLU())

    limited(1000)
    assert training(Network(1, 2, 8, 1, block=own), 1, 2).changes() == []


# ---- What is told ----


def test_what_exceeds_what_can_be_had_is_refused_and_what_exceeds_what_is_free_is_doubted(limited):
    takes = training().takes
    limited(takes - 1)
    with pytest.raises(ValueError, match=r"training on 4 patches of 64 x 64 a step takes about \d+ MB, and the con"):
        training().require()
    for free, doubts in ((takes, True), (int(SLACK * takes) + 1, False)):
        limited(4 * takes, free)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            training().require()
        assert bool(told) is doubts
    assert training().doubt == "" and training().refusal == ""


def test_the_words(limited, simple):
    asked = Training(Network(1, 2, 64, 4), 4, 128, losses.CrossEntropy(), optim.Adam)
    limited(3 * MB, 2.5 * MB, "`ulimit -v`")
    assert asked.refusal == (
        "training on 4 patches of 128 x 128 a step takes about 4 MB, and `ulimit -v` leaves 3 MB of 6 MB: "
        "batch_size=2 (--batch-size 2) would take 2 MB, or patch_size=80 (--patch-size 80) would take 2 MB"
    )
    limited(2**33, 0.6 * MB, "this machine")
    assert replace(asked, batch_size=1).doubt == (
        "training on 1 patch of 128 x 128 a step takes about 1 MB, and this machine has 1 MB free: it may be slow, or fail; "
        "patch_size=80 (--patch-size 80) would take 0 MB"
    )
    limited(0.02 * MB)
    both = ": batch_size=1 and patch_size=16 (--batch-size 1 --patch-size 16) would take 0 MB"
    assert replace(asked, patch_size=32).refusal.endswith(both)
    limited(10)
    assert replace(asked).refusal.endswith(": no batch_size, patch_size or base_channels is small enough for that")


def test_fit_refuses_before_anything_is_changed_and_warns_at_the_callers_line(limited, monkeypatch):
    x, y = images()
    unet = UNet(**SMALL, max_epochs=1).fit(x, y)
    before = unet.network_.flat.tobytes()
    limited(2**19)
    monkeypatch.setattr("minunet.training.loop.step", mock.Mock(wraps=loop.step))
    with pytest.raises(ValueError, match=r"would take \d MB"):
        unet.set_params(batch_size=8).fit(*images(1))
    assert not loop.step.called and unet.network_.flat.tobytes() == before
    limited(2**30, 2**14)
    with pytest.warns(UserWarning, match="it may be slow, or fail") as told:
        unet.fit(x, y)
    assert told[0].filename == __file__


def test_what_is_held_out_counts():
    """Beside what the pool keeps: all at once, and of the largest its probabilities and weights, too."""
    usual, few, many, large = (training(held_out=sizes).takes for sizes in ([], [(9, 9)] * 3, [(9, 9)] * 60000, [(999, 999)]))
    assert few == usual  # the step's peak is higher
    assert many - (usual + 60000 * 9 * 9 * 12) < 0.02 * usual
    assert large > 999 * 999 * (12 + 2 * 4 + 8)
    assert training(besides=12345).takes == usual + 12345
    assert training(averages=True).takes > usual


def test_a_gpus_memory_and_what_lies_beside_it_are_two_things(limited):
    with emulated(strict=True):
        network = Network(1, 2, 8, 1).to("gpu")
        assert training(network, held_out=[(32, 32)] * 5000).takes == training(network, held_out=[(32, 32)]).takes


# ---- Weights ----


@pytest.mark.parametrize("use", [lambda unet: unet.fit(*images()), lambda unet: unet.summary((64, 64))], ids=["fit", "summary"])
def test_weights_that_nothing_holds_are_refused_before_they_take_anything(use):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"the weights alone take \d+\.\d\d GB, .* at base_channels=40000 and depth=4"):
            use(UNet(base_channels=40000, verbose=0))
        assert tracemalloc.get_traced_memory()[1] < 30 * MB
    finally:
        tracemalloc.stop()


def test_of_weights_too_is_told_what_would_fit(limited):
    def n_bytes(**changed):
        return outlined(config | changed).flat.nbytes

    config = Network(1, 2, 4, 3).config | {"base_channels": 64}
    limited(1.4 * n_bytes())
    with pytest.raises(ValueError, match="the weights alone take 29 MB") as refused:
        require_weights(config)
    ((channels, depth),) = re.findall(r"base_channels=(\d+) \(--base-channels \1\) .*, or depth=(\d)", str(refused.value))
    assert 1.5 * n_bytes(base_channels=int(channels)) <= 1.4 * n_bytes() < 1.5 * n_bytes(base_channels=int(channels) + 1)
    assert int(depth) == 2
    limited(1.51 * n_bytes())
    require_weights(config)


@pytest.mark.parametrize("use", ["fit", "find_learning_rate", "summary", "train"])
def test_the_fewest_weights_that_there_can_be_are_asked_about_before_any_image_is_read(monkeypatch, tmp_path, use):
    """Of one channel and two classes: more of them are known when the images are."""

    class AskedError(Exception):
        pass

    def asked(config):
        raise AskedError(config["in_channels"], config["out_channels"], config["base_channels"])

    monkeypatch.setattr("minunet.unet.require_weights", asked)
    unet = UNet(base_channels=3, context=1, verbose=0)
    uses = {
        "fit": lambda: unet.fit(None, None), "find_learning_rate": lambda: unet.find_learning_rate(None, None),
        "summary": lambda: unet.summary((8, 8)),
        "train": lambda: main(["train", "no", "no", "-o", str(tmp_path / "m"), "--base-channels", "3", "--context", "1"]),
    }  # fmt: skip
    with pytest.raises(AskedError) as told:
        uses[use]()
    assert told.value.args == (3, 2, 3)


# ---- When memory runs out all the same ----


def full(n, run, error, kept):
    """Return a function of minunet's that takes memory in the n-th call, and finds no more; before, it does as it should."""
    names = {"run": run, "error": error, "kept": kept, "calls": iter(range(n)), "np": np, "ref": weakref.ref}
    return FunctionType(_full.__code__, names | {"__name__": "minunet"})


def _full(*args, **options):
    next(calls)  # noqa: F821
    if calls.__length_hint__():  # noqa: F821
        return run(*args, **options)  # noqa: F821
    taken = np.ones(2**17)
    kept.append(ref(taken))  # noqa: F821
    raise error  # noqa: F821


class OutOfMemoryError(MemoryError):
    """What CuPy raises."""

    def __init__(self, size, total):
        super().__init__(f"Out of memory allocating {size} bytes (allocated so far: {total} bytes).")


@pytest.fixture(scope="module")
def fitted():
    """Return a model, and what it becomes when it learns other images in batches of 1."""
    return UNet(**SMALL, max_epochs=1).fit(*images()), UNet(**SMALL | {"batch_size": 1}, max_epochs=1).fit(*images(1))


STEP = importlib.import_module("minunet.training.step")


@pytest.mark.parametrize(
    ("owner", "name", "n", "error"),
    [
        (loop, "step", 3, MemoryError()),
        (STEP, "passes", 3, OutOfMemoryError(2**30, 2**20)),
        (PatchSampler, "batch", 2, MemoryError("Unable to allocate 1.00 GiB")),
        (optim.Adam, "_rule", 3, MemoryError()),
        (fitting, "PatchSampler", 1, MemoryError()),
        (fitting, "validate", 1, OutOfMemoryError(2**30, 2**20)),
    ],
)
def test_after_a_memory_error_all_is_as_before_and_a_smaller_batch_learns(monkeypatch, fitted, owner, name, n, error):
    (x, _), kept, unet = images(), [], copy.deepcopy(fitted[0])
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full(n, getattr(owner, name), error, kept))
        with pytest.raises(MemoryError, match=r"^memory ran out.*: training on 4 patches of 16 x 16 .* batch_size=\d ") as failed:
            unet.set_params(batch_size=4).fit(*images(1))
    assert failed.value.__cause__ is error and str(error) in str(failed.value)
    assert [reference() for reference in kept] == [None]  # although the error is still here
    assert unet.network_.flat.tobytes() == fitted[0].network_.flat.tobytes()
    np.testing.assert_array_equal(unet.predict_proba(x), fitted[0].predict_proba(x))
    unet.set_params(batch_size=1).fit(*images(1))
    assert unet.network_.flat.tobytes() == fitted[1].network_.flat.tobytes()


def test_the_images_that_an_error_held_go_too(monkeypatch):
    """A notebook keeps the last error, and would keep them until the next."""
    made = []

    class Sampler(PatchSampler):
        def __init__(self, examples, *args, **options):
            made.extend(weakref.ref(example.image) for example in examples)
            super().__init__(examples, *args, **options)

    monkeypatch.setattr("minunet.training.loop.step", mock.Mock(side_effect=MemoryError))
    monkeypatch.setattr("minunet.fitting.PatchSampler", Sampler)
    with pytest.raises(MemoryError) as failed:
        UNet(**SMALL).fit(*images())
    assert failed.value is not None and made and not any(image() for image in made)


def test_what_an_error_held_that_was_met_on_the_way_goes_too():
    kept, found = [], None
    try:
        try:
            full(1, None, MemoryError(), kept)()
        except MemoryError:
            raise MemoryError from None
    except MemoryError as error:
        found = error
    assert kept[0]() is not None
    release(found)
    assert kept[0]() is None


def test_a_gpu_gives_back_what_it_has_kept_for_later():
    with emulated(strict=True) as gpu:
        unet = UNet(**SMALL | {"device": "gpu"}, max_epochs=1)
        with mock.patch("minunet.training.loop.step", side_effect=OutOfMemoryError(1, 2)), pytest.raises(MemoryError):
            unet.fit(*images())
        assert gpu.given_back == 1
        network = Network(1, 2, 2, 1).to("gpu")
        released = weakref.ref(network)
        del network
        assert released() is None


def test_what_runs_out_where_nothing_can_be_advised_is_told_as_it_was(monkeypatch):
    monkeypatch.setattr("minunet.fitting.prepare", mock.Mock(side_effect=MemoryError("Unable to allocate 3.4 GiB")))
    with pytest.raises(MemoryError, match=r"^Unable to allocate 3\.4 GiB$"):
        UNet(**SMALL).fit(*images())
