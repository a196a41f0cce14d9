"""A training that cannot work says why, once, when that is clear; one that works says nothing (pytest makes warnings errors)."""

from __future__ import annotations

import os
import signal
import warnings

import numpy as np
import pytest
from diagnoses import CONSTANT, EVEN, LEARNED, LOST, NOTHING, Stub, diagnosis, learned_by_heart, only, train

from minunet import UNet
from minunet.data.datasets import cells
from minunet.data.sampling import Example
from minunet.losses import LOSSES, CrossEntropy, Dice, Tversky

# What knowing nothing costs


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("weighted", "parts"), [(False, (0.5, 0.7, 0, 1)), (True, (0.5, 0.7, 0, 1)), (False, (0.3, 0, 0, 0))])
def test_blind_is_the_best_answer_that_is_the_same_everywhere(name, weighted, parts):
    """Compared with all such answers on the patches themselves, in the loss's own words."""
    rng = np.random.default_rng(1)
    class_weight = np.array([1.0, 4.0]) if weighted else None
    it = diagnosis(loss=LOSSES[name], weighed=class_weight)
    batches = []
    for share in parts:  # some have a single class
        labels = (rng.random((1, 6, 8)) < share).astype(int)
        weights = rng.integers(0, 3, labels.shape).astype(np.float32) if weighted else None
        it.on_step(np.zeros((1, 6, 8, 1)), labels, weights)
        w = np.ones(labels.shape) if weights is None else weights * np.array([1.0, 4.0])[labels]
        batches.append((labels, w))
    it.on_epoch_end({"loss": [1.0]}, over=False)

    def loss_of(q):
        logits = np.log(np.array([1 - q, q]))
        means = [LOSSES[name].value_and_grad(np.broadcast_to(logits, (1, 6, 8, 2)).copy(), batch)[0] for batch in batches]
        return float(np.mean(means))

    tried = min(map(loss_of, np.linspace(1e-6, 1 - 1e-6, 400)))
    assert it.epochs[0].blind == pytest.approx(tried, rel=0.03)
    if name == "cross_entropy" and not weighted:
        q = np.mean([labels.mean() for labels, _ in batches])
        assert it.epochs[0].blind == pytest.approx(-(q * np.log(q) + (1 - q) * np.log(1 - q)))


def test_a_step_whose_pixels_have_no_weight_costs_nothing():
    it = diagnosis()
    it.on_step(np.zeros((1, 1, 2, 1)), np.array([[[0, 1]]]), None)
    it.on_step(np.zeros((1, 1, 2, 1)), np.array([[[0, 1]]]), np.zeros((1, 1, 2)))
    it.on_epoch_end({"loss": [1.0]}, over=False)
    assert it.epochs[0].blind == pytest.approx(EVEN / 2)
    assert it.epochs[0].weight == 1
    it.on_step(np.zeros((1, 1, 4, 1)), np.array([[[0, 1, 1, 1]]]), None)  # the next epoch is another
    it.on_epoch_end({"loss": [1.0]}, over=False)
    assert it.epochs[1].blind == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))


# A loss that does not move


def test_a_loss_that_stays_where_it_began_is_too_low_a_rate():
    told = train(diagnosis(), [0.9 + 0.001 * (i % 3) for i in range(40)])
    only(told, 24, "hardly moved in 600 steps", "from 0.9 to 0.902", "0.02 is too low", "--learning-rate 0.2")
    only(train(diagnosis(learning_rate=1e-5), [0.9] * 40), 24, "1e-05 is too low", "the default is 0.001 (--learning-rate 0.001)")


@pytest.mark.parametrize(("epochs", "speaks"), [(7, False), (8, True)])
def test_a_short_training_says_nothing_and_a_longer_one_at_its_end(epochs, speaks):
    assert bool(train(diagnosis(), [0.9] * epochs)) is speaks
    assert not train(diagnosis(), [0.9] * 23, over=False)  # Ctrl-C


