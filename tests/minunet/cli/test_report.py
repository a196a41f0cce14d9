"""The report of a training: what is on the page, that it needs nothing else, and that a browser shows it."""

from __future__ import annotations

import base64
import html
import io
import itertools
import platform
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import scores_by_hand as by_hand
from PIL import Image

import minunet
from minunet import UNet
from minunet.cli.report import Judged, write_report

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'minunet[plot]'")

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 7}
COMMAND = "minunet train images masks -o model"
DATA = [("images", "3"), ("sizes", "16 x 20")]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
VOID = {"meta", "img", "br", "link", "input", "hr"}


def pictures(n=3, k=2, channels=1, seed=0):
    """Return n images (n, 16, 20, C) and their masks of k values."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, (n, 4, 5)).repeat(4, axis=1).repeat(4, axis=2)
    return (20 * y[..., None] + rng.normal(0, 5, (n, 16, 20, channels))).astype(np.float32), (10 * y).astype(np.uint16)


def fit(k=2, channels=1, **settings):
    x, y = pictures(3, k, channels)
    return UNet(**SMALL | settings).fit(x, y)


@pytest.fixture(scope="module")
def unet():
    return fit()


def judge(unet, x, y, names):
    p = unet.predict_proba(x)
    return [Judged(*example) for example in zip(names, x, y, unet.classes_[p.argmax(axis=-1)], p, strict=True)]


def spoilt(n):
    """Return n examples whose predictions have 0, 1, 2, ... wrong rows of 16."""
    x, y = pictures(n)
    examples = []
    for i in range(n):
        found = y[i].copy()
        found[:i] = 10 - found[:i]
        p = np.stack([found == 0, found == 10], axis=-1).astype(np.float32)
        examples.append(Judged(f"image {i}", x[i], y[i], found, p))
    return examples


def write(folder, unet, judged=(), command=COMMAND, data=DATA, note=""):
    path = write_report(folder, unet, command=command, data=data, judged=judged, note=note)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """A page's elements and texts; asserts that each element that was opened is closed in its turn."""

    def __init__(self, source):
        super().__init__()
        self.opened, self.elements, self.texts = [], [], []
        self.feed(source)
        self.close()
        assert not self.opened

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag):
        assert self.opened.pop() == tag

    def handle_data(self, text):
        if text.strip() and "style" not in self.opened:
            self.texts.append(text.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def row(source, name):
    """Return the cells of the table row of this name."""
    (found,) = re.findall(rf'<tr[^>]*><th scope="row">{re.escape(html.escape(name))}</th>(.*?)</tr>', source)
    return [html.unescape(cell) for cell in re.findall("<td>(.*?)</td>", found)]


def test_what_was_trained_and_how_to_do_it_again(tmp_path, unet):
    source = write(tmp_path, unet, spoilt(3), note="held-out images")
    texts = Page(source).texts
    assert f"{unet.n_parameters_:,}" in texts
    assert f"{unet.history_['val_dice'][-1]:.3f}" in texts
    assert "mask values 0, 10" in source and "(held-out images)" in source
    assert row(source, "sizes") == ["16 x 20"]
    assert COMMAND in texts
    assert row(source, "random_state_") == ["7"]
    versions = {"minunet": minunet.__version__, "Python": platform.python_version(), "NumPy": np.__version__}
    assert {name: row(source, name) for name in versions} == {name: [version] for name, version in versions.items()}
    headings = re.findall("<h[23]>(.*?)</h[23]>", source)
    assert headings == [
        "Data", "Learning curves", "How well it does", "Best and worst predictions", "Best", "Worst", "Settings",
        "How to reproduce",
    ]  # fmt: skip


def test_all_settings_are_listed_and_those_changed_are_marked(tmp_path):
    unet = fit(class_weight=np.array([1.0, 2.0]), learning_rate=np.float64(1e-3))
    source = write(tmp_path, unet)
    for name in unet.get_params():
        assert len(row(source, name)) == 2
    marked = set(re.findall(r'<tr class="changed"><th scope="row">(.*?)</th>', source))
    assert marked == {*SMALL, "class_weight"}
    assert row(source, "depth") == ["1", "default: 4"]
    assert row(source, "class_weight") == ["[1.0, 2.0]", "default: None"]
    assert row(source, "learning_rate") == ["0.001", ""]


def test_each_score_is_that_of_its_definition_over_the_pixels_that_count(tmp_path, unet):
    rng = np.random.default_rng(5)
    truths, found = ([rng.choice([0, 10], size, p=[0.7, 0.3]) for size in ((8, 8), (9, 7), (6, 8))] for _ in range(2))
    counted = [rng.random(t.shape) < 0.8 for t in truths]
    examples = [
        Judged(f"image {i}", rng.random((*t.shape, 1)), t, p, np.stack([p == 0, p == 10], axis=-1).astype(np.float32), here)
        for i, (t, p, here) in enumerate(zip(truths, found, counted, strict=True))
    ]
    source = write(tmp_path, unet, examples)
    of = truths, found, counted
    scores = {c: [f(*of, c) for f in (by_hand.dice, by_hand.iou, by_hand.boundary_f)] for c in (0, 10)}
    true, _ = by_hand.pixels(*of)
    for c, numbers in scores.items():
        assert row(source, str(c)) == [*(f"{number:.3f}" for number in numbers), f"{(true == c).mean():.1%}"]
    assert row(source, "mean") == [*(f"{by_hand.mean(both):.3f}" for both in zip(*scores.values(), strict=True)), ""]
    assert f"Judged by 3 images. {by_hand.pixel_error(*of):.2%} of the pixels are wrong." in Page(source).texts
    for i, one in enumerate(zip(*([[a] for a in masks] for masks in of), strict=True)):
        assert f"<figcaption>image {i}: {by_hand.pixel_error(*one):.2%} of the pixels are wrong</figcaption>" in source


@pytest.mark.parametrize(("seconds", "told"), [(0.4, "0 s"), (99.4, "99 s"), (100, "1.7 minutes"), (5400, "90.0 minutes")])
def test_the_facts_of_the_training_are_its_own(tmp_path, seconds, told):
    unet = fit()
    unet.history_ = {"loss": [0.5, 0.4], "val_dice": [0.1234, 0.5678], "seconds": [0.1, seconds]}
    texts = Page(write(tmp_path, unet)).texts
    facts = dict(itertools.pairwise(texts))
    n = sum(p.size for p in unet.network_.parameters.values())
    wanted = {"parameters": f"{n:,}", "epochs": "2", "time to train": told, "validation Dice": "0.568"}
    assert {name: facts[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("n", "best", "worst"),
    [(1, [0], []), (2, [0], [1]), (3, [0, 1], [2]), (5, [0, 1, 2], [4, 3]), (6, [0, 1, 2], [5, 4, 3]), (8, [0, 1, 2], [7, 6, 5])],
)
def test_no_image_is_among_the_best_and_the_worst(tmp_path, unet, n, best, worst):
    examples = spoilt(n)
    source = write(tmp_path, unet, [examples[i] for i in np.random.default_rng(0).permutation(n)])
    first, _, second = source.partition("<h3>Worst</h3>")
    for part, expected in ((first, best), (second, worst)):
        assert re.findall(r"<figcaption>image (\d): ", part) == [str(i) for i in expected]
    assert ("<h3>Best</h3>" in source) == (n > 1)


def test_the_page_needs_nothing_else(tmp_path, unet):
    source = write(tmp_path, unet, spoilt(2))
    page = Page(source)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert not re.search(r"https?://|@import|url\(|<script", source)
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert {key for _, attributes in page.elements for key in attributes} & {"src", "href", "srcset"} == {"src"}
    assert len(page.all("img")) == 5
    for attributes in page.all("img"):
        kind, _, data = attributes["src"].partition(",")
        assert kind == "data:image/png;base64" and attributes["alt"]
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            assert image.format == "PNG" and image.width > 300
            shown = [int(attributes[name]) for name in ("width", "height")]  # at 96 pixels an inch; the page is 60 rem wide
            assert shown == [side * 96 // 160 for side in image.size] and shown[0] <= 9.6 * 96 + 1
    assert page.all("html") == [{"lang": "en"}]
    assert source.startswith("<!doctype html>") and {"charset": "utf-8"} in page.all("meta") and "<title>" in source
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_what_came_from_outside_is_text(tmp_path, unet):
    name = '<b>"é\n.png'
    x, y = pictures(1)
    hostile = "</code><script>alert('1')</script>&amp;"
    source = write(tmp_path, unet, judge(unet, x, y, [name]), hostile, [(name, "<i>" + hostile)], note=f"<u>{name}")
    page = Page(source)
    assert not {"b", "i", "u", "script"} & {tag for tag, _ in page.elements}
    assert row(source, name) == ["<i>" + hostile]
    assert hostile in page.texts
    assert page.all("img")[-1]["alt"].startswith(name)
    assert any(text.startswith(name) for text in page.texts)


def test_a_name_in_another_encoding_does_not_stop_it(tmp_path, unet):
    source = write(tmp_path, unet, command="minunet train \udce9t\udce9")
    assert r"minunet train \udce9t\udce9" in source


def test_without_images_to_judge_by_it_says_so(tmp_path, unet):
    source = write(tmp_path, unet)
    assert "There were no images to judge the model by." in source
    assert "Best" not in source
    assert len(Page(source).all("img")) == 1


def test_without_validation_it_says_so(tmp_path):
    unet = fit(validation_fraction=0.0)
    assert "val_dice" not in unet.history_
    source = write(tmp_path, unet, spoilt(1))
    assert "Nothing was held out of the training to validate on." in source
    assert "<dt>validation Dice</dt><dd>none</dd>" in source


def test_many_classes_colours_and_a_class_that_is_nowhere(tmp_path):
    unet = fit(k=12, channels=3)
    x, y = pictures(2, 5, channels=3, seed=1)
    p = np.zeros((*y.shape, 12), np.float32)
    np.put_along_axis(p, (y // 10)[..., None].astype(int), 1, axis=-1)
    judged = [Judged(str(i), x[i], y[i], y[i], p[i]) for i in range(2)]
    source = write(tmp_path, unet, judged)
    assert row(source, "40")[:2] == ["1.000", "1.000"]
    assert row(source, "110") == ["-", "-", "-", "0.0%"]
    assert row(source, "mean")[:2] == ["1.000", "1.000"]


def test_what_does_not_count_is_in_no_table(tmp_path, unet):
    _, half = spoilt(2)  # whose first row is wrong
    counted = np.ones(half.truth.shape, bool)
    assert row(write(tmp_path, unet, [half]), "mean")[:2] != ["1.000", "1.000"]
    counted[:1] = False
    source = write(tmp_path, unet, [half._replace(counted=counted)])
    assert "0.00% of the pixels are wrong" in source and row(source, "mean")[:2] == ["1.000", "1.000"]


def test_images_of_different_sizes(tmp_path, unet):
    x, y = pictures(2)
    judged = judge(unet, x[:1], y[:1], ["large"]) + judge(unet, x[1:, :5, :3], y[1:, :5, :3], ["small"])
    assert len(Page(write(tmp_path, unet, judged)).all("img")) == 5


def test_a_loaded_model_an_interrupted_one_and_one_without_an_epoch(tmp_path):
    unet = fit()
    unet.save(tmp_path / "model")
    unet.set_params(random_state=None).interrupted_ = True
    unet.history_["val_dice"] = [0.5]
    assert "interrupted" in write(tmp_path, unet)
    assert "(drawn" in row(write(tmp_path, unet), "random_state_")[0]
    loaded = minunet.load(tmp_path / "model")
    assert "interrupted" not in write(tmp_path, loaded)
    loaded.history_ = {}
    assert "No epoch was finished." in write(tmp_path, loaded)


def test_the_best_epoch_is_told_where_it_is_not_the_last(tmp_path):
    unet = fit()
    unet.history_ = {"loss": [0.5, 0.4, 0.3], "val_dice": [0.7, 0.9, 0.8], "seconds": [60.0, 120.0, 181.0]}
    source = write(tmp_path, unet)
    assert "in epoch 2 it was highest, 0.900" in source
    assert "3.0 minutes" in source
    unet.history_["val_dice"] = [0.8, 0.80001, 0.8]
    assert "highest" not in write(tmp_path, unet)


def test_a_validation_that_was_cut_short_is_told_and_the_last_one_stands(tmp_path):
    unet, nan = fit(), float("nan")
    unet.history_ = {"loss": [0.5, 0.4, 0.3], "val_dice": [0.7, 0.65, nan], "seconds": [60.0, 120.0, 181.0]}
    source = write(tmp_path, unet)
    assert "<dt>validation Dice</dt><dd>0.650</dd>" in source
    assert "that of epoch 2, for the validation of the last one was cut short; in epoch 1 it was highest, 0.700." in source
    unet.history_["val_dice"] = [nan] * 3
    source = write(tmp_path, unet)
    assert "<dt>validation Dice</dt><dd>none</dd>" in source and "cut short" not in source


def test_nothing_is_left_behind_and_pyplot_is_not_asked(tmp_path, unet, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    write(tmp_path, unet, spoilt(2))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write(tmp_path / "missing", unet)


def test_without_matplotlib_nothing_is_written(tmp_path, unet, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"minunet\[plot\]"):
        write(tmp_path, unet)
    assert not list(tmp_path.iterdir())


def browse(tmp_path, page, *flags):
    """Open a page in a browser without a window; return what it printed."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        pytest.skip(f"no browser is here to open the page with: one of {', '.join(BROWSERS)}")
    common = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path / 'profile'}",
    ]  # fmt: skip
    command = [browser, *common, "--window-size=1100,1600", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_browser_shows_the_page_and_all_its_pictures(tmp_path, unet):
    x, y = pictures(2)
    path = write_report(tmp_path, unet, command=COMMAND, data=DATA, judged=judge(unet, x, y, ["é<1>", "2"]))
    browse(tmp_path, path, f"--screenshot={tmp_path / 'page.png'}")
    with Image.open(tmp_path / "page.png") as screenshot:
        assert screenshot.size == (1100, 1600)
        grey = np.asarray(screenshot.convert("L"))
    assert len(np.unique(grey)) > 50 and 0.005 < (grey < 200).mean() < 0.9

    # A copy that may run one script, which tells how large the browser found each picture to be.
    count = "document.title = [...document.images].map(i => i.complete ? i.naturalWidth : 0).join(' ')"
    source = path.read_text(encoding="utf-8").replace("default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'")
    copy = tmp_path / "copy.html"
    copy.write_text(source.replace("</body>", f"<script>onload = () => {{ {count} }}</script></body>"), encoding="utf-8")
    dom = browse(tmp_path, copy, "--dump-dom")
    for heading in ("Report of a training", "Learning curves", "Best and worst predictions", "How to reproduce"):
        assert f">{heading}</h" in dom
    assert "é&lt;1&gt;: " in dom
    widths = [int(width) for width in re.search("<title>(.*?)</title>", dom)[1].split()]
    assert len(widths) == 4 and min(widths) > 300
