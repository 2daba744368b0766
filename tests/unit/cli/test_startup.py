"""What a command loads before it does anything: start-up stays quick because this list stays short."""

import json
import subprocess
import sys

import numpy as np
import pytest

from a2lc.cli import app
from a2lc.cli.app import SHORT
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Query, Source
from a2lc.rounds.recorder import record_answer

ON_IMPORT = {
    *("typer", "click", "rich", "shellingham", "typing_extensions", "annotated_doc"),
    *("pygments", "markdown_it", "mdurl", "colorama"),
}
"""Packages that `import a2lc.cli.app` may load, all of them for the command line itself."""

OWN_ON_IMPORT = ("a2lc.cli", "a2lc.errors", "a2lc.io", "a2lc.version")
"""Modules of our own that it may load."""

FOR_STATUS = (ON_IMPORT - {"rich", "pygments", "markdown_it", "mdurl", "colorama"}) | {
    *("numpy", "pyarrow", "cloudpickle", "cython_runtime", "yaml", "_yaml", "sqlalchemy", "greenlet"),
    *("pydantic", "pydantic_core", "annotated_types", "typing_inspection"),
}
"""Packages that `a2lc status` may load: what reads the tables, the settings and the ledger."""

NEVER_FOR_STATUS = {"numpy.ma", "pydantic.v1", "sqlalchemy.orm"}
"""Parts of those packages that it has no use for."""

OWN_FOR_STATUS = (
    *OWN_ON_IMPORT,
    *("a2lc.classes", "a2lc.ledger", "a2lc.project", "a2lc.records"),
    *("a2lc.images.limits", "a2lc.images.options", "a2lc.images.prepared"),
    *("a2lc.masks.counting", "a2lc.masks.tables", "a2lc.masks.truth"),
    *("a2lc.rounds.stages", "a2lc.rounds.status"),
    *("a2lc.statistics.keys", "a2lc.statistics.metrics"),
)
"""Modules of our own that it may load; no image is opened, and nothing is compiled."""

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


def record_round(project):
    """Record a round in which one mask is corrected by an answer and one automatically."""
    masks, ledger = project.masks, project.ledger
    image, mask_id, label = (int(column[0]) for column in (masks.image, masks.mask_ids, masks.label))
    ledger.open_round(1, method="a2lc", config={}, model="m", seed=0, versions={})
    query = Query(round=1, image=image, mask_ids=(mask_id,), proposed=label, score=1.0)
    ledger.add_queries(1, [query], 0.25, {})
    asked = ledger.queries(1)[0].query_id
    record_answer(
        project, Answer(query_id=asked, annotator="eve", kind=AnswerKind.CORRECT, classes=((label + 1) % 11,))
    )
    ledger.add_corrections(
        1, Source.AUTOMATIC, masks.image[[1]], masks.mask_ids[[1]], masks.label[[1]], (masks.label[[1]] + 1) % 11,
        confidences=np.array([0.99]), model="lcm",
    )  # fmt: skip


@pytest.mark.parametrize("command", [["status"], pytest.param(["status", "--json"], marks=pytest.mark.slow)])
def test_status_imports_only_what_it_needs(command, tiny_project_dir):
    with Project(tiny_project_dir) as project:
        record_round(project)
    code = "from a2lc.cli.app import _main\nassert _main([*sys.argv[2:], sys.argv[1]]) == 0"
    modules = loaded_by(code, str(tiny_project_dir), *command)
    others = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"a2lc"}
    others = {module for module in others if not module.startswith(("_cython_", "_sysconfigdata_"))}
    assert "numpy" in others and others <= FOR_STATUS, others - FOR_STATUS
    assert not NEVER_FOR_STATUS.intersection(modules)
    rooms = {"a2lc.images", "a2lc.masks", "a2lc.rounds", "a2lc.statistics"}
    own = [module for module in modules if module.startswith("a2lc.") and module not in rooms]
    assert "a2lc.rounds.status" in own and all(module.startswith(OWN_FOR_STATUS) for module in own), own


def test_opening_a_project_loads_no_reader(tiny_project_dir):
    code = "from a2lc.project import Project\nProject(sys.argv[1]).close()"
    modules = loaded_by(code, str(tiny_project_dir))
    assert "a2lc.project.project" in modules
    assert not [module for module in modules if module.startswith(NEVER_ON_OPENING)]


@pytest.mark.parametrize("name", sorted(SHORT))
def test_short_commands_collect_no_garbage(name, monkeypatch):
    monkeypatch.setattr(app, "_main", lambda arguments: 0)
    seen = []
    monkeypatch.setattr(app.gc, "disable", lambda: seen.append(name))
    for module, function in ((app.gc, "freeze"), (app.gc, "set_threshold"), (app.logging, "basicConfig")):
        monkeypatch.setattr(module, function, lambda *_, **__: None)
    monkeypatch.setattr(app.warnings, "showwarning", app.warnings.showwarning)
    monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for arguments in ([name, "my.a2lc"], ["run", name], []):
        with pytest.raises(SystemExit):
            app.main(arguments)
    assert seen == [name] and any(name in names for names in app.MODULES.values())
