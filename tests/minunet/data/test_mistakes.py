"""What is given instead of arrays, or laid out otherwise: the call that the refusal tells is made, and must be what is taken."""

from __future__ import annotations

import collections
import pathlib
import re

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from minunet.data import mistakes
from minunet.data.inputs import read_images, read_masks, read_weights

N, H, W = 3, 24, 20
RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 256, (N, H, W), np.uint8), RNG.integers(0, 3, (N, H, W))
COLOUR = RNG.integers(0, 256, (N, H, W, 3), np.uint8)


def read(x, y):
    """Return the images and masks that fit and score see."""
    images = read_images(x, y)
    return images.arrays, read_masks(y, images)


def refusal(use):
    with pytest.raises(ValueError) as refused:
        use()
    assert len(str(refused.value)) < 600
    return str(refused.value)


def made(call, **names):
    """Return what a call of a refusal makes."""
    return eval(call, {"np": np, **names})


def same(found, expected):
    return len(found) == len(expected) and all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def stand_in(name, module="strangers", **attributes):
    """Return an object of a class and a library that need not be there."""
    return type(name, (), {"__module__": module, **attributes})()


class Refuses:
    """What arrays of other libraries have: no NumPy array without a call of their own."""

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("it lies elsewhere")


class Indexed:
    """A Dataset of torch's: pairs by number, and nothing that ends them."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return X[i % N], Y[i % N]


# ---- What is no array ----

TENSOR = {"__array__": Refuses.__array__, "detach": lambda self: self, "cpu": lambda self: self, "float": lambda self: self}
OTHERS = [
    ((image for image in X), "a generator", "list(x)"),
    (map(np.asarray, X), "a map", "list(x)"),
    (collections.deque(X), "a deque of collections", "list(x)"),
    ({"a": X[0], "b": X[1], "c": X[2]}, "a dict with 'a', 'b', 'c'", "list(x.values())"),
    (Indexed(), "an Indexed", "zip(*(x[i] for i in range(len(x))))"),
    (stand_in("DataLoader", dataset=list(zip(X, Y, strict=True))), "a DataLoader of strangers", "zip(*x.dataset)"),
    (stand_in("Dataset", as_numpy_iterator=lambda self: zip(X, Y, strict=True)), "a Dataset", "zip(*x.as_numpy_iterator())"),
    (stand_in("Tensor", "torch", numpy=lambda self: X, requires_grad=True, **TENSOR), "a Tensor that requires grad",
     "x.detach().cpu().float().numpy()"),
    (stand_in("Tensor", "torch.cuda", numpy=lambda self: X, **TENSOR), "a Tensor of torch", "x.detach().cpu().float().numpy()"),
    (stand_in("Array", __dlpack__=lambda self, **_: X.__dlpack__(), __dlpack_device__=lambda self: (1, 0)), "an Array",
     "np.from_dlpack(x)"),
]  # fmt: skip


@pytest.mark.parametrize(("x", "says", "call"), OTHERS, ids=[says for _, says, _ in OTHERS])
def test_what_is_no_array_is_told_with_the_call_that_makes_one(x, says, call):
    told = refusal(lambda: read(x, Y))
    assert told.startswith(f"x is {says}") and "an array of numbers, or a list of arrays" in told and call in told
    found = made(call, x=x)
    found = next(iter(found)) if call.startswith("zip") else found
    assert same(read(found, Y)[0], X[..., None])
    if not isinstance(x, collections.abc.Iterator):
        assert refusal(lambda: read(X, x)).startswith(f"y is {says}")
        assert refusal(lambda: read_weights(x, read_images(X))).startswith(f"sample_weight is {says}")
        assert refusal(lambda: read([x], Y)).startswith(f"x[0] is {says}")


@pytest.mark.parametrize(
    "path",
    ["images", pathlib.Path("a.png"), b"\x89PNG", ["a.png", "b.png"], np.array(["a.png"]), np.array([["a"]], object),
     stand_in("Series", __array__=lambda self, dtype=None, copy=None: np.array(["a.png"], object)), None],
    ids=lambda path: type(path).__name__,
)  # fmt: skip
def test_of_paths_the_reader_of_folders_is_named(path):
    assert "minunet.load_folder(images, masks) reads folders" in refusal(lambda: read(path, Y))


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (X * 1j, r"Complex data not supported: np.abs\(x\)"),
        (X.astype("M8[s]"), r"dtype datetime64"),
        (X.astype(object), r"x.astype\(float\).*go in a list"),
        (np.zeros((4, 4), [("r", "u1")]), r"x\['r'\]"),
        (scipy.sparse.csr_array(X[0]), r"a sparse csr_array of scipy; .*x.toarray\(\)"),
        (stand_in("ndarray", "cupy", __array__=Refuses.__array__), r"it lies elsewhere.*cupy.asnumpy\(x\)"),
        ([[1, 2], [3]], "differ in length"),
        (list(zip(COLOUR, Y, strict=True)), r"images, masks = zip\(\*x\)"),
        (np.ndarray, "the class ndarray"),
        (Image.fromarray(COLOUR[0]).convert("P"), r'x is an image of Pillow.*x.convert\("RGB"\)'),
        ([Image.fromarray(COLOUR[0]).convert("P")], r"x\[0\] is an image of Pillow"),
        ("balanced", r'UNet\(class_weight="balanced"\)'),
    ],
)
def test_numbers_of_other_kinds_are_refused_with_a_way_on(x, says):
    assert re.search(says, refusal(lambda: read(x, Y)))


OBJECTS = np.empty(N, object)
OBJECTS[:] = [X[0], X[1][:5], X[2]]


@pytest.mark.parametrize(
    ("x", "y", "arrays"),
    [
        (X[0].tolist(), (Y[0]).tolist(), X[:1]),
        (X.tolist(), Y.tolist(), X),
        (Image.fromarray(X[0]), Image.fromarray(Y[0].astype(np.uint8)), X[:1]),
        ([Image.fromarray(a) for a in COLOUR], [Image.fromarray(a.astype(np.uint8)).convert("P") for a in Y], COLOUR),
        (OBJECTS, [Y[0], Y[1][:5], Y[2]], list(OBJECTS)),
        (memoryview(X), Y, X),
        (X[0], [Y[0]], X[:1]),
        (X, Y * 1.0, X),
        (COLOUR, np.repeat(Y[..., None], 3, axis=-1), COLOUR),
    ],
    ids=["rows", "lists", "Pillow", "Pillows", "objects", "buffer", "a list of one mask", "floats", "grey in colours"],
)
def test_what_can_be_read_in_one_way_only_is_taken(x, y, arrays):
    images, masks = read(x, y)
    assert same([image.squeeze() for image in images], arrays)
    assert all(np.array_equal(mask, truth[: len(mask)]) for mask, truth in zip(masks, Y, strict=False))


# ---- Arrays laid out otherwise ----


@given(st.integers(1, 3), st.integers(5, 9), st.integers(10, 14), st.integers(1, 4), st.sampled_from(["one", "stack", "list"]),
       st.booleans(), st.booleans())  # fmt: skip
def test_channels_first_are_told_with_the_call_that_turns_them(n, h, w, c, form, masks_too, transposed):
    x, y = RNG.random((n, h, w, c)), RNG.integers(0, 2, (n, h, w))
    first, given_y = np.moveaxis(x, -1, 1), y[:, None] if masks_too else y
    if transposed:
        first = np.ascontiguousarray(first)
    if form == "one":
        first, given_y, x, y = first[0], given_y[0], x[:1], y[:1]
        if (masks_too and c in (3, 4)) or c == 1:
            return  # told as a stack of so many images, or one
    if form == "list":
        first, given_y = list(first), list(given_y)
    told = refusal(lambda: read(first, given_y))
    if form == "one" and masks_too:
        assert "but y 1 masks" in told
        return
    call = told.rpartition("channels come last: ")[2]
    turned = made(call, x=first)
    assert "channels come last" in told and told.startswith(("x is", "x[0] is"))
    if masks_too:
        told = refusal(lambda: read(turned, given_y))
        given_y = made(told.rpartition("H x W: ")[2], y=given_y)
    images, masks = read(turned, given_y)
    assert same(images, x) and same(masks, y)


@pytest.mark.parametrize(("channels", "axis"), [(1, False), (3, True)])
@pytest.mark.parametrize("form", ["stack", "list", "one"])
def test_a_fitted_model_tells_channels_first_by_its_own_number(channels, axis, form):
    first = np.moveaxis(COLOUR[..., :channels], -1, 1)
    x = {"stack": first, "list": list(first), "one": first[0]}[form]
    if (channels, form) == (1, "one"):
        return  # 1 x H x W is one image
    told = refusal(lambda: read_images(x, n_channels=channels, channel_axis=axis))
    call = re.search(r"Convert the image: (.*) puts them there", told)[1]
    found = read_images(made(call, x=x), n_channels=channels, channel_axis=axis).arrays
    assert same(found, COLOUR[: 1 if form == "one" else N, ..., :channels])


@pytest.mark.parametrize(("has", "takes"), [(3, 1), (1, 3), (4, 3)])
def test_images_of_other_channels_are_converted_by_the_call_that_is_told(has, takes):
    x = np.repeat(X[..., None], has, axis=-1)
    told = refusal(lambda: read_images(x, n_channels=takes, channel_axis=takes > 1))
    call = re.search(r"Convert the image: (.*) (makes|repeats|leaves)", told)[1]
    (image,) = read_images(made(call, image=x[0]), n_channels=takes, channel_axis=takes > 1).arrays
    assert np.array_equal(image, np.repeat(X[0][..., None], takes, axis=-1))


def test_grey_images_without_their_axis_are_a_stack_to_a_model_of_one_channel():
    assert same(read_images(X, n_channels=1, channel_axis=True).arrays, X[..., None])


@given(st.integers(2, 5), st.sampled_from([0, -1]), st.sampled_from(["one", "stack", "list"]), st.booleans(),
       st.sampled_from([bool, np.uint8, np.float64]))  # fmt: skip
def test_one_hot_masks_are_told_with_the_argmax_that_undoes_them(k, axis, form, colour, dtype):
    labels = np.arange(N * H * W).reshape(N, H, W) % k
    hot = (labels[..., None] == np.arange(k)).astype(dtype)
    hot = hot if axis else np.moveaxis(hot, -1, 1)
    x = COLOUR if colour else X
    if form == "one":
        x, hot, labels = x[0], hot[0], labels[:1]
        if hot.shape == x.shape:
            return  # which of both is meant, nothing tells
    if form == "list":
        x, hot = list(x), list(hot)
    told = refusal(lambda: read(x, hot))
    assert "one-hot" in told
    assert same(read(x, made(told.rpartition(": ")[2], y=hot))[1], labels)


def test_channels_that_overlap_are_not_one_hot():
    bits = RNG.integers(0, 2, (N, H, W, 2))
    assert "one-hot" not in refusal(lambda: read(X, bits)) and not mistakes.is_one_hot(bits[0], -1)


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize(
    ("y", "says", "expected"),
    [
        (np.where(Y == 2, 0.7, 0.1), r"fractions, such as 0.1.*: (.* > 0.5.*) makes two classes", Y == 2),
        (np.where(Y == 2, 254.6, 0.1), r"fit\(x, (.*), classes=\[\.\.\.\]\)", np.where(Y == 2, 255, 0)),
        (np.where(Y == 2, np.nan, Y), r"NaN.* sample_weight of 0: (.*)", np.where(Y == 2, 0, Y)),
        (np.stack([0.2 + 0.2 * (Y == 1), 0.3 - 0.2 * (Y == 1)], -1), r"first channel alone, (.*) the number of the largest",
         np.where(Y == 1, 0, 1)),
        (np.stack([255 * (Y == 1), 0 * Y, 7 * (Y == 2)], -1).astype(np.uint8), r"colours to one channel: (.*) makes one number",
         np.where(Y == 1, 255 * 65536, 7 * (Y == 2))),
    ],
    ids=["probabilities", "interpolated", "NaN", "scores", "colours"],
)  # fmt: skip
def test_masks_of_other_numbers_are_told_with_the_call_that_makes_classes(y, says, expected, as_list):
    given_y = list(y) if as_list else y
    found = re.search(says, refusal(lambda: read(X, given_y)))
    assert same(read(X, made(found[1], y=given_y))[1], expected)


def test_a_call_for_tensors_is_one_that_tensors_take():
    tensor = stand_in("Tensor", __array__=lambda self, dtype=None, copy=None: X[:, None])
    told = refusal(lambda: read(tensor, Y))
    assert same(read(made(told.rpartition("last: ")[2], x=tensor), Y)[0], X[..., None])
    assert "np.asarray(y)[:, 0]" in refusal(lambda: read(X, stand_in("Tensor", __array__=lambda self, **_: Y[:, None])))


@pytest.mark.parametrize("y", [X, list(COLOUR), X / 255], ids=["grey", "colours", "floats"])
def test_images_given_for_masks_and_masks_for_images_are_told(y):
    assert "images and masks seem to be exchanged; the images come first" in refusal(lambda: read(Y, y))
    assert read(list(y), Y)[1]


def test_few_values_in_both_are_no_exchange():
    assert mistakes.seem_exchanged(Y[0], Y[0]) is None
    assert mistakes.seem_exchanged(Y[0], np.arange(H * W) % 40) is None  # numbers of objects
    assert mistakes.seem_exchanged(X[0], np.arange(H * W)) is None  # numbers of very many


@pytest.mark.parametrize(
    ("y", "says"), [(None, "requires y to be passed, but the target y is None"), ([0, 1, 1], r"y[0] is one number")]
)
def test_masks_that_are_none(y, says):
    assert says in refusal(lambda: read(X, y))


JUNK = st.sampled_from(
    [None, 3, 2.5, True, 1j, "a", b"a", [], (), {}, set(), range(3), object(), print, [None], ["a"], [[]], [[1, "a"]], {"x": X},
     X, X[0], X[:, None], COLOUR, list(X), [X], [X[0], COLOUR[0]], Y, Y[..., None], X * 1j, np.array(1), np.array([]), Refuses(),
     np.array(["a"]), np.array([None]), np.zeros((0, 4)), np.zeros((2, 2, 2, 2, 2)), [Refuses()], Image.fromarray(X[0]), np.nan,
     np.zeros((N, H, W), "V4"), Indexed(), float, [X[0].tolist()], {1: 2}, pathlib.Path("."), OBJECTS]
)  # fmt: skip


@given(JUNK, JUNK, JUNK, st.sampled_from([None, 1, 3]))
def test_whatever_is_given_is_taken_or_refused_in_words(x, y, weight, channels):
    try:
        images = read_images(x, y, n_channels=channels, channel_axis=None if channels is None else channels > 1)
        read_masks(y, images)
        read_weights(weight, images)
    except ValueError as error:
        assert re.match(r"(x|y|sample_weight|UNet|[0-9]+ images)\b", str(error)), error
