"""The shim keeps what it promises: operations of a warp as NVIDIA's manual has them, and no kernel's error goes unseen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cuda_on_cpu.door import emulated
from cuda_on_cpu.strict import DeviceArray
from hypothesis import example, given
from hypothesis import strategies as st

from minunet.kernels.gpu import device
from minunet.kernels.gpu.device import Kernel, launch

COLLECTIVES = str(Path(__file__).with_name("collectives.cu"))
LANES = range(32)
SEEDS = st.integers(0, 2**32)


def collective(name, *arguments, real="float", n=32, shared=0, **options):
    with emulated(**options) as door:
        launch(Kernel(COLLECTIVES, name, real), 1, n, *arguments, shared=shared)
    assert door.launched == {name: 1}


@pytest.fixture
def run(tmp_path):
    """Run a kernel called `k` of the given parameters and body."""

    def run(parameters, body, *arguments, grid=1, n=32, shared=0, bounds="", **options):
        path = tmp_path / "k.cu"
        path.write_text(f'extern "C" __global__ void {bounds} k({parameters}) {{ {body} }}')
        with emulated(**options):
            launch(Kernel(str(path), "k"), grid, n, *arguments, shared=shared)

    return run


# ---- operations of a warp


@pytest.mark.parametrize("real", ["float", "double"])
@given(mask=st.integers(0, 31), seed=SEEDS)
def test_lanes_exchange_what_they_hold(real, mask, seed):
    x = np.arange(32, dtype="f4" if real == "float" else "f8")
    y = np.full_like(x, np.nan)
    collective("exchange", x, y, mask, real=real, seed=seed)
    assert y.tolist() == [lane ^ mask for lane in LANES]


@given(data=st.integers(0, 2**32 - 1), transposed=st.booleans(), seed=SEEDS)
def test_matrices_are_handed_out_by_pairs(data, transposed, seed):
    m = np.random.default_rng(data).integers(0, 2**16, (4, 8, 8), np.uint16)
    y = np.zeros((32, 4), np.uint32)
    collective("matrices", m.reshape(32, 8).view(np.uint32), y, transposed, shared=512, seed=seed, capability=75)
    for lane in LANES:
        for i in range(4):
            row, column = lane // 4, 2 * (lane % 4)
            given_matrix = m[i].T if transposed else m[i]
            assert y[lane, i] == int(given_matrix[row, column]) + 2**16 * int(given_matrix[row, column + 1])


def fragment_places(bf16):
    """Return which elements of A, B and D each lane's registers hold, in the words of "Matrix Fragments for mma"."""
    width = 2 if bf16 else 1  # elements in a register
    places = []
    for lane in LANES:
        group, thread = lane >> 2, lane & 3
        if bf16:
            a = [(group if i < 2 or 4 <= i < 6 else group + 8, thread * 2 + (i & 1) + (8 if i >= 4 else 0)) for i in range(8)]
            b = [(thread * 2 + (i & 1) + (8 if i >= 2 else 0), group) for i in range(4)]
        else:
            a = [(group if i in (0, 2) else group + 8, thread if i < 2 else thread + 4) for i in range(4)]
            b = [(thread if i == 0 else thread + 4, group) for i in range(2)]
        d = [(group if i < 2 else group + 8, thread * 2 + (i & 1)) for i in range(4)]
        places.append((a, b, d))
    return width, places


