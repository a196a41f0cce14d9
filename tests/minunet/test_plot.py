"""Pictures for matplotlib: what is on them, and where."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from minunet import Network, UNet, drawing, plot
from minunet.finding import LearningRates
from minunet.layers import Conv2d, Sequential
from minunet.summary import summarize

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'minunet[plot]'")
matplotlib.use("Agg")
pytest.importorskip("matplotlib.pyplot")  # it is not in matplotlib until someone imports it


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    matplotlib.pyplot.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def arrows(ax):
    """Return how many arrows there are of each colour."""
    colours = [text.arrow_patch.get_edgecolor() for text in ax.texts if getattr(text, "arrow_patch", None)]
    names = {name: matplotlib.colors.to_rgba(getattr(drawing, name)) for name in ("CONV", "POOL", "UP", "SKIP", "HEAD")}
    return {name: colours.count(colour) for name, colour in names.items()}


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_arrow_for_each_step_and_a_box_for_each_array(depth):
    ax = plot.architecture(Network(base_channels=2, depth=depth), (64, 64))
    assert arrows(ax) == {"CONV": 2 * (2 * depth + 1), "POOL": depth, "UP": depth, "SKIP": depth, "HEAD": 1}
    assert len(ax.patches) == 1 + 2 * (2 * depth + 1) + depth + 2 * depth + 1  # image, convolutions, pools, skip and up, head


@pytest.mark.parametrize("block", ["double_conv", "residual"])
def test_each_side_head_is_an_arrow_of_its_own_beside_its_level(block):
    plain, deep = (plot.architecture(Network(1, 3, 2, 3, block=block, deep_supervision=on), (64, 64)) for on in (False, True))
    assert arrows(deep) == arrows(plain) | {"HEAD": 3}
    assert len(deep.patches) == len(plain.patches) + 2
    assert [texts(deep).count(f"{side}²") - texts(plain).count(f"{side}²") for side in (64, 32, 16, 8)] == [0, 1, 1, 0]
    notes, more = ([text for text in texts(ax) if "sees" in text] for ax in (plain, deep))
    assert more == notes  # a block's are its own


def test_channels_sizes_and_totals_are_those_of_the_summary():
    network = Network(3, 5, 8, 2, padding="valid")
    ax = plot.architecture(network, (60, 76))
    summary = summarize(network, (60, 76))
    for step in summary.steps:
        _, h, w, c = step.shape
        shown = 2 * c if step.name.endswith("up") else c  # joined with the skip
        assert {str(shown), f"{h}²" if h == w else f"{h}x{w}"} <= set(texts(ax)), step.name
    assert f"{summary.n_parameters:,} parameters" in ax.get_title()
    notes = [text for text in texts(ax) if "FLOP" in text]
    assert sum(int(note.split()[0].replace(",", "")) for note in notes) == summary.n_parameters - summary.steps[-1].n_parameters


def test_heights_follow_sizes_and_widths_follow_channels():
    ax = plot.architecture(Network(base_channels=4, depth=3), (64, 64))
    boxes = sorted({(round(p.get_height(), 6), round(p.get_width(), 6)) for p in ax.patches})
    assert len({height for height, _ in boxes}) == 4
    deepest, top = boxes[0], boxes[-1]
    assert deepest[0] < top[0]
    assert deepest[1] > top[1]


@pytest.mark.parametrize("block", ["double_conv", "residual"])
def test_nothing_lies_outside_of_the_axes(block):
    ax = plot.architecture(Network(base_channels=4, depth=4, block=block), (512, 512))
    ax.figure.canvas.draw()
    frame = ax.get_window_extent().expanded(1.03, 1.03)
    for text in ax.texts:
        box = text.get_window_extent()
        assert text.get_text() == "" or (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)), text


@pytest.mark.parametrize("settings", [
    {"padding": "valid"}, {"padding": "valid", "block": "residual"}, {"deep_supervision": True},
])  # fmt: skip
def test_the_writing_does_not_overlap(settings):
    ax = plot.architecture(Network(1, **settings), (572, 572) if "padding" in settings else (576, 576))
    ax.figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in ax.texts if text.get_text()]
    for i, (one, box) in enumerate(boxes):
        for other, box2 in boxes[i + 1 :]:
            assert not box.shrunk(0.95, 0.8).overlaps(box2.shrunk(0.95, 0.8)), (one, other)


def three_convs(in_channels, out_channels, **settings):
    widths = in_channels, out_channels, out_channels
    return Sequential(**{f"conv{i}": Conv2d(c, out_channels, 3, **settings) for i, c in enumerate(widths)})


@pytest.mark.parametrize("block, name, sees", [("residual", "residual", 5), (three_convs, "three_convs", 7)])
def test_a_block_that_is_not_the_papers_is_one_arrow_with_its_name(block, name, sees):
    ax = plot.architecture(Network(base_channels=2, depth=1, block=block), (64, 64))
    assert len(ax.patches) == 8  # image, encoder.0, pool, encoder.1, the skip's copy and what came up, decoder.0, logits
    assert arrows(ax) == {"CONV": 3, "POOL": 1, "UP": 1, "SKIP": 1, "HEAD": 1}
    assert ax.get_legend().get_texts()[0].get_text() == f"block: {name}"
    notes = [text for text in texts(ax) if "sees" in text]
    assert notes[0].endswith(f"sees {sees}")


def test_it_draws_into_the_axes_it_is_given_and_takes_an_estimator():
    _, ax = matplotlib.pyplot.subplots()
    assert plot.architecture(UNet(base_channels=2, depth=1), (32, 32), ax=ax) is ax
    assert len(matplotlib.pyplot.get_fignums()) == 1


def test_a_size_that_does_not_fit_is_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match="nearest"):
        plot.architecture(Network(base_channels=2), (500, 512))
    assert not matplotlib.pyplot.get_fignums()


HISTORY = {"loss": [0.7, 0.4, 0.3], "val_loss": [0.8, 0.5, 0.45], "val_dice": [0.5, 0.8, 0.85], "seconds": [1.0, 2.0, 3.0]}
MASK = np.array([[0, 0, 255, 255]] * 3, np.uint8)
WRONG = np.array([[0, 255, 255, 0]] * 3, np.uint8)  # column 1 is invented, column 3 missed


def curves(ax):
    """Return {label: line} of the axes and of its twin."""
    return {line.get_label(): line for axes in ax.figure.axes for line in axes.get_lines()}


def captions(ax):
    return [text.split("\n")[0] for text in texts(ax)]


def shown(ax, i):
    """Return what panel i shows."""
    return np.asarray(ax.images[i].get_array())


def test_the_curves_are_those_of_the_history():
    ax = plot.learning_curves(HISTORY)
    drawn = curves(ax)
    assert list(drawn) == ["training loss", "validation loss", "validation Dice"]
    for label, name in zip(drawn, ("loss", "val_loss", "val_dice"), strict=True):
        np.testing.assert_array_equal(drawn[label].get_xdata(), [1, 2, 3])
        np.testing.assert_array_equal(drawn[label].get_ydata(), HISTORY[name])
    left, right = ax.figure.axes
    assert ax is left and left.get_ylim()[0] == 0 and right.get_ylim()[1] > 1
    assert drawn["validation Dice"].axes is right
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(drawn)


def test_without_validation_there_is_one_curve_and_no_second_axis():
    ax = plot.learning_curves({"loss": [0.7, 0.4], "seconds": [1.0, 2.0]})
    assert list(curves(ax)) == ["training loss"]
    assert len(ax.figure.axes) == 1


@pytest.mark.parametrize("n", [1, 2, 300])
def test_epochs_are_whole_numbers_and_one_is_seen_too(n):
    ax = plot.learning_curves({"loss": [0.5] * n, "val_dice": [0.5] * n})
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert low < 1 and high > n and ticks and all(tick == int(tick) for tick in ticks)
    assert n > 40 or curves(ax)["training loss"].get_marker() == "o"  # a line through one point is nothing


@pytest.mark.parametrize("losses", [[0.5, float("nan"), 0.3], [float("nan")] * 2, [None, 0.5], [0.0, 0.0]])
def test_a_loss_that_is_no_number_is_a_gap(losses):
    ax = plot.learning_curves({"loss": losses, "val_dice": losses})
    ax.figure.canvas.draw()
    np.testing.assert_array_equal(curves(ax)["training loss"].get_ydata(), np.array(losses, float))


def test_curves_of_a_fitted_estimator_and_none_of_another():
    unet = UNet(base_channels=2, depth=1)
    with pytest.raises(ValueError, match="fitted UNet"):
        plot.learning_curves(unet)
    unet.history_ = HISTORY
    assert len(curves(plot.learning_curves(unet))) == 3


FOUND = LearningRates(np.array([1e-4, 1e-3, 1e-2, 1e-1]), np.array([1.0, 0.1, 0.5, 2.0]), np.array([1.0, 0.6, 0.5, 1.0]))


def test_rates_are_drawn_with_their_losses_and_the_one_that_is_suggested():
    ax = plot.learning_rate(FOUND)
    losses, means, suggested = ax.lines
    for line, values in ((losses, FOUND.losses), (means, FOUND.means)):
        np.testing.assert_array_equal(line.get_xydata(), np.stack([FOUND.rates, values], axis=1))
    np.testing.assert_allclose(suggested.get_xdata(), 1e-3)
    assert (ax.get_xscale(), ax.get_xlabel(), suggested.get_label()) == ("log", "learning rate", "suggested: 0.001")
    for losses, means in (([3.0, 9.0], [1.0, 2.0]), ([1.0, 9.0], [2.0, 3.0])):  # single steps may leap out of the picture
        found = LearningRates(np.array([1e-3, 1e-2]), np.array(losses), np.array(means))
        assert plot.learning_rate(found).get_ylim() == pytest.approx((0, 1.04 * 3))
    with pytest.raises(ValueError, match=r"found is of type dict; it takes what UNet\.find_learning_rate returned"):
        plot.learning_rate(HISTORY)


def test_two_classes_are_black_and_white_with_errors_in_red_and_blue():
    ax = plot.comparison(MASK, MASK, WRONG, np.stack([1 - MASK / 255, MASK / 255], axis=-1))
    assert captions(ax) == ["image", "truth", "prediction", "probability of 255"]
    np.testing.assert_array_equal(shown(ax, 1)[0], [[0] * 3, [0] * 3, [255] * 3, [255] * 3])
    np.testing.assert_array_equal(shown(ax, 2)[0], [[0] * 3, plot.INVENTED, [255] * 3, plot.MISSED])
    np.testing.assert_array_equal(shown(ax, 3), MASK / 255)
    assert ax.get_legend() is None


def test_without_truth_there_are_no_errors():
    ax = plot.comparison(MASK, None, WRONG)
    assert captions(ax) == ["image", "prediction"]
    np.testing.assert_array_equal(shown(ax, 1)[0, :, 0], WRONG[0])


def test_more_classes_have_colours_and_are_pale_where_they_are_right():
    truth, prediction = np.array([[1, 4, 9, 9]]), np.array([[1, 4, 9, 4]])
    p = np.full((1, 4, 3), 0.2)
    p[..., 1] = 0.6
    ax = plot.comparison(truth, truth, prediction, p)
    assert captions(ax)[3] == "largest probability"
    np.testing.assert_array_equal(shown(ax, 3), np.full((1, 4), 0.6))
    true, marked = shown(ax, 1)[0].astype(int), shown(ax, 2)[0].astype(int)
    assert len({tuple(colour) for colour in true[:3]}) == 3
    assert (marked[3] == true[1]).all() and (marked[:3] > true[:3]).any(axis=1).all()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1", "4", "9"]


def test_colours_are_the_same_in_each_picture_of_the_same_classes():
    first, second = (plot.comparison(mask, mask, mask, classes=[0, 1, 2]) for mask in (np.array([[1, 2]]), np.array([[2, 2]])))
    np.testing.assert_array_equal(shown(first, 1)[0, 1], shown(second, 1)[0, 0])


def test_many_classes_have_a_colour_each_and_instances_no_legend():
    assert len({plot._colour(i) for i in range(20)}) == 20
    mask = np.arange(100).reshape(10, 10)
    assert plot.comparison(mask, mask, mask).get_legend() is None


@pytest.mark.parametrize("value", [0, 7, True, False])
def test_a_mask_of_one_value_is_black_or_white(value):
    mask = np.full((2, 3), value)
    assert (shown(plot.comparison(mask, mask, mask), 1) == (255 if value else 0)).all()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int64", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (4,), (7,)])
def test_any_image_is_shown_from_dark_to_bright_and_left_as_it_was(dtype, channels):
    image = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 200, (20, 30, *channels)).astype(dtype)
    image.setflags(write=False)
    mask = np.zeros((20, 30), np.uint8)
    mask.setflags(write=False)
    ax = plot.comparison(image, mask, mask)
    drawn = shown(ax, 0)
    assert drawn.shape == ((20, 30, 3) if channels in ((3,), (4,)) else (20, 30))
    assert drawn.min() == 0 and drawn.max() == 1
    ax.figure.canvas.draw()


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1), (3, 2)])
@pytest.mark.parametrize("fill", [0.0, float("nan"), float("inf")])
def test_small_and_empty_images_are_drawn(size, fill):
    mask = np.zeros(size, int)
    plot.comparison(np.full(size, fill), mask, mask, np.full((*size, 2), 0.5)).figure.canvas.draw()


def test_of_a_huge_image_every_kth_pixel_is_drawn():
    mask = np.zeros((3, 5000), np.uint8)
    ax = plot.comparison(mask, mask, mask)
    assert shown(ax, 0).shape == (1, 1667)
    assert texts(ax)[0] == "image\n3 x 5000"


def test_captions_do_not_overlap_in_any_shape():
    for size in ((64, 64), (200, 20), (20, 200)):
        mask = np.zeros(size, np.uint16)
        mask[0, 0] = 65535
        ax = plot.comparison(mask, mask, mask, np.full((*size, 2), 0.5))
        ax.figure.canvas.draw()
        boxes = [text.get_window_extent() for text in ax.texts]
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[i + 1 :]), size


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": np.zeros(4)}, r"image has shape \(4,\)"),
        ({"image": np.zeros((0, 4))}, r"image has shape \(0, 4\)"),
        ({"truth": MASK[:2]}, r"truth has shape \(2, 4\); for this image it takes \(3, 4\)"),
        ({"prediction": MASK[..., None]}, r"prediction has shape \(3, 4, 1\)"),
        ({"probability": MASK}, r"probability has shape \(3, 4\); for this image it takes \(3, 4, K\)"),
        ({"classes": [0, 1]}, r"prediction holds the value 255; the classes are \[0, 1\]"),
        ({"classes": [0, 255], "probability": np.zeros((3, 4, 3))}, r"for 2 classes"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changed, message):
    arguments = {"image": MASK, "truth": MASK, "prediction": MASK} | changed
    with pytest.raises(ValueError, match=message):
        plot.comparison(**arguments)
    assert not matplotlib.pyplot.get_fignums()


def test_the_confusion_matrix_has_counts_shares_and_mask_values():
    ax = plot.confusion_matrix(MASK, WRONG)
    assert texts(ax) == ["3\n50.0%", "3\n50.0%", "3\n50.0%", "3\n50.0%"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "255"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0", "255"]
    ax = plot.confusion_matrix([MASK, MASK[:1, :2]], [MASK, MASK[:1, 2:]], classes=[0, 7, 255])
    np.testing.assert_allclose(shown(ax, 0), [[6 / 8, 0, 2 / 8], [0, 0, 0], [0, 0, 1]])  # class 7 is nowhere
    assert texts(ax)[4] == "0"


@pytest.mark.parametrize("k", [1, 2, 6, 20])
def test_the_confusion_matrix_of_many_classes_fits(k):
    truth = np.arange(k * 10) % k
    ax = plot.confusion_matrix(truth, truth[::-1])
    ax.figure.canvas.draw()
    frame = ax.get_window_extent()
    for text in ax.texts:
        box = text.get_window_extent()
        assert box.width <= frame.width / k and box.height <= frame.height / k


def test_the_calibration_has_a_bar_for_each_bin_that_is_filled():
    p = np.array([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0], [0.75, 0.25]])
    ax = plot.calibration(np.array([0, 9, 0, 0]), p, 4, [0, 9])
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in ax.patches]
    assert bars == [(0.25, 0.25, 1), (0.5, 0.25, 1), (0.75, 0.25, 0)] and texts(ax) == ["25%", "50%", "25%"]
    dots = ax.get_lines()[1]
    np.testing.assert_array_equal(dots.get_xdata(), [np.nan, 0.5, 0.75, 1])
    np.testing.assert_array_equal(dots.get_ydata(), [np.nan, 1, 1, 0])
    assert ax.get_title() == "expected calibration error 0.5000"
    assert texts(plot.calibration(np.array([0, 9]), p[:2], 4, [0, 9], weights=[0, 2])) == ["100%"]


DRAWINGS = {
    "architecture": lambda ax: plot.architecture(Network(base_channels=2, depth=1), (64, 64), ax=ax),
    "learning_curves": lambda ax: plot.learning_curves(HISTORY, ax),
    "learning_rate": lambda ax: plot.learning_rate(FOUND, ax),
    "comparison": lambda ax: plot.comparison(MASK, MASK, WRONG, ax=ax),
    "calibration": lambda ax: plot.calibration(MASK, np.stack([1 - MASK / 255, MASK / 255], -1), classes=[0, 255], ax=ax),
    "confusion_matrix": lambda ax: plot.confusion_matrix(MASK, WRONG, ax=ax),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_each_draws_into_the_axes_it_is_given_without_pyplot(name):
    figure = matplotlib.figure.Figure()
    ax = figure.add_subplot()
    assert DRAWINGS[name](ax) is ax
    assert not matplotlib.pyplot.get_fignums()


@pytest.mark.parametrize("name", DRAWINGS)
def test_each_makes_one_figure_and_shows_none(name, monkeypatch):
    monkeypatch.setattr(matplotlib.pyplot, "show", lambda *_, **__: pytest.fail("show() was called"))
    ax = DRAWINGS[name](None)
    assert matplotlib.pyplot.get_fignums() == [ax.figure.number]


@pytest.mark.parametrize("name", DRAWINGS)
def test_without_matplotlib_the_error_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"minunet\[plot\]"):
        DRAWINGS[name](None)


# ---- What the network will see ----


def painted(h=40, w=40):
    """An image whose mask is its bright part."""
    image = np.zeros((h, w), np.float32)
    image[10:25, 8:30] = 1
    return image + np.float32(0.01) * np.random.default_rng(0).random((h, w), np.float32), np.where(image > 0, 255, 0)


def test_augmented_patches_show_image_mask_and_what_does_not_count():
    x, y = painted()
    (drawn,) = plot.augmented([x], [y], augment=False, patch_size=64, n=1).images
    pixels = np.asarray(drawn.get_array())
    assert pixels.shape == (40, 40, 3)
    orange = np.isclose(pixels, np.array(plot.COLOURS[1]) / 255).all(axis=2)
    expected = np.zeros((40, 40), bool)
    expected[10:25, 8:30] = True
    expected[11:24, 9:29] = False
    np.testing.assert_array_equal(orange, expected)
    (bright,) = plot.augmented([1 - x], [y], augment=False, patch_size=64, n=1).images
    np.testing.assert_allclose(bright.get_array()[9], bright.get_array()[5], atol=0.02)  # of the ground, which has no outline
    assert pixels[15, 15].min() > 0.9 and pixels[30, 5].max() < 0.1
    wide, mask = (np.concatenate([a, a], axis=1) for a in (x, y))  # 40 x 80: half of a patch of 80 is mirrored
    (drawn,) = plot.augmented([wide], [mask], augment=False, patch_size=80, n=1).images
    pixels = np.asarray(drawn.get_array())
    assert pixels[15, 15] == pytest.approx(pixels[63, 15] / plot.DIMMED, abs=0.02)


def test_augmented_patches_are_those_of_the_seed_in_a_grid():
    x, y = painted()
    (first, again, other) = (
        np.asarray(plot.augmented([x], [y], patch_size=16, n=6, random_state=seed).images[0].get_array()) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and first.shape == (33, 67, 3) and (first[16] == 1).all()
    _, ax = matplotlib.pyplot.subplots()
    assert plot.augmented([x], [y], patch_size=16, n=1, ax=ax) is ax and "1 patches of 16 x 16" in ax.get_title()


@pytest.mark.parametrize(("n", "size"), [(1, (2.2, 3.1)), (4, (8.8, 3.1)), (5, (8.8, 5.3)), (9, (8.8, 7.5))])
def test_a_row_of_patches_makes_the_figure_as_much_higher(n, size):
    x, y = painted()
    assert plot.augmented([x], [y], patch_size=16, n=n).figure.get_size_inches() == pytest.approx(size)


def test_augmented_takes_what_unet_takes_and_refuses_what_it_refuses():
    x, y = painted()
    dark = plot.augmented([x], [y], augment=lambda image, mask, rng: (image * 0 - 1, mask * 0), patch_size=16, n=2).images[0]
    assert (np.asarray(dark.get_array())[:, :16] == 0).all()
    for wrong in ({"augment": "no"}, {"n": 0}, {"patch_size": 0}, {"random_state": -1}):
        (name,) = wrong
        with pytest.raises(ValueError, match=rf"^{name} is "):
            plot.augmented([x], [y], **wrong)
