"""Run as a program: the kernels on arrays that end, or start, right where memory that nobody may touch begins.

A byte read or written outside an array, or outside what a kernel allocates, ends the process: the last line that it
printed says in which case. What is allocated is filled with NaN, addresses of nowhere: so nothing unwritten is used either.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import sys
from unittest import mock

import numpy as np

PAGE = mmap.PAGESIZE
LIBC = ctypes.CDLL(None, use_errno=True)
SKIP = 77  # exit status: no such memory here

plain_empty = np.empty


def guarded(shape, dtype=float, *, at_end=True, step=1):
    """Return an array of 0xFF bytes that touches a page without any right: behind it, or before it."""
    dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    size = int(math.prod(shape)) * dtype.itemsize
    room = -(-size // PAGE) * PAGE
    region = mmap.mmap(-1, room + 2 * PAGE)
    whole = np.frombuffer(region, np.uint8)  # keeps the region for as long as there are views
    whole[:] = 0xFF
    address = whole.__array_interface__["data"][0]
    for page in (address, address + PAGE + room):
        if LIBC.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
            print("mprotect:", os.strerror(ctypes.get_errno()))
            sys.exit(SKIP)
    start = PAGE + ((room - size) // step * step if at_end else 0)
    return whole[start : start + size].view(dtype).reshape(shape)


def put(array, at_end, beside=0):
    """Copy an array to where a guard stands behind or before it; `beside`: as a slice of an array of more channels."""
    copy, _ = room_for(array.shape, array.dtype, at_end, beside)
    copy[...] = array
    copy.flags.writeable = False
    return copy


def room_for(shape, dtype, at_end, beside=0):
    """Return an array that touches a guard, a slice of the channels of a wider one, and the channels beside it."""
    wide, c = guarded((*shape[:-1], shape[-1] + beside), dtype, at_end=at_end), shape[-1]
    return (wide[..., beside:], wide[..., :beside]) if at_end else (wide[..., :c], wide[..., c:])


@contextlib.contextmanager
def results_guarded(at_end, least=1):
    """Let what NumPy hands out as empty, from so many bytes up, touch a guard too."""

    def empty(shape, dtype=float, *args, **options):
        plain = plain_empty(shape, dtype, *args, **options)
        return plain if plain.nbytes < least or plain.dtype.hasobject else guarded(shape, dtype, at_end=at_end)

    with mock.patch.object(np, "empty", empty):
        yield


@contextlib.contextmanager
def all_allocations_guarded(at_end):
    """Let each job's working memory touch a guard, beside what NumPy hands out as empty."""
    from minunet.kernels.cpu import threads

    kept = []

    def scratch(size):
        kept.append(guarded(size, np.uint8, at_end=at_end, step=64))
        return kept[-1].__array_interface__["data"][0]

    with results_guarded(at_end), mock.patch.object(threads, "scratch", scratch):
        yield


def convolutions():
    """Give (name, geometry): few channels and many, addressed and laid out, all widths of panels, several blocks of each kind."""
    from minunet.testing.strategies import Geometry

    for c, k in ((1, 1), (1, 9), (3, 17), (4, 2), (5, 33), (8, 16), (17, 5), (41, 8), (130, 3)):
        for kernel, stride, padding in (
            ((3, 3), (1, 1), (1, 1)), ((3, 3), (1, 1), (0, 0)), ((1, 1), (1, 1), (0, 0)), ((2, 2), (2, 2), (0, 0)),
            ((1, 2), (3, 2), (0, 1)), ((7, 3), (1, 2), (3, 0)),
        ):  # fmt: skip
            yield Geometry((2, 7, 9, c), kernel, k, stride, padding)
    yield Geometry((1, 40, 37, 5), (3, 3), 9, (1, 1), (1, 1))
    yield Geometry((3, 1, 1, 6), (1, 1), 7, (1, 1), (0, 0))
    yield Geometry((1, 33, 70, 1), (3, 3), 4, (1, 1), (1, 1))