def test_a_loss_that_moved_but_stays_above_is_too_high_a_rate():
    told = train(diagnosis(), [5.0, *[0.9, 0.8] * 15], patches=LEARNED)
    only(told, 24, "does not come down", "a lower learning_rate than 0.02 (--learning-rate 0.002)")
    told = train(diagnosis(), [1e6 * 0.8**i for i in range(10)], patches=LEARNED)  # it falls, from where no loss should be
    only(told, 10, "does not come down")


def test_what_still_falls_is_given_time_and_more_epochs():
    falling = [2.0 * 0.99**i for i in range(30)]
    told = train(diagnosis(), falling)
    only(told, 30, "still falling when the training ended", "--max-epochs", "a higher learning_rate than 0.02")
    assert not train(diagnosis(), falling, over=False)


def test_dead_units_give_one_answer():
    network = Stub()
    network.__class__ = type("Dead", (Stub,), {"__call__": lambda self, x: np.tile(np.float32([1, 2]), (*x.shape[:3], 1))})
    told = train(diagnosis(network=network), [30.0] + [EVEN] * 29)
    only(told, 24, "the same answer at every pixel", "a lower learning_rate than 0.02 (--learning-rate 0.002)")
    for loss in (Dice(), Tversky()):
        told = train(diagnosis(network=network, loss=loss), [0.5] * 30)
        assert "--loss cross_entropy+dice" in only(told, 24, "the same answer at every pixel")


def test_dice_drowns_in_small_weights():
    told = train(diagnosis(loss=Tversky()), [0.01] * 30, weights=1e-4)
    only(told, 24, "add up to 0.004, so little", "sample_weight")
    told = train(diagnosis(loss=Dice()), [0.01] * 30, weights=1e-4)
    only(told, 24, "add up to 0.004, so little", "sample_weight")
    assert not train(diagnosis(loss=Dice()), [0.0005] * 30, weights=1e-4, patches=LEARNED)  # far less than nothing known costs
    told = train(diagnosis(), [EVEN] * 30, weights=1e-4)  # of cross-entropy's mean they are no matter
    only(told, 24, "finds nothing")


# Masks that do not fit


def test_a_loss_that_stays_at_the_shares_level_finds_nothing():
    told = train(diagnosis(), [1.2, *[EVEN] * 39])
    only(told, 24, "the loss is 0.693, and knowing nothing but the classes' shares gives 0.693", "minunet check", "other images")


@pytest.mark.parametrize(
    ("level", "patches", "speaks"),
    [(0.96, NOTHING, True), (0.94, LEARNED, False), (0.9, NOTHING, True), (0.9, LEARNED, False), (0.8, NOTHING, False)],
)
def test_how_much_is_nothing(level, patches, speaks):
    q = 0.5 if patches is NOTHING else 0.2
    blind = -(q * np.log(q) + (1 - q) * np.log(1 - q))
    assert bool(train(diagnosis(), [level * blind] * 30, patches=patches)) is speaks


def test_what_fell_before_the_last_two_windows_is_past():
    only(train(diagnosis(), [1.2] * 12 + [EVEN] * 28), 24, "finds nothing")


def test_pixels_of_weight_0_are_not_asked():
    weights = [1] * 10 + [0] * 20 + [1] * 10 + [1] * 10 + [1] * 10 + [0] * 80
    only(train(diagnosis(), [0.9 * EVEN] * 30, patches=[[30, 10], [10, 90]], weights=weights), 24, "finds nothing")


def test_what_is_found_in_images_held_out_is_something():
    assert not train(diagnosis(), [EVEN] * 30, held_out=[[15, 5], [5, 15]])
    only(train(diagnosis(), [EVEN] * 30, held_out=NOTHING), 24, "finds nothing")