def packed(values, bf16):
    """Return float32 numbers as registers hold them: one in each, or two with their upper halves."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return bits if not bf16 else (bits[..., ::2] >> 16) | (bits[..., 1::2] & 0xFFFF0000)


def multiplied(a, b, d, bf16, low_bits=0, **options):
    """Return d + a b, through the registers of 32 lanes."""
    _, places = fragment_places(bf16)
    ra = np.array([packed([a[at] for at in of_a], bf16) for of_a, _, _ in places]) | np.uint32(low_bits)
    rb = np.array([packed([b[at] for at in of_b], bf16) for _, of_b, _ in places]) | np.uint32(low_bits)
    rd = np.array([[d[at] for at in of_d] for _, _, of_d in places], np.float32)
    collective("product", ra, rb, rd, bf16, **options)
    result = np.full((16, 8), np.nan, np.float32)
    for lane, (_, _, of_d) in enumerate(places):
        for i, at in enumerate(of_d):
            result[at] = rd[lane, i]
    return result


def factors(data, k):
    rng = np.random.default_rng(data)
    return [rng.integers(-64, 65, shape).astype(np.float32) for shape in ((16, k), (k, 8), (16, 8))]


@pytest.mark.parametrize("bf16", [False, True])
@given(data=st.integers(0, 2**32 - 1), seed=SEEDS)
def test_a_warp_multiplies_matrices(bf16, data, seed):
    a, b, d = factors(data, 16 if bf16 else 8)
    assert np.array_equal(multiplied(a, b, d, bf16, seed=seed), d + a @ b)  # whole numbers: exact in any order


@given(data=st.integers(0, 2**32 - 1), low_bits=st.integers(1, 2**13 - 1))
def test_of_a_tf32_factor_the_low_bits_are_not_seen(data, low_bits):
    a, b, d = factors(data, 8)
    assert np.array_equal(multiplied(a, b, d, False, low_bits), multiplied(a, b, d, False))
    assert not np.array_equal(multiplied(a, b, d, False, 2**13), d + a @ b), "but the 14th is"


@given(st.lists(st.floats(width=32), min_size=1, max_size=32))
@example([1 + 2**-11, -1 - 3 * 2**-11, 2**-136, 2**-137])  # halfway
def test_tf32_is_the_nearest_number_of_11_bits(values):
    x = np.array(values, np.float32)
    y = np.zeros(len(x), np.uint32)
    collective("rounded", x, y, len(x))
    found = (y & 0xFFFFE000).view(np.float32)
    for value, rounded in zip(x.astype(float), found, strict=True):
        if not np.isfinite(value):
            assert np.array_equal(rounded, value, equal_nan=True)
            continue
        step = 2.0 ** (max(np.frexp(value)[1], -125) - 11)
        nearest = np.copysign(np.floor(abs(value) / step + 0.5) * step, value)
        with np.errstate(over="ignore"):
            assert rounded == np.float32(nearest)


def test_copies_arrive_when_they_are_waited_for():
    x, y = np.arange(1, 65, dtype=np.float32), np.zeros((4, 32), np.float32)
    collective("copied", x, y, 20, shared=256)
    first, second = np.where(np.arange(32) < 20, x[:32], 0), x[32:]
    assert np.isnan(y[0]).all() and np.array_equal(y[1], first)
    assert np.isnan(y[2]).all() and np.array_equal(y[3], second)


@pytest.mark.parametrize("commit", [False, True])
def test_a_wait_is_for_committed_copies(commit):
    x, y = np.arange(1, 129, dtype=np.float32), np.zeros(128, np.float32)
    collective("copied_16", x[:40], y[:128], 10, commit, shared=512)  # not valid behind the end of x: not read
    assert np.array_equal(y[:40], x[:40]) and not y[40:].any() if commit else np.isnan(y).all()


@pytest.mark.parametrize("name", ["rounded", "product", "copied"])
def test_what_sm_75_does_not_have_fails_there(name):
    x, y, n = np.ones((128,), np.float32), np.zeros((128,), np.float32), np.zeros(128, np.uint32)
    arguments = {"rounded": (x, n, 32), "product": (n, n, y, 0), "copied": (x, y, 32)}[name]
    with pytest.raises(RuntimeError, match="needs sm_80, and this device is sm_75"):
        collective(name, *arguments, shared=256, capability=75)


# ---- what a kernel must not do


FORMS = {  # a body, how many threads, and the complaint in the plain order
    "a_barrier_for_some": ("if (threadIdx.x < 32) __syncthreads();", 64, "threads diverge: .* 0 waits .*, thread 32 has ended"),
    "two_barriers": ("if (threadIdx.x < 32)\n__syncthreads();\nelse\n__syncthreads();", 64, "thread 0 .*:2, thread 32 .*:4"),
    "one_more_turn": ("for (int i = 0; i <= threadIdx.x / 63; i++) __syncthreads();", 64, "thread 0 has ended, thread 63 waits"),
    "a_shuffle_for_some": ("if (threadIdx.x != 3) shuffle_xor(1.f, 1);", 32, "lanes diverge: .* shuffle_xor, thread 3 has ended"),
    "half_a_warp": ("shuffle_xor(1.f, 1);", 48, "shuffle_xor takes 32 lanes, and a warp has 16"),
    "behind_shared": ("SHARED(s); s[64 + threadIdx.x] = 0;", 32, "behind 64 bytes of shared memory, at 64"),
    "before_shared": ("SHARED(s); s[-1 - (int)threadIdx.x] = 0;", 32, "before shared memory, at -32"),
    "a_copy_to_nowhere": ("SHARED(s); cp_async_16(s + 64, nullptr, false);", 32, "cp.async: 64 is no place for 16 bytes in"),
    "a_copy_off_its_place": ("SHARED(s); cp_async_16(s + 8, nullptr, false);", 32, "the place 8 .* no multiple of 16"),
    "a_unit_off_its_place": ("SHARED(s); *s = load<Unit<int, 4>>((int*)s + 1, 0).of[0];", 32, "a unit of 16 bytes lies"),
    "a_row_off_its_place": ("SHARED(s); unsigned r[4]; ldmatrix_x4(r, s + 4);", 32, "ldmatrix: the place 4 .* no multiple of 16"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [0, 5])
def test_an_error_ends_the_launch(tmp_path, form, seed):
    path = tmp_path / "forms.cu"
    kernels = [f'#line 1\nextern "C" __global__ void {name}() {{ {body} }}' for name, (body, _, _) in FORMS.items()]
    path.write_text("\n".join([*kernels, 'extern "C" __global__ void right() { __syncthreads(); }']))
    _, n, message = FORMS[form]
    with emulated(seed=seed) as door:
        with pytest.raises(RuntimeError, match=rf"{form}: block \(0, 0, 0\), {'' if seed else '.*' + message}"):
            launch(Kernel(str(path), form), 1, n, shared=64)
        launch(Kernel(str(path), "right"), 1, n)  # and the next runs
    assert door.launched["right"] == 1


def test_shared_memory_starts_as_nan_in_each_block(run):
    y = np.zeros((3, 32), np.float32)
    body = "SHARED(raw); float* s = (float*)raw; y[thread()] = s[threadIdx.x]; __syncthreads(); s[threadIdx.x] = 1;"
    run("float* y", body, y, grid=3, shared=128)
    assert np.isnan(y).all()


def test_a_barrier_keeps_order(run):
    x, y = np.arange(96, dtype=np.float32), np.zeros(96, np.float32)
    body = "SHARED(raw); float* s = (float*)raw; s[threadIdx.x] = x[threadIdx.x]; {} y[threadIdx.x] = s[95 - threadIdx.x];"
    for seed in range(5):
        run("const float* x, float* y", body.format("__syncthreads();"), x, y, n=96, shared=384, seed=seed)
        assert np.array_equal(y, x[::-1])
    run("const float* x, float* y", body.format(""), x, y, n=96, shared=384)
    assert np.isnan(y).any(), "and without it there is none"


def test_threads_take_turns_in_an_order_of_the_seed(run):
    orders = []
    for seed in (0, 1, 2, 3):
        turns, ticket = np.full((2, 96), -1), np.zeros(1, np.int64)
        run(
            "i64* turns, i64* ticket",
            "turns[threadIdx.x] = (*ticket)++; __syncthreads(); turns[96 + threadIdx.x] = (*ticket)++;",
            turns, ticket, n=96, seed=seed,
        )  # fmt: skip
        assert sorted(turns.ravel()) == list(range(192))
        orders += [tuple(turns[0].argsort()), tuple(turns[1].argsort())]
    assert orders[0] == orders[1] == tuple(range(96))
    assert len(set(orders)) == 7, "drawn anew at each barrier"


def test_blocks_have_their_numbers(run):
    y = np.full((4, 3, 2), -1)
    body = "y[(blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z;"
    run("i64* y", body, y, grid=(2, 3, 4), n=1)
    z, yy, x = np.indices(y.shape)
    assert np.array_equal(y, x + 10 * yy + 100 * z)


@pytest.mark.parametrize("offset", [-1, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_write_outside_an_array_is_seen(run, offset, dtype):
    """Be it of poison, of what lies outside another array, or of what lay there, after arithmetic."""
    kind = "float" if dtype == np.float32 else "double"
    parameters, body = f"const {kind}* x, {kind}* y, i64 i, i64 way", "y[i] = way == 0 ? x[0] : way == 1 ? x[i] : y[i] + 1;"
    for way in range(3):
        with emulated() as door:
            x, y = door.empty((40,), dtype), door.empty((40,), dtype)
        run(parameters, body, x, y, 39, 0, n=1)
        with pytest.raises(RuntimeError, match=r"outside argument 1, float\d+ \(40,\)"):
            run(parameters, body, x, y, offset, way, n=1)


# ---- the door


def test_arguments_are_what_the_kernel_takes(run):
    x = np.zeros(4, np.float32)
    frozen = x.copy()
    frozen.flags.writeable = False
    parameters, body = "const float* x, float* y, i64 n, double a", "y[0] = x[0] + n + a;"
    run(parameters, body, frozen, x, 2, 0.5, n=1)
    assert x[0] == 2.5
    for arguments, message in (
        ((x, x, 1), "k takes 4 arguments, and got 3"),
        ((x.astype("f8"), x, 1, 1.0), "argument 0 points at float32, and got float64"),
        ((x, frozen, 1, 1.0), "argument 1 is written, and got a read-only array"),
        ((x, x, 1.0, 1.0), "argument 2 is int64, and got 1.0"),
        ((x, x, 1, 1), "argument 3 is float64, and got 1"),
        ((x, x, x, 1.0), "argument 2 is a number, and got an array"),
        ((1, x, 1, 1.0), "argument 0 is a pointer, and got 1"),
    ):
        with pytest.raises(TypeError, match=re.escape(message)):
            run(parameters, body, *arguments)


def test_none_is_a_null_pointer(run):
    y = np.zeros(1, np.float32)
    run("const float* x, float* y", "y[0] = x ? 1 : 2;", None, y, n=1)
    assert y[0] == 2


@pytest.mark.parametrize(
    ("sizes", "what"),
    [({"n": 1025}, "block"), ({"n": 0}, "block"), ({"grid": (1, 65536, 1)}, "grid y"), ({"shared": 65 * 1024}, "shared memory")],
)
def test_a_launch_that_no_device_takes_is_refused(run, sizes, what):
    with pytest.raises(ValueError, match=f"k: {what} is "):
        run("", "", capability=75, **sizes)


def test_launch_bounds_bind(run):
    run("", "", n=64, bounds="__launch_bounds__(2 * (16 + 16), 4)")
    with pytest.raises(ValueError, match="block is 65; it takes 1 to 64"):
        run("", "", n=65, bounds="__launch_bounds__(2 * (16 + 16), 4)")


def test_kernels_that_a_macro_makes_are_found(tmp_path):
    path = tmp_path / "made.cu"
    path.write_text('#define K(n) extern "C" __global__ void __launch_bounds__(n) k_##n(i64* y) { *y = n; }\nK(3) K(4)\n')
    y = np.zeros(1, np.int64)
    with emulated() as door:
        launch(Kernel(str(path), "k_3"), 1, 1, y)
        assert y[0] == 3
        launch(Kernel(str(path), "k_4"), 1, 1, y)
        assert y[0] == 4 and door.launched == {"k_3": 1, "k_4": 1}
        with pytest.raises(ValueError, match=r"has no .* k_5"):
            launch(Kernel(str(path), "k_5"), 1, 1, y)


def test_what_does_not_compile_says_where(run):
    with pytest.raises(RuntimeError, match=r"the source:2.*error"):
        run("", "\nthis is no C++;")


@pytest.mark.parametrize("strict", [False, True])
def test_a_capture_is_filled_by_its_replays(tmp_path, strict):
    path = tmp_path / "add.cu"
    path.write_text('extern "C" __global__ void add(const float* x, float* y, double a) { *y = *x + (float)a; }')
    with emulated(strict=strict) as door:
        x = device.asarray(np.ones((1,), np.float32))

        def add_three():
            y = device.empty((1,), np.float32)
            launch(Kernel(str(path), "add"), 1, 1, x, y, 2.0)
            if strict:
                y += 1
                return y * 1
            launch(Kernel(str(path), "add"), 1, 1, y, y, 1.0)
            return y

        def values(a):
            return a.get().tolist() if strict else a.tolist()

        y, replay = door.capture(add_three)
        assert np.isnan(values(y)).all(), "nothing ran yet"
        for start in (1, 5):
            door.upload([np.full((1,), start, np.float32)], [x])
            replay()
            assert values(y) == [start + 3]


def test_devices_are_apart():
    with emulated(strict=True, count=2) as door:
        with door.on(1):
            x = device.empty((4,), np.float32)
            assert isinstance(x, DeviceArray) and x.device.id == 1
        with pytest.raises(ValueError, match="lies on gpu:1, and the current device is gpu:0"):
            launch(Kernel(COLLECTIVES, "exchange"), 1, 32, x, x, 1)
        with pytest.raises(ValueError, match="InvalidDevice"), door.on(2):
            pass
        with pytest.raises(ValueError, match="an array lies on the CPU"):
            launch(Kernel(COLLECTIVES, "exchange"), 1, 32, np.zeros(32, np.float32), x, 1)
