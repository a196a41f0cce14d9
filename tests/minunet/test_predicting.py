"""Predictions part by part: from arrays on disk, to arrays and files, to the bits of those in memory."""

import numpy as np
import pytest
import tifffile

from minunet import UNet
from minunet.data import sliced
from minunet.data.normalize import Normalizer, View
from minunet.data.sliced import OnDisk, pixels_at
from minunet.evaluation import places, tiles

SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0, "algorithm": "direct",
    "validation_fraction": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def unet():
    rng = np.random.default_rng(0)
    y = np.kron(rng.integers(0, 2, (2, 6, 6)), np.ones((4, 4), int)) * 200
    return UNet(**SMALL).fit((y + rng.normal(0, 20, y.shape)).astype(np.float32), y)


@pytest.fixture
def tiled(monkeypatch):
    """Have everything cut into the smallest tiles, and read in narrow bands."""
    monkeypatch.setattr(tiles, "free_memory", lambda network: 4.0)
    monkeypatch.setattr(sliced, "BAND", 4000)
    monkeypatch.setattr(sliced, "LARGE", 0)


def stack(n=2, seed=1):
    return np.random.default_rng(seed).integers(0, 255, (n, 70, 45)).astype(np.uint8)


def on_disk(kind, x, folder):
    """Return x as an array of a library that keeps it on disk."""
    if kind == "memmap":
        stored = np.memmap(folder / "x.raw", x.dtype, "w+", shape=x.shape)
        stored[...] = x
        return stored
    if kind == "h5py":
        h5py = pytest.importorskip("h5py")
        return h5py.File(folder / f"{x.ndim}{x.dtype}.h5", "w").create_dataset("x", data=x, chunks=True)
    zarr = pytest.importorskip("zarr")
    stored = zarr.open(str(folder / "x.zarr"), mode="w", shape=x.shape, dtype=x.dtype, chunks=(16,) * x.ndim)
    stored[...] = x
    return stored


SELDOM = [pytest.param(kind, True, marks=pytest.mark.rare) for kind in ("memmap", "zarr")]  # one of them is turned always


@pytest.mark.parametrize(("kind", "tta"), [("memmap", False), ("h5py", False), ("zarr", False), ("h5py", True), *SELDOM])
def test_from_disk_to_disk_to_the_bit(unet, tiled, tmp_path, kind, tta):
    for i, x in enumerate((stack()[0], stack())):
        folder = tmp_path / str(i)
        folder.mkdir()
        source, (labels, p) = on_disk(kind, x, folder), (unet.predict(x, tta=tta), unet.predict_proba(x, tta=tta))
        assert 0 < (labels == 200).mean() < 1
        np.testing.assert_array_equal(unet.predict(source, tta=tta), labels)
        (folder / "out").mkdir()
        out = on_disk(kind, np.zeros(x.shape, np.uint8), folder / "out")
        assert unet.predict(source, tta=tta, out=out) is out
        np.testing.assert_array_equal(np.asarray(out[...]), labels)
        out = on_disk(kind, np.zeros(p.shape, np.float32), folder / "out")
        unet.predict_proba(source, tta=tta, out=out)
        np.testing.assert_array_equal(np.asarray(out[...]), p)


def test_to_new_files(unet, tiled, tmp_path):
    x = stack()
    for given in (x, x[0]):
        assert unet.predict(given, out=tmp_path / "y.npy") == tmp_path / "y.npy"
        labels = np.load(tmp_path / "y.npy")
        assert labels.dtype == unet.classes_.dtype
        np.testing.assert_array_equal(labels, unet.predict(given))
        unet.predict(given, out=str(tmp_path / "y.TIF"))
        with tifffile.TiffFile(tmp_path / "y.TIF") as file:
            assert file.series[0].shape == given.shape and len(file.pages) == len(np.atleast_3d(given.T).T)
            assert file.series[0].dtype == np.uint8
            np.testing.assert_array_equal(file.asarray(), labels)
        unet.predict_proba(given, out=tmp_path / "p.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), unet.predict_proba(given))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.npy", "y.TIF", "y.npy"]


def test_a_large_tiff_has_large_places(unet, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "BIG", 1000)
    unet.predict(stack()[0], out=tmp_path / "y.tif")
    with tifffile.TiffFile(tmp_path / "y.tif") as file:
        assert file.is_bigtiff
        np.testing.assert_array_equal(file.asarray(), unet.predict(stack()[0]))


@pytest.mark.parametrize("name", ["y.npy", "y.tif"])
def test_a_failure_midway_leaves_what_was_there(unet, tiled, tmp_path, monkeypatch, name):
    (tmp_path / name).write_bytes(b"older")
    taken, put = [], places.FileArray.__setitem__

    def fail_at_the_third(self, at, part):
        taken.append(at)
        if len(taken) == 3:
            raise OSError("the disk is gone")
        put(self, at, part)

    monkeypatch.setattr(places.FileArray, "__setitem__", fail_at_the_third)
    with pytest.raises(OSError, match="the disk is gone"):
        unet.predict(stack()[0], out=tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_bytes() == b"older"


X = stack()[0]


def read_only(shape, dtype):
    out = np.zeros(shape, dtype)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("x", "out", "says"),
    [
        (X, "y.png", r"^out is the path y.png; it takes an array to write into .*\.npy, or for labels in \.tif"),
        (X, 5, "^out is of type int; it takes an array"),
        (X, np.zeros((3, 3)), r"^out has shape \(3, 3\); it takes that of the prediction, \(70, 45\)"),
        (X, np.zeros(X.shape, np.int8), r"^out is of dtype int8; it takes one that holds the classes \[0, 200\], such as uint8"),
        (X, X, "^out is x itself; it takes another array"),
        (X, X[::-1], "^out is x itself"),
        (X, read_only(X.shape, np.uint8), "^out is an array that is read-only; it takes one to write into"),
        ([X, X], np.zeros((2, *X.shape)), "^out is one place, but x is a list of images; it takes one array"),
        (np.ma.masked_less(X, 9), np.zeros(X.shape), "^x is masked, which out cannot tell; fill it"),
    ],
)
def test_a_place_that_is_none_is_refused_before_any_work(unet, monkeypatch, x, out, says):
    monkeypatch.setattr(UNet, "_computing", None)  # nothing is computed
    with pytest.raises(ValueError, match=says):
        unet.predict(x, out=out)