def prove_convolutions(cpu, dtype, at_end):
    from fused import reference

    from minunet.testing import strategies

    for g in convolutions():
        print(dtype.__name__, "at end" if at_end else "at start", g, flush=True)
        rng = np.random.default_rng(0)
        plain = [strategies.integers(rng, s, dtype) for s in (g.x_shape, g.w_shape, (g.k,), g.y_shape, (g.x_shape[3],))]
        x, w, b, dy, back = (put(array, at_end) for array in plain)
        y, dx = (guarded(shape, dtype, at_end=at_end) for shape in (g.y_shape, g.x_shape))
        expected = reference.conv2d(*plain[:3], relu=True, **g.options)
        mask = put(expected, at_end)
        with all_allocations_guarded(at_end):
            for algorithm in ("direct", "im2col") if g.k in (1, 17) else ("direct",):
                options = {"algorithm": algorithm} | g.options
                cpu.conv2d(x, w, b, relu=True, out=y, **options)
                np.testing.assert_array_equal(cpu.conv2d(x, w, b, relu=True, **options), expected)
                np.testing.assert_array_equal(y, expected)
                dx = cpu.conv2d_input_grad(dy, w, g.x_shape, mask=mask, b=back, out=dx, **options)
                dw, db = cpu.conv2d_weight_grad(x, dy, g.w_shape, mask=mask, **options)
                free = cpu.conv2d_input_grad(dy, w, g.x_shape, **options)
                free_dw, _ = cpu.conv2d_weight_grad(x, dy, g.w_shape, **options)
        np.testing.assert_array_equal(free, reference.conv2d_input_grad(dy, w, g.x_shape, **g.options))
        np.testing.assert_array_equal(free_dw, reference.conv2d_weight_grad(x, dy, g.w_shape, **g.options)[0])
        np.testing.assert_array_equal(
            dx, reference.conv2d_input_grad(dy, w, g.x_shape, mask=mask, b=back, **g.options)
        )
        expected = reference.conv2d_weight_grad(x, dy, g.w_shape, mask=mask, **g.options)
        for found, one in zip((dw, db), expected, strict=True):
            np.testing.assert_array_equal(found, one)


def winograd_convolutions(dtype):
    """Give geometries: tiles that fit or hang over every edge, channels around a vector and a panel, several blocks."""
    from minunet.kernels.cpu import winograd
    from minunet.kernels.cpu.isa import ISA
    from minunet.testing.strategies import Geometry

    lanes = ISA.vector_bytes // np.dtype(dtype).itemsize
    channels = (1, lanes - 1, lanes, lanes + 1, 2 * lanes - 1, 2 * lanes, 2 * lanes + 1)
    for c, k in zip(channels, (lanes, *reversed(channels[1:-1]), 3), strict=True):
        for h, w, padding in ((1, 1, (1, 1)), (3, 5, (0, 0)), (6, 10, (0, 0)), (7, 4, (1, 2)), (13, 9, (1, 1))):
            yield Geometry((2, h, w, c), (3, 3), k, (1, 1), padding)
    yield Geometry((1, 37, 70, 5), (3, 3), 9, (1, 1), (1, 1))
    yield Geometry((9, 6, 7, 3), (3, 3), 67, (1, 1), (1, 1))
    yield Geometry((1, 9, 11, 131), (3, 3), 70, (1, 1), (0, 1))
    yield Geometry((1, 4, 7, winograd.CHANNELS + 5), (3, 3), 70, (1, 1), (1, 1))


def prove_winograd(cpu, dtype, at_end):
    from fused import reference

    from minunet.testing import strategies

    for g in winograd_convolutions(dtype):
        rng = np.random.default_rng(0)
        plain = [strategies.integers(rng, s, dtype) for s in (g.x_shape, g.w_shape, (g.k,), g.y_shape, (g.x_shape[3],))]
        expected = three_passes(reference, *plain, **g.options)
        for beside in (0, 3):
            x, dy = (put(array, at_end, beside) for array in (plain[0], plain[3]))
            w, b, back = (put(plain[i], at_end) for i in (1, 2, 4))
            for algorithm in ("winograd2x2", "winograd4x4"):
                print(dtype.__name__, "at end" if at_end else "at start", algorithm, f"{beside} beside", g, flush=True)
                (y, by_y), (dx, by_dx) = (room_for(shape, dtype, at_end, beside) for shape in (g.y_shape, g.x_shape))
                mask = put(expected[0], at_end, beside)
                with all_allocations_guarded(at_end):
                    options = {"algorithm": algorithm, "mask": mask, "y": y, "dx": dx} | g.options
                    found = three_passes(cpu, x, w, b, dy, back, **options)
                for one, exact in zip(found, expected, strict=True):
                    np.testing.assert_allclose(one, exact, rtol=0, atol=1e-4 * np.abs(exact).max(initial=1))
                assert np.isnan(by_y).all() and np.isnan(by_dx).all()