def test_turned_masks_are_told_as_such():
    x, y = cells(3, 64)
    examples = [Example((image / 255)[..., None], (mask > 0).astype(np.int32).T, None) for image, mask in zip(x, y, strict=True)]
    only(train(diagnosis(examples=examples), [EVEN] * 30), 24, "fit them as mask.T", "load both in the same way")


def test_with_a_loss_of_ones_own_levels_are_not_known():
    class Mine(CrossEntropy):
        """Counts as its parent does, and may mean something else."""

    it = diagnosis(loss=Mine())
    assert not train(it, [EVEN] * 30, over=False)
    assert np.isnan(it.epochs[0].blind)


# One class for every pixel


def test_one_class_everywhere_is_named_with_the_others_share():
    told = train(diagnosis(frequencies=(0.03, 0.97)), [0.14] * 40, patches=CONSTANT, held_out=CONSTANT)
    text = only(told, 24, "gives class 7 to every pixel that is held out; the other classes are 3.00% of all pixels")
    for way in ("--class-weight balanced", "--loss cross_entropy+dice", "--max-epochs", "a higher learning_rate"):
        assert way in text
    told = train(diagnosis((3, 7), frequencies=(0.97, 0.03)), [0.14] * 40, patches=[[97, 0], [3, 0]])
    only(told, 24, "gives class 3 to every pixel of the last patches")  # where nothing is held out


def test_what_is_set_already_is_not_offered():
    settings = {"loss": CrossEntropy() + Tversky(), "class_weight": "balanced", "frequencies": (0.03, 0.97)}
    told = train(diagnosis(**settings), [0.8, *[0.3] * 30], patches=CONSTANT, held_out=CONSTANT)
    text = only(told, 24, "gives class 7 to every pixel")
    assert "cross_entropy+dice" not in text and "a higher learning_rate" not in text


def test_a_class_everywhere_is_told_by_its_cause():
    """Of classes that are not rare, or weighed, the loss at their shares' level says more."""
    told = train(diagnosis(frequencies=(0.03, 0.97), class_weight="set"), [0.14] * 30, patches=CONSTANT)
    only(told, 24, "finds nothing in the images")
    shares = [[0, 20], [0, 80]]
    told = train(diagnosis(), [0.5] * 30, patches=shares, held_out=shares)
    only(told, 24, "finds nothing in the images")
    told = train(diagnosis(), [0.3] * 30, patches=shares, held_out=shares)  # far below that level
    only(told, 24, "gives class 7 to every pixel")


def test_a_constant_answer_has_to_last():
    held_out = [CONSTANT] * 22 + [[[1, 2], [0, 97]]] * 18
    assert not train(diagnosis(frequencies=(0.03, 0.97)), [0.1] * 40, patches=CONSTANT, held_out=held_out)
    turns = [CONSTANT, [[0, 3], [1, 96]]] * 20
    assert not train(diagnosis(frequencies=(0.03, 0.97)), [0.1] * 40, patches=CONSTANT, held_out=turns)
    falling = [0.09 * 0.98**i for i in range(40)]
    assert not train(diagnosis(frequencies=(0.03, 0.97)), falling, patches=CONSTANT, held_out=CONSTANT, over=False)
    wrong = [[0, 100], [0, 0]]
    assert not train(diagnosis(frequencies=(0.03, 0.97)), [0.1] * 30, patches=CONSTANT, held_out=wrong)
    one = [[0, 0], [0, 100]]  # nothing else is there to be found
    assert not train(diagnosis(frequencies=(0.03, 0.97)), [0.1] * 30, patches=one, held_out=one)


def test_too_few_pixels_held_out_say_nothing():
    it = diagnosis()
    for n, known in ((1023, False), (1024, True)):
        it.on_held_out(np.full((2, 2), n))
        it.on_epoch_end({"loss": [1.0]}, over=False)
        assert (it.epochs[-1].found is not None) is known
    it.on_epoch_end({"loss": [1.0]}, over=False)
    assert it.epochs[-1].found is None  # it is an epoch's own


# Held out


