"""What a command loads before it does anything: start-up stays quick because this list stays short."""

import json
import subprocess
import sys

import pytest

ON_IMPORT = {
    *("typer", "click", "rich", "shellingham", "typing_extensions", "annotated_doc"),
    *("pygments", "markdown_it", "mdurl", "colorama"),
}
"""Packages that `import a2lc.cli.app` may load, all of them for the command line itself."""

OWN_ON_IMPORT = ("a2lc.cli", "a2lc.errors", "a2lc.io", "a2lc.version")
"""Modules of our own that it may load."""

NEVER_FOR_STATUS = {
    "numba",
    "scipy",
    "pandas",
    "torch",
    "skimage",
    "matplotlib",
    "fastapi",
    "jinja2",
    "cv2",
    "transformers",
}
"""Packages that `a2lc status` has no use for."""

NEVER_ON_OPENING = ("a2lc.formats", "a2lc.creation", "a2lc.methods", "a2lc.rounds", "a2lc.training", "a2lc.report")
"""Packages that opening a project has no use for: no reader of any format, above all."""


def loaded_by(code: str, *arguments: str) -> list[str]:
    script = (
        f"import json, sys\nbefore = set(sys.modules)\n{code}\nprint(json.dumps(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_the_command_line_imports_only_what_it_needs():
    modules = loaded_by("import a2lc.cli.app")
    others = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"a2lc"}
    assert others <= ON_IMPORT, others - ON_IMPORT
    own = [module for module in modules if module.startswith("a2lc.")]
    assert own and all(module.startswith(OWN_ON_IMPORT) for module in own), own


@pytest.mark.parametrize("command", [["status"], pytest.param(["status", "--json"], marks=pytest.mark.slow)])
def test_status_loads_nothing_heavy(command, tiny_project_dir):
    code = "from a2lc.cli.app import _main\nassert _main([*sys.argv[2:], sys.argv[1]]) == 0"
    modules = {module.split(".")[0] for module in loaded_by(code, str(tiny_project_dir), *command)}
    assert "numpy" in modules
    assert not modules & NEVER_FOR_STATUS, modules & NEVER_FOR_STATUS


def test_opening_a_project_loads_no_reader(tiny_project_dir):
    code = "from a2lc.project import Project\nProject(sys.argv[1]).close()"
    modules = loaded_by(code, str(tiny_project_dir))
    assert "a2lc.project.project" in modules
    assert not [module for module in modules if module.startswith(NEVER_ON_OPENING)]
