"""Images that their EXIF orientation shows turned."""

from __future__ import annotations

from collections.abc import Iterator

from a2lc.doctor.diagnosis import Finding, describe_finding
from a2lc.doctor.evidence import Evidence
from a2lc.doctor.files import ImageFacts
from a2lc.doctor.remedies import Remedy
from a2lc.formats.base import Sample

__all__ = ["check", "size_of"]

_UPRIGHT, _STORED = Remedy(option="exif", value="bake"), Remedy(option="exif", value="ignore")

_CASES = (
    ("exif-upright", _UPRIGHT, "their maps fit the upright image"),
    ("exif-stored", _STORED, "their maps fit the image as it is stored"),
    (
        "exif",
        _UPRIGHT,
        (
            f"their maps fit both, so look at one of the images: {_UPRIGHT.setting} if it is upright, "
            f"{_STORED.setting} if it is not"
        ),
    ),
)


def size_of(
    evidence: Evidence, sample: Sample, image: ImageFacts, maps: tuple[int, int] | None
) -> tuple[int, int] | None:
    """Return the width and height that the maps of an image must have; None, with a note, if that is not decided.

    Args:
        evidence: Gets the note.
        sample: The image's.
        image: What was seen of it; its size is known.
        maps: Width and height of its maps.
    """
    assert image.size is not None
    turned = image.orientation >= 5
    upright = (image.size[1], image.size[0]) if turned else image.size
    if image.orientation == 1 or evidence.options.exif == "ignore":
        return image.size
    if evidence.options.exif == "refuse":
        kind = "exif"
        if turned and maps == upright:
            kind = "exif-upright"
        elif turned and maps == image.size:
            kind = "exif-stored"
        shown = f"stored {image.size[0]} x {image.size[1]}, EXIF orientation {image.orientation}"
        evidence.cases[kind].add(f"{sample.image} ({shown})")
        return None
    return upright


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report images that are shown turned, where no option says how they are meant."""
    for code, remedy, text in _CASES:
        if code in evidence.cases:
            case = evidence.cases[code]
            yield describe_finding(
                code,
                "fault",
                f"{case.count:,} images are rotated by their EXIF orientation; {text}.",
                case,
                fix="Choose how they are read; the project stores rotated copies, and your files are not changed.",
                remedies=(remedy,),
            )
