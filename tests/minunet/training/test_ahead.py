"""Batches that are prepared on a thread: the same, in order, with their errors, and no thread is left."""

import re
import threading
import time
import weakref

import numpy as np
import pytest

import minunet
from minunet import Augmentation, UNet, kernels
from minunet.data.sampling import Example, PatchSampler
from minunet.training.ahead import AHEAD, Ahead

TINY = {"base_channels": 2, "depth": 1, "patch_size": 16, "verbose": 0, "random_state": 0, "max_epochs": 1, "batch_size": 2}


def sampler(augment=True):
    rng = np.random.default_rng(0)
    of = Example(rng.random((40, 40, 1), np.float32), rng.integers(0, 2, (40, 40), np.int32), None)
    return PatchSampler([of], 16, augment=augment, random_state=1)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("minunet-batches")]


def images():
    rng = np.random.default_rng(0)
    return rng.random((2, 24, 24)), rng.integers(0, 2, (2, 24, 24))


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


def test_the_batches_are_those_of_the_sampler_each_made_once_and_in_order(monkeypatch):
    made, batch = [], PatchSampler.batch

    def record(self, epoch, index, batch_size):
        made.append((epoch, index))
        return batch(self, epoch, index, batch_size)

    expected = [[sampler().batch(epoch, index, 2) for index in range(3)] for epoch in range(2)]
    monkeypatch.setattr(PatchSampler, "batch", record)
    ahead = Ahead(sampler(), 2, 3, 2)
    for epoch in range(2):
        for index in range(3):
            for found, plain in zip(ahead.batch(epoch, index), expected[epoch][index], strict=True):
                np.testing.assert_array_equal(found, plain)
    ahead.close()
    assert made == [(epoch, index) for epoch in range(2) for index in range(3)]


def test_so_many_are_prepared_and_no_more_while_a_step_runs():
    asked, enough = [], threading.Semaphore(0)

    class Watched:
        def batch(self, epoch, index, batch_size):
            asked.append((epoch, index))
            enough.release()
            return index

    ahead = Ahead(Watched(), 2, 10, 1)
    assert ahead.batch(0, 4) == 4
    for _ in range(1 + AHEAD):
        assert enough.acquire(timeout=30)
    time.sleep(0.05)
    assert asked == [(0, 4), (0, 5), (0, 6)]
    assert ahead.batch(0, 9) == 9 and ahead.batch(0, 8) == 8  # where it is gone on, or gone back to tell what went wrong
    ahead.close()


def test_an_error_comes_when_its_batch_is_due():
    class Failing:
        def batch(self, epoch, index, batch_size):
            if index == 1:
                raise RuntimeError("torn")
            return index

    ahead = Ahead(Failing(), 2, 3, 1)
    assert ahead.batch(0, 0) == 0
    with pytest.raises(RuntimeError, match="torn"):
        ahead.batch(0, 1)
    assert ahead.batch(0, 2) == 2
    ahead.close()


def test_it_computes_with_the_backend_of_whoever_asks_and_never_twice_at_once():
    inside, seen = threading.Lock(), []

    class Watched:
        def batch(self, epoch, index, batch_size):
            assert inside.acquire(blocking=False)
            seen.append((kernels.for_array(np.zeros(1)).__name__, threading.current_thread() is threading.main_thread()))
            time.sleep(0.002)
            inside.release()
            return index

    with minunet.use_backend("reference"):
        ahead = Ahead(Watched(), 2, 8, 1)
    assert [ahead.batch(0, index) for index in range(8)] == list(range(8))
    ahead.close()
    assert seen == [("minunet.kernels.reference", False)] * 8


def test_a_thread_that_nobody_closed_ends_with_its_owner():
    ahead = Ahead(sampler(), 2, 3, 1)
    ahead.batch(0, 0)
    gone = weakref.ref(ahead)
    (thread,) = threads()
    del ahead
    assert gone() is None
    thread.join(30)
    assert not thread.is_alive()


# ---- In a training ----


class Storm(BaseException):
    """What nothing in the library expects."""


@pytest.mark.parametrize("error", [KeyError("mine"), Storm(), MemoryError()])
def test_a_function_that_raises_leaves_the_model_as_it_was(error):
    x, y = images()
    unet = UNet(**TINY).fit(x, y)
    before, calls = unet.network_.flat.copy(), []

    def mine(image, mask, rng):
        calls.append(threading.current_thread().name)
        if len(calls) > 20:
            raise error
        return image, mask

    unet.set_params(augment=mine)
    with pytest.raises(type(error)) as raised:
        unet.fit(x, y)
    assert raised.value is error or raised.value.__cause__ is error
    np.testing.assert_array_equal(unet.network_.flat, before)
    assert threads() == [] and all(name.startswith("minunet-batches") for name in calls) and len(calls) <= 21 + AHEAD


def test_a_function_of_another_shape_is_told_and_the_model_is_what_it_was():
    x, y = images()
    unet = UNet(**TINY, augment=lambda image, mask, rng: (image[::2], mask[::2]))
    with pytest.raises(ValueError, match=r"augment, the function .*, returned an image of shape \(8, 16, 1\); it is to return"):
        unet.fit(x, y)
    assert not hasattr(unet, "network_")


def test_what_the_network_learns_is_augmented():
    """By value: of images all alike, brightness makes others, and a function of one's own the very same weights."""
    x, y = images()
    plain, flips, true, full, own = (
        UNet(**TINY, augment=how).fit(x, y).network_.flat
        for how in (False, "flips", True, Augmentation(), lambda image, mask, rng: (image, mask))
    )
    np.testing.assert_array_equal(true, full)
    np.testing.assert_array_equal(plain, own)
    assert len({flat.tobytes() for flat in (plain, flips, true)}) == 3


def test_an_augmentation_is_saved_and_a_function_is_by_what_it_calls_itself(tmp_path):
    x, y = images()
    for how in (True, False, "flips", Augmentation(rotation=3, flips=False)):
        UNet(**TINY, augment=how).fit(x, y).save(tmp_path / "model.safetensors")
        loaded = minunet.load(tmp_path / "model.safetensors")
        assert loaded.augment == how and type(loaded.augment) is type(how)

    def mine(image, mask, rng):
        return image, mask

    UNet(**TINY, augment=mine).fit(x, y).save(tmp_path / "model.safetensors")
    loaded = minunet.load(tmp_path / "model.safetensors")
    assert loaded.augment == repr(mine) and loaded.predict(x).shape == x.shape
    with pytest.raises(ValueError, match=rf"^augment is .*{re.escape('mine at 0x')}.*; it takes True, False, 'flips'"):
        loaded.fit(x, y)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    x, y = images()
    one, two = (UNet(**TINY, n_threads=n, augment=Augmentation(often=3)).fit(x, y).network_.flat for n in (1, 2))
    np.testing.assert_array_equal(one, two)