def opened_to_read(kind, path):
    library = pytest.importorskip(kind)
    if kind == "h5py":
        with library.File(path, "w") as file:
            file["y"] = np.zeros(X.shape, np.uint8)
        return library.File(path, "r")["y"]
    library.open(str(path), mode="w", shape=X.shape, dtype="u1")
    return library.open(str(path), mode="r")


@pytest.mark.parametrize("kind", ["h5py", "zarr"])
def test_a_stored_array_that_was_opened_to_be_read_is_none_to_write_into(unet, monkeypatch, tmp_path, kind):
    monkeypatch.setattr(UNet, "_computing", None)  # nothing is computed
    with pytest.raises(ValueError, match=r"^out is an array that is read-only; it takes one .* opened with mode='r\+'"):
        unet.predict(X, out=opened_to_read(kind, tmp_path / "y"))


@pytest.mark.parametrize(
    ("out", "says"),
    [("p.tif", "^out is the path p.tif"), (np.zeros((*X.shape, 2), int), "^out is of dtype int64; it takes floats")],
)
def test_probabilities_take_floats(unet, out, says):
    with pytest.raises(ValueError, match=says):
        unet.predict_proba(X, out=out)


def test_images_are_not_overwritten_by_what_is_found_in_them(unet, tmp_path):
    np.save(tmp_path / "x.npy", X)
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    for call in (unet.predict, unet.predict_proba):
        with pytest.raises(ValueError, match=r"^out is .*x\.npy, the file of x; it takes another path"):
            call(x, out=tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)


@pytest.mark.parametrize("tta", ["no", 8, None, np.ones(2)])
def test_tta_is_yes_or_no(unet, tta):
    for call in (unet.predict, unet.predict_proba, unet.predict_instances):
        with pytest.raises(ValueError, match=r"^tta is .*; it takes True or False$"):
            call(X, tta=tta)
    with pytest.raises(ValueError, match=r"^tta is .*; it takes True or False$"):
        unet.score(X, np.zeros(X.shape, int), tta=tta)


def test_a_score_with_turned_images_is_that_of_their_labels(unet):
    x = stack()
    y = unet.predict(x, tta=True)
    assert unet.score(x, y, tta=True) == 1 and unet.score(x, y) < 1


def test_a_stored_array_that_is_none_of_images(unet, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        holes = stack()[0].astype(np.float32)
        holes[60, 7] = np.nan
        wide = np.zeros((70, 45, 3, 1, 1))
        for name, x in (("holes", holes), ("wide", wide), ("none", np.zeros((0, 5)))):
            file[name] = x
        with pytest.raises(ValueError, match="x holds 1 NaN value, the first at row 60, column 7"):
            unet.predict(file["holes"])
        with pytest.raises(ValueError, match=r"x has 5 axes, shape \(70, 45, 3, 1, 1\)"):
            unet.predict(file["wide"])
        with pytest.raises(ValueError, match=r"x has shape \(0, 5\): no pixels"):
            unet.predict(file["none"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("blank", [False, True])
def test_an_image_in_bands_spans_what_it_spans_as_a_whole(monkeypatch, dtype, blank):
    image = np.random.default_rng(0).integers(100, 120, (70, 45, 2)).astype(dtype)
    if blank:
        image[9:30, 3:20] = 0
    whole = Normalizer().measure(View(image))
    assert (whole.blanks == [0, 0]) == blank
    flat = [image[..., c].reshape(-1) for c in range(2)]
    kept = [values[values != 0] for values in flat]
    assert whole.low.tolist() == [np.percentile(values, 1, method="nearest") for values in kept]
    read = []
    monkeypatch.setattr(sliced, "BAND", 500)
    monkeypatch.setattr(OnDisk, "read", lambda self, *at: read.append(at) or self.source[at])
    stored = OnDisk(image, None, has_channels=True, name="x")
    for found in (Normalizer().measure(View(image)), Normalizer().measure(View(stored))):
        for name, value in whole._asdict().items():
            np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)
    assert max(rows.stop - rows.start for rows, _ in read) == 1


@pytest.mark.parametrize("n", [97, 1000])
def test_samples_of_bands_are_those_of_the_whole(monkeypatch, n):
    image = np.arange(70 * 45 * 2).reshape(70, 45, 2)
    step = -(-70 * 45 // n)
    monkeypatch.setattr(sliced, "BAND", 1370)
    np.testing.assert_array_equal(pixels_at(image[:, ::-1], slice(None, None, step)), image[:, ::-1].reshape(-1, 2)[::step])
