"""One model, one file; and every file that is not one is refused in a sentence."""

import json
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


def rewritten(saved, path, *, text=None, header=None, body=None):
    """Write the saved file with parts of its header changed."""
    data = saved.read_bytes()
    length = int.from_bytes(data[:8], "little")
    old = json.loads(data[8 : 8 + length])
    old["__metadata__"] |= text or {}
    old |= header or {}
    raw = json.dumps(old).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + (data[8 + length :] if body is None else body))
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
    with pytest.raises(ModelFileError, match="format_version is 2; this minunet reads 1: written by a newer minunet"):
        modelfile.load(rewritten(saved, tmp_path / "m", text={"format_version": "2"}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"base_channels": 2**30}, "head.weight|truncated"),
        ({"base_channels": "2"}, "network.base_channels is '2'"),
        ({"depth": 10**9}, "network.depth is 1000000000"),
        ({"depth": True}, "network.depth is True"),
        ({"padding": "odd"}, "padding is 'odd'"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"dtype": "int8"}, "network.dtype is 'int8'"),
        ({"extra": 1}, "metadata field 'network' has"),
    ],
)
def test_a_config_that_no_network_has(network, saved, tmp_path, change, says):
    text = {"network": json.dumps(network.config | change)}
    with pytest.raises(ModelFileError, match=says):
        modelfile.load(rewritten(saved, tmp_path / "m", text=text))


def test_a_shape_bomb_is_refused_before_anything_is_allocated(network, saved, tmp_path):
    config = network.config | {"base_channels": 2**20, "depth": 0}
    shapes = minunet.network.parameter_shapes(**config)
    header = {name: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, 0]} for name, shape in shapes.items()}
    text = {"format": "minunet", "format_version": "1", "network": json.dumps(config), "model": "{}"}
    raw = json.dumps({"__metadata__": text} | header)
    path = tmp_path / "bomb"
    path.write_bytes(struct.pack("<Q", len(raw)) + raw.encode())
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="its weights take"):
        modelfile.load(path)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_weights_that_are_not_finite(saved, tmp_path):
    network, _ = modelfile.load(saved)
    network.parameters["head.bias"][0] = np.nan
    modelfile.save(tmp_path / "m", network, {})
    with pytest.raises(ModelFileError, match=r"head\.bias holds values that are not finite"):
        modelfile.load(tmp_path / "m")


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        modelfile.load(tmp_path / "absent")


def test_a_network_file_that_is_no_estimator(saved):
    with pytest.raises(ModelFileError, match="the model's description is damaged"):
        minunet.load(saved)
