"""Images on disk: read in slices, to the bits that they have in memory, and told by name where they cannot be read."""

from __future__ import annotations

import shutil
import tracemalloc
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from minunet import UNet
from minunet.data import sliced
from minunet.data.fingerprint import fingerprint
from minunet.data.inputs import read_images
from minunet.data.mirror import mirror, mirrored
from minunet.data.normalize import Normalizer, View, trained_blank
from minunet.data.prepare import prepare
from minunet.data.rare import places_of_rare
from minunet.data.sampling import PatchSampler
from minunet.data.sliced import Cut, OnDisk, bands, cut, lies_on_disk, pixels_at

TINY = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0, "device": "cpu"}
KINDS = ["memmap", "zarr", "h5py"]
NOTHING_MORE = {
    "sample_weight": None, "validation_data": None, "classes": None, "ignore_index": None, "normalize": "image",
    "class_weight": None, "validation_fraction": 0.1, "random_state": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch):
    """Read images in slices however small they are, a few rows at a time."""
    monkeypatch.setattr(sliced, "LARGE", 0)
    monkeypatch.setattr(sliced, "BAND", 1500)


def on_disk(array, kind, folder, name="x"):
    """Return an array as one that lies in a file, in small pieces where it has such."""
    chunks = tuple(min(side, 17) for side in array.shape)
    if kind == "h5py":
        return h5py.File(folder / f"{name}.h5", "w").create_dataset("x", data=array, chunks=chunks)
    if kind == "zarr":
        made = zarr.create_array(str(folder / f"{name}.zarr"), shape=array.shape, dtype=array.dtype, chunks=chunks)
        made[:] = array
        return made
    written = np.memmap(folder / name, array.dtype, "w+", shape=array.shape)
    written[:] = array
    written.flush()
    return np.memmap(folder / name, array.dtype, "r", shape=array.shape)


