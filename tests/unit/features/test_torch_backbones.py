"""Backbones of timm and transformers: levels at their strides, at home in every size of image, from safetensors alone."""

from __future__ import annotations

import importlib.util
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from a2lc.errors import InputError, MissingExtraError, MissingFileError, UnknownNameError
from a2lc.features import CellBasis, load_backbone, mask_features_of
from a2lc.features.choice import find_backbone, is_same_backbone, pinned_name
from a2lc.weights.catalogue import check_license
from a2lc.weights.files import obtain

_spec = importlib.util.spec_from_file_location("feature_models", Path(__file__).with_name("models.py"))
models = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(models)

VIT = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24, "patch_size": 8}
STAGES = {"depths": [1, 1, 1, 1]}

TIMM = {
    "vit_small_patch14_dinov2": (56, models.SMALL_VIT | {"img_size": 56}, [14] * 3, (24,) * 3),
    "vit_small_patch16_dinov3": (
        64,
        {"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 64},
        [16] * 3,
        (32,) * 3,
    ),
    "convnext_atto": (64, {"dims": [8, 8, 16, 16], **STAGES}, [8, 16, 32], (8, 16, 16)),
    "swin_tiny_patch4_window7_224": (
        64,
        {"embed_dim": 8, "num_heads": [1, 1, 2, 2], "img_size": 64, "window_size": 2, **STAGES},
        [8, 16, 32],
        (16, 32, 64),
    ),
    "tf_efficientnet_lite0": (64, {}, [8, 16, 32], (40, 112, 320)),
}
TRANSFORMERS = {
    "Dinov2": (VIT | {"image_size": 64, "patch_size": 16}, [16] * 3, (24,) * 3),
    "DINOv3ViT": (VIT | {"image_size": 32, "num_register_tokens": 2}, [8] * 3, (24,) * 3),
    "ViT": (VIT | {"image_size": 32}, [8] * 3, (24,) * 3),
    "SiglipVision": (VIT | {"image_size": 32}, [8] * 3, (24,) * 3),
    "ConvNext": ({"hidden_sizes": [8, 8, 16, 16], **STAGES}, [8, 16, 32], (8, 16, 16)),
    "Swin": (
        {"embed_dim": 8, "num_heads": [1, 1, 2, 2], "window_size": 4, "image_size": 64, **STAGES},
        [8, 16, 32],
        (16, 32, 64),
    ),
    "Segformer": ({"hidden_sizes": [8, 8, 16, 16], **STAGES}, [8, 16, 32], (8, 16, 16)),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    pytest.importorskip("timm", reason="needs the extra [train]")
    folder = tmp_path_factory.mktemp("backbones")
    for name in ("vit_small_patch14_dinov2", "convnext_atto"):
        side, arguments, *_ = TIMM[name]
        models.write_timm(folder / name, name, side, **arguments)
    return folder


@pytest.fixture(autouse=True)
def nothing_cached():
    load_backbone.cache_clear()
    yield
    load_backbone.cache_clear()


def check_grids(backbone, strides, channels, rng):
    assert backbone.channels == channels
    for size in ((1, 1), (40, 70), (97, 33)):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        grids = backbone(pixels)
        assert [len(grid.values) for grid in grids] == list(channels)
        for grid, stride in zip(grids, strides, strict=True):
            assert grid.values.dtype == np.float32 and np.isfinite(grid.values).all()
            assert grid.reach == (size[0] / stride, size[1] / stride)
            assert grid.cells[0] >= grid.reach[0] and grid.cells[1] >= grid.reach[1]
            assert grid.on_image(*size).size == size


@pytest.mark.parametrize("architecture", TIMM)
def test_models_of_timm(architecture, tmp_path, rng):
    pytest.importorskip("timm", reason="needs the extra [train]")
    side, arguments, strides, channels = TIMM[architecture]
    backbone = load_backbone(f"timm:{models.write_timm(tmp_path / architecture, architecture, side, **arguments)}")
    check_grids(backbone, strides, channels, rng)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_models_of_transformers(kind, tmp_path, rng):
    pytest.importorskip("transformers", reason="needs the extra [foundation]")
    settings, strides, channels = TRANSFORMERS[kind]
    backbone = load_backbone(f"transformers:{models.write_transformers(tmp_path / kind, kind, **settings)}")
    check_grids(backbone, strides, channels, rng)


def test_values_are_those_of_the_model_itself(home, rng):
    import timm
    import torch
    from safetensors.torch import load_file

    folder = home / "vit_small_patch14_dinov2"
    own = timm.create_model("vit_small_patch14_dinov2", **models.SMALL_VIT, img_size=56, dynamic_img_size=True)
    own.load_state_dict(load_file(folder / "model.safetensors"))
    pixels = rng.integers(0, 256, (56, 84, 3), dtype=np.uint8)
    images = torch.from_numpy((pixels / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        tokens = own.eval().forward_features(images)[0, 1:]  # the first stands for the whole image
    last = load_backbone(f"timm:{folder}")(pixels)[-1]
    np.testing.assert_allclose(last.values, tokens.T.reshape(24, 4, 6).numpy(), atol=1e-5)


def test_an_encoder_of_one_size_gets_the_image_scaled_and_padded(tmp_path, rng):
    pytest.importorskip("transformers", reason="needs the extra [foundation]")
    spec = importlib.util.spec_from_file_location("sams", Path(__file__).parents[1] / "foundation" / "models.py")
    sams = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sams)
    first = load_backbone(f"transformers:{sams.write_sam(tmp_path / 'sam')}")
    second = load_backbone(f"transformers:{sams.write_sam2(tmp_path / 'sam2')}")
    pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert [(grid.cells, grid.reach) for grid in first(pixels)] == [((8, 8), (6.0, 8.0))] * 2
    assert [(grid.cells, grid.reach) for grid in second(pixels)] == [((8, 8), (6.0, 8.0)), ((4, 4), (3.0, 4.0))]


def test_threads_change_nothing_and_leave_torch_as_it_was(home, rng):
    import torch

    threads = torch.get_num_threads()
    backbone = load_backbone(f"timm:{home / 'convnext_atto'}")
    images = [rng.integers(0, 256, (30 + 9 * n, 90 - 7 * n, 3), dtype=np.uint8) for n in range(6)]
    alone = [backbone(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(backbone, images), strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a.values, b.values)
    assert torch.get_num_threads() == threads


def test_cells_and_mask_features_are_made_of_levels_of_one_stride(home, rng):
    backbone = load_backbone(f"timm:{home / 'vit_small_patch14_dinov2'}")
    images = [rng.integers(0, 256, (70, 98, 3), dtype=np.uint8) for _ in range(3)]
    cells = CellBasis.fit(backbone.identity, [backbone(image) for image in images]).apply(backbone(images[0]))
    assert len(cells.levels) == 1 and cells.matrix().shape == (5 * 7, len(cells.finest.values) + 4)
    mask_map = np.kron(np.arange(4).reshape(2, 2), np.ones((35, 49), int))
    found = mask_features_of(backbone(images[0]), mask_map, np.array([1, 2, 3]))
    assert found.shape == (3, 72) and found.dtype == np.float16


def test_only_safetensors_are_read(home, tmp_path):
    import torch

    copy = tmp_path / "pickled"
    shutil.copytree(home / "convnext_atto", copy)
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(
        MissingFileError, match=r"no model\.safetensors: expected a model as timm's save_for_hf writes it"
    ):
        load_backbone(f"timm:{copy}")


def test_files_of_other_models_are_refused_in_one_line(home, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = tmp_path / "other"
    shutil.copytree(home / "convnext_atto", copy)
    shutil.copy(home / "vit_small_patch14_dinov2" / "model.safetensors", copy)
    with pytest.raises(InputError, match=r"model\.safetensors: not the weights of convnext_atto of timm"):
        load_backbone(f"timm:{copy}")
    weights = load_file(home / "convnext_atto" / "model.safetensors")
    save_file({name: weights[name] for name in weights if "stages.3" not in name}, copy / "model.safetensors")
    with pytest.raises(InputError, match=r"the file contains only \d\d% of the weights of a convnext_atto"):
        load_backbone(f"timm:{copy}")
    config = json.loads((copy / "config.json").read_text())
    for changed, message in (
        ({"architecture": "convnext_nano_but_not"}, "timm cannot build convnext_nano_but_not"),
        ({"architecture": None}, "names no architecture of timm"),
    ):
        (copy / "config.json").write_text(json.dumps(config | changed))
        with pytest.raises(InputError, match=message) as caught:
            load_backbone(f"timm:{copy}")
        assert "\n" not in str(caught.value)


def test_a_model_of_text_is_no_backbone(tmp_path):
    pytest.importorskip("transformers", reason="needs the extra [foundation]")
    small = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    folder = models.write_transformers(tmp_path / "bert", "Bert", vocab_size=50, **small)
    with pytest.raises(InputError, match="a model of type 'bert' does not see images"):
        load_backbone(f"transformers:{folder}")


def test_names(tmp_path):
    assert find_backbone("efficientnet-lite0") is None
    dino = find_backbone("transformers:dinov2-small")
    assert (dino.name, dino.job, dino.license) == ("facebook/dinov2-small", "backbone", "Apache-2.0")
    assert find_backbone("transformers:sam-vit-base").job == "backbone"
    for name, message in (
        ("resnet-50", r"Unknown backbone 'resnet-50'.*timm:NAME, transformers:NAME"),
        ("tim:resnet50", "Did you mean 'timm'"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            find_backbone(name)
    with pytest.raises(InputError, match="without a model"):
        find_backbone("timm:")
    with pytest.raises(MissingFileError, match="No folder of weights"):
        find_backbone(f"timm:{tmp_path / 'nowhere'}")


def test_timms_own_table_says_which_licence(monkeypatch):
    pytest.importorskip("timm", reason="needs the extra [train]")
    free, other = find_backbone("timm:vit_small_patch14_dinov2.lvd142m"), find_backbone("timm:convnextv2_atto.fcmae")
    assert (free.name, free.license) == ("timm/vit_small_patch14_dinov2.lvd142m", "apache-2.0")
    check_license(free, [])
    with pytest.raises(InputError, match=r"timm/convnextv2_atto\.fcmae are under cc-by-nc-4\.0"):
        check_license(other, [])
    with pytest.raises(UnknownNameError, match=r"Did you mean 'convnext_atto") as caught:
        find_backbone("timm:convnext_ato.d2_in1k")
    assert len(str(caught.value)) < 200
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'a2lc\[train\]'"):
        find_backbone("timm:convnext_atto.d2_in1k")


def test_nothing_is_fetched_unasked(monkeypatch, tmp_path):
    pytest.importorskip("timm", reason="needs the extra [train]")
    monkeypatch.setattr("a2lc.weights.files._cached", lambda weights, cache: None)
    monkeypatch.setattr("a2lc.weights.files._offline", lambda: False)
    monkeypatch.setattr("a2lc.weights.files._fetch", lambda weights, cache: pytest.fail("fetched"))
    with pytest.raises(MissingFileError, match=r"not in the cache.*Set `download`.*set `backbone` to a folder"):
        load_backbone("timm:convnext_atto.d2_in1k")


def test_the_same_backbone_by_other_names(home):
    folder = home / "convnext_atto"
    used = pinned_name(obtain(find_backbone(f"timm:{folder}")))
    assert used == f"timm:{folder}" and is_same_backbone(f"timm:{folder}", used)
    commit = "timm:convnext_atto.d2_in1k@0123"
    assert is_same_backbone("timm:convnext_atto.d2_in1k", commit) and is_same_backbone(commit, commit)
    assert not is_same_backbone("timm:convnext_atto.d2_in1k@4567", commit)
    assert not is_same_backbone("efficientnet-lite0", commit) and not is_same_backbone(commit, "efficientnet-lite0")
