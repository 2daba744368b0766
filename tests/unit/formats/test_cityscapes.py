"""Cityscapes: kinds of label files, kinds of void that stay, and only changed pixels rewritten."""

import numpy as np
import pytest
from PIL import Image

from a2lc.classes.table import ClassTable
from a2lc.creation.importer import create_project
from a2lc.errors import InputError, MissingFileError
from a2lc.export import export_project
from a2lc.formats.base import Sources
from a2lc.formats.cityscapes import CITYSCAPES
from a2lc.ledger import FIRST, VOID
from a2lc.project.project import Project
from a2lc.records import Source

STEMS = ("aachen/aachen_000000_000019", "bonn/bonn_1", "flat_2")
VOID_IDS = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)


def label_ids(seed: int = 0) -> np.ndarray:
    """(9, 14) two classes, every kind of void, and a licence plate."""
    values = np.full((9, 14), 7, np.uint8)
    values[4:, 3:] = 26
    values[5, 5] = 33  # a mask of one pixel
    values[0, : len(VOID_IDS) - 1] = VOID_IDS[1:]
    values[1, 0] = 255
    return np.roll(values, seed, axis=1)


def write(root, kinds=("labelIds",), split="train", stems=STEMS):
    trained = {label: place for place, (_, label, _) in enumerate(CITYSCAPES)}
    for place, stem in enumerate(stems):
        image = root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 14, 3), 9 * place, np.uint8)).save(image)
        (root / "gtFine" / split / stem).parent.mkdir(parents=True, exist_ok=True)
        ids = label_ids(place)
        for kind in kinds:
            values = ids
            if kind == "labelTrainIds":
                values = np.vectorize(lambda v: trained.get(v, 255))(ids).astype(np.uint8)
            Image.fromarray(values).save(root / "gtFine" / split / f"{stem}_gtFine_{kind}.png")
        Image.fromarray(ids.astype(np.uint16) * 1000).save(root / "gtFine" / split / f"{stem}_gtFine_instanceIds.png")
        Image.fromarray(np.zeros((9, 14, 3), np.uint8)).save(root / "gtFine" / split / f"{stem}_gtFine_color.png")


def make(tmp_path, classes=None, **other):
    summary = create_project(
        tmp_path / "p.a2lc", Sources(format="cityscapes", images=tmp_path / "city", **other), classes
    )
    return summary, Project(tmp_path / "p.a2lc")


def change(project, mask, to):
    ledger = project.ledger
    ledger.open_round(1, method="a2lc", config={}, model="m", seed=0, versions={})
    row = np.array([0]), np.array([mask]), np.array([FIRST]), np.array([to])
    ledger.add_corrections(1, Source.AUTOMATIC, *row, confidences=np.array([1.0]), model="m")


def test_label_ids_are_preferred_and_void_stays(tmp_path):
    write(tmp_path / "city", ("labelIds", "labelTrainIds"))
    summary, project = make(tmp_path)
    with project:
        assert summary.num_classes == 19 and any("*_gtFine_labelIds.png" in note for note in summary.notes)
        assert [image.image_id for image in project.images] == list(STEMS)
        first = project.first_labels(project.images[0])
        assert set(np.unique(first)) == {0, 13, 18, 255}
        np.testing.assert_array_equal(first == 255, np.isin(label_ids(), [*VOID_IDS, 255]))
        np.testing.assert_array_equal(project.raw_labels(project.images[0]), label_ids())


def test_only_changed_pixels_are_rewritten(tmp_path):
    write(tmp_path / "city")
    _, project = make(tmp_path)
    with project:
        mask = int(project.mask_map(project.images[0])[5, 5])
        assert (project.mask_map(project.images[0]) == mask).sum() == 1
        change(project, mask, 5)  # a pole
        export_project(project, tmp_path / "out", "cityscapes")
        expected = label_ids()
        expected[5, 5] = 17
        path = tmp_path / f"out/gtFine/train/{STEMS[0]}_gtFine_labelIds.png"
        np.testing.assert_array_equal(np.array(Image.open(path)), expected)
        for stem in STEMS[1:]:
            name = f"gtFine/train/{stem}_gtFine_labelIds.png"
            assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "city" / name).read_bytes()
        picture = np.array(Image.open(tmp_path / f"out/gtFine/train/{STEMS[0]}_gtFine_color.png"))
        assert picture[5, 5].tolist() == [153] * 3 and picture[0, 0].tolist() == [0] * 3
        assert not list((tmp_path / "out").rglob("*instanceIds*"))
        # Read again with the export as labels.
        again = Sources(format="cityscapes", images=tmp_path / "city", labels=tmp_path / "out")
        create_project(tmp_path / "again.a2lc", again)
        with Project(tmp_path / "again.a2lc") as read:
            for image in project.images:
                np.testing.assert_array_equal(
                    read.corrected_labels(image.image_id), project.corrected_labels(image.image_id)
                )


