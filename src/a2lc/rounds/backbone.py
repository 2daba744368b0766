"""Change the backbone of a project between rounds: make its features anew, and fit the last head to them."""

from __future__ import annotations

from a2lc.errors import StageError
from a2lc.features import Backbone
from a2lc.features.choice import is_same_backbone
from a2lc.head import HEAD_WEIGHTS
from a2lc.io.progress import Track, no_progress
from a2lc.project.project import Project
from a2lc.rounds.context import Context
from a2lc.rounds.learned import FeatureSummary, backbone_name, cells_backbone, make_features, masks_backbone
from a2lc.rounds.models import model_file, trained_with
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.stages import next_stage, require_between_rounds
from a2lc.training.objectives import LabelObjective

__all__ = ["require_change", "use_backbone"]


def require_change(project: Project, name: str) -> None:
    """Refuse another backbone while what a round has done rests on the features of the one before.

    Args:
        project: Opened.
        name: Of the backbone that is wanted.

    Raises:
        StageError: A round is open, or the classes have changed since the last head was fitted.
    """
    made = masks_backbone(project) or cells_backbone(project)
    if not made or is_same_backbone(name, backbone_name(made)):
        return
    require_between_rounds(project)
    last = next_stage(project)[0] - 1
    if (project.round_folder(last) / HEAD_WEIGHTS).is_file() and project.class_change_since(last) is not None:
        raise StageError(
            f"The classes have changed since the head of round {last} was fitted by features of {backbone_name(made)}, so it "
            f"cannot be fitted to others. Finish one more round first: a2lc run {project.folder} --rounds {last + 1}"
        )


def use_backbone(project: Project, backbone: Backbone, *, track: Track = no_progress) -> FeatureSummary:
    """Make the features of a project by a backbone, write its name into the settings, and fit the last head to them.

    Features of another backbone are replaced. An interrupted call is resumed by the next.

    Args:
        project: Opened, its lock held by the caller.
        backbone: The backbone.
        track: Shows progress.

    Raises:
        StageError: Features of masks are missing or of another backbone, and a round is open.
        ImageFileError: An image cannot be read.
    """
    require_change(project, backbone.name)
    made = make_features(project, backbone, track=track)
    features = project.config.features.model_copy(update={"backbone": backbone.name})
    if features != project.config.features:
        project.config = project.config.model_copy(update={"features": features})
        project.config.save(project.folder / "project.yaml")
    _refit_head(project, track)
    return made


def _refit_head(project: Project, track: Track) -> None:
    """Fit the head that the next round begins with anew, if it was fitted to other features."""
    last = next_stage(project)[0] - 1
    folder = project.round_folder(last)
    if not (folder / HEAD_WEIGHTS).is_file():
        return
    from a2lc.head.provider import fit_head, fits_features

    context = Context(project=project, plan=RoundPlan.of(project.config))
    if model_file(context, trained_with(context, last)) == HEAD_WEIGHTS and not fits_features(project, folder):
        fit_head(project, LabelObjective(state=project.state()), folder, seed=context.seed(last), track=track)
