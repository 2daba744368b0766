"""The floor plan: imports point one way, the core needs no torch, methods cannot reach ground truth, modules stay small.

Each rule is a function of a tree of modules, and is seen failing on a small broken tree before it is held against a2lc.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import a2lc

ROOT = Path(a2lc.__file__).parent

# A package imports those above it, never one below.
ORDER = [
    *("errors", "version"),
    *("io", "weights", "classes", "images", "statistics", "posterior", "records", "acquisition", "ledger", "masks"),
    *("correction", "features", "audits", "project", "formats", "methods"),
    *("foundation", "creation", "models", "training", "head", "rounds"),
    *("doctor", "export", "report", "handover", "serve", "api", "demo", "experiments"),
    *("cli", "__main__"),
    *("stats", "metrics"),
]

"""The last two are module paths kept for users; nothing imports them."""

LONGEST_MODULE, LONGEST_CLASS = 500, 300

LONG: dict[str, str] = {}
"""Modules and classes that may be longer, each with its reason."""

WITH_TORCH = ("a2lc.training", "a2lc.models", "a2lc.foundation", "a2lc.statistics.torch_kernel", "a2lc.__main__")
"""Modules that may need an extra when they are imported; `a2lc.__main__` runs the program."""

HIDDEN = (
    *(
        f"a2lc.{package}"
        for package in ("project", "rounds", "training", "head", "images", "formats", "creation", "doctor")
    ),
    *(f"a2lc.{package}" for package in ("export", "report", "handover", "serve", "experiments", "demo", "cli")),
    "a2lc.masks.truth",
    "a2lc.statistics.metrics",
)
"""Modules that hold, read or measure by ground truth, or lead to those that do."""


# ---- a tree of modules ---------------------------------------------------------------------------------------------


def statements(node: ast.AST, entered: Callable[[ast.AST], bool] = lambda node: True) -> Iterator[ast.AST]:
    """All statements below a node, but for those that are not entered and what is in them: no import is anywhere else."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, field, ()):
            if entered(child):
                yield child
                yield from statements(child, entered)


def loaded(node: ast.AST) -> bool:
    """Whether a statement runs, or at least its first line does, when its module is loaded."""
    checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return not checking and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)


