"""One model, one file; and every file that is not one is refused in a sentence."""

import json
import os
import struct
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import minunet
from minunet import ModelFileError, Network, modelfile


@pytest.fixture(scope="module")
def network():
    return Network(2, 3, 2, 1, random_state=4)


@pytest.fixture(scope="module")
def saved(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    modelfile.save(path, network, {"classes": [0, 1, 7]})
    return path


def parts(saved):
    """Return the header and the body of a file."""
    data = saved.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewritten(saved, path, *, text=None, header=None, body=None):
    """Write the saved file with parts of its header changed; its sums stay those of what it was."""
    old, old_body = parts(saved)
    old["__metadata__"] |= text or {}
    old |= header or {}
    return written(path, old, old_body if body is None else body)


def unsealed(saved, path, *, network=None, header=None, body=None):
    """Write the file as it was before there were sums, with parts changed."""
    old, old_body = parts(saved)
    text = old["__metadata__"]
    model = json.loads(text["model"])
    del text["sha256_description"], text["sha256_weights"], model["sealed"]
    text |= {"model": json.dumps(model)} | ({} if network is None else {"network": json.dumps(network)})
    return written(path, old | (header or {}), old_body if body is None else body)


def written(path, header, body):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + body)
    return path


def test_it_comes_back_bit_for_bit(network, saved):
    loaded, metadata = modelfile.load(saved)
    np.testing.assert_array_equal(loaded.flat, network.flat)
    assert loaded.config == network.config
    assert metadata == {"classes": [0, 1, 7]}


def test_safetensors_alone_reads_the_weights_by_their_names(network, saved):
    tensors = safetensors.numpy.load_file(saved)
    assert tensors.keys() == network.parameters.keys()
    np.testing.assert_array_equal(tensors["encoder.0.conv1.weight"], network.parameters["encoder.0.conv1.weight"])


@pytest.mark.parametrize("algorithm", ["direct", "winograd4x4"])
def test_the_algorithm_comes_back(tmp_path, algorithm):
    network = Network(1, 2, 2, 1, algorithm=algorithm)
    modelfile.save(tmp_path / "m", network, {})
    loaded, _ = modelfile.load(tmp_path / "m")
    assert loaded.config == network.config
    assert loaded.u.encoder.children["conv1"].algorithm == algorithm


def test_a_file_from_before_there_was_a_choice_of_algorithm_or_block_loads(network, saved, tmp_path):
    config = {name: value for name, value in network.config.items() if name not in ("algorithm", "block")}
    loaded, _ = modelfile.load(unsealed(saved, tmp_path / "m", network=config))
    assert loaded.algorithm == "auto"
    np.testing.assert_array_equal(loaded.flat, network.flat)


def test_float64_stays_float64(tmp_path):
    network = Network(1, 2, 2, 0, dtype="float64")
    modelfile.save(tmp_path / "m", network, {})
    np.testing.assert_array_equal(modelfile.load(tmp_path / "m")[0].flat, network.flat)


