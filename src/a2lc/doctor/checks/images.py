"""Image files: those that cannot be read, those that need a stretch or bands, and what is left of a data set."""

from __future__ import annotations

from collections.abc import Iterator

from a2lc.doctor.diagnosis import Finding, describe_finding
from a2lc.doctor.evidence import Evidence
from a2lc.doctor.files import ImageFacts, MapFacts
from a2lc.doctor.remedies import Remedy
from a2lc.formats.base import Sample
from a2lc.images.multiband import Stretch

__all__ = ["add_image", "add_usable", "check", "check_set"]

_MODES = {
    "L": "are grey",
    "LA": "are grey with alpha, which is dropped",
    "RGBA": "have alpha, which is dropped",
    "P": "have a palette",
    "CMYK": "are CMYK",
    "1": "are black and white",
}


def add_image(evidence: Evidence, sample: Sample, split: str, image: ImageFacts) -> bool:
    """Add an image to the evidence, and return whether its size can be compared with that of its maps."""
    if image.mode == "packed":
        return False
    if image.deep is not None:
        bands, low, high = image.deep
        evidence.deep_kinds.add((bands, image.mode))
        evidence.deep_range = (min(evidence.deep_range[0], low), max(evidence.deep_range[1], high))
        if not _is_shown(evidence, bands, image.mode):
            evidence.cases["image-deep"].add(sample.image, reason=image.refused or "")
        return True
    if image.refused is not None:
        evidence.cases["image-unreadable"].add(sample.image, reason=image.refused)
        return False
    if image.pixels in evidence.images_seen:
        first, where = evidence.images_seen[image.pixels]
        evidence.cases["image-twice" if where == split else "split-leak"].add(f"{sample.image} and {first}")
    else:
        evidence.images_seen[image.pixels] = (str(sample.image), split)
    evidence.modes[image.mode] += 1
    return True


def _is_shown(evidence: Evidence, bands: int, kind: str) -> bool:
    """Return whether the options tell how an image of so many bands becomes RGB of 8 bits."""
    chosen, stretch = evidence.options.bands, evidence.options.stretch
    if chosen is None:
        return stretch is not None and bands in (1, 3, 4)
    return max(chosen) <= bands and (stretch is not None or kind == "uint8")


def add_usable(evidence: Evidence, sample: Sample, image: ImageFacts | None, maps: dict[str, MapFacts]) -> None:
    """Count an image to correct that remains if `skip_bad` leaves out the others."""
    options = evidence.options
    whole = image is None or image.refused is None or image.deep is not None
    needs_truth = evidence.sources.ground_truth is not None and not options.partial_truth
    if sample.labels is None and not options.partial and "images without labels" in evidence.found.unmatched:
        whole = False
    if whole and all(facts.refused is None for facts in maps.values()) and ("ground truth" in maps or not needs_truth):
        evidence.usable += 1
        evidence.usable_unlabelled |= sample.labels is None


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report images that cannot be used as they are."""
    if "image-unreadable" in evidence.cases:
        case = evidence.cases["image-unreadable"]
        yield describe_finding(
            "image-unreadable",
            "doubt" if evidence.options.skip_bad else "fault",
            f"{case.count:,} image files cannot be used: {' | '.join(case.reasons)}",
            case,
            fix="Get the files again, or continue without them.",
            remedies=(Remedy(option="skip_bad", value=True),),
        )
    if "image-deep" in evidence.cases:
        case = evidence.cases["image-deep"]
        yield describe_finding(
            "image-deep",
            "fault",
            (
                f"{case.count:,} images have more than 8 bits, or a number of bands other than 1, 3 or 4: "
                f"{' | '.join(case.reasons)}"
            ),
            case,
            fix="Choose which values become black and white, and which bands are red, green and blue; the project keeps "
            "8-bit copies.",
            remedies=_deep_remedies(evidence),
        )


def _deep_remedies(evidence: Evidence) -> tuple[Remedy, ...]:
    """Return the stretch over all values, and bands in the common order of red, green and blue."""
    remedies = []
    if evidence.options.stretch is None and any(kind != "uint8" for _, kind in evidence.deep_kinds):
        low, high = evidence.deep_range
        if not high > low:
            high = low + max(1.0, abs(low) * 1e-6)  # of one value all over, which no stretch can spread
        # The value that is tried is the one that its text gives again.
        stretch = Stretch(float(f"{low:.12g}"), float(f"{high:.12g}"))
        remedies.append(Remedy(option="stretch", value=stretch))
    counts = {bands for bands, _ in evidence.deep_kinds}
    pages = not remedies and evidence.options.stretch is None
    if evidence.options.bands is None and (counts - {1, 3, 4} or pages):
        remedies.append(Remedy(option="bands", value=(3, 2, 1) if min(counts) >= 3 else (1,)))
    return tuple(remedies)


def check_set(evidence: Evidence) -> Iterator[Finding]:
    """Report that no image is left, and in which other modes than RGB images are stored."""
    if evidence.options.skip_bad and not evidence.layout_error and evidence.found.train and not evidence.usable:
        yield Finding(
            code="nothing-left",
            level="fault",
            message="No images are left: all of them would be skipped.",
            fix="Fix the files; the other findings state what is wrong with them.",
        )
    odd = {mode: count for mode, count in evidence.modes.items() if mode != "RGB"}
    if odd:
        text = ", ".join(f"{count:,} {_MODES.get(mode, mode)}" for mode, count in sorted(odd.items()))
        yield Finding(
            code="image-mode",
            level="note",
            message=f"Of {sum(evidence.modes.values()):,} images, {text}; all are read as RGB.",
            count=sum(odd.values()),
        )