class Tree:
    """The modules of a package `a2lc` and what each imports."""

    def __init__(self, root: Path) -> None:
        self.paths = {self._name(root, path): path for path in sorted(root.rglob("*.py")) if path.parent != root.parent}
        self.parsed = {
            module: ast.parse(path.read_text(encoding="utf-8"), str(path)) for module, path in self.paths.items()
        }
        self._everywhere = {module: self._found(module, statements(tree)) for module, tree in self.parsed.items()}

    @staticmethod
    def _name(root: Path, path: Path) -> str:
        return ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")

    def imports(self, module: str, *, on_load: bool = False) -> set[str]:
        """Modules of the tree that a module imports: anywhere, or only what runs when it is loaded."""
        return self._found(module, statements(self.parsed[module], loaded)) if on_load else self._everywhere[module]

    def _found(self, module: str, nodes: Iterable[ast.AST]) -> set[str]:
        return {name for node in nodes for name in self._imported(module, node) if name != module}

    def _imported(self, module: str, node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            return
        for name in names:
            found = name if name in self.paths else name.rpartition(".")[0]
            if found in self.paths and found != "a2lc":
                yield found
            elif name.startswith("a2lc."):
                assert name in {"a2lc.Project", "a2lc.__version__"}, f"{module} imports {name}, which is no module"

    def reached(self, module: str) -> set[str]:
        """All modules that a module imports, directly or by way of others."""
        seen: set[str] = set()
        left = [module]
        while left:
            new = self.imports(left.pop()) - seen
            seen |= new
            left += new
        return seen


def package(module: str) -> str:
    return module.split(".")[1]


@cache
def own_tree() -> Tree:
    return Tree(ROOT)


# ---- the rules -----------------------------------------------------------------------------------------------------


def wrong_ways(tree: Tree, order: list[str]) -> Iterator[str]:
    """Imports of a package that stands below the importing one; every package has a place. So no two form a cycle."""
    for module in tree.paths:
        if module == "a2lc":  # its names are loaded when they are asked for
            continue
        if package(module) not in order:
            yield f"{module}: package {package(module)} has no place in the order"
            continue
        for imported in sorted(tree.imports(module)):
            if package(imported) not in order or order.index(package(imported)) > order.index(package(module)):
                yield f"{module} imports {imported}"


def cycles(tree: Tree) -> Iterator[str]:
    """Modules that import each other while they are loaded."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> Iterator[str]:
        if module in path:
            yield " -> ".join([*path[path.index(module) :], module])
        elif module not in done:
            for imported in sorted(tree.imports(module, on_load=True)):
                yield from visit(imported, [*path, module])
            done.add(module)

    for module in tree.paths:
        yield from visit(module, [])


def too_long(tree: Tree) -> Iterator[str]:
    """Modules above 500 lines and classes above 300."""
    for module, path in tree.paths.items():
        if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_MODULE:
            yield module
        for node in statements(tree.parsed[module]):
            if isinstance(node, ast.ClassDef) and (node.end_lineno or 0) - node.lineno >= LONGEST_CLASS:
                yield f"{module}.{node.name}"


def reaching(tree: Tree, packages: Iterable[str], hidden: Iterable[str]) -> Iterator[str]:
    """Modules of some packages from which hidden ones are reached by imports."""
    for module in tree.paths:
        if module != "a2lc" and package(module) in packages:
            for found in sorted(tree.reached(module)):
                if any(found == name or found.startswith(f"{name}.") for name in hidden):
                    yield f"{module} reaches {found}"


def loading(modules: Iterable[str], missing: Iterable[str], path: Path) -> str:
    """Import modules in a new process where others are not installed; what it prints on stderr, empty if all went well."""
    # Not None in sys.modules: SciPy asks a module that is there what arrays it has.
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {set(missing)!r}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        f"sys.path.insert(0, {str(path)!r})\n"
        f"import {', '.join(modules)}\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr


# ---- each rule fails where it should -------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path):
    """A tree of the given sources by module name."""

    def make(**sources: str) -> Tree:
        for module, source in sources.items():
            path = tmp_path / "a2lc" / f"{module.replace('__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source, encoding="utf-8")
            for folder in (path.parent, tmp_path / "a2lc"):
                (folder / "__init__.py").touch()
        return Tree(tmp_path / "a2lc")

    return make


@pytest.mark.parametrize("source", ["import a2lc.high.a", "from a2lc.high import a", "def f():\n  import a2lc.high.a"])
def test_an_import_of_a_lower_package_is_found(tree, source):
    broken = tree(high__a="from a2lc.low import b", low__b=source)
    assert list(wrong_ways(broken, ["low", "high"])) == ["a2lc.low.b imports a2lc.high.a"]
    assert list(wrong_ways(tree(low__b=""), ["low", "high"])) == []


def test_a_package_without_a_place_is_found(tree):
    assert "has no place" in next(wrong_ways(tree(new__a=""), ["low"]))


def test_a_cycle_of_modules_is_found(tree):
    sources = {"one__a": "from a2lc.one import b", "one__b": "from a2lc.one.c import x", "one__c": "import a2lc.one.a"}
    assert "a2lc.one.a -> a2lc.one.b -> a2lc.one.c -> a2lc.one.a" in list(cycles(tree(**sources)))
    for later in ("def f():\n    import a2lc.one.a", "if TYPE_CHECKING:\n    import a2lc.one.a"):
        assert list(cycles(tree(**sources | {"one__c": later}))) == []


def test_long_modules_and_classes_are_found(tree):
    long_class = "class A:\n" + "    x = 1\n" * LONGEST_CLASS
    found = tree(one__a="x = 1\n" * (LONGEST_MODULE + 1), one__b=long_class, one__c="x = 1\n" * LONGEST_MODULE)
    assert list(too_long(found)) == ["a2lc.one.a", "a2lc.one.b.A"]


def test_a_way_to_ground_truth_is_found(tree):
    found = tree(methods__a="import a2lc.masks.b", masks__b="from a2lc.masks.tables import T", masks__tables="T = 1")
    assert list(reaching(found, ["methods"], ["a2lc.masks.tables"])) == ["a2lc.methods.a reaches a2lc.masks.tables"]


def test_a_need_of_an_extra_is_found(tmp_path):
    (tmp_path / "needy.py").write_text("import torch", encoding="utf-8")
    assert "ImportError: torch" in loading(["needy"], ["torch"], tmp_path)


# ---- and holds for a2lc --------------------------------------------------------------------------------------------


def test_imports_point_upwards():
    assert list(wrong_ways(own_tree(), ORDER)) == []


def test_no_modules_import_each_other():
    assert list(cycles(own_tree())) == []


def test_modules_and_classes_are_short_but_for_those_with_a_reason():
    found = set(too_long(own_tree()))
    assert sorted(found - set(LONG)) == [], "split them"
    assert sorted(set(LONG) - found) == [], "no longer needed in LONG: remove them there"


def test_methods_and_scores_cannot_reach_ground_truth():
    assert list(reaching(own_tree(), {"methods", "acquisition", "correction"}, HIDDEN)) == []
    assert all(any(module.startswith(hidden) for module in own_tree().paths) for hidden in HIDDEN)


@pytest.mark.slow
def test_the_core_starts_without_the_extras():
    core = [module for module in own_tree().paths if not module.startswith(WITH_TORCH)]
    assert len(core) > 150
    extras = ["torch", "torchvision", "lightning", "cv2", "kneed", "transformers", "cleanlab", "huggingface_hub"]
    assert loading(core, extras, ROOT.parent) == ""


def test_import_of_the_package_does_no_work():
    code = "import sys, a2lc; assert 'numpy' not in sys.modules and a2lc.__version__; a2lc.Project; assert 'numpy' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