def test_void_by_hand_is_unlabeled(tmp_path):
    write(tmp_path / "city")
    _, project = make(tmp_path)
    with project:
        change(project, int(project.mask_map(project.images[0])[5, 5]), VOID)
        export_project(project, tmp_path / "out", "cityscapes")
    values = np.array(Image.open(tmp_path / f"out/gtFine/train/{STEMS[0]}_gtFine_labelIds.png"))
    assert values[5, 5] == 0 and values[1, 0] == 255


def test_void_by_hand_where_the_users_void_is_255(tmp_path):
    write(tmp_path / "city")
    _, project = make(tmp_path, ClassTable(("road", "car", "bicycle"), ((1, 1, 1),) * 3, (7, 26, 33), 255))
    with project:
        change(project, int(project.mask_map(project.images[0])[5, 5]), VOID)
        export_project(project, tmp_path / "out", "cityscapes")
    values, expected = np.array(Image.open(tmp_path / f"out/gtFine/train/{STEMS[0]}_gtFine_labelIds.png")), label_ids()
    expected[5, 5] = 0
    np.testing.assert_array_equal(values, expected)


def test_train_ids_where_there_are_no_label_ids(tmp_path):
    write(tmp_path / "city", ("labelTrainIds",))
    summary, project = make(tmp_path)
    with project:
        assert any("labelTrainIds" in note for note in summary.notes)
        change(project, int(project.mask_map(project.images[0])[5, 5]), 5)
        export_project(project, tmp_path / "out", "cityscapes")
    values = np.array(Image.open(tmp_path / f"out/gtFine/train/{STEMS[0]}_gtFine_labelTrainIds.png"))
    assert values[5, 5] == 5 and values[0, 0] == 255 and set(np.unique(values)) == {0, 5, 13, 255}


def test_val_measures_models_and_truth_may_lie_elsewhere(tmp_path):
    write(tmp_path / "city")
    write(tmp_path / "city", split="val", stems=("ulm/ulm_1",))
    write(tmp_path / "truth")
    summary, project = make(tmp_path, ground_truth=tmp_path / "truth")
    with project:
        assert summary.validation_images == 1 and summary.with_truth == 3
        assert project.validation_images[0].image_id == "ulm/ulm_1"
        assert project.image_path(project.validation_images[0]).is_file()
        assert project.has_ground_truth and summary.quality.miou == 1.0


def test_users_classes_may_name_a_kind_of_void(tmp_path):
    write(tmp_path / "city")
    given = ClassTable(("road", "car", "bicycle", "parking"), ((1, 1, 1),) * 4, (7, 26, 33, 9), 0)
    _, project = make(tmp_path, given)
    with project:
        first = project.first_labels(project.images[0])
        assert (first[label_ids() == 9] == 3).all() and (first[label_ids() == 10] == 255).all()


def test_faults_are_told(tmp_path):
    with pytest.raises(MissingFileError, match="no folder leftImg8bit"):
        make(tmp_path)
    write(tmp_path / "city")
    (tmp_path / f"city/gtFine/train/{STEMS[1]}_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match=rf"images without labels: {STEMS[1]} \(expected .*_gtFine_labelIds.png\)"):
        make(tmp_path)
    for path in (tmp_path / "city").rglob("*labelIds.png"):
        path.unlink()
    with pytest.raises(MissingFileError, match=r"labelTrainIds\.png below"):
        make(tmp_path)


def test_other_projects_need_names_of_cityscapes(tmp_path, make_dataset):
    data = make_dataset(("a", "b"))
    data.create(classes=ClassTable.from_names(["road", "vegetation", "car"]))
    with Project(data.project) as project:
        export_project(project, tmp_path / "out", "cityscapes")
        stored = np.array(Image.open(tmp_path / "out/gtFine/train/a_gtFine_labelIds.png"))
        np.testing.assert_array_equal(stored, np.choose(np.minimum(data.labels_of("a"), 3), [7, 21, 26, 0]))
    data.root.parent.joinpath("out.a2lc").rename(tmp_path / "kept.a2lc")
    data.create()
    with Project(data.project) as project, pytest.raises(InputError, match="Cityscapes has no class tree"):
        export_project(project, tmp_path / "other", "cityscapes")
