"""One model, one file; and every file that is not one is refused in a sentence."""

import copy
import hashlib
import json
import os
import pickle
import socket
import struct
import sys
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


@pytest.mark.parametrize(
    "settings", [{}, {"block": "residual", "dropout": 0.5, "norm": "batch"}, {"padding": "valid", "depth": 0}]
)
def test_what_was_read_trains_and_is_copied_as_what_was_made(tmp_path, settings):
    made = Network(**{"base_channels": 4, "depth": 1, "random_state": 2} | settings)
    modelfile.save(tmp_path / "m", made, {})
    read, _ = modelfile.load(tmp_path / "m")
    x = np.random.default_rng(0).random((2, 16, 16, 1), np.float32)
    for network in (read, made):
        labels = np.zeros(network(x).shape[:3], int)
        optimizer = minunet.optim.Adam()
        for seed in range(2):
            minunet.training.step(network, optimizer, x, labels, rng=np.random.default_rng(seed))
    np.testing.assert_array_equal(read.flat, made.flat)
    assert repr(read) == repr(made) and read.flat.ctypes.data % 64 == 0
    for copied in (copy.deepcopy(read), pickle.loads(pickle.dumps(read))):
        np.testing.assert_array_equal(copied(x), made(x))


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


def test_a_file_from_before_there_was_a_choice_of_algorithm_block_norm_or_deep_supervision_loads(network, saved, tmp_path):
    later = "algorithm", "block", "norm", "deep_supervision"
    config = {name: value for name, value in network.config.items() if name not in later}
    loaded, _ = modelfile.load(unsealed(saved, tmp_path / "m", network=config))
    assert loaded.algorithm == "auto" and loaded.deep_supervision is False
    np.testing.assert_array_equal(loaded.flat, network.flat)


def test_the_smallest_network_of_all_comes_back(tmp_path):
    network = Network(1, 1, 1, 0)
    modelfile.save(tmp_path / "m", network, {})
    assert modelfile.load(tmp_path / "m")[0].config == network.config


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
        ({"base_channels": 2**12}, r"the tensor head\.weight is \('F32', \[1, 1, 2, 3\]\); this network's is"),
        ({"base_channels": 2**30}, "network.depth is 1; it takes less: the lowest level would have 1073741824 2\\^1 channels"),
        ({"block": "swin"}, "network.block is 'swin'; this minunet knows 'double_conv' and 'residual'"),
        ({"norm": "layer"}, "network.norm is 'layer'; this minunet knows 'batch' and 'group' and 'instance'"),
        ({"norm": 3}, "network.norm is 3, of type int; it takes str or null"),
        ({"block": ["double_conv"]}, "network.block is .*, of type list; it takes str"),
        ({"base_channels": "2"}, "network.base_channels is '2', of type str; it takes int"),
        *(
            ({name: value}, f"network.{name} is {value}; no network has that: it takes {least} to {most}")
            for name, least, most in [(f"{which}_channels", 1, 2**31) for which in ("in", "out", "base")] + [("depth", 0, 30)]
            for value in (least - 1, most + 1)
        ),
        ({"depth": True}, "network.depth is True"),
        ({"padding": "odd"}, "padding is odd"),
        ({"dropout": float("nan")}, "dropout is nan"),
        ({"dtype": "int8"}, "network.dtype is 'int8'"),
        ({"algorithm": "fft"}, "network.algorithm is 'fft'; it takes auto or direct or"),
        ({"algorithm": None}, "network.algorithm is None, of type NoneType; it takes str"),
        ({"random_state": -1}, "network.random_state is -1"),
        ({"deep_supervision": 1}, "network.deep_supervision is 1, of type int; it takes bool"),
        ({"deep_supervision": True, "padding": "valid"}, "network.deep_supervision is True with padding='valid'; it takes"),
        ({"deep_supervision": True, "depth": 2}, r"the tensor 'decoder\.1\.conv1\.bias' is missing"),
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


# --- sums: what is damaged is never loaded