def test_images_held_out_that_are_of_another_kind():
    rising = {"val_losses": [0.6 + i for i in range(40)], "dices": [0.25] * 40}
    told = train(diagnosis(), [0.6, *[0.2] * 39], patches=LEARNED, held_out=LOST, **rising)
    only(told, 24, "val_dice is 0.250, where chance gives 0.500", "are learned (agreement beyond chance: 100%)", "another kind")


@pytest.mark.parametrize(
    ("held_out", "patches", "loss"),
    [([[8, 12], [12, 68]], LEARNED, 0.2), (LOST, [[6, 14], [14, 66]], 0.2), (LOST, LEARNED, 0.4),
     ([LOST, LEARNED] * 20, LEARNED, 0.2)],
)  # fmt: skip
def test_a_network_that_does_alike_on_both_is_none_of_that(held_out, patches, loss):
    assert not train(diagnosis(), [0.6, *[loss] * 39], patches=patches, held_out=held_out)


def test_that_does_not_wait_for_the_loss_to_stop_falling():
    told = train(diagnosis(), [0.4 * 0.98**i for i in range(40)], patches=LEARNED, held_out=LOST)
    only(told, 24, "another kind")


def test_learning_by_heart_is_told_with_both_losses():
    text = only(learned_by_heart(augment=False), 24, "was 0.3 in epoch 11 (val_dice 0.800)", "risen to 0.9 (val_dice 0.700)")
    assert "while loss fell from 0.4 to 0.2" in text and "fewer epochs" in text
    assert all(way in text for way in ("augment=True (--augment)", "dropout=0.5 (--dropout 0.5)", "more images"))
    text = only(learned_by_heart(dropout=0.2), 24, "more images")
    assert "augment" not in text and "dropout" not in text


@pytest.mark.parametrize("given", [{"best": 16}, {"rises": 1.9}, {"falls": 0.8}, {"n": 7, "best": 2}])
def test_what_is_not_long_not_far_or_not_apart_is_no_learning_by_heart(given):
    assert not learned_by_heart(**given)


def test_more_epochs_that_were_worth_it_are_not_taken_back():
    dices = [0.7 + 0.001 * i for i in range(30)]
    losses, val_losses = [0.4] * 10 + [0.1] * 20, [0.3] * 10 + [0.9] * 20
    told = train(diagnosis(), losses, patches=LEARNED, held_out=LEARNED, val_losses=val_losses, dices=dices)
    assert "fewer epochs" not in only(told, 24, "val_loss was 0.3 in epoch 1 ", "more images")


def test_what_costs_hardly_anything_may_rise():
    losses, val_losses = [0.04] * 10 + [0.02] * 20, [0.03] * 10 + [0.09] * 20
    assert not train(diagnosis(), losses, patches=LEARNED, held_out=LEARNED, val_losses=val_losses)


# Classes that no patch shows


def unseen(labels, *, epochs=8, weights=None, over=True, open_to=None, **settings):
    """Return what is told where each step's patch has these labels, of masks that hold the classes 5, 6 and 9."""
    mask = np.array([[0, 0, 1, 2]] * 4)
    examples = [Example(np.zeros((4, 4, 1)), mask, None if open_to is None else np.float32(mask < open_to))]
    it = diagnosis((5, 6, 9), examples=examples, **{"frequencies": (0.5, 0.25, 0.25)} | settings)
    told = []
    for epoch in range(epochs):
        it.on_step(np.zeros((2, 1, 4, 1)), np.array([[labels]] * 2), None if weights is None else np.array([[weights]] * 2))
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            it.on_epoch_end({"loss": [1.0]}, over=over and epoch == epochs - 1)
        told += [(epoch + 1, str(one.message)) for one in found]
    return told


