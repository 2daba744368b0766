"""Imports point one way, the core needs no torch, and a method cannot reach ground truth."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import a2lc

ROOT = Path(a2lc.__file__).parent

# Each part may import those of its own line's earlier parts and of the lines above.
ORDER = [
    "errors",
    "version",
    "files",
    "classes",
    "class_edits",
    "progress",
    "config",
    "stats",
    "stats_torch",
    "features",
    "appearance",
    "posterior",
    "metrics",
    "quality",
    "acquisition",
    "records",
    "cost",
    "selection",
    "until",
    "ledger.replay",
    "ledger.schema",
    "ledger.ledger",
    "ledger",
    "history",
    "tables",
    "masks",
    "data.png",
    "data.archive",
    "data.base",
    "data.remote",
    "data.prepare",
    "data.folder",
    "data.voc",
    "data.shapes",
    "data.annotated",
    "data.cityscapes",
    "data.ade20k",
    "data.coco",
    "data.huggingface",
    "data.cvat",
    "data.label_studio",
    "data.fiftyone",
    "data.labelme",
    "data.scenes",
    "data.intake",
    "data",
    "foundation.weights",
    "foundation.prompts",
    "foundation.packed",
    "foundation.compose",
    "foundation.detector",
    "foundation.segmenter",
    "correction",
    "methods",
    "oracle",
    "project",
    "masks.make",
    "foundation",
    "models",
    "training",
    "stages",
    "status",
    "answering",
    "asking",
    "loop",
    "doctor",
    "export",
    "report",
    "handover",
    "serve.security",
    "serve.pictures",
    "serve.parts",
    "serve.token",
    "serve.background",
    "serve.desk",
    "serve.trainer",
    "serve",
    "bench",
    "cli_classes",
    "cli",
    "__main__",
]


def _part(module: str) -> str:
    """The part of ORDER a module belongs to: the longest of its prefixes that is listed."""
    name = module.removeprefix("a2lc").removeprefix(".")
    while name not in ORDER:
        assert name, f"{module} has no place in the order"
        name = name.rpartition(".")[0]
    return name


def _imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_upwards(path):
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    here = ORDER.index(_part(f"a2lc.{module}"))
    for imported in _imports(path):
        if imported.startswith("a2lc.") and imported != "a2lc.__version__":
            there = ORDER.index(_part(imported))
            assert there <= here, f"{module} imports {imported}, which stands below it"


def test_methods_and_scores_cannot_reach_ground_truth():
    for folder in ("methods", "acquisition", "correction"):
        for path in (ROOT / folder).glob("*.py"):
            reached = set(_imports(path))
            for hidden in ("a2lc.tables", "a2lc.oracle", "a2lc.metrics", "a2lc.project", "a2lc.status"):
                assert not any(name.startswith(hidden) for name in reached), f"{path.name} imports {hidden}"


def test_core_starts_without_torch():
    # Not None in sys.modules: SciPy asks a module that is there what arrays it has.
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'torch', 'lightning'}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import a2lc.cli, a2lc.loop, a2lc.project, a2lc.export, a2lc.report, a2lc.methods, a2lc.data.scenes\n"
        "import a2lc.handover, a2lc.serve.app, a2lc.serve.desk, a2lc.serve.trainer\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import_of_the_package_does_no_work():
    code = "import sys, a2lc; assert 'numpy' not in sys.modules and a2lc.__version__; a2lc.Project; assert 'numpy' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