def test_every_byte_with_a_flipped_bit_is_refused_or_read_as_it_was(tmp_path):
    """Nearly all are refused. What is read as it was: spaces behind the header, and escapes that mean the same."""
    network, path = Network(1, 2, 1, 0), tmp_path / "m"
    modelfile.save(path, network, {"a": [1, 2.5, "x"]})
    data = path.read_bytes()
    loaded = 0
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1 << i * 5 % 8]) + data[i + 1 :])
        try:
            found, said = modelfile.load(path)
        except ModelFileError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
            continue
        loaded += 1
        assert found.config == network.config and said == {"a": [1, 2.5, "x"]}
        np.testing.assert_array_equal(found.flat, network.flat)
    assert loaded < 8


@given(data=st.data())
def test_a_flipped_bit_of_a_weight_is_never_loaded(saved, tmp_path_factory, data):
    raw, n_body = bytearray(saved.read_bytes()), len(parts(saved)[1])
    bit = data.draw(st.integers(0, 8 * n_body - 1))
    raw[len(raw) - n_body + bit // 8] ^= 1 << bit % 8
    path = tmp_path_factory.mktemp("bit") / "m.safetensors"
    path.write_bytes(raw)
    with pytest.raises(ModelFileError, match=r"m\.safetensors: .*(sha256_weights|not finite): the file is damaged|not finite"):
        modelfile.load(path)


def test_the_sums_are_those_that_the_module_tells(network, saved):
    header, _ = parts(saved)
    text = header["__metadata__"]
    texts = text["network"] + "\0" + text["model"]
    assert text["sha256_description"] == hashlib.sha256(texts.encode()).hexdigest()
    found = hashlib.sha256()
    for name in sorted(network.parameters):
        found.update(name.encode() + b"\0" + network.parameters[name].tobytes())
    assert text["sha256_weights"] == found.hexdigest()


def test_other_programs_read_the_metadata(saved):
    with safetensors.safe_open(saved, "numpy") as file:
        assert set(file.metadata()) == {*modelfile.TEXTS, *modelfile.SUMS}
        assert file.metadata()["format"] == "minunet"


@pytest.mark.parametrize("gone", [["sha256_weights"], ["sha256_description"], ["sha256_weights", "sha256_description"]])
def test_a_file_that_has_lost_a_sum_is_refused(saved, tmp_path, gone):
    header, body = parts(saved)
    for name in gone:
        del header["__metadata__"][name]
    with pytest.raises(ModelFileError, match=f"metadata.({'|'.join(gone)}) is missing"):
        modelfile.load(written(tmp_path / "m", header, body))


def test_a_file_whose_sum_has_another_name_is_refused(saved, tmp_path):
    header, body = parts(saved)
    header["__metadata__"]["sha256_weightr"] = header["__metadata__"].pop("sha256_weights")
    with pytest.raises(ModelFileError, match=r"metadata\.sha256_weightr is unknown; it takes format, "):
        modelfile.load(written(tmp_path / "m", header, body))


def test_a_description_that_was_edited_is_refused(saved, tmp_path):
    text = json.dumps({"classes": [0, 1, 8], "sealed": True})
    with pytest.raises(ModelFileError, match="its description does not have its sum, sha256_description"):
        modelfile.load(rewritten(saved, tmp_path / "m", text={"model": text}))


def test_files_from_before_there_were_sums_load(network, saved, tmp_path):
    loaded, said = modelfile.load(unsealed(saved, tmp_path / "m"))
    np.testing.assert_array_equal(loaded.flat, network.flat)
    assert said == {"classes": [0, 1, 7]}


def test_where_a_tensor_lies_is_not_part_of_the_sum(network, saved, tmp_path):
    """Programs that write the tensors in another order keep the file whole."""
    header, body = parts(saved)
    tensors = {name: header[name] for name in header if name != "__metadata__"}
    moved = b""
    for name in sorted(tensors, reverse=True):
        start, end = tensors[name]["data_offsets"]
        tensors[name]["data_offsets"] = [len(moved), len(moved) + end - start]
        moved += body[start:end]
    loaded, _ = modelfile.load(written(tmp_path / "m", header | tensors, moved))
    np.testing.assert_array_equal(loaded.flat, network.flat)


def test_two_tensors_of_one_size_that_changed_places_are_refused(saved, tmp_path):
    header, body = parts(saved)
    one, other = header["encoder.0.conv1.weight"], header["encoder.0.conv2.weight"]
    one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]
    with pytest.raises(ModelFileError, match="sha256_weights"):
        modelfile.load(written(tmp_path / "m", header, body))


