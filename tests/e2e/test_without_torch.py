"""The core alone: scenes to a report, with every library of the extras hidden."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.e2e

HIDDEN = """
import sys
names = {"torch", "torchvision", "lightning", "segmentation_models_pytorch", "timm", "transformers", "cv2", "kneed", "cleanlab"}
class Hides:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in names:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)
sys.meta_path.insert(0, Hides())
from a2lc.cli.app import _main
sys.exit(_main(sys.argv[1:]))
"""


def test_the_demo_needs_no_extra(tmp_path):
    options = ["demo", str(tmp_path / "demo"), "--images", "8", "--rounds", "2", "--budget", "20"]
    done = subprocess.run([sys.executable, "-c", HIDDEN, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "head on learned features" in done.stdout and "model mIoU" in done.stdout
    assert (tmp_path / "demo" / "demo.a2lc" / "report.html").is_file()
    rounds = tmp_path / "demo" / "demo.a2lc" / "rounds"
    assert sorted(path.parent.name for path in rounds.rglob("head.npz")) == ["00", "01", "02"]
    assert not list(rounds.rglob("*.ckpt"))