def test_a_class_that_no_patch_shows_is_named_with_its_share():
    only(unseen([0, 1, 1, 0]), 5, "no pixel of class 9 (0.25 of all) was in any of the 10 patches", "--patch-size")
    only(unseen([0, 0, 0, 0], epochs=1), 1, "class 6 (0.25 of all) or 9 (0.25 of all)", "2 patches")
    assert not unseen([0, 1, 2, 0])
    assert not unseen([0, 1, 1, 0], epochs=4, over=False)


def test_what_has_no_weight_is_not_seen():
    only(unseen([0, 1, 2, 0], weights=[1, 1, 0, 1]), 5, "class 9 ")
    assert not unseen([0, 1, 2, 0], weights=[1, 1, 0.5, 1])


def test_a_class_that_does_not_count_or_is_nowhere_may_be_unseen():
    assert not unseen([0, 1, 1, 0], weighed=np.array([1.0, 1.0, 0.0]))
    assert not unseen([0, 1, 1, 0], frequencies=(0.75, 0.25, 0.0))
    assert not unseen([0, 1, 1, 0], open_to=2)  # of the last class no pixel has a weight


# Whole trainings

FIT = {
    "base_channels": 4, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 8, "learning_rate": 1e-2, "verbose": 0,
    "random_state": 0,
}  # fmt: skip


def discs(n, seed=0):
    """Return images (n, 48, 48) with bright discs on a dark ground, and their masks of 0 and 255."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:48, :48]
    centres = rng.uniform(0, 48, (n, 6, 2))
    y = np.array([np.any([np.hypot(rows - r, cols - c) < 6 for r, c in own], axis=0) for own in centres])
    return (70 + 110 * y + rng.normal(0, 20, y.shape)).clip(0, 255).astype(np.uint8), np.where(y, 255, 0)


def fitted(x, y, *, fit=None, **settings):
    """Return what a training tells, at this line."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        UNet(**FIT | settings).fit(x, y, **fit or {})
    assert all(one.filename == __file__ for one in told)
    return [str(one.message) for one in told]


@pytest.mark.parametrize(
    "settings",
    [{"random_state": 1, "validation_fraction": 0.0, "class_weight": "balanced"}, {"loss": "dice", "padding": "valid"},
     {"max_epochs": 2, "learning_rate": 1e-12}],
)  # fmt: skip
def test_trainings_that_work_are_left_alone(settings):
    x, y = discs(1 if "padding" in settings else 2)
    assert fitted(x, y, **settings) == []


def test_a_rate_that_moves_nothing_and_ctrl_c_before_that_is_clear(monkeypatch):
    class Press:
        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("minunet.training.diagnosis.SHORT", 50)
    (text,) = fitted(*discs(2), learning_rate=1e-12, max_epochs=3)
    assert "hardly moved in 75 steps" in text
    (text,) = fitted(*discs(1), learning_rate=1e-12, max_epochs=4, fit={"callbacks": [Press()]})
    assert text.startswith("interrupted")


def test_masks_of_other_images():
    x, y = discs(4)
    (text,) = fitted(x, y[[1, 2, 3, 0]])
    assert "finds nothing in the images" in text


def test_masks_with_rows_for_columns():
    x, y = discs(2)
    (text,) = fitted(x, y.swapaxes(1, 2))
    assert "fit them as mask.T" in text


def test_images_held_out_with_masks_of_others():
    x, y = discs(6)
    (text,) = fitted(x[:2], y[:2], fit={"validation_data": (x[2:], y[[3, 4, 5, 2]])})
    assert "another kind" in text


def test_a_class_of_a_few_pixels_in_a_large_image():
    x, y = (np.tile(a, (1, 4, 4)) for a in discs(1))
    y[0, 0, :2] = 7
    assert not fitted(x, y, max_epochs=1)  # a third of the patches is drawn to show it


def test_shifted_masks_are_told_before():
    x, y = discs(2)
    (text,) = fitted(x, np.roll(y, 8, axis=1), max_epochs=1)
    assert text.startswith("x[0] (+8 rows, +0 columns), x[1] (+8 rows, +0 columns): the mask looks shifted")
