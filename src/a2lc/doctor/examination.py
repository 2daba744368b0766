"""What is wrong with the files of a data set, where, and what mends it: all of it at once, and nothing is changed.

A fault is what the import refuses; a doubt is read, and is perhaps not what its owner thinks.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2lc.classes.table import ClassTable
from a2lc.creation.checks import pixels_of
from a2lc.doctor.checks.helpers import MODES, SMOOTH, VOID_DOUBT, loose_files, name_hint, peaks_of, size_reason, step_of
from a2lc.doctor.diagnosis import Case, Diagnosis, Finding, ValueCount, colour_name, describe_finding, rgb, slug
from a2lc.doctor.files import ImageFacts, MapFacts, look_at_image, look_at_map
from a2lc.doctor.layout import maps_among_images, other_splits
from a2lc.doctor.remedies import try_remedies
from a2lc.errors import InputError, first_names
from a2lc.formats.base import Sample, Sources
from a2lc.formats.reading import check_map, read_source, void_value, with_ignore
from a2lc.formats.registry import find_reader
from a2lc.images.opening import one_at_a_time
from a2lc.images.options import ReadingOptions
from a2lc.images.sources import MapSource
from a2lc.io.concurrency import in_order
from a2lc.io.progress import Track, no_progress

__all__ = ["examine", "looked"]


def examine(
    sources: Sources,
    classes: ClassTable | None = None,
    options: ReadingOptions | None = None,
    *,
    unknown: Sequence[Path] = (),
    track: Track = no_progress,
) -> Diagnosis:
    """Look at every file of a data set as the import would, and say all that it would trip over.

    Args:
        sources: Where the files are.
        classes: What label values mean; without, those that the format brings along, or nothing is known of values.
        options: How files are to be read: what options mend already is no fault any more.
        unknown: Annotation files of no known format that lie beside them.
        track: Shows progress.

    Options that mend faults are tried: the files are looked at once more as they are read with them, so that what is
    proposed is what the import takes.

    Raises:
        UnknownNameError: There is no such format.
        ConfigError: The ignore value is a class.
        InputError: A value is to be read as what is no class.
    """
    options = options or ReadingOptions()
    doctor = looked(sources, classes, options, track)
    order = {"fault": 0, "doubt": 1, "note": 2}
    findings = try_remedies(sources, classes, options, list(doctor.findings()), track)
    if unknown:
        findings.append(
            Finding(
                code="unknown-annotations",
                level="doubt",
                message=f"{len(unknown)} annotation files are of no format that is read, or damaged; nothing of them is used.",
                count=len(unknown),
                files=tuple(f"{path} ({path.stat().st_size:,} bytes)" for path in unknown[:5]),
                mend="Export them again; the formats are in docs/formats.md. Name what a file is with --format and --labels.",
            )
        )
    findings = sorted(findings, key=lambda finding: order[finding.level])
    return Diagnosis(images=doctor.images, label_maps=doctor.label_maps, findings=tuple(findings))


def looked(sources: Sources, classes: ClassTable | None, options: ReadingOptions, track: Track) -> _Doctor:
    doctor = _Doctor(sources, classes, options)
    for split, others in other_splits(sources).items():
        doctor.add_split(split, others)
    doctor.look(track)
    return doctor


class _Doctor:
    def __init__(self, sources: Sources, classes: ClassTable | None, options: ReadingOptions) -> None:
        sources = replace(sources, max_pixels=options.max_pixels)
        if options.ignore is not None and classes is not None:
            classes = with_ignore(classes, options.ignore)
        self.sources, self.options = sources, options
        self.cases: dict[str, Case] = defaultdict(Case)
        self.said: list[Finding] = []
        reader = find_reader(sources.format)
        self.understood = True
        try:
            self.found = reader(sources, classes=classes)
            if "images without labels" in self.found.unmatched:
                # They are looked at all the same; what is missing is known by now.
                every = reader(sources, partial=True, classes=classes)
                self.found = replace(every, unmatched=self.found.unmatched)
        except InputError as error:
            self.said.append(
                Finding(code="layout", level="fault", message=str(error), mend="Mend what the line names.")
            )
            self.found = loose_files(sources)
            self.understood = False
        self.classes = classes or self.found.classes
        self.known: set[int] | None = None
        if self.classes is not None:
            if options.ignore is not None and classes is None:
                self.classes = with_ignore(self.classes, options.ignore)
            self.options = replace(options, value_map=self.found.value_map(self.classes) | options.value_map)
            check_map(self.options.value_map, self.classes)
            self.known = {*self.classes.file_values, self.classes.ignore, *self.options.value_map}
        self.others: list[tuple[Sample, str]] = []
        self.modes: Counter[str] = Counter()
        self.seen: Counter[int] = Counter()  # pixels of each value in labels
        self.seen_files: Counter[int] = Counter()
        self.seen_truth: set[int] = set()  # values in ground truth
        self.new_ignore: int | None = None  # the ignore value that is proposed
        self.usable = 0  # images to correct that are left where --skip-bad leaves out the others
        self.usable_unlabelled = False
        self.kinds: Counter[str] = Counter()
        self.digests: dict[
            tuple[str, str], tuple[str, str]
        ] = {}  # of decoded images: the first of that name and its split
        self.map_digests: dict[str, str] = {}
        self.truth_alike = 0
        self.smooth: list[float] = []
        self.palettes: dict[int, Counter[tuple[int, int, int]]] = defaultdict(Counter)
        self.masks_seen = False
        self.masked = False
        self.deep: set[tuple[int, str]] = set()  # bands and types of images of more than 8 bits
        self.deep_range = (np.inf, -np.inf)

    def add_split(self, name: str, sources: Sources) -> None:
        """Look at another split as well: its pictures must not be those of this one, and its labels are read alike."""
        found = loose_files(sources)
        known = {sample.image for sample in [*self.found.train, *self.found.validation]}
        self.others += [(sample, name) for sample in found.train if sample.image not in known]
        for sample in found.train:
            if sample.image is not None and sample.labels is None and sources.labels is not None:
                expected = f"{sample.image_id} (expected {sources.labels / sample.image_id}.png)"
                self.found.unmatched.setdefault("images without labels", []).append(expected)

    # ---- looking ------------------------------------------------------------------------------------------------

    @property
    def images(self) -> int:
        """Images, or maps of labels alone."""
        return len(self.found.train) + len(self.found.validation) + len(self.others)

    @property
    def label_maps(self) -> int:
        """Label maps of images to correct, and of other splits."""
        samples = [*self.found.train, *(sample for sample, _ in self.others)]
        return sum(sample.labels is not None for sample in samples)

    def look(self, track: Track) -> None:
        work = [(sample, "train") for sample in self.found.train]
        work += [(sample, "validation") for sample in self.found.validation]
        work += self.others
        with (
            ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool,
            track("looking at files", len(work)) as advance,
        ):
            for (sample, split), facts in zip(work, in_order(pool, self._facts, work), strict=True):
                advance()
                self._take(sample, split, *facts)

    def _facts(self, item: tuple[Sample, str]) -> tuple[ImageFacts | None, dict[str, MapFacts]]:
        sample, _ = item
        limit = self.options.max_pixels
        sources = {"labels": sample.labels, "masks": sample.masks, "ground truth": sample.ground_truth}

        def look() -> tuple[ImageFacts | None, dict[str, MapFacts]]:
            image = None if sample.image is None else look_at_image(sample.image, limit)
            maps = {
                what: look_at_map(source, self._reader(what), self._known_of(what), limit)
                for what, source in sources.items()
                if source is not None
            }
            return image, maps

        return one_at_a_time(pixels_of(sample, limit), look)

    def _reader(self, what: str) -> Callable[[MapSource], NDArray[Any]]:
        classes = None if what == "masks" else self.classes
        return lambda source: read_source(source, classes, self.options)[0]

    def _known_of(self, what: str) -> set[int] | None:
        return None if what == "masks" else self.known

    def _take(self, sample: Sample, split: str, image: ImageFacts | None, maps: dict[str, MapFacts]) -> None:
        size = None
        if image is not None:
            size = self._take_image(sample, split, image, maps)
        elif maps:
            size = next((facts.size for facts in maps.values() if facts.size is not None), None)
        sources = {"labels": sample.labels, "masks": sample.masks, "ground truth": sample.ground_truth}
        for what, facts in maps.items():
            self._take_map(what, sources[what], facts)
            if size is not None and facts.size is not None and facts.size != size:
                reason = size_reason(size, facts.size)
                self.cases["size"].add(f"{sources[what]} ({what} of {sample.image or sample.image_id})", reason=reason)
        labels, truth = maps.get("labels"), maps.get("ground truth")
        if split == "train":
            whole = image is None or image.refused is None or image.deep is not None
            needs_truth = self.sources.ground_truth is not None and not self.options.partial_truth
            if labels is None and not self.options.partial and "images without labels" in self.found.unmatched:
                whole = False
            if whole and all(facts.refused is None for facts in maps.values()) and (truth or not needs_truth):
                self.usable += 1
                self.usable_unlabelled |= labels is None
        if labels is not None and truth is not None and labels.digest and labels.digest == truth.digest:
            self.truth_alike += 1

    def _take_image(
        self, sample: Sample, split: str, image: ImageFacts, maps: dict[str, MapFacts]
    ) -> tuple[int, int] | None:
        if image.mode == "packed":
            return None
        if image.deep is not None:
            bands, low, high = image.deep
            self.deep.add((bands, image.mode))
            self.deep_range = (min(self.deep_range[0], low), max(self.deep_range[1], high))
            if not self._shown(bands, image.mode):
                self.cases["image-deep"].add(sample.image, reason=image.refused or "")
            return self._upright(sample, image, maps)
        if image.refused is not None:
            self.cases["image-unreadable"].add(sample.image, reason=image.refused)
            return None
        key = ("pixels", image.pixels)
        if key in self.digests:
            first, where = self.digests[key]
            both = f"{sample.image} and {first}"
            self.cases["image-twice" if where == split else "split-leak"].add(both)
        else:
            self.digests[key] = (str(sample.image), split)
        assert image.size is not None
        self.modes[image.mode] += 1
        return self._upright(sample, image, maps)

    def _shown(self, bands: int, kind: str) -> bool:
        """Whether the options say how a deep image becomes RGB of 8 bits."""
        chosen = self.options.bands
        if chosen is None:
            return self.options.stretch is not None and bands in (1, 3, 4)
        return max(chosen) <= bands and (self.options.stretch is not None or kind == "uint8")

    def _upright(self, sample: Sample, image: ImageFacts, maps: dict[str, MapFacts]) -> tuple[int, int] | None:
        """The size that counts, by what EXIF says and what the options make of that; None where it is not decided."""
        assert image.size is not None
        turned = image.orientation >= 5
        upright = image.size[::-1] if turned else image.size
        if image.orientation != 1:
            fits = next((facts.size for facts in maps.values() if facts.size is not None), None)
            if self.options.exif == "refuse":
                kind = "exif"
                if turned and fits == upright:
                    kind = "exif-upright"
                elif turned and fits == image.size:
                    kind = "exif-stored"
                shown = f"stored {image.size[0]} x {image.size[1]}, EXIF orientation {image.orientation}"
                self.cases[kind].add(f"{sample.image} ({shown})")
                return None  # which of both sizes counts is not decided
            if self.options.exif in {"apply", "bake"}:
                return (upright[0], upright[1])
        return image.size

    def _take_map(self, what: str, source: MapSource | None, facts: MapFacts) -> None:
        if facts.refused is not None:
            code = {"colours": "colour-coded", "lossy": "lossy"}.get(facts.kind, "unreadable")
            self.cases[f"{code}:{what}"].add(source, facts.colours, facts.refused)
            return
        if what == "ground truth":
            self.seen_truth |= facts.values.keys()
        if what == "masks":
            self.masks_seen = True
            self.masked |= any(facts.values.get(value) for value in facts.values if value)
            if set(facts.values) == {0}:
                self.cases["masks-empty"].add(source)
            return
        if self.known is not None:
            strange = {value: pixels for value, pixels in facts.values.items() if value not in self.known}
            if strange:
                self.cases[f"values:{what}"].add(source, strange)
                self.smooth.append(facts.smooth)
        if what != "labels":
            return
        self.kinds[facts.kind] += 1
        for value, pixels in facts.values.items():
            self.seen[value] += pixels
            self.seen_files[value] += 1
        for value, colour in facts.palette.items():
            self.palettes[value][colour] += 1
        if self.classes is not None and not any(self._is_class(value) for value in facts.values):
            self.cases["all-void"].add(source)
        if facts.digest:
            if facts.digest in self.map_digests:
                self.cases["same-map"].add(f"{source} and {self.map_digests[facts.digest]}")
            else:
                self.map_digests[facts.digest] = str(source)

    def _is_class(self, value: int) -> bool:
        assert self.classes is not None
        return self.options.value_map.get(value, value) in self.classes.file_values

    # ---- saying -------------------------------------------------------------------------------------------------

    def findings(self) -> Iterable[Finding]:
        yield from self.said
        yield from self._among_images()
        yield from self._unmatched()
        yield from self._image_findings()
        for what in ("labels", "masks", "ground truth"):
            yield from self._map_findings(what)
        yield from self._size_finding()
        yield from self._value_findings()
        yield from self._label_doubts()
        yield from self._left()
        yield from self._notes()

    def _among_images(self) -> Iterable[Finding]:
        """Label maps that lie in the folder of images, under the images' names."""
        folder = self.sources.images
        if self.sources.format != "folder" or folder is None or not folder.is_dir():
            return
        maps = maps_among_images(folder, self.options.max_pixels)
        if maps:
            yield Finding(
                code="layout",
                level="doubt" if self.understood else "fault",
                message=f"{len(maps):,} files beside the images look like their label maps: few values, and an image's name.",
                count=len(maps),
                files=tuple(map(str, maps[:5])),
                mend="Put them into a folder of their own, each under the very name of its image, and name it with --labels.",
            )

    def _left(self) -> Iterable[Finding]:
        """What the import refuses of a set as a whole, once each of its files is read."""
        if self.options.skip_bad and self.understood and self.found.train and not self.usable:
            yield Finding(
                code="nothing-left",
                level="fault",
                message="No image is left: all of them would be left out.",
                mend="Mend the files; the other findings say what is wrong with them.",
            )
        if self.classes is None or not self.usable_unlabelled:
            return
        try:
            void_value(self.classes, self.options)
        except InputError as error:
            yield Finding(code="no-void", level="fault", message=str(error), mend="Give void another value.")

    def _unmatched(self) -> Iterable[Finding]:
        for what, names in self.found.unmatched.items():
            flags, mend = ("--skip-bad",), "Add or remove files so that names agree, or go on without them."
            if what == "images without labels":
                flags, mend = ("--partial",), "Let them start without labels, or name the files as the images."
            elif what == "images without ground truth":
                flags, mend = ("--partial-ground-truth",), "Measure on the others, or name the files as the images."
                if self.options.partial_truth:
                    continue
            if (what == "images without labels" and self.options.partial) or self.options.skip_bad:
                continue
            hint = name_hint(what, self.found.unmatched)
            yield Finding(
                code=what.replace(" ", "-"),
                level="fault",
                message=f"{len(names):,} {what}." + (f" {hint}" if hint else ""),
                count=len(names),
                files=tuple(names[:5]),
                mend=mend,
                flags=flags,
            )

    def _image_findings(self) -> Iterable[Finding]:
        cases, skip = self.cases, self.options.skip_bad
        if "image-unreadable" in cases:
            case = cases["image-unreadable"]
            yield describe_finding(
                "image-unreadable",
                "doubt" if skip else "fault",
                f"{case.count:,} image files cannot be used: {' | '.join(case.reasons)}",
                case,
                mend="Get the files again, or go on without them.",
                flags=("--skip-bad",),
            )
        if "image-deep" in cases:
            flags = []
            if self.options.stretch is None and any(kind != "uint8" for _, kind in self.deep):
                low, high = self.deep_range
                if not high > low:
                    high = low + max(1.0, abs(low) * 1e-6)  # of one value all over, which no stretch can spread
                flags.append(f"--stretch {low:.12g}:{high:.12g}")
            counts = {bands for bands, _ in self.deep}
            pages = not flags and self.options.stretch is None
            if self.options.bands is None and (counts - {1, 3, 4} or pages):
                flags.append("--bands 3,2,1" if min(counts) >= 3 else "--bands 1")
            case = cases["image-deep"]
            yield describe_finding(
                "image-deep",
                "fault",
                f"{case.count:,} images have more than 8 bits, or other than 1, 3 or 4 bands: {' | '.join(case.reasons)}",
                case,
                mend="Say which values become black and white, and which bands are red, green and blue; the project keeps "
                "8-bit copies.",
                flags=tuple(flags),
            )
        for code, flag, text in (
            ("exif-upright", "--bake-exif", "their maps fit the upright image"),
            ("exif-stored", "--exif ignore", "their maps fit the image as it is stored"),
            (
                "exif",
                "--bake-exif",
                "their maps fit both ways, so look at one: --bake-exif if upright, --exif ignore if not",
            ),
        ):
            if code in cases:
                yield describe_finding(
                    code,
                    "fault",
                    f"{cases[code].count:,} images are shown turned by their EXIF orientation; {text}.",
                    cases[code],
                    mend="Say how they are meant; copies are turned, your files stay.",
                    flags=(flag,),
                )
        for code, text, mend in (
            (
                "split-leak",
                "images are in training and in validation: a model would be measured on what it learnt from",
                "Take them out of one of the two.",
            ),
            ("image-twice", "images are the same picture as another", "Keep one of each, unless that is meant."),
        ):
            if code in cases:
                yield describe_finding(code, "doubt", f"{cases[code].count:,} {text}.", cases[code], mend=mend)

    def _map_findings(self, what: str) -> Iterable[Finding]:
        cases = self.cases
        if f"unreadable:{what}" in cases:
            case = cases[f"unreadable:{what}"]
            yield describe_finding(
                f"{slug(what)}-unreadable",
                "doubt" if self.options.skip_bad else "fault",
                f"{case.count:,} {what} files cannot be read without a guess: {' | '.join(case.reasons)}",
                case,
                mend="Save them as the reason says, get them again, or go on without them.",
                flags=("--skip-bad",),
            )
        if f"colour-coded:{what}" in cases:
            yield self._colour_finding(what, cases[f"colour-coded:{what}"])
        if f"lossy:{what}" in cases:
            case = cases[f"lossy:{what}"]
            text, flags = self._snap_flags(case) if what != "masks" else ("", ())
            yield describe_finding(
                f"{slug(what)}-lossy",
                "fault",
                f"{case.count:,} {what} files are JPEG or WebP, which blur values at every edge ({len(case.pixels):,} colours "
                f"are in them).{text}",
                case,
                values=case.values(colour_name),
                mend="Find them as they were before they were compressed"
                + ("; if there is no way, read each pixel as the nearest known value." if flags else "."),
                flags=flags,
            )

    def _snap_flags(self, case: Case) -> tuple[str, tuple[str, ...]]:
        """What is seen in blurred maps, and options that read them.

        A pixel is read as the nearest known value where that is no guess: nearer than half the way between any two of them.
        """
        if self.classes is None:
            return "", ()
        grey = all(code >> 16 == (code >> 8 & 255) == code & 255 for code in case.pixels)
        if grey:
            values = {*self.classes.file_values, self.classes.ignore, *self.options.value_map}
            known = np.array(sorted(value for value in values if value <= 255), dtype=np.int64)[:, None]
            found = np.array([code & 255 for code in case.pixels], dtype=np.int64)[:, None]
        else:
            colours = {*self.classes.colours, (224, 224, 192)}
            known = np.array(sorted(colours), dtype=np.int64)
            found = np.array([(code >> 16, code >> 8 & 255, code & 255) for code in case.pixels], dtype=np.int64)
        if not len(known):
            return "", ()
        away = int(np.abs(found[:, None] - known[None]).max(axis=2).min(axis=1).max(initial=0))
        gaps = np.abs(known[:, None] - known[None]).max(axis=2)
        gap = int(gaps[~np.eye(len(known), dtype=bool)].min(initial=512))
        if 2 * away < gap:
            return "", (f"--snap {away}",) if grey else (f"--snap {away}", "--colours")
        what = "values" if grey else "colours"
        text = (
            f" Pixels lie up to {away} from every known one, and known {what} are {gap} apart: the nearest is a guess."
        )
        often = sorted(code & 255 for code, pixels in case.pixels.items() if pixels >= sum(case.pixels.values()) / 100)
        strange = [value for value in often if np.abs(known - value).min() * 2 >= gap] if grey else []
        if strange:
            named = ", ".join(map(str, peaks_of(often, case)))
            text += f" Values around {named} are frequent: stretched ids, or other ones than in the classes file."
        return text, ()

    def _colour_finding(self, what: str, case: Case) -> Finding:
        code = f"{slug(what)}-colour-coded"
        red_alone = all(code & 0xFFFF == 0 for code in case.pixels)
        if self.classes is None:
            return describe_finding(
                code,
                "fault",
                f"{case.count:,} {what} files are colour-coded; {len(case.pixels):,} colours are in them.",
                case,
                values=case.values(colour_name),
                mend="Give a classes file with the colour of each class, and read through it.",
                flags=(),
            )
        table = dict(zip(self.classes.colours, self.classes.names, strict=True))
        table.setdefault((224, 224, 192), "void")
        unknown = {code: pixels for code, pixels in case.pixels.items() if rgb(code) not in table}
        if red_alone and self.known is not None and {code >> 16 for code in case.pixels} <= self.known:
            return describe_finding(
                code,
                "fault",
                f"{case.count:,} {what} files hold ids in the red channel alone.",
                case,
                values=case.values(colour_name),
                mend="Save the red channel as an 8-bit grey PNG, or give the classes these colours in the classes file "
                "and pass --colours.",
            )
        if not unknown:
            return describe_finding(
                code,
                "fault",
                f"{case.count:,} {what} files are colour-coded, in the colours of the classes.",
                case,
                values=case.values(lambda value: f"{colour_name(value)} {table[rgb(value)]}"),
                mend="Read them through the colours of the classes file.",
                flags=("--colours",),
            )
        names = list(table)

        def nearest(value: int) -> str:
            away = [max(abs(a - b) for a, b in zip(rgb(value), colour, strict=True)) for colour in names]
            best = int(np.argmin(away))
            return f"{colour_name(value)}, {away[best]} from {table[names[best]]}"

        few = Counter(unknown).most_common(12)
        return describe_finding(
            code,
            "fault",
            f"{case.count:,} {what} files are colour-coded, and {len(unknown):,} of their {len(case.pixels):,} colours are no "
            f"class's: {sum(unknown.values()):,} pixels.",
            case,
            values=tuple(ValueCount(value=nearest(v), pixels=n, files=case.with_value[v]) for v, n in few),
            mend="Add those colours to the classes file (one with the name of its class, void with the ignore value), then "
            "pass --colours.",
        )

    def _size_finding(self) -> Iterable[Finding]:
        if "size" in self.cases:
            case = self.cases["size"]
            yield describe_finding(
                "size",
                "fault",
                f"{case.count:,} maps differ in size from their image: {' | '.join(dict.fromkeys(case.reasons))}",
                case,
                mend="Bring map and image to one size: ids by nearest neighbour, never smoothed.",
            )

    def _value_findings(self) -> Iterable[Finding]:
        if self.classes is None:
            return
        binary = self._binary()
        if binary is not None:
            yield binary
        self.new_ignore = self._other_ignore()
        for what in ("labels", "ground truth"):
            case = self.cases.get(f"values:{what}")
            if case is None:
                continue
            text, mend, flags = self._explain(what, case)
            yield describe_finding(
                f"{slug(what)}-values",
                "fault",
                f"{what} hold {len(case.pixels):,} values that are no class and not ignore ({self.classes.ignore}): "
                f"{sum(case.pixels.values()):,} pixels in {case.count:,} files.{text}",
                case,
                values=case.values(),
                mend=mend,
                flags=flags,
            )

    def _binary(self) -> Finding | None:
        classes, values = self.classes, set(self.seen)
        assert classes is not None
        if self.kinds["drawn"]:
            return None  # annotations say what is void
        if values != {0, 255} or classes.ignore != 255 or 255 in self.options.value_map or 0 not in classes.file_values:
            return None
        other = next((value for value in classes.file_values if value), None)
        return Finding(
            code="labels-binary",
            level="fault",
            message="The labels hold only 0 and 255, and 255 is the ignore value: it may mean an object, or no class.",
            count=self.label_maps,
            values=tuple(
                ValueCount(value=str(v), pixels=self.seen[v], files=self.seen_files[v]) for v in sorted(values)
            ),
            mend="Say which: --map 255=255 if it means no class"
            + (f", --map 255={other} if it is {classes.names[classes.file_values.index(other)]!r}." if other else ".")
            + " The option below reads it as an object."
            if other
            else "Say which: --map 255=255 if it means no class.",
            flags=(f"--map 255={other}",) if other is not None else ("--map 255=255",),
        )

    def _other_ignore(self) -> int | None:
        """The one unknown value of the labels, if it can take the place of an ignore value that is nowhere."""
        classes, case = self.classes, self.cases.get("values:labels")
        assert classes is not None
        if case is None or len(case.pixels) != 1 or self.options.ignore is not None:
            return None
        if self.seen[classes.ignore] or classes.ignore in self.seen_truth:
            return None
        # What is read as another value keeps what that stands for.
        own = {value for value, becomes in self.options.value_map.items() if becomes == classes.ignore}
        if own - self.found.void_values or classes.ignore in self.options.value_map:
            return None
        return int(next(iter(case.pixels)))

    def _explain(self, what: str, case: Case) -> tuple[str, str, tuple[str, ...]]:
        """Why values may be unknown, what mends it, and the options."""
        classes, seen = self.classes, {*self.seen, *case.pixels}
        assert classes is not None
        values, ids = sorted(case.pixels), classes.file_values
        void = classes.ignore
        first: tuple[str, ...] = ()
        if self.new_ignore is not None and what != "labels":
            void, first = self.new_ignore, (f"--ignore {self.new_ignore}",)
        to_void = first + tuple(f"--map {value}={void}" for value in values[:32] if value != void)
        if any(value >= 1000 and value // 1000 in ids for value in values) and max(values) >= 1000:
            return (
                " They look like instance ids: class * 1000 + number.",
                "Take the label files (such as _labelIds), not those of instances.",
                (),
            )
        step = step_of(sorted(seen - {classes.ignore}) if classes.ignore not in seen else sorted(seen))
        count = len(ids)
        if step is not None and len(seen) <= count + 1 and set(ids) >= set(range(len(seen))):
            self.new_ignore = None
            pairs = tuple(f"--map {value}={place}" for place, value in enumerate(sorted(seen)) if value != place)
            return (
                f" All values are multiples of {step}: ids stretched so that people can see them.",
                "Read each as its place in the row.",
                pairs,
            )
        if self.smooth and float(np.mean(self.smooth)) > SMOOTH and len(values) > 2:
            return (
                " They lie between two other values at borders: the maps were resized with smoothing.",
                "Make them again with nearest neighbour; the option below gives such pixels no class.",
                to_void if len(values) <= 32 else (),
            )
        if values == [max(ids) + 1] and min(ids) == 0 and 0 not in self.seen:
            return (
                f" Values run from 1 to {max(ids) + 1} and ids from 0: counted from one.",
                "Give the classes ids from 1 in the classes file (`id`).",
                (),
            )
        if self.new_ignore is not None and what == "labels":
            value = self.new_ignore
            return (
                f" The ignore value {classes.ignore} is on no pixel.",
                f"If {value} means no class, say so; if it is one, add it to the classes file.",
                (f"--ignore {value}",),
            )
        enough = len(values) <= 32
        return (
            "",
            "Add them to the classes file, or read them as others: the options below give them no class."
            if enough
            else "Add them to the classes file, or read them as others with --map VALUE=VALUE.",
            to_void if enough else (),
        )

    def _label_doubts(self) -> Iterable[Finding]:
        total = sum(self.seen.values())
        if self.classes is not None and total:
            classes = self.classes
            missing = [
                f"{name!r} ({value})"
                for name, value in zip(classes.names, classes.file_values, strict=True)
                if not any(self.options.value_map.get(seen, seen) == value for seen in self.seen)
            ]
            if missing:
                yield Finding(
                    code="class-missing",
                    level="doubt",
                    message=f"{len(missing)} of {classes.num_classes} classes are on no pixel: {first_names(missing)}.",
                    count=len(missing),
                    values=tuple(ValueCount(value=name, pixels=0, files=0) for name in missing[:12]),
                    mend="Look whether their values are as the classes file says.",
                )
            void = sum(
                pixels
                for value, pixels in self.seen.items()
                if self.options.value_map.get(value, value) == classes.ignore
            )
            share = void / total
            if share > VOID_DOUBT:
                yield Finding(
                    code="void-share",
                    level="doubt",
                    message=f"{share:.1%} of all label pixels are void.",
                    values=(ValueCount(value=str(classes.ignore), pixels=void, files=self.seen_files[classes.ignore]),),
                    mend=f"Look whether {classes.ignore} means no class; if another value does, pass --ignore VALUE.",
                )
            elif void:
                yield Finding(
                    code="void-share", level="note", message=f"{share:.1%} of all label pixels are void ({void:,})."
                )
        yield from self._palette_doubt()
        for code, text, mend in (
            ("all-void", "label files carry no class on any pixel", "Look whether they were left unfinished."),
            ("same-map", "label files are the same as another's", "Look whether one was saved under two names."),
            ("masks-empty", "mask maps have no mask", "Nothing in these images can be asked about."),
        ):
            if code in self.cases:
                case = self.cases[code]
                yield describe_finding(code, "doubt", f"{case.count:,} {text}.", case, mend=mend)
        if self.truth_alike and self.truth_alike == self.label_maps:
            yield Finding(
                code="labels-are-truth",
                level="doubt",
                message="The labels are the ground truth, file by file: nothing is left to correct.",
                count=self.truth_alike,
                mend="Name the doubtful labels with --labels.",
            )
        if self.masks_seen and not self.masked:
            yield Finding(
                code="no-masks",
                level="fault",
                message="There is no mask in any mask map: all are 0 everywhere.",
                mend="Leave --masks out: connected components of the labels are taken then.",
            )
        if self.label_maps and self.classes is not None and not self.masks_seen and total:
            lost = "all-void" in self.cases and self.cases["all-void"].count == self.label_maps
            if lost:
                yield Finding(
                    code="no-class",
                    level="fault",
                    message="The labels carry no class anywhere: every value is void.",
                    mend="Look at the values and the classes file.",
                )

    def _palette_doubt(self) -> Iterable[Finding]:
        """Palettes that paint an id in the colour of another class: labels whose order was lost on the way."""
        if self.classes is None or not self.palettes:
            return
        by_colour = dict(zip(self.classes.colours, self.classes.file_values, strict=True))
        names = dict(zip(self.classes.file_values, self.classes.names, strict=True))
        wrong, files = [], 0
        for value, colours in sorted(self.palettes.items()):
            colour, count = colours.most_common(1)[0]
            said = by_colour.get(colour)
            if said is not None and said != value and value in names:
                files = max(files, count)
                wrong.append(
                    ValueCount(
                        value=f"{value} ({names[value]}) is painted as {names[said]}",
                        pixels=self.seen[value],
                        files=count,
                    )
                )
        if wrong:
            yield Finding(
                code="palette-order",
                level="doubt",
                message=f"{len(wrong)} values have the palette colour of another class: perhaps the order of labels was lost.",
                count=files,
                values=tuple(wrong[:12]),
                mend="If the colours are right, give the classes file the ids that the files have.",
            )

    def _notes(self) -> Iterable[Finding]:
        for kind, text in (
            ("palette", "label files have a palette: their indices are read, colours are for people"),
            ("wide", "label files have 16 bits: all of them are kept"),
        ):
            if self.kinds[kind]:
                yield Finding(code=kind, level="note", message=f"{self.kinds[kind]:,} {text}.", count=self.kinds[kind])
        odd = {mode: count for mode, count in self.modes.items() if mode != "RGB"}
        if odd:
            said = ", ".join(f"{count:,} {MODES.get(mode, mode)}" for mode, count in sorted(odd.items()))
            yield Finding(
                code="image-mode",
                level="note",
                message=f"Of {sum(self.modes.values()):,} images, {said}: all are read as RGB.",
                count=sum(odd.values()),
            )
        for note in self.found.notes:
            yield Finding(code="layout", level="note", message=f"{note}.")
        if self.classes is None and (self.understood or self.sources.format == "folder"):
            values = ", ".join(f"{value} ({pixels:,})" for value, pixels in self.seen.most_common(12))
            yield Finding(
                code="no-classes",
                level="fault",
                message=f"No classes are named, and format {self.sources.format!r} brings none along: no value could be checked"
                + (f"; values and pixels: {values}." if values else "."),
                mend="Pass --classes FILE, or names with commas between them.",
            )
