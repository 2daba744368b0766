"""Create synthetic street scenes with planted label errors, and the probabilities of a mediocre model.

The other examples use them. On your own data, you have images, doubtful labels and a model already:
`Project.run(models=...)` takes any PyTorch network, and `probabilities=` a folder with the predictions of any model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from a2lc.demo.looks import scene_classes
from a2lc.demo.scenes import SceneSettings, write_scenes
from a2lc.images.label_maps import read_ids


def make_data(folder: Path, images: int = 12, seed: int = 0) -> Path:
    """Write images, doubtful labels, masks and ground truth below a folder, and return the folder."""
    if not folder.exists():
        write_scenes(folder, SceneSettings(images=images, validation_images=4, height=96, width=128, seed=seed))
    return folder


def make_probabilities(data: Path, folder: Path, skill: float = 0.6, seed: int = 0) -> Path:
    """Write IMAGE_ID.npy, (K, H, W) float16: predictions of a simulated model with this skill, in [0, 1].

    They are ground truth plus noise, so the model doubts many wrong labels and some right ones.
    """
    classes = scene_classes()
    rng = np.random.default_rng(seed)
    for path in sorted((data / "ground_truth").rglob("*.png")):
        truth = read_ids(path).astype(int)
        values = np.array(classes.file_values)
        logits = rng.normal(size=(len(values), *truth.shape))
        logits += 4 * skill * (truth[None] == values[:, None, None])
        probabilities = np.exp(logits)
        probabilities /= probabilities.sum(axis=0)
        out = folder / f"{path.stem}.npy"
        out.parent.mkdir(parents=True, exist_ok=True)
        np.save(out, probabilities.astype(np.float16))
    return folder