@given(cut=st.integers(0, 3000))
def test_a_truncated_file(saved, tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "m.safetensors"
    data = saved.read_bytes()
    path.write_bytes(data[: min(cut, len(data) - 1)])
    with pytest.raises(ModelFileError, match=r"m\.safetensors"):
        modelfile.load(path)


@given(data=st.data())
def test_any_damaged_byte_is_refused_or_harmless(saved, tmp_path_factory, data):
    raw = bytearray(saved.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("flip") / "m.safetensors"
    path.write_bytes(bytes(raw))
    try:
        network, _ = modelfile.load(path)
    except ModelFileError:
        return
    assert network.n_parameters == Network(2, 3, 2, 1).n_parameters


whole = st.integers() | st.sampled_from([0, 1, 2, 3, 2**31, 2**63, 2**64, 10**30])
anything = st.recursive(
    st.none() | st.booleans() | whole | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)


@given(data=st.data())
def test_any_field_of_any_kind_is_refused_or_harmless(network, saved, tmp_path_factory, data):
    raw = saved.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    config = json.loads(header["__metadata__"]["network"])
    place = data.draw(st.sampled_from([config, header, header["__metadata__"], header["encoder.0.conv1.weight"]]))
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(anything)
    if isinstance(header["__metadata__"], dict) and place is config:
        header["__metadata__"]["network"] = json.dumps(config)
    path = written(tmp_path_factory.mktemp("field") / "m.safetensors", header, raw[8 + length :])
    try:
        loaded, _ = modelfile.load(path)
    except ModelFileError as error:
        assert "m.safetensors" in str(error) and len(str(error)) < 1000
        return
    assert {k: v.shape for k, v in loaded.parameters.items()} == {k: v.shape for k, v in network.parameters.items()}


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip", b"\x80\x04 a pickle of another program ...", b"\xff" * 100])
def test_a_file_of_another_format(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        modelfile.load(tmp_path / "other")


def test_safetensors_of_another_program(tmp_path):
    safetensors.numpy.save_file({"w": np.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="but not minunet's"):
        modelfile.load(tmp_path / "other.safetensors")


def test_a_newer_version(saved, tmp_path):
    with pytest.raises(ModelFileError, match="format_version is '2'; this minunet reads '1': written by a newer minunet"):
        modelfile.load(rewritten(saved, tmp_path / "m", text={"format_version": "2"}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base_channels": 2**20}, r"the tensor head\.weight is \('F32', \[1, 1, 2, 3\]\); this network's is"),
        ({"base_channels": 2**30}, "network: no machine holds its weights"),
        ({"block": "swin"}, "network.block is 'swin'; this minunet knows 'double_conv' and 'residual'"),
        ({"block": ["double_conv"]}, "network.block is .*, of type list; it takes str"),
        ({"base_channels": "2"}, "network.base_channels is '2', of type str; it takes int"),
        ({"depth": 10**9}, "network.depth is 1000000000"),
        ({"depth": True}, "network.depth is True"),
        ({"padding": "odd"}, "padding is 'odd'"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"dtype": "int8"}, "network.dtype is 'int8'"),
        ({"algorithm": "fft"}, "network.algorithm is 'fft'; it takes auto or direct or"),
        ({"algorithm": None}, "network.algorithm is None, of type NoneType; it takes str"),
        ({"random_state": -1}, "network.random_state is -1"),
        ({"extra": 1}, "network.extra is unknown"),
        ({"x" * 10**6: 1}, "network.xxx"),
    ],
)
def test_a_config_that_no_network_has(network, saved, tmp_path, change, says):
    text = {"network": json.dumps(network.config | change)}
    with pytest.raises(ModelFileError, match=says):
        modelfile.load(rewritten(saved, tmp_path / "m", text=text))


def test_a_shape_bomb_is_refused_before_anything_is_allocated(network, saved, tmp_path):
    config = network.config | {"base_channels": 2**20, "depth": 0}
    parameters = minunet.network.outlined(config).parameters
    header = {name: {"dtype": "F32", "shape": list(p.shape), "data_offsets": [0, 0]} for name, p in parameters.items()}
    text = {"format": "minunet", "format_version": "1", "network": json.dumps(config), "model": "{}"}
    path = written(tmp_path / "bomb", {"__metadata__": text} | header, b"")
    os.truncate(path, 2**40)  # a file of holes
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match="its weights take"):
            modelfile.load(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("n", "says"), [(-1, "truncated"), (1, "damaged")])
def test_a_byte_too_few_or_too_many(saved, tmp_path, n, says):
    data = saved.read_bytes()
    (tmp_path / "m").write_bytes(data[:n] if n < 0 else data + bytes(n))
    with pytest.raises(ModelFileError, match=f"{says}: its weights take"):
        modelfile.load(tmp_path / "m")


def test_a_version_of_a_million_digits(saved, tmp_path):
    with pytest.raises(ModelFileError, match="the file is damaged") as error:
        modelfile.load(rewritten(saved, tmp_path / "m", text={"format_version": "9" * 10**6}))
    assert len(str(error.value)) < 1000


def test_weights_that_are_not_finite_are_not_loaded(saved, tmp_path):
    data = bytearray(saved.read_bytes())
    data[-4:] = struct.pack("<f", np.nan)
    (tmp_path / "m").write_bytes(bytes(data))
    with pytest.raises(ModelFileError, match=r"weight holds values that are not finite"):
        modelfile.load(tmp_path / "m")


def test_weights_that_are_not_finite_replace_no_file(saved, tmp_path):
    network, _ = modelfile.load(saved)
    path = tmp_path / "m"
    modelfile.save(path, network, {})
    old = path.read_bytes()
    network.parameters["head.bias"][0] = np.nan
    with pytest.raises(ValueError, match=r"head\.bias holds values that are not finite"):
        modelfile.save(path, network, {})
    assert path.read_bytes() == old


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        modelfile.load(tmp_path / "absent")


def test_a_network_file_that_is_no_estimator(saved):
    with pytest.raises(ModelFileError, match="the model's description is damaged"):
        minunet.load(saved)
