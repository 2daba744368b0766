"""Weights come only when asked for, under a licence that allows it, from a pinned commit, as safetensors."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest

from a2lc.errors import InputError, MissingExtraError, MissingFileError, UnknownNameError
from a2lc.weights import loading as module
from a2lc.weights.catalogue import (
    BACKBONES,
    DETECTORS,
    KNOWN,
    SEGMENTERS,
    Weights,
    check_license,
    describe,
    find_weights,
)
from a2lc.weights.files import folder_digest, obtain

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = Weights(name="someone/thing", job="segmenter")


def test_known_weights_are_pinned_and_free():
    assert set(DETECTORS) == {"grounding-dino-tiny", "grounding-dino-base"}
    assert len(SEGMENTERS) == 7 and set(DETECTORS) | set(SEGMENTERS) | set(BACKBONES) == set(KNOWN)
    for short, weights in KNOWN.items():
        assert weights.name.endswith("/" + short)
        assert re.fullmatch(r"[0-9a-f]{40}", weights.revision) and weights.permissive and weights.size > 8e7
        line = describe(weights)
        assert weights.name in line and weights.revision in line and "Apache-2.0" in line and "MB" in line
    assert len({weights.revision for weights in KNOWN.values()}) == len(KNOWN)


def test_names():
    short, full = find_weights("sam-vit-base", "segmenter"), find_weights("facebook/sam-vit-base", "segmenter")
    assert short == full == KNOWN["sam-vit-base"]
    assert find_weights(f"sam-vit-base@{COMMIT}", "segmenter").revision == COMMIT
    unknown = find_weights("someone/thing", "segmenter")
    assert (unknown.revision, unknown.license, unknown.permissive) == (None, None, False)
    assert "the newest commit, which the project will record" in describe(unknown)
    assert find_weights("someone/thing", "segmenter", {"someone/thing": COMMIT}).revision == COMMIT
    assert find_weights("sam-vit-base", "segmenter", {"facebook/sam-vit-base": COMMIT}).revision != COMMIT, (
        "pinned here"
    )
    with pytest.raises(
        UnknownNameError, match=r"Unknown segmenter 'sam-vit-bas'. Did you mean 'sam-vit-base'\?.*or a folder"
    ):
        find_weights("sam-vit-bas", "segmenter")
    with pytest.raises(InputError, match=r"sam-vit-base is a segmenter, not a detector\. Known: grounding-dino-tiny, "):
        find_weights("sam-vit-base", "detector")
    with pytest.raises(MissingFileError, match="No folder of weights at"):
        find_weights("./nowhere", "detector")


def test_licences_are_accepted_by_name(models):
    check_license(KNOWN["sam-vit-huge"], [])
    check_license(find_weights(str(models / "sam"), "segmenter"), [])
    with pytest.raises(InputError, match=r"not in a2lc's list.*set `accept_license` to someone/thing if"):
        check_license(OTHER, ["someone/else"])
    check_license(OTHER, ["someone/thing"])
    custom = replace(OTHER, license="a custom licence")
    with pytest.raises(InputError, match=r"someone/thing are under a custom licence\. Read"):
        check_license(custom, [])


def test_a_folder_of_the_user(models, tmp_path):
    found = obtain(find_weights(str(models / "sam"), "segmenter"))
    assert found.folder == models / "sam"
    with pytest.raises(MissingFileError, match=r"has no config\.json: expected a model"):
        obtain(find_weights(str(tmp_path), "segmenter"))
    shutil.copy(models / "sam" / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    with pytest.raises(MissingFileError, match=r"has no model\.safetensors: expected"):
        obtain(find_weights(str(tmp_path), "segmenter"))


def test_a_folder_is_known_by_its_bytes(models, tmp_path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(models / "sam", copy)
    (copy / "notes.md").write_text("not a part of the model")
    assert folder_digest(copy) == folder_digest(models / "sam") != folder_digest(models / "sam2")
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert folder_digest(copy) != folder_digest(models / "sam")


def hub_cache(models, home, weights):
    """The hub's cache as a download leaves it."""
    place = home / f"models--{weights.name.replace('/', '--')}"
    shutil.copytree(models / "sam", place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    return place / "snapshots" / COMMIT


def test_from_the_cache_without_a_network(models, tmp_path, monkeypatch):
    place = hub_cache(models, tmp_path, OTHER)
    for offline in ("", "1"):
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        for wanted in (OTHER, replace(OTHER, revision=COMMIT)):
            found = obtain(wanted, cache=tmp_path)
            assert found.folder.resolve() == place.resolve()
            assert found.weights.revision == COMMIT, "what the project remembers"


def no_network(*args, local_files_only=False, **kwargs):
    assert local_files_only, "nothing may be fetched"
    from huggingface_hub.errors import LocalEntryNotFoundError

    raise LocalEntryNotFoundError("not there")


def test_nothing_is_fetched_unasked(monkeypatch, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs the extra foundation")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", no_network)
    message = r"not in the cache of this machine\. Set `download` to download them \(.*about 184 MB.*set `segmenter` to a folder"
    for ask in (None, lambda weights: False):
        with pytest.raises(MissingFileError, match=message) as caught:
            obtain(KNOWN["sam2.1-hiera-small"], ask=ask, cache=tmp_path)
        assert "\n" not in str(caught.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        MissingFileError, match=r"and HF_HUB_OFFLINE forbids downloads\. Unset it, or set `segmenter` to a folder"
    ):
        obtain(KNOWN["sam2.1-hiera-small"], download=True, cache=tmp_path)


@pytest.mark.parametrize("how", [{"download": True}, {"ask": lambda weights: True}])
def test_fetched_when_asked(models, tmp_path, monkeypatch, how):
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs the extra foundation")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    asked = []

    def download(name, *, revision, allow_patterns, local_files_only, cache_dir):
        if local_files_only:
            no_network(local_files_only=True)
        asked.append((name, revision, allow_patterns))
        return str(hub_cache(models, tmp_path, OTHER))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: download(*a, **k))
    found = obtain(OTHER, cache=tmp_path, **how)
    assert found.weights.revision == COMMIT
    (name, revision, patterns) = asked[0]
    assert (name, revision) == ("someone/thing", None)
    assert "model.safetensors" in patterns and not any(p.endswith((".bin", ".py", ".pt", "*")) for p in patterns)


def test_a_download_that_fails_is_one_line(monkeypatch, tmp_path):
    huggingface_hub = pytest.importorskip("huggingface_hub", reason="needs the extra foundation")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def down(*args, local_files_only, **kwargs):
        if local_files_only:
            no_network(local_files_only=True)
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", down)
    with pytest.raises(
        InputError,
        match=r"^Downloading someone/thing failed: no route Try again, or set `segmenter`",
    ):
        obtain(OTHER, download=True, cache=tmp_path)


def test_the_extra_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'a2lc\[foundation\]'"):
        obtain(OTHER)


def test_half_a_model_is_refused(models, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import SamModel

    copy = tmp_path / "half"
    shutil.copytree(models / "sam", copy)
    tensors = load_file(copy / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "vision_encoder.layers.1" not in name}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"the file contains only \d\d% of the weights of a SamModel\. Download it again"
    ):
        module.load_model(SamModel, obtain(find_weights(str(copy), "segmenter")), "cpu")
    (copy / "model.safetensors").write_bytes((models / "sam" / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match="half: not the files of a SamModel: ") as caught:
        module.load_model(SamModel, obtain(find_weights(str(copy), "segmenter")), "cpu")
    assert "\n" not in str(caught.value)