def test_the_order_of_bytes_is_the_files(network, saved, tmp_path, monkeypatch):
    _, body = parts(saved)
    path = unsealed(saved, tmp_path / "m", body=np.frombuffer(body, "<f4").astype(">f4").tobytes())
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    np.testing.assert_array_equal(modelfile.load(path)[0].flat, network.flat)


# --- what the header says of the tensors


NAME = "encoder.0.conv1.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data_offsets": [0, 0]}, "data_offsets of the tensor .* is "),
        ({"data_offsets": [4, 148]}, "data_offsets of the tensor"),
        ({"data_offsets": [-4, 140]}, r"is \[-4, 140\]; there it takes \[0, 144\]"),
        ({"data_offsets": [0, 2**62]}, "data_offsets of the tensor"),
        ({"data_offsets": [10**300, 10**301]}, "data_offsets of the tensor"),
        ({"data_offsets": [False, 144]}, r"is \[False, 144\]; it takes two whole numbers"),
        ({"data_offsets": [0.0, 144.0]}, "it takes two whole numbers"),
        ({"data_offsets": ["0", "144"]}, "it takes two whole numbers"),
        ({"data_offsets": [0, 144, 288]}, "it takes two whole numbers"),
        ({"data_offsets": None}, "data_offsets of the tensor .* is None"),
        ({"dtype": "F16"}, r"the tensor .* is \('F16', \[3, 3, 2, 2\]\); this network's is \('F32'"),
        ({"dtype": "F64"}, "this network's is"),
        ({"dtype": "BF16"}, "this network's is"),
        ({"dtype": "\x1b[2J"}, r"is \('\\x1b\[2J', "),
        ({"dtype": ["F32"]}, "this network's is"),
        ({"shape": [3, 3, 2]}, "this network's is"),
        ({"shape": [36]}, "this network's is"),
        ({"shape": [3, 3, 2, 2, 1]}, "this network's is"),
        ({"shape": [3.0, 3.0, 2.0, 2.0]}, "this network's is"),
        ({"shape": [2**40, 2**40]}, "this network's is"),
        ({"shape": [-3, -3, 2, 2]}, "this network's is"),
        ({"shape": {}}, "this network's is"),
        ({"strides": [1, 2]}, "strides is unknown"),
    ],
)
def test_a_tensor_that_is_not_as_it_must_be(saved, tmp_path, change, says):
    header, _ = parts(saved)
    path = unsealed(saved, tmp_path / "m", header={NAME: header[NAME] | change})
    with pytest.raises(ModelFileError, match=says) as error:
        modelfile.load(path)
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


def test_a_shape_of_trues_is_no_shape(tmp_path):
    network = Network(1, 2, 1, 0)
    modelfile.save(tmp_path / "m", network, {})
    header, _ = parts(tmp_path / "m")
    changed = {"encoder.0.conv1.bias": header["encoder.0.conv1.bias"] | {"shape": [True]}}
    with pytest.raises(ModelFileError, match=r"is \('F32', \[True\]\)"):
        modelfile.load(unsealed(tmp_path / "m", tmp_path / "n", header=changed))


@pytest.mark.parametrize("entry", [None, [], 3, "F32", {}, {"dtype": "F32"}])
def test_an_entry_that_is_none(saved, tmp_path, entry):
    with pytest.raises(ModelFileError, match=r"the tensor encoder\.0\.conv1\.weight is "):
        modelfile.load(unsealed(saved, tmp_path / "m", header={NAME: entry}))


def test_tensors_that_overlap_or_leave_a_gap(saved, tmp_path):
    header, body = parts(saved)
    names = sorted((n for n in header if n != "__metadata__"), key=lambda n: header[n]["data_offsets"])
    for shift in (-4, 4):
        changed = {}
        for name in names[1:]:
            changed[name] = header[name] | {"data_offsets": [offset + shift for offset in header[name]["data_offsets"]]}
        padded = body + bytes(shift) if shift > 0 else body[:shift]
        with pytest.raises(ModelFileError, match=r"its weights take"):
            modelfile.load(unsealed(saved, tmp_path / "m", header=changed, body=padded))
        with pytest.raises(ModelFileError, match=r"data_offsets of the tensor .*; there it takes"):
            modelfile.load(unsealed(saved, tmp_path / "m", header=changed))


