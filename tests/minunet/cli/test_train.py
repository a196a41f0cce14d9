"""What `minunet train` says of the data and of the model, and what its report judges by."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minunet import UNet
from minunet.cli import train
from minunet.data.codes import codes_of
from minunet.data.folders import Pair

SMALL = {"base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0}


def pair(i, size, values, channels=(), dtype=np.uint8, **told):
    rng = np.random.default_rng(i)
    image = rng.integers(0, 200, (*size, *channels)).astype(dtype)
    return Pair(f"{i}.png", image, rng.choice(values, size).astype(np.uint8), Path(f"{i}.png"), **told)


def test_the_data_is_told_with_its_sizes_kinds_and_shares():
    pairs = [pair(0, (16, 20), [0, 9], pixel_size=(0.5, 0.5)), pair(1, (16, 20), [0], pixel_size=(0.5, 0.5))]
    pairs.append(pair(2, (8, 30), [0, 4], (3,), np.uint16, pixel_size=(0.5, 0.5)))
    found = [codes_of(p.mask, np.ones(p.mask.shape, bool), p.name) for p in pairs]
    n = sum(p.mask.size for p in pairs)
    shares = {value: sum(int((p.mask == value).sum()) for p in pairs) / n for value in (0, 4, 9)}
    told = dict(train.describe(pairs, [], found, None))
    assert told["images"] == "3" and told["sizes"] == "8 x 30, 16 x 20"
    assert told["pixels"] == "3 channels, uint16; grey, uint8; 0.5 micrometres"
    assert told["classes"] == ", ".join(f"{value} ({share:.1%})" for value, share in shares.items())
    told = dict(train.describe(pairs, pairs[:2], found, [0, (9, 4)]))
    assert told["images"] == "3, and 2 to validate on"
    assert told["classes"] == f"0 ({shares[0]:.1%}), 9 ({shares[4] + shares[9]:.1%}) (--classes 0 9,4)"


def fitted(pairs, held_out=(), **settings):
    unet = UNet(**SMALL | settings)
    validation = train._xy(held_out) if held_out else None
    return unet.fit(*train._xy(pairs), validation_data=validation, ignore_index=7)


@pytest.mark.parametrize(
    ("n", "fraction", "n_held", "note"),
    [
        (3, 0.0, 0, "the training images: none was held out, so expect worse on others"),
        (12, 0.2, 0, "images held out of the training"),
        (3, 0.2, 0, "the strip held out of each training image"),
        (3, 0.2, 2, "the validation images"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_report_judges_by_what_was_not_learned_from(n, fraction, n_held, note):
    pairs = [pair(i, (24, 26), [0, 5, 7]) for i in range(n)]
    held_out = [pair(90 + i, (16, 18), [0, 5, 7]) for i in range(n_held)]
    unet = fitted(pairs, held_out, validation_fraction=fraction)
    judged, told = train.judge(unet, pairs, held_out)
    assert told == note
    whole = [(p, np.s_[:, :]) for p in held_out or pairs]
    expected = whole if n_held or not fraction else [(pairs[part.image], (part.rows, part.cols)) for part in unet.held_out_]
    assert len(judged) == len(expected) > 0
    for one, (source, where) in zip(judged, expected, strict=True):
        assert one.name == source.name
        np.testing.assert_array_equal(one.image[..., 0], source.image[where])
        counts = source.mask[where] != 7
        np.testing.assert_array_equal(one.counted, counts)
        np.testing.assert_array_equal(one.truth[counts], source.mask[where][counts])
        np.testing.assert_array_equal(one.prediction, unet.classes_[one.probability.argmax(axis=-1)])
        np.testing.assert_array_equal(one.probability, unet.predict_proba([source.image[where]])[0])


@pytest.mark.parametrize("n", [3, 12])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_slices_are_judged_as_they_are_seen_between_their_neighbours(n):
    pairs = [dataclasses.replace(pair(i, (24, 26), [0, 5]), path=Path("stack.tif")) for i in range(n)]
    unet = UNet(**SMALL, context=1).fit(*train._xy(pairs), groups=[p.path for p in pairs])
    judged, _ = train.judge(unet, pairs, [])
    whole = unet.predict_proba([p.image for p in pairs])
    assert len(judged) == len(unet.held_out_) > 0
    for one, part in zip(judged, unet.held_out_, strict=True):
        np.testing.assert_array_equal(one.probability, whole[part.image][part.rows, part.cols])
        np.testing.assert_array_equal(one.truth, pairs[part.image].mask[part.rows, part.cols])


@pytest.mark.parametrize(
    ("dice", "best", "told"),
    [
        ([0.5, 0.25], None, " (validation Dice 0.250)"), ([0.5, np.nan], None, " (validation Dice 0.500, of epoch 1)"),
        ([0.5, 0.25], 0, " (validation Dice 0.500, of epoch 1)"), ([], None, ""), ([0.25, 0.5], 1, " (validation Dice 0.500)"),
    ],
)  # fmt: skip
def test_the_score_of_the_model_is_told(dice, best, told):
    model = {"early_stopping": best is not None, "best_epoch_": best, "best_score_": None if best is None else dice[best]}
    assert train._score(SimpleNamespace(**model, history_={"val_dice": dice}, n_iter_=2)) == told
