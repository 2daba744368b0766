"""Commands that create projects, masks and pseudo labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from a2lc.cli.console import FormatCommand, app, print_line
from a2lc.cli.hints import with_flags
from a2lc.cli.options import (
    AcceptLicense,
    BackboneName,
    Colours,
    Device,
    Download,
    Ignore,
    MethodName,
    Preset,
    ProjectDir,
    Segmenter,
    Snap,
    ValueMap,
    check_names,
    parse_bands,
    parse_classes,
    parse_stretch,
    parse_value_map,
)
from a2lc.cli.settings import configure, first_figures, run_rounds
from a2lc.cli.tables import format_figure
from a2lc.cli.weights import obtain_weights
from a2lc.errors import InputError, first_names, require_known
from a2lc.io.files import json_safe
from a2lc.io.progress import console_progress

if TYPE_CHECKING:
    from a2lc.classes.table import ClassTable
    from a2lc.project.project import Project


@app.command(cls=FormatCommand)
def init(
    folder: ProjectDir,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", help="Folder of images, root folder of the format, URL (s3://...), or a text file of URLs."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="Labels to correct: a folder, or the file of the format. Omit to start without labels."
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks", help="Folder of mask maps; default: connected components of the labels. See also `a2lc masks`."
        ),
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option("--ground-truth", help="Folder of ground-truth labels, if there are any.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", help="Classes file (JSON, YAML, or one name per line), or names: road,car,'traffic light'."
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="Format of the data set: FORMATS_READ; see docs/formats.md. Also package.module:NAME.",
        ),
    ] = "folder",
    validation_images: Annotated[
        Path | None, typer.Option("--validation-images", help="Folder of images used only to measure models.")
    ] = None,
    validation_ground_truth: Annotated[
        Path | None, typer.Option("--validation-ground-truth", help="Ground truth of the validation images.")
    ] = None,
    value_map: ValueMap = None,
    ignore: Ignore = None,
    colours: Colours = False,
    snap: Snap = None,
    exif: Annotated[
        str, typer.Option("--exif", help="EXIF orientation of images: refuse such images, apply it, or ignore it.")
    ] = "refuse",
    bake_exif: Annotated[
        bool,
        typer.Option("--bake-exif", help="Store upright copies of images with an EXIF orientation in the project."),
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option("--tile", min=32, help="Cut images that are wider or higher than this many pixels into tiles."),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option("--bands", help="Bands shown as red, green and blue, or as grey, counted from 1, such as 4,3,2."),
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option(
            "--stretch",
            help="For images of more than 8 bits: values shown as black and white, such as 0:3000 or 2%:98%.",
        ),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip images that cannot be used.")] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept images without a label map; they start unlabeled.")
    ] = False,
    partial_ground_truth: Annotated[
        bool, typer.Option("--partial-ground-truth", help="Accept images without ground truth; metrics use the others.")
    ] = False,
    max_pixels: Annotated[
        int | None,
        typer.Option("--max-pixels", min=1, help="Maximum number of pixels of an image; larger images are refused."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of all random numbers.")] = 0,
    preset: Preset = None,
    method: MethodName = None,
    backbone: BackboneName = None,
) -> None:
    """Create a project from images and, optionally, labels and masks. Your files are read, never changed."""
    from a2lc.creation.importer import create_project
    from a2lc.formats.base import Sources
    from a2lc.images.options import ReadingOptions
    from a2lc.project.project import Project

    require_known("value of --exif", exif, ["refuse", "apply", "ignore"])
    if bake_exif and exif != "refuse":
        raise InputError("--bake-exif and --exif contradict each other. Pass only one of them.")
    limit = {} if max_pixels is None else {"max_pixels": max_pixels}
    elsewhere = images is not None and "://" in images
    if elsewhere and format != "folder":
        raise InputError(
            f"--images {images}: images at URLs can only be combined with plain folders of labels, not with --format {format}."
        )
    sources = Sources(
        format=format,
        images=None if images is None or elsewhere else Path(images),
        labels=labels,
        masks=masks,
        ground_truth=ground_truth,
        validation_images=validation_images,
        validation_ground_truth=validation_ground_truth,
        address=images if elsewhere else None,
    )
    options = ReadingOptions(
        value_map=parse_value_map(value_map or []),
        ignore=ignore,
        colours=colours,
        snap=snap,
        exif="bake" if bake_exif else exif,
        tile=tile,
        bands=parse_bands(bands),
        stretch=parse_stretch(stretch),
        skip_bad=skip_bad,
        partial=partial,
        partial_truth=partial_ground_truth,
        **limit,
    )
    check_names(preset=preset, method=method, backbone=backbone)
    table = None if classes is None else parse_classes(classes)
    summary = create_project(folder, sources, table, options, seed=seed, track=console_progress())
    with Project(folder) as project:
        configure(project, preset=preset, method=method, backbone=backbone)
    for note in summary.notes:
        print_line(f"note: {with_flags(note)}")
    for name, reason in list(summary.skipped.items())[:5]:
        print_line(f"skipped: {name}: {with_flags(reason)}")
    if summary.skipped:
        print_line(f"skipped {len(summary.skipped)} images in total, listed in {folder / 'skipped.csv'}")
    print_line(f"{summary.images:,} images, {summary.masks:,} masks, {summary.num_classes} classes in {folder}")
    if summary.validation_images:
        print_line(f"{summary.validation_images:,} validation images")
    without = summary.unlabelled == summary.images
    if without:
        print_line("no labels: all pixels start unlabeled")
    elif summary.unlabelled:
        print_line(f"{summary.unlabelled:,} images have no label map; their pixels start unlabeled")
    if 0 < summary.with_truth < summary.images:
        print_line(f"{summary.with_truth:,} images have ground truth; metrics use only these")
    if without and summary.quality is not None:
        print_line("ground truth found: answers can be simulated, and labels can be measured once there are any")
    elif summary.quality is not None:
        quality = summary.quality
        print_line(
            f"data mIoU {quality.miou:.4f}, pixel accuracy {quality.pixel_accuracy:.4f}, coverage {quality.coverage:.4f}"
        )
    else:
        print_line("no ground truth: label quality is unknown")
    print_line(f"next: {_next_command(folder, has_masks=summary.masks > 0, has_labels=not without)}")


@app.command()
def masks(
    folder: ProjectDir,
    method: Annotated[
        str, typer.Option("--method", help="How masks are made: seeds, slic, grid, components (of the labels), or sam.")
    ],
    count: Annotated[
        int, typer.Option("--count", min=1, help="Approximate number of superpixels per image (seeds, slic).")
    ] = 1024,
    size: Annotated[int, typer.Option("--size", min=1, help="Side of the squares in pixels (grid).")] = 32,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite existing masks.")] = False,
    segmenter: Segmenter = "sam2.1-hiera-small",
    points: Annotated[int, typer.Option("--points", min=1, help="Points per side of the grid of prompts (sam).")] = 32,
    min_iou: Annotated[
        float, typer.Option("--min-iou", help="Minimum IoU that the model predicts for a mask (sam).")
    ] = 0.88,
    min_stability: Annotated[
        float, typer.Option("--min-stability", help="Minimum stability of a mask when its threshold changes (sam).")
    ] = 0.95,
    cover: Annotated[
        str,
        typer.Option(
            "--cover",
            help="Masks for the pixels that sam leaves uncovered: none, slic or seeds, about --count per image.",
        ),
    ] = "none",
    device: Device = "auto",
    download: Download = False,
    accept_license: AcceptLicense = None,
) -> None:
    """Create masks from the images or the labels. Possible only before the first round."""
    from a2lc.creation.masks import MASK_METHODS, SamMasks, make_masks
    from a2lc.project.project import Project

    require_known("mask method", method, MASK_METHODS)
    sam, mended = None, None
    if method == "sam":
        from a2lc.creation.pseudo_labels import record_commits, recorded_commits
        from a2lc.foundation.segmenter import AutomaticSettings
        from a2lc.weights.catalogue import find_weights

        automatic = AutomaticSettings(points=points, min_iou=min_iou, min_stability=min_stability)
        automatic.check()
        with Project(folder) as project:  # nothing is fetched for a folder that is no project, or whose masks stay
            if len(project.masks) and not replace and project.mended_masks is None:
                raise InputError(
                    f"{folder} has {len(project.masks):,} masks already. Pass --replace to overwrite them."
                )
            mended = project.mended_masks
        found = find_weights(segmenter, "segmenter", recorded_commits(folder))
        (ready,) = obtain_weights([found], download, accept_license)
        sam = SamMasks(ready=ready, device=device, automatic=automatic, cover=cover)
    with Project(folder) as project, project.lock():
        if sam is not None:
            project.mended_masks = project.mended_masks or mended
            record_commits(folder, [sam.ready])
        track = console_progress()
        number = make_masks(project, method, count=count, size=size, sam=sam, track=track, replace=replace)
        pixels = float(project.masks.area.mean())
        has_labels = bool((project.masks.pair_label >= 0).any())
    print_line(f"{number:,} masks of {pixels:,.0f} pixels on average in {len(project.images):,} images")
    print_line(f"next: {_next_command(folder, has_masks=True, has_labels=has_labels)}")


@app.command()
def pseudo(
    folder: ProjectDir,
    images: Annotated[
        Path | None,
        typer.Option("--images", help="Folder of images, from which a project is created if there is none at DIR."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes", help="Classes file (JSON, YAML, or one name per line), or names: road,car,'traffic light'."
        ),
    ] = None,
    detector: Annotated[
        str,
        typer.Option(
            "--detector", help="Weights of the detector: a name listed in docs/pseudo.md, OWNER/NAME, or a folder."
        ),
    ] = "grounding-dino-tiny",
    segmenter: Segmenter = "sam2.1-hiera-small",
    box_threshold: Annotated[float, typer.Option("--box-threshold", help="Minimum score of a box, from 0 to 1.")] = 0.2,
    one_class: Annotated[
        bool, typer.Option("--one-class-per-prompt", help="Prompt for one class at a time, which is slower.")
    ] = False,
    reduction: Annotated[
        str, typer.Option("--reduction", help="How the scores of a phrase's tokens are combined: mean or max.")
    ] = "mean",
    nms: Annotated[float, typer.Option("--nms", help="IoU threshold of per-class non-maximum suppression.")] = 0.8,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap",
            help="Which of two overlapping masks of equal class priority keeps a pixel: higher score, or smaller size.",
        ),
    ] = "score",
    cover: Annotated[
        str, typer.Option("--cover", help="Masks for pixels without an object: slic, seeds or none.")
    ] = "slic",
    cover_count: Annotated[
        int, typer.Option("--cover-count", help="Approximate number of covering superpixels per image.")
    ] = 200,
    background: Annotated[
        str | None, typer.Option("--background", help="Class of pixels without an object; default: unlabeled.")
    ] = None,
    shortest: Annotated[
        int, typer.Option("--shortest", help="Shorter image side passed to the detector, in pixels.")
    ] = 800,
    longest: Annotated[
        int, typer.Option("--longest", help="Maximum longer image side passed to the detector, in pixels.")
    ] = 1333,
    device: Device = "auto",
    batch: Annotated[
        int | None, typer.Option("--batch", help="Number of image-prompt pairs per batch; default: 1, or 4 on a GPU.")
    ] = None,
    full_precision: Annotated[bool, typer.Option("--full-precision", help="Disable half precision on a GPU.")] = False,
    preview: Annotated[
        int | None, typer.Option("--preview", help="Only draw the labels that the first N images would get.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite existing labels and masks.")] = False,
    download: Download = False,
    accept_license: AcceptLicense = None,
    exif: Annotated[
        str, typer.Option("--exif", help="EXIF orientation of images: refuse such images, apply it, or ignore it.")
    ] = "refuse",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Skip images that cannot be used.")] = False,
) -> None:
    """Create labels and masks from class names with foundation models. Possible only before the first round."""
    from a2lc.creation.pseudo_labels import check_project, make_pseudo_labels, recorded_commits
    from a2lc.creation.pseudo_labels import preview as make_preview
    from a2lc.creation.pseudo_settings import PseudoSettings
    from a2lc.project.project import Project
    from a2lc.weights.catalogue import find_weights

    settings = PseudoSettings(
        box_threshold=box_threshold,
        one_class_per_prompt=one_class,
        reduction=reduction,
        nms=nms,
        shortest=shortest,
        longest=longest,
        overlap=overlap,
        cover=cover,
        cover_count=cover_count,
        background=background,
        device=device,
        batch=batch,
        autocast=not full_precision,
    )
    settings.check()
    is_there = (folder / "project.yaml").is_file()
    table, mended = None if classes is None else parse_classes(classes), None
    if not is_there and (images is None or table is None):
        raise InputError(
            f"There is no project at {folder}. Pass images and classes to create one: a2lc pseudo {folder} --images FOLDER "
            "--classes FILE"
        )
    if is_there:
        with Project(folder) as project:
            mended = project.mended_masks
            if preview is None and mended is None:
                check_project(project, replace=replace)
            _same_source(project, images, table)
            if background is not None:
                project.classes.index(background)
    elif background is not None and table is not None:
        table.index(background)
    recorded = recorded_commits(folder)
    wanted = [find_weights(detector, "detector", recorded), find_weights(segmenter, "segmenter", recorded)]
    found_by, masked_by = obtain_weights(wanted, download, accept_license)
    if not is_there and images is not None:
        from a2lc.creation.importer import create_project
        from a2lc.formats.base import Sources
        from a2lc.images.options import ReadingOptions

        require_known("value of --exif", exif, ["refuse", "apply", "ignore"])
        options = ReadingOptions(exif=exif, skip_bad=skip_bad)
        made = create_project(folder, Sources(images=images), table, options, track=console_progress())
        print_line(f"{made.images:,} images, {made.num_classes} classes in {folder}")
        if made.skipped:
            print_line(f"skipped {len(made.skipped)} images, listed in {folder / 'skipped.csv'}")
    track = console_progress()
    with Project(folder) as project, project.lock():
        if preview is not None:
            picture = make_preview(project, settings, found_by, masked_by, preview, track=track, say=print_line)
            print_line(
                f"preview: {picture}; the project was not changed. Run the same command without --preview to label all images"
            )
            return
        # A replacement of masks that opening the project completed may have been started by this command.
        project.mended_masks = project.mended_masks or mended
        found = make_pseudo_labels(project, settings, found_by, masked_by, replace=replace, track=track, say=print_line)
        quality = project.truth.confusion(project.state()) if project.has_ground_truth else None
        has_labels = bool((project.masks.pair_label >= 0).any())
    print_line(
        f"{found.masks:,} masks in {found.images:,} images, {found.objects:,} of them objects; {found.coverage:.1%} of pixels "
        "are labeled"
    )
    if found.empty:
        print_line(f"no objects were found in {found.empty:,} images")
    if found.never_found:
        print_line(
            f"classes without any object: {first_names(found.never_found, 8)}. Add synonyms in {folder / 'project.yaml'}, or "
            "lower --box-threshold, and check the result first with --preview 8"
        )
    if quality is not None:
        figures = json_safe([quality.miou, quality.pixel_accuracy, quality.coverage])
        print_line("data mIoU {}, pixel accuracy {}, coverage {}".format(*map(format_figure, figures)))
    print_line(f"next: {_next_command(folder, has_masks=True, has_labels=has_labels)}")


def _same_source(project: Project, images: Path | None, table: ClassTable | None) -> None:
    """Raise an error if images or classes are not those of the existing project."""
    used = project.config.sources.images
    # Of a folder with a part for training that part is used; of a list of addresses there is no folder.
    one = images is None or not images.is_dir() or used is None
    if not one and images is not None and used is not None:
        one = project.source_path(used).resolve().is_relative_to(images.resolve())
    if not one:
        raise InputError(
            f"{project.folder} was created from the images in {used}, not from {images}. Omit --images to continue with it, or "
            "name another folder."
        )
    if table is not None and table != project.classes:
        raise InputError(
            f"{project.folder} has classes other than --classes. Omit --classes to continue with those of its project.yaml, "
            "where names, synonyms and priorities can be changed, or name another folder."
        )


def _next_command(folder: Path, *, has_masks: bool, has_labels: bool) -> str:
    if not has_masks:
        return f"a2lc masks {folder} --method seeds"
    # Methods that correct labels need some to begin with.
    return f"a2lc run {folder}" if has_labels else f"a2lc run {folder} --method classbal"


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder to write to.")] = Path("a2lc-demo"),
    images: Annotated[int, typer.Option("--images", min=8, help="Number of synthetic scenes to repair.")] = 96,
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="Number of rounds.")] = 3,
    budget: Annotated[float, typer.Option("--budget", min=1, help="Clicks per round.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Seed of the scenes and of the run.")] = 0,
    method: MethodName = None,
) -> None:
    """Repair synthetic street scenes with planted label errors. Needs no GPU and no download."""
    from a2lc.creation.importer import create_project
    from a2lc.demo.looks import scene_classes
    from a2lc.demo.scenes import write_scenes
    from a2lc.demo.settings import SceneSettings
    from a2lc.formats.base import Sources
    from a2lc.project.config import AnnotatorConfig
    from a2lc.project.project import Project

    check_names(method=method)
    scenes, project_folder = folder / "scenes", folder / "demo.a2lc"
    settings = SceneSettings(images=images, validation_images=max(4, images // 4), seed=seed)
    if not scenes.exists():
        write_scenes(scenes, settings)
    print_line(
        f"{images} synthetic street scenes in {scenes}; their masks have classes from a weak labeller, some of them wrong"
    )
    if not (project_folder / "project.yaml").is_file():
        sources = Sources(
            images=scenes / "images",
            labels=scenes / "labels",
            masks=scenes / "masks",
            ground_truth=scenes / "ground_truth",
        )
        create_project(project_folder, sources, scene_classes(), name="demo", seed=seed)
    with Project(project_folder) as project, project.lock():
        configure(project, preset="tiny", method=method, budget=budget, annotator=AnnotatorConfig().kind, locked=True)
        first_figures(project)
        run_rounds(project, rounds)
    print_line(f"report: {project_folder / 'report.html'}")
    print_line("for your own data: a2lc init my.a2lc --images .. --labels .. --classes .. && a2lc run my.a2lc")
