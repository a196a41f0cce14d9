"""The drawing of the U: what is on it, and where."""

from __future__ import annotations

import sys

import pytest

from minunet import Network, UNet, plot
from minunet.summary import summarize

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'minunet[plot]'")
matplotlib.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    matplotlib.pyplot.close("all")


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


def arrows(ax):
    """Return how many arrows there are of each colour."""
    colours = [text.arrow_patch.get_edgecolor() for text in ax.texts if getattr(text, "arrow_patch", None)]
    names = {name: matplotlib.colors.to_rgba(getattr(plot, name)) for name in ("CONV", "POOL", "UP", "SKIP", "HEAD")}
    return {name: colours.count(colour) for name, colour in names.items()}


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_an_arrow_for_each_step_and_a_box_for_each_array(depth):
    ax = plot.architecture(Network(base_channels=2, depth=depth), (64, 64))
    assert arrows(ax) == {"CONV": 2 * (2 * depth + 1), "POOL": depth, "UP": depth, "SKIP": depth, "HEAD": 1}
    assert len(ax.patches) == 1 + 2 * (2 * depth + 1) + depth + 2 * depth + 1  # image, convolutions, pools, skip and up, head


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


def test_nothing_lies_outside_of_the_axes():
    ax = plot.architecture(Network(base_channels=4, depth=4), (512, 512))
    ax.figure.canvas.draw()
    frame = ax.get_window_extent().expanded(1.03, 1.03)
    for text in ax.texts:
        box = text.get_window_extent()
        assert text.get_text() == "" or (frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1)), text


def test_the_writing_does_not_overlap():
    ax = plot.architecture(UNet.ronneberger2015(), (572, 572))
    ax.figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent()) for text in ax.texts if text.get_text()]
    for i, (one, box) in enumerate(boxes):
        for other, box2 in boxes[i + 1 :]:
            assert not box.shrunk(0.95, 0.8).overlaps(box2.shrunk(0.95, 0.8)), (one, other)


def test_it_draws_into_the_axes_it_is_given_and_takes_an_estimator():
    _, ax = matplotlib.pyplot.subplots()
    assert plot.architecture(UNet(base_channels=2, depth=1), (32, 32), ax=ax) is ax
    assert len(matplotlib.pyplot.get_fignums()) == 1


def test_a_size_that_does_not_fit_is_refused_before_anything_is_drawn():
    with pytest.raises(ValueError, match="nearest"):
        plot.architecture(Network(base_channels=2), (500, 512))
    assert not matplotlib.pyplot.get_fignums()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"minunet\[plot\]"):
        plot.architecture(Network(base_channels=2), (64, 64))