def test_a_key_that_stands_twice(saved, tmp_path):
    header, body = parts(saved)
    raw = json.dumps(header)
    again = f'"{NAME}": {json.dumps(header[NAME])}, '
    for twice, key in [
        (raw.replace("{", "{" + again, 1), NAME),
        (raw.replace('"dtype": "F32"', '"dtype": "F32", "dtype": "F32"', 1), "dtype"),
        (raw.replace('"format": "minunet"', '"format": "other", "format": "minunet"', 1), "format"),
        (raw.replace('\\"depth\\": 1', '\\"depth\\": 1, \\"depth\\": 1', 1), "depth"),
    ]:
        assert twice != raw
        with pytest.raises(ModelFileError, match=f"the key '{key}' stands more than once"):
            modelfile.load(written(tmp_path / "m", twice.encode(), body))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": 3}, "metadata.model is 3, of type int; it takes text"),
        ({"network": None}, "metadata.network is None"),
        ({"author": "\x1b[2J"}, "metadata.author is unknown; it takes format, format_version, network, model, sha256"),
        ({"\x1b[2J": "x"}, r"metadata.\\x1b\[2J is unknown"),
        ({"model": "[]"}, "metadata field 'model' is no JSON object"),
        ({"model": "{"}, "metadata field 'model' is no JSON: "),
        ({"network": "\ud800"}, "metadata field 'network' is no JSON as minunet writes it: .* outside ASCII"),
        ({"model": '{"sealed": null}'}, "model.sealed is None; it takes true or false"),
        ({"sha256_weights": "0" * 64}, "its weights do not have their sum"),
        ({"sha256_weights": ""}, "its weights do not have their sum"),
        ({"format_version": "1.0"}, "format_version is '1.0'; this minunet reads '1': the file is damaged"),
        ({"format_version": "\u0661"}, "outside ASCII|format_version is '\u0661'"),
    ],
)
def test_metadata_that_is_not_as_it_must_be(saved, tmp_path, change, says):
    with pytest.raises(ModelFileError, match=says) as error:
        modelfile.load(rewritten(saved, tmp_path / "m", text=change))
    assert str(error.value).isprintable() and len(str(error.value)) < 1000