def pictures(n=3, h=24, w=40, dtype="uint8", channels=()):
    rng = np.random.default_rng(0)
    y = (rng.random((n, h // 4, w // 4)) < 0.4).repeat(4, axis=1).repeat(4, axis=2).astype(np.uint8)
    x = (60 * y.reshape(*y.shape, *(1 for _ in channels)) + 50 + 20 * rng.random((n, h, w, *channels))).astype(dtype)
    return x, 255 * y


# ---- What is read ----


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_slice_is_that_of_the_array(tmp_path, kind, channels):
    x, _ = pictures(channels=channels)
    source = on_disk(x, kind, tmp_path)
    assert lies_on_disk(source) and not lies_on_disk(x)
    as_array = x if channels else x[..., None]
    for i in range(3):
        image = OnDisk(source, i, has_channels=bool(channels), name="x")
        assert (image.shape, image.dtype, image.size, image.ndim) == (as_array[i].shape, x.dtype, as_array[i].size, 3)
        for rows, cols in [(slice(3, 9), slice(0, 40)), (slice(None), slice(38, None)), (slice(20, 99), slice(5, 5))]:
            np.testing.assert_array_equal(image[rows, cols], as_array[i][rows, cols])


@given(
    rows=st.tuples(st.integers(0, 23), st.integers(1, 24)), cols=st.tuples(st.integers(0, 39), st.integers(1, 40)),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_a_cut_of_a_cut_is_that_of_the_array(rows, cols, seed):
    array = np.arange(24 * 40).reshape(24, 40, 1)
    image = OnDisk(array, None, has_channels=True, name="x")
    rng = np.random.default_rng(seed)
    first, second = (slice(a, a + n) for a, n in (rows, cols))
    lazily, directly = cut(image, first, second), array[first, second]
    assert isinstance(lazily, Cut) and lazily.shape == directly.shape
    h, w, _ = directly.shape
    within = slice(int(rng.integers(h)), None), slice(0, int(rng.integers(1, w + 1)))
    np.testing.assert_array_equal(cut(lazily, *within)[slice(None), slice(None)], directly[within])
    at = rng.integers(-30, 60, 5), rng.integers(-60, 90, 4)
    np.testing.assert_array_equal(mirrored(lazily, *at), directly[np.ix_(mirror(at[0], h), mirror(at[1], w))])


@pytest.mark.parametrize("rows_at_once", [1, 7, 24, 100])
def test_bands_are_all_rows_once_in_whole_pieces(rows_at_once):
    image = OnDisk(np.zeros((24, 40, 1)), None, has_channels=True, name="x")
    image.rows_at_once = rows_at_once
    found = list(bands(image))
    assert [row for rows in found for row in range(rows.start, rows.stop)] == list(range(24))
    assert all(rows.start % rows_at_once == 0 for rows in found)
    assert len(found) == {1: 6, 7: 4, 24: 1, 100: 1}[rows_at_once]  # 320 bytes a row


@given(st.lists(st.integers(0, 24 * 40 - 1), unique=True), st.integers(1, 1000))
def test_single_pixels_are_those_of_the_array(places, step):
    array = np.arange(24 * 40 * 2).reshape(24, 40, 2)
    image = OnDisk(array, None, has_channels=True, name="x")
    for at in (np.array(sorted(places), np.intp), slice(None, None, step)):
        np.testing.assert_array_equal(pixels_at(image, at), array.reshape(-1, 2)[at])


def test_what_is_none_of_these_is_left_to_numpy():
    for given_ in (np.zeros((3, 3)), np.float32(3), [1], "x", None, np.ma.zeros((3, 3)), SimpleNamespace(shape=(3,), dtype=int)):
        assert not lies_on_disk(given_)


def test_small_arrays_are_read_whole_and_a_memmap_is_then_an_array(tmp_path, monkeypatch):
    x, _ = pictures()
    monkeypatch.setattr(sliced, "LARGE", 4 * x.size)
    for kind in KINDS:
        source = on_disk(x, kind, tmp_path)
        assert all(type(image) is np.ndarray for image in read_images(source, channel_axis=False).arrays)
        pair = read_images([source[0], on_disk(np.tile(x[0], (7, 1)), kind, tmp_path, "more")])
        assert (type(pair.arrays[0]) is np.ndarray) == (kind != "memmap") and isinstance(pair.arrays[1], OnDisk)


# ---- What is known of it ----


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("blank", [None, -9999, 65535])
@pytest.mark.parametrize("is_partly_hidden", [False, True])
def test_its_range_and_its_scale_are_those_of_the_array(monkeypatch, dtype, blank, is_partly_hidden):
    monkeypatch.setattr("minunet.data.normalize.MAX_SAMPLES", 700)
    x, y = pictures(1, dtype=dtype, channels=(2,))
    if blank is not None and np.can_cast(np.min_scalar_type(blank), dtype):
        x[0, 5:15, 7:19, 1] = blank
    some = np.random.default_rng(0).random(y[0].shape) < 0.3 if is_partly_hidden else None
    array, source = x[0], OnDisk(x[0], None, has_channels=True, name="x")
    normalizer = Normalizer()
    views = [View(image, some, None if some is None else ~some, y[0] // 255) for image in (array, source)]
    one, other = map(normalizer.measure, views)
    assert str(one) == str(other) and trained_blank(views[0], one) == trained_blank(views[1], other)
    assert (one.blank is not None) == bool((x == blank).any())
    normalizer.learn(views[:1], [one])
    lazily = normalizer.scaled(source, other, some, "x")
    assert lazily.dtype == np.float32 and not isinstance(lazily, np.ndarray)
    whole = normalizer(array, one, some)
    for rows, cols in [(slice(None), slice(None)), (slice(3, 17), slice(6, 30))]:
        np.testing.assert_array_equal(lazily[rows, cols], whole[rows, cols])


def test_pixels_that_are_not_finite_are_told_as_of_an_array(tmp_path):
    x = np.zeros((2, 24, 40), np.float32)
    x[1, 13, 4], x[1, 20, 2], x[1, 20, 3] = np.inf, np.nan, np.nan
    for source in (x, on_disk(x, "zarr", tmp_path)):
        with pytest.raises(ValueError, match=r"^x\[1\] holds 3 NaN or infinite values, the first at row 13, column 4; it takes"):
            read_images(source, channel_axis=False)


def test_gaps_of_weight_0_are_hidden_as_in_an_array(tmp_path):
    x, y = pictures(dtype="float32")
    x[0, 3, 4] = x[2, 20, 7] = np.nan
    weight = np.isfinite(x).astype(float)
    kept, lazily = (_fit(source, y, sample_weight=weight) for source in (x, on_disk(x, "h5py", tmp_path)))
    np.testing.assert_array_equal(kept.network_.flat, lazily.network_.flat)
    weight[2] = 1
    with pytest.raises(ValueError, match=r"^x\[2\] holds 1 NaN value, the first at row 20, column 7"):
        _fit(on_disk(x, "memmap", tmp_path), y, sample_weight=weight)


# ---- What is learned from it ----


def _fit(x, y, **more):
    settings = {name: more.pop(name) for name in ("padding", "normalize", "class_weight", "max_epochs") if name in more}
    return UNet(**(TINY | settings)).fit(x, y, **more)


IN_COLOURS = ((3,), {"padding": "valid", "normalize": "dataset"})


@pytest.mark.parametrize(
    ("kind", "channels", "settings"), [("memmap", *IN_COLOURS), ("zarr", (), {}), ("h5py", (), {})], ids=KINDS
)
def test_weights_figures_and_predictions_are_those_of_the_array(tmp_path, kind, channels, settings):
    x, y = pictures(channels=channels)
    of_array, of_file = _fit(x, y, **settings), _fit(on_disk(x, kind, tmp_path), on_disk(y, kind, tmp_path, "y"), **settings)
    np.testing.assert_array_equal(of_array.network_.flat, of_file.network_.flat)
    for name in ("loss", "val_loss", "val_dice"):
        assert of_array.history_[name] == of_file.history_[name]
    assert of_array.class_frequencies_.tolist() == of_file.class_frequencies_.tolist()
    source = on_disk(x, kind, tmp_path, "again")
    np.testing.assert_array_equal(of_array.predict_proba(x), of_file.predict_proba(source))
    assert of_file.predict(source).dtype == y.dtype and of_array.score(x, y) == of_file.score(source, y)


@pytest.mark.parametrize("kind", KINDS)
def test_a_list_of_arrays_on_disk_some_in_memory_is_one_of_images(tmp_path, kind):
    x, y = pictures()
    images = [x[0], x[1][:20, :33], x[2]]
    masks = [y[0], y[1][:20, :33], y[2]]
    lazily = [on_disk(images[0], kind, tmp_path, "a"), on_disk(images[1], kind, tmp_path, "b"), images[2]]
    given = [masks[0], on_disk(masks[1], kind, tmp_path, "mask"), masks[2]]
    one, other = _fit(images, masks, validation_data=(images, masks)), _fit(lazily, given, validation_data=(lazily, given))
    np.testing.assert_array_equal(one.network_.flat, other.network_.flat)
    assert one.history_["val_loss"] == other.history_["val_loss"]


def test_a_checkpoint_goes_on_with_the_same_images_wherever_they_lie(tmp_path):
    x, y = pictures()
    source = on_disk(x, "zarr", tmp_path)
    of_array, of_file = (prepare(given_, y, **NOTHING_MORE | {"validation_data": (x[:1], y[:1])}) for given_ in (x, source))
    assert fingerprint(of_array) == fingerprint(of_file)
    assert of_file.examples[0].label.dtype == np.uint8 and of_array.examples[0].label.dtype == np.int32
    path = tmp_path / "training"
    _fit(x, y, checkpoint=path)
    again = shutil.copy(path, tmp_path / "again")
    one, other = (
        _fit(given_, y, checkpoint=file, resume=True, max_epochs=2) for given_, file in ((x, path), (source, again))
    )
    np.testing.assert_array_equal(one.network_.flat, other.network_.flat)
    changed = x.copy()
    changed[2, 23, 39] += 1  # the last pixel of all
    with pytest.raises(ValueError, match=r"x\[2\] is another image than it was"):
        UNet(**TINY).fit(on_disk(changed, "memmap", tmp_path, "z"), y, checkpoint=path, resume=True)


def test_no_more_than_some_bands_of_it_are_in_memory(tmp_path, monkeypatch):
    """Beside the masks' classes, a byte a pixel: of 8 MB of pixels the floats alone would be 32 MB."""
    monkeypatch.setattr(sliced, "BAND", 2**18)
    monkeypatch.setattr("minunet.data.codes.BAND", 2**16)
    monkeypatch.setattr("minunet.data.normalize.MAX_SAMPLES", 2**14)
    x = np.memmap(tmp_path / "x", np.uint8, "w+", shape=(8, 1024, 1024))
    y = np.memmap(tmp_path / "y", np.uint8, "w+", shape=x.shape)
    y[:, :512], x[:, :512], x[:, :, ::3] = 1, 200, 20
    tracemalloc.start()
    data = prepare(x, y, **NOTHING_MORE)
    PatchSampler(data.training, 64, random_state=0, rare=places_of_rare(data.training, 64)).batch(0, 0, 4)
    fingerprint(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * x.size  # of which 9 MB are for some 384 x 384 pixels that are compared with their masks


# ---- What cannot be read ----


class Closing:
    """A callback that closes a file when an epoch has ended."""

    def __init__(self, file, after):
        self.file, self.after = file, after

    def on_epoch_end(self, epoch, logs):
        if epoch == self.after:
            self.file.close()


def test_a_file_that_is_closed_in_the_middle_is_told_and_the_model_stays(tmp_path):
    x, y = pictures()
    unet = UNet(**TINY).fit(x, y)
    before, history = unet.network_.flat.copy(), dict(unet.history_)
    source = on_disk(x, "h5py", tmp_path)
    closing = SimpleNamespace(on_epoch_end=lambda epoch, logs: None, set_model=lambda unet: source.file.close())
    with pytest.raises(OSError, match=r"^x(\[\d\])? cannot be read from the file that it lies in: ") as told:
        unet.fit(source, y, callbacks=[closing])
    assert "x[" in str(told.value)
    np.testing.assert_array_equal(unet.network_.flat, before)
    assert unet.history_ == history

    source = on_disk(x, "h5py", tmp_path, "more")
    with pytest.raises(OSError, match=r"^x\[\d\] cannot be read"):
        unet.set_params(max_epochs=3).fit(source, y, callbacks=[Closing(source.file, 0)])
    one_epoch = UNet(**(TINY | {"max_epochs": 3})).fit(x, y, callbacks=[SimpleNamespace(on_epoch_end=lambda epoch, logs: True)])
    np.testing.assert_array_equal(unet.network_.flat, one_epoch.network_.flat)  # that of the epoch before
    with pytest.raises(ValueError, match="x is a Dataset of h5py, and gives NumPy no array"):
        unet.fit(source, y)


def test_a_file_that_changes_meanwhile_is_told(tmp_path):
    x, y = pictures(dtype="float32")
    stays = dict(TINY)
    source = on_disk(x, "zarr", tmp_path)

    def spoil(unet):
        source[:] = np.nan

    with pytest.raises(OSError, match=r"^x\[\d\] has changed since `fit` or `predict` began: it holds NaN now"):
        UNet(**stays).fit(source, y, callbacks=[SimpleNamespace(on_epoch_end=lambda epoch, logs: None, set_model=spoil)])

    smaller = on_disk(x, "zarr", tmp_path, "smaller")
    with pytest.raises(OSError, match=r"^x\[\d\] has changed since .*was read where"):
        shrink = SimpleNamespace(on_epoch_end=lambda epoch, logs: None, set_model=lambda unet: smaller.resize((3, 24, 3)))
        UNet(**stays).fit(smaller, y, callbacks=[shrink])
