"""MulActSeg's losses and cosine classifier against plain loops written from the equations."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [train]")

from a2lc.acquisition.functions import score
from a2lc.models.heads import HeadedNet
from a2lc.statistics.mask_stats import mask_statistics
from a2lc.training.module import region_losses

EPS = 1e-8


def plain(probs, targets, sets, pooling):
    """probs[b][k][r][c], targets[b][r][c], sets[region] -> the three losses."""
    batch, _, height, width = probs.shape
    regions = {}
    for b in range(batch):
        for r in range(height):
            for c in range(width):
                if targets[b, r, c] >= 0:
                    regions.setdefault((b, int(targets[b, r, c])), []).append((b, r, c))
    pixel_losses = {True: [], False: []}
    of_region = {True: [], False: []}
    pairs, pair_means = [], []
    for (_, name), pixels in regions.items():
        own = sets[name]
        several = len(own) > 1
        losses = [-math.log(sum(probs[b, k, r, c] for k in own) + EPS) for b, r, c in pixels]
        pixel_losses[several] += losses
        of_region[several].append(sum(losses) / len(losses))
        if several:
            best = [-math.log(max(probs[b, k, r, c] for b, r, c in pixels) + EPS) for k in own]
            pairs += best
            pair_means.append(sum(best) / len(best))
    if pooling == "code":
        return [sum(v) / (len(v) + 1) for v in (pixel_losses[False], pixel_losses[True], pairs)]
    return [sum(v) / max(1, len(v)) for v in (of_region[False], of_region[True], pair_means)]


@pytest.mark.parametrize("pooling", ["code", "slides"])
@pytest.mark.parametrize("seed", range(4))
def test_losses_agree_with_the_equations(pooling, seed):
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(size=(2, 4, 5, 6)) * 2, dtype=torch.float32, requires_grad=True)
    targets = torch.tensor(rng.integers(-1, 4, size=(2, 5, 6)))
    sets = [(0,), (1, 3), (0, 1, 2), (2,)]
    table = torch.zeros(4, 4, dtype=torch.bool)
    for row, classes in enumerate(sets):
        table[row, list(classes)] = True
    found = region_losses(logits, targets, table, pooling)
    probs = torch.softmax(logits, dim=1).detach().numpy().astype(float)
    np.testing.assert_allclose([v.item() for v in found], plain(probs, targets.numpy(), sets, pooling), rtol=1e-5)
    sum(found).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


@pytest.mark.parametrize("pooling", ["code", "slides"])
def test_a_crop_without_a_region_has_no_loss_and_a_gradient_of_zero(pooling):
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    found = region_losses(logits, torch.full((1, 4, 4), -1), torch.ones(2, 3, dtype=torch.bool), pooling)
    assert [v.item() for v in found] == [0, 0, 0]
    sum(found).backward()
    assert float(logits.grad.abs().sum()) == 0


class Parts(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Conv2d(3, 5, 3, 2, 1)
        self.decoder = torch.nn.Conv2d(5, 7, 1)
        self.segmentation_head = torch.nn.Conv2d(7, 3, 1)


def test_cosine_classifier():
    torch.manual_seed(0)
    net = HeadedNet(Parts(), 4, "cosine")
    images = torch.randn(2, 3, 8, 10)
    found = net(images)
    decoded = net.decoder(net.encoder(images)).detach()
    weights = net.classifier.weight[:, :, 0, 0].detach()
    for b, r, c in ((0, 0, 0), (1, 3, 4)):
        f = decoded[b, :, r, c]
        for k in range(4):
            cosine = float(f @ weights[k] / (f.norm() * weights[k].norm()))
            assert float(found.class_logits[b, k, r, c]) == pytest.approx(cosine, abs=1e-5)
            assert float(found.logits[b, k, r, c]) == pytest.approx(cosine / 0.1, abs=1e-4)
    assert net.classifier.bias is None


def test_bvsb_of_cosine_logits():
    """From features whose cosines to the class weights are .80, .75 and .10 to the score: the published check value."""
    net = HeadedNet(Parts(), 3, "cosine")
    cosines = torch.tensor([0.80, 0.75, 0.10])
    with torch.no_grad():
        feature = torch.eye(7)[0]
        for k, cosine in enumerate(cosines):
            net.classifier.weight[k, :, 0, 0] = cosine * feature + (1 - cosine**2).sqrt() * torch.eye(7)[k + 1]
    net.encoder, net.decoder = torch.nn.Identity(), torch.nn.Identity()
    found = net(5 * feature.view(1, 7, 1, 1))
    probs = torch.softmax(found.logits, dim=1)[0].detach().numpy()
    stats = mask_statistics(probs, np.zeros((1, 1), dtype=int), np.ones((1, 1), dtype=int))
    assert score("margin", stats)[0] == pytest.approx(0.606531, abs=1e-5)


def test_the_error_head_judges_without_being_felt():
    net = HeadedNet(Parts(), 4, "error")
    found = net(torch.randn(1, 3, 8, 8))
    found.errors.sum().backward()
    assert net.encoder.weight.grad is None and net.classifier.weight.grad is None
    assert net.error_head[0].weight.grad.abs().sum() > 0
