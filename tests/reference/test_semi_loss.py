"""PLAR's training loss, our own design, against plain loops written from its description in docs/methods/plar.md."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra [train]")

from a2lc.models.heads import HeadOutput
from a2lc.project.config import TrainingConfig
from a2lc.training.module import HELD_OUT, PADDING, SemiModule

IGNORE = 255


class Fixed(torch.nn.Module):
    """Gives the same logits and errors whatever it sees, at the size of the targets."""

    def __init__(self, logits, errors):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.errors = torch.nn.Parameter(torch.tensor(errors, dtype=torch.float32))

    def forward(self, images):
        return HeadOutput(self.logits, self.logits, self.logits, self.errors)


def softmax(values):
    values = np.exp(values - values.max())
    return values / values.sum()


def plain(student, errors, teacher, teacher_errors, targets, ramp):
    labelled, pseudo, unlabelled, judged = [], [], 0, []
    _, _, height, width = student.shape
    for b in range(len(student)):
        for r in range(height):
            for c in range(width):
                target = int(targets[b, r, c])
                own, taught = softmax(student[b, :, r, c]), softmax(teacher[b, :, r, c])
                if target == PADDING:
                    continue
                if target != IGNORE and target < HELD_OUT:
                    labelled.append(-math.log(own[target]))
                    continue
                unlabelled += 1
                wrong = 1 / (1 + math.exp(-teacher_errors[b, r, c]))
                pseudo.append(taught.max() ** 2 * (1 - wrong) * -math.log(own[taught.argmax()]))
                if target != IGNORE:
                    said = 1 / (1 + math.exp(-errors[b, r, c]))
                    is_wrong = own.argmax() != target - HELD_OUT
                    judged.append(-math.log(said if is_wrong else 1 - said))
    total = sum(labelled) / max(1, len(labelled)) + ramp * sum(pseudo) / max(1, unlabelled)
    return total + (sum(judged) / len(judged) if judged else 0.0)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("step", [0, 3, 50])
def test_loss_agrees_with_its_description(held, step, monkeypatch):
    rng = np.random.default_rng(step + held)
    shape = (2, 3, 4, 5)
    student, teacher = (rng.normal(size=shape) * 2 for _ in range(2))
    errors, teacher_errors = (rng.normal(size=(2, 4, 5)) for _ in range(2))
    kinds = [0, 1, 2, IGNORE, PADDING, *([HELD_OUT + 1, HELD_OUT + 2] if held else [])]
    targets = rng.choice(kinds, size=(2, 4, 5))
    steps = 40
    module = SemiModule(Fixed(student, errors), TrainingConfig(), 3, IGNORE, steps, 0)
    module.teacher = Fixed(teacher, teacher_errors).requires_grad_(False)
    monkeypatch.setattr(module, "_disturbed", lambda images: images)
    monkeypatch.setattr(module, "_follow", lambda: None)
    monkeypatch.setattr(module, "log", lambda *_: None)
    monkeypatch.setattr(SemiModule, "global_step", property(lambda self: step))
    loss = module.training_step((torch.zeros(2, 3, 4, 5, dtype=torch.uint8), torch.tensor(targets)), 0)
    ramp = min(1.0, step / (0.3 * steps))
    assert float(loss) == pytest.approx(plain(student, errors, teacher, teacher_errors, targets, ramp), rel=1e-4)
    loss.backward()
    assert module.model.errors.grad is not None, "every weight is part of the loss, or training on several GPUs stops"


def test_the_teacher_follows_and_is_what_is_kept(monkeypatch):
    module = SemiModule(Fixed(np.ones((1, 2, 1, 1)), np.zeros((1, 1, 1))), TrainingConfig(), 2, IGNORE, 10, 0)
    with torch.no_grad():
        module.model.logits += 1
    monkeypatch.setattr(SemiModule, "global_step", property(lambda self: 1000))
    module._follow()
    assert module.kept_model() is module.teacher
    assert module.teacher.logits.flatten().tolist() == pytest.approx([1.01, 1.01])
