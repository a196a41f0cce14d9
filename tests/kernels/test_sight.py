"""What a pixel sees, by its definition: each pixel with the pixels of the image that it is made from."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minunet.kernels import shapes
from minunet.kernels.sight import Sight

jumps = st.sampled_from([Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(4)])


@st.composite
def sights(draw, jump=None):
    """Any sights, narrow and wide, before the pixel and behind it, each place another."""
    spans = draw(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=1, max_size=4))
    low, high = zip(*((Fraction(low), Fraction(low + more)) for low, more in spans), strict=True)
    return Sight(draw(jumps) if jump is None else jump, low, high)


def ends(sight, p):
    """The first and the last pixel that pixel p sees."""
    m = len(sight.low)
    return sight.jump * p + sight.low[p % m], sight.jump * p + sight.high[p % m]


@given(sight=sights(), margin=st.integers(0, 5))
def test_a_halo_is_the_least_around_a_region_that_holds_what_it_sees(sight, margin):
    m = len(sight.low)
    seen = [end for p in range(m) for end in ends(sight, p)]

    def holds(halo):
        return margin - halo <= min(seen) and max(seen) <= margin + sight.jump * m - 1 + halo

    halo = sight.halo(margin)
    assert holds(halo)
    assert halo == 0 or not holds(halo - 1)


@given(one=sights(Fraction(1)), other=sights(Fraction(1)))
def test_where_two_meet_a_pixel_sees_what_each_saw(one, other):
    both = one | other
    for p in range(24):
        (low, high), (other_low, other_high) = ends(one, p), ends(other, p)
        assert ends(both, p) == (min(low, other_low), max(high, other_high))


@given(sight=sights(Fraction(1)), kernel=st.integers(1, 4), stride=st.integers(1, 3), padding=st.integers(0, 2))
def test_a_window_sees_what_its_pixels_saw(sight, kernel, stride, padding):
    found = sight.windows(kernel, stride, padding)
    for p in range(-6, 12):
        seen = [end for i in range(kernel) for end in ends(sight, p * stride - padding + i)]
        assert ends(found, p) == (min(seen), max(seen))
    spans = [ends(found, p) for p in range(len(found.low))]
    assert found.field == max(last - first for first, last in spans) + 1


@given(sight=sights(Fraction(4)), kernel=st.integers(1, 5), stride=st.sampled_from([1, 2, 4]), padding=st.integers(0, 2))
def test_what_is_painted_sees_what_those_saw_that_paint_it(sight, kernel, stride, padding):
    found = sight.painted(kernel, stride, padding)
    for h in range(-6, 12):
        painters = [p for p in range(-12, 20) if 0 <= h + padding - p * stride < kernel] or [h // stride]
        seen = [end for p in painters for end in ends(sight, p)]
        assert ends(found, h) == (min(seen), max(seen))


def test_what_numpy_makes_sees_what_each_part_of_it_saw_and_of_sums_over_the_image_all():
    sight = Sight(Fraction(1), (Fraction(-2),), (Fraction(3),))
    wider = Sight(Fraction(1), (Fraction(-5),), (Fraction(0),))
    a, b = (shapes.outline((1, 8, 8, 4), "float32", sight=s) for s in (sight, wider))
    unseen = shapes.outline((4,), "float32")
    for same in (np.exp(a), a * 2, a + unseen, unseen + a, a[..., 1:], a.astype("float64"), a.copy(), a.reshape(1, 8, 8, 2, 2)):
        assert same.sight == sight
    for both in (a + b, b + a, np.where(a > 0, b, a), np.concatenate((a, b), axis=3)):
        assert both.sight == sight | wider
    mean, finer = a.mean(axis=(1, 2), keepdims=True), shapes.outline(a.shape, a.dtype, sight=Sight(Fraction(1, 2)))
    for whole in (
        a + finer,
        mean,
        a - mean,
        mean - a,
        np.concatenate((b, a - mean), axis=3),
        a.sum(),
        np.mean(a),
        a.reshape(1, 64, 4),
    ):
        assert whole.sight == shapes.ALL
    assert (unseen + 1).sight is unseen.sum().sight is None