# --- what it costs


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":[' + b"[]," * 5_000_000 + b"[]]}",
        b'{"a":[' + b"{}," * 5_000_000 + b"{}]}",
        b"{" + b",".join(b'"%x":1' % i for i in range(690_000)) + b"}",
        b'{"a":[' + b"1e1," * 690_000 + b"1]}",
        b'{"a":[' + b"123456789," * 690_000 + b"1]}",
        b'{"a":[' + b'"ab",' * 690_000 + b"1]}",
        b'{"a":"' + b"\\n" * 7_000_000 + b'"}',
        b'{"a":"' + b"x" * 15_000_000 + b'"}',
        b'{"a":' + b"9" * 15_000_000 + b"}",
        b'{"a":0.' + b"9" * 15_000_000 + b"}",
        b"{" + b"\n" * 15_000_000 + b"x}",
        b'{"a":' + b"[" * 1_000_000,
        b'{"a":"' + "\u202e".encode() * 5_000_000 + b'"}',
    ],
    ids=["lists", "dicts", "keys", "floats", "ints", "texts", "escapes", "text", "digits", "decimals", "lines", "deep", "wide"],
)
def test_a_header_that_would_be_large_is_refused_at_little_cost(tmp_path, text):
    path = written(tmp_path / "m", text, b"")
    with pytest.raises(ModelFileError):
        modelfile.load(path)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError):
            modelfile.load(path)
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size + 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "change", [{"depth": 30, "base_channels": 1}, {"depth": 24, "base_channels": 100}, {"in_channels": 2**31 - 1}]
)
def test_a_network_of_absurd_size_costs_nothing(network, saved, tmp_path, change):
    path = rewritten(saved, tmp_path / "m", text={"network": json.dumps(network.config | change)})
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=r"no machine holds its weights|the tensor "):
            modelfile.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def test_more_weights_than_the_machine_has_memory(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(modelfile, "machine_bytes", lambda: 100)
    with pytest.raises(ModelFileError, match="network: no machine holds its weights, or not this one"):
        modelfile.load(saved)


def test_the_weights_are_in_memory_once(tmp_path):
    network = Network(1, 2, 16, 3)
    modelfile.save(tmp_path / "m", network, {})
    modelfile.load(tmp_path / "m")
    tracemalloc.start()
    loaded, _ = modelfile.load(tmp_path / "m")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(loaded.flat, network.flat)
    assert peak < 1.5 * network.flat.nbytes


# --- what is no file, or not the same one for long


posix = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and devices")


def test_a_folder(tmp_path):
    with pytest.raises(ModelFileError, match="is a folder; a file is taken here"):
        modelfile.load(tmp_path)


@posix
def test_a_pipe_a_socket_and_a_device_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match=r"/pipe: is a pipe; an ordinary file is taken here$"):
        modelfile.load(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # for the name of a socket is short
        listener.bind("socket")
        with pytest.raises(ModelFileError, match="is a socket; an ordinary file is taken here"):
            modelfile.load(tmp_path / "socket")
    for device in ("/dev/zero", "/dev/null"):
        with pytest.raises(ModelFileError, match="is a device"):
            modelfile.load(device)


@posix
def test_the_name_of_a_file_is_shown_on_one_line(tmp_path):
    path = tmp_path / "\x1b[31m\u202e\nm.safetensors"
    path.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"\\x1b\[31m\\u202e\\nm\.safetensors: not a safetensors file") as error:
        modelfile.load(path)
    assert str(error.value).isprintable()
    os.mkfifo(tmp_path / "\x1bpipe")
    with pytest.raises(ModelFileError, match=r"/\\x1bpipe: is a pipe"):
        modelfile.load(tmp_path / "\x1bpipe")


def meanwhile(monkeypatch, happens):
    """Let something happen between the checks of a file and the reading of its weights."""
    monkeypatch.setattr(modelfile, "_fill", lambda *args, _fill=modelfile._fill: happens() or _fill(*args))


@pytest.mark.parametrize("keep", [0, 8, 1000, -1])
def test_a_file_that_shrinks_while_it_is_read(saved, tmp_path, monkeypatch, keep):
    path = tmp_path / "m"
    data = saved.read_bytes()
    path.write_bytes(data)
    meanwhile(monkeypatch, lambda: os.truncate(path, keep % len(data)))
    with pytest.raises(ModelFileError, match=r"m: (truncated|it was changed) while it was read|m: its weights do not have"):
        modelfile.load(path)


def test_a_file_that_grows_while_it_is_read(saved, tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(saved.read_bytes())
    meanwhile(monkeypatch, lambda: os.truncate(path, path.stat().st_size + 1))
    with pytest.raises(ModelFileError, match="m: it was changed while it was read"):
        modelfile.load(path)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_file_that_is_written_over_while_it_is_read(tmp_path, monkeypatch, sealed):
    path = tmp_path / "m"
    modelfile.save(path, Network(1, 2, 16, 2), {})  # more than a buffer holds
    if not sealed:
        unsealed(path, path)
    size = path.stat().st_size

    def write():
        with open(path, "r+b", buffering=0) as file:
            file.seek(size - 40)
            file.write(b"\0" * 40)
        os.utime(path, ns=(1, 1))  # where the clock of the file system is coarse

    meanwhile(monkeypatch, write)
    with pytest.raises(ModelFileError, match="sha256_weights" if sealed else "it was changed while it was read"):
        modelfile.load(path)


def test_a_file_that_is_replaced_while_it_is_read_is_the_old_one(network, saved, tmp_path, monkeypatch):
    path = tmp_path / "m"
    path.write_bytes(saved.read_bytes())
    (tmp_path / "new").write_bytes(b"another")
    meanwhile(monkeypatch, lambda: os.replace(tmp_path / "new", path))
    np.testing.assert_array_equal(modelfile.load(path)[0].flat, network.flat)
    with pytest.raises(ModelFileError):
        modelfile.load(path)