def three_passes(backend, x, w, b, dy, back, *, mask=None, y=None, dx=None, **options):
    """Return y, dx, dw, db with everything fused, into `y` and `dx` where they are given, and then all of it plain."""
    y = backend.conv2d(x, w, b, relu=True, out=y, **options)
    mask = y if mask is None else mask
    return [
        y,
        backend.conv2d_input_grad(dy, w, x.shape, mask=mask, b=back, relu=True, out=dx, **options),
        *backend.conv2d_weight_grad(x, dy, w.shape, mask=mask, **options),
        backend.conv2d(x, w, **options),
        backend.conv2d_input_grad(dy, w, x.shape, **options),
        *backend.conv2d_weight_grad(x, dy, w.shape, **options),
    ]


def prove_others(cpu, dtype, at_end):
    from fused import reference

    from minunet.testing import strategies

    for c in (1, 2, 3, 5, 7, 8, 9, 17, 33):
        for n, h, w in ((2, 5, 7), (1, 1, 1), (1, 70, 65)):
            print(dtype.__name__, "at end" if at_end else "at start", "channels", c, "images", (n, h, w), flush=True)
            rng = np.random.default_rng(0)
            plain_x, plain_dy = (strategies.integers(rng, (n, h, w, c), dtype) for _ in range(2))
            labels, weights = rng.integers(0, c, (n, h, w)), rng.integers(0, 3, (n, h, w)).astype(dtype)
            x, dy, labels, weights = (put(array, at_end) for array in (plain_x, plain_dy, labels, weights))
            with all_allocations_guarded(at_end):
                found = [cpu.relu(x), cpu.relu_grad(dy, x), cpu.bias_grad(dy), cpu.dropout(x, 0.3, 5)]
                loss = cpu.softmax_cross_entropy(x, labels, weights)
            expected = [reference.relu(x), reference.relu_grad(dy, x), reference.bias_grad(dy), reference.dropout(x, 0.3, 5)]
            for kernel, stride in (((2, 2), (2, 2)), ((3, 3), (2, 2)), ((1, 2), (2, 3)), ((1, 1), (1, 1))):
                if h >= kernel[0] and w >= kernel[1]:
                    y, argmax = reference.max_pool2d(x, kernel, stride)
                    up, place = put(y, at_end), put(argmax, at_end)
                    with all_allocations_guarded(at_end):
                        found += [*cpu.max_pool2d(x, kernel, stride), cpu.max_pool2d_grad(up, place, x.shape, kernel, stride)]
                    expected += [y, argmax, reference.max_pool2d_grad(y, argmax, x.shape, kernel, stride)]
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            for one, other in zip(loss, reference.softmax_cross_entropy(x, labels, weights), strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    for size in (1, 7, 8, 17, 4099, 2**16 + 3):
        print(dtype.__name__, "at end" if at_end else "at start", "updates of", size, flush=True)
        prove_updates(cpu, reference, size, dtype, at_end)


def prove_updates(cpu, reference, size, dtype, at_end):
    from minunet.kernels import updates

    rng = np.random.default_rng(0)
    plain = [rng.random(size).astype(dtype) for _ in range(4)]
    for backend in (updates, cpu):
        param, grad, m, v = (put(array, at_end) for array in plain)
        for array in (param, m, v):
            array.flags.writeable = True
        with all_allocations_guarded(at_end) if backend is cpu else contextlib.nullcontext():
            backend.sgd_update(param, grad, m, learning_rate=0.1, momentum=0.9, weight_decay=0.01)
            backend.adam_update(
                param, grad, m, v, learning_rate=0.1, beta1=0.9, beta2=0.99, epsilon=1e-8, weight_decay=0.05, t=3
            )
        if backend is updates:
            expected = [param, m, v]
    for one, other in zip((param, m, v), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    from fused import cpu

    prove = {"convolutions": prove_convolutions, "winograd": prove_winograd, "others": prove_others}[sys.argv[1]]
    for dtype in (np.float32, np.float64):
        for at_end in (True, False):
            prove(cpu, dtype, at_end)
    print("all done")
