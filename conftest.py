"""Tests of what an extra brings are skipped where it is not installed; docs and doctests of the other rooms run.

A test says so by failing with `MissingExtraError`, as a user's call does, or by importing a package of an extra. Where the
packages are installed, as they are in `.ci/run`, nothing is skipped by this.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# One process a core is what the tests run in: threads of their libraries would only wait for one another.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(threads, "1")

# Many processes are started, each of which would compile every module again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

EXTRAS = {
    **dict.fromkeys(
        ("torch", "torchvision", "lightning", "segmentation_models_pytorch", "timm", "cv2", "kneed"), "train"
    ),
    **dict.fromkeys(("transformers", "huggingface_hub", "safetensors"), "foundation"),
    "cleanlab": "cleanlab",
}
"""The extra that brings a package."""

MISSING = {extra for package, extra in EXTRAS.items() if importlib.util.find_spec(package) is None}

# Modules whose own import needs PyTorch, and with it their doctests.
collect_ignore_glob = (
    ["src/a2lc/training/*", "src/a2lc/models/*", "src/a2lc/statistics/torch_kernel.py"] if "train" in MISSING else []
)


def _compile_in_one_process(run: str) -> None:
    """Let one process of a run compile a function, and the others wait for it and read it from numba's cache.

    Args:
        run: Name of the run, which its processes share.
    """
    from filelock import FileLock
    from numba.core.caching import NullCache
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    folder = Path(tempfile.gettempdir()) / f"a2lc-compiling-{run}"
    folder.mkdir(exist_ok=True)
    compile_here = Dispatcher.compile

    def compile_once(dispatcher: Any, signature: Any) -> Any:
        if isinstance(dispatcher._cache, NullCache):
            return compile_here(dispatcher, signature)
        function = dispatcher.py_func
        # The compiler's own lock first, as a thread that compiles has it when it comes to a function that it calls.
        with (
            global_compiler_lock,
            FileLock(folder / f"{function.__module__}.{function.__qualname__}.lock", is_singleton=True),
        ):
            return compile_here(dispatcher, signature)

    Dispatcher.compile = compile_once


def pytest_configure(config: pytest.Config) -> None:
    """Share the compilation of functions with the other processes of the run, if there are any."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        _compile_in_one_process(worker["testrunuid"])


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lasts as long as the run: modules and tests."""
    gc.collect()
    gc.freeze()


def _extra_of(error: BaseException | None) -> str | None:
    """Return the extra that is not installed and whose lack an error, or one that it came from, is about."""
    from a2lc.errors import MissingExtraError

    while error is not None:
        if isinstance(error, MissingExtraError):
            named = [extra for extra in sorted(MISSING) if f"a2lc[{extra}]" in str(error)]
            if named:
                return named[0]
        if isinstance(error, ModuleNotFoundError):
            extra = EXTRAS.get((error.name or "").split(".")[0])
            if extra in MISSING:
                return extra
        # A doctest's own error wraps that of its example.
        wrapped = getattr(error, "exc_info", None)
        error = wrapped[1] if wrapped else error.__cause__ or error.__context__
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Call what failed for want of an extra skipped, with the extra's name."""
    report = yield
    if report.failed and call.excinfo is not None and MISSING:
        errors = getattr(call.excinfo.value, "failures", [call.excinfo.value])
        extra = next((found for found in map(_extra_of, errors) if found), None)
        if extra is not None:
            path, line, _ = item.location
            report.outcome = "skipped"
            report.longrepr = (str(path), line or 0, f"needs the extra [{extra}]")
    return report
