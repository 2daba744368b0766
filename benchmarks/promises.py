"""Promises and intervals of the method `gain`, kept or broken over many simulated runs.

python benchmarks/promises.py --project A.a2lc --project B.a2lc --runs 40 --rounds 2 --questions 200 [--min-precision 0.9] \
    [--error-rate 0.05] [--skip-rate 0.1] [--labels clean|random] [--set certify=0.3] [--json OUT.json]

A run takes images of a project by chance, with replacement, and plays rounds on them: a `Session` asks, freezes, audits and
decides as it does in a project; the oracle answers from ground truth. Nothing is trained: the statistics are those that the
project was scored with. After each round the truth, mask by mask, is held against what was promised.

`--labels clean` gives each mask its most frequent true class; `random` gives each mask the label and the model's statistics of
another one, so that neither tells anything.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from scipy.stats import beta

from a2lc.acquisition.gain import expected_iou_gain
from a2lc.audits import effects
from a2lc.audits.findings import realised_gain
from a2lc.audits.memory import MemorySource
from a2lc.audits.session import Session
from a2lc.classes.sentinels import FIRST, UNKNOWN, VOID
from a2lc.ledger.replay import SOURCES
from a2lc.masks.tables import MaskTable
from a2lc.masks.truth import TruthTable
from a2lc.methods.gain import Gain
from a2lc.project.project import Project
from a2lc.records import Answer, AnswerKind, Reason
from a2lc.rounds.context import Context
from a2lc.rounds.oracle import Oracle
from a2lc.rounds.plan import RoundPlan
from a2lc.rounds.source import ProjectSource
from a2lc.statistics.appearance import Borders
from a2lc.statistics.features import EMBEDDING
from a2lc.statistics.keys import mask_keys
from a2lc.statistics.mask_stats import LAYOUT, PAIRS, MaskStats
from a2lc.statistics.metrics import ConfusionCounts
from a2lc.statistics.store import ParquetStats, joined

NEXT = 100


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """What is known of some images: all that a run needs of a project."""

    stats: MaskStats
    embedding: np.ndarray | None
    masks: MaskTable
    truth: TruthTable
    looks: np.ndarray
    near: Borders

    def take(self, images):
        """The pool of these images, in this order, one as often as it is named."""
        starts = np.searchsorted(self.masks.image, images)
        counts = np.searchsorted(self.masks.image, images + 1) - starts
        rows, begins = _ranges(starts, counts), np.cumsum(counts) - counts
        image = np.repeat(np.arange(len(images), dtype=np.int32), counts)
        pair, pair_row = _owned(self.masks.pair_row, rows)
        masks = MaskTable(
            image=image,
            mask_ids=self.masks.mask_ids[rows],
            area=self.masks.area[rows],
            label=self.masks.label[rows],
            pair_row=pair_row,
            pair_label=self.masks.pair_label[pair],
            pair_pixels=self.masks.pair_pixels[pair],
        )
        inside, truth_row = _owned(self.truth.row, rows)
        truth = TruthTable(
            row=truth_row,
            label=self.truth.label[inside],
            truth=self.truth.truth[inside],
            pixels=self.truth.pixels[inside],
        )
        edge, first = _owned(self.near.first, rows)
        # A border lies within an image, so both its masks move alike.
        shift = np.repeat(begins - starts, counts)[first]
        near = Borders(
            first=first,
            second=(self.near.second[edge] + shift).astype(np.int32),
            length=self.near.length[edge],
            vertical=self.near.vertical[edge],
        )
        stats = _stats_rows(self.stats, rows, image)
        embedding = None if self.embedding is None else self.embedding[rows]
        return Pool(stats=stats, embedding=embedding, masks=masks, truth=truth, looks=self.looks[rows], near=near)

    def true_labels(self, classes):
        """(M,) most frequent true class of each mask, VOID for none, as `label_quality` has it."""
        by_class = np.zeros((len(self.masks), classes + 1), dtype=np.int64)
        inside = self.truth.row >= 0
        column = np.where(self.truth.truth == VOID, classes, self.truth.truth)
        np.add.at(by_class, (self.truth.row[inside], column[inside]), self.truth.pixels[inside])
        found = by_class.argmax(axis=1)
        return np.where(found == classes, VOID, found).astype(np.int32)

    def relabelled(self, label, stats):
        """The same with one first label for each mask."""
        masks = replace(
            self.masks,
            label=label,
            pair_row=np.arange(len(label), dtype=np.int32),
            pair_label=label,
            pair_pixels=self.masks.area,
        )
        return replace(self, masks=masks, stats=stats, truth=replace(self.truth, label=label[self.truth.row]))

    def clean(self, classes):
        """With each mask's true class for a label, and what the same model says of that one."""
        label, old = self.true_labels(classes), self.stats
        scored = np.where(label == VOID, old.dominant, label)
        rows = np.arange(len(label))
        doubt = old.area - old.prob_sums[rows, scored]
        # How alike the pixels are, and the least sure one of them, are kept where the label is; else as they are on the whole.
        alike = old.sum_pairs(old.pair_similar) / np.maximum(old.sum_pairs(old.pair_doubt), 1e-9)
        softmin = np.where(scored == self.masks.label, old.softmin, old.mean_probs[rows, scored])
        stats = replace(
            old,
            softmin=softmin.astype(np.float32),
            pair_row=rows.astype(np.int32),
            pair_label=scored.astype(np.int32),
            pair_pixels=old.area,
            pair_doubt=doubt.astype(np.float32),
            pair_similar=(doubt * alike).astype(np.float32),
            pair_similar_representative=np.zeros(len(label), dtype=np.float32),
        )
        return self.relabelled(label, stats)

    def random(self, rng):
        """With the label and the model's statistics of another mask for each, scaled to its area."""
        other = rng.permutation(len(self.masks))
        found = _stats_rows(self.stats, other, self.stats.image)
        scale = self.stats.area / np.maximum(found.area, 1)
        pair_scale = scale[found.pair_row]
        stats = replace(
            found,
            mask_ids=self.stats.mask_ids,
            area=self.stats.area,
            **{
                name: (values * (scale[:, None] if values.ndim == 2 else scale)).astype(values.dtype)
                for name in ("prob_sums", "pred_counts", "entropy_sum", "bvsb_sum")
                for values in (getattr(found, name),)
            },
            **{name: (getattr(found, name) * pair_scale).astype(np.float32) for name in ("pair_doubt", "pair_similar")},
        )
        return self.relabelled(self.masks.label[other], stats)


def _ranges(starts, counts):
    """Concatenated ranges of given starts and lengths."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


def _owned(owner, rows):
    """Items of the rows named, those of a row each time it is named, and the place of their row among them."""
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], rows)
    counts = np.searchsorted(owner[order], rows, side="right") - starts
    return order[_ranges(starts, counts)], np.repeat(np.arange(len(rows), dtype=np.int32), counts)


def _stats_rows(stats, rows, image):
    pair, pair_row = _owned(stats.pair_row, rows)
    values = {name: getattr(stats, name)[pair if kind == PAIRS else rows] for name, kind in LAYOUT.items()}
    values |= {"image": image, "pair_row": pair_row}
    return MaskStats(num_classes=stats.num_classes, ignore_index=stats.ignore_index, **values)


def read_pool(folder):
    """The pool of a project, of the first round that was scored, and its number of classes and of images."""
    with Project(folder) as project:
        scored = sorted((project.folder / "rounds").glob("*/stats/part-*.parquet"))
        if not scored:
            raise SystemExit(f"{folder} was never scored: a2lc train, evaluate, score.")
        store = ParquetStats(scored[0].parent, (EMBEDDING,))
        stats, extra = next(joined(store.read(frozenset(LAYOUT) | {EMBEDDING})))
        embedding = extra.get(EMBEDDING)
        masks = project.masks
        assert np.array_equal(mask_keys(stats.image, stats.mask_ids), masks.keys), "statistics of other masks"
        source = ProjectSource(Context(project=project, plan=RoundPlan.of(project.config)), 0)
        looks, near = source.appearance()
        learned = source.embedding()
        if learned is not None:
            parts = [learned.astype(np.float32)] if embedding is None else [embedding, learned.astype(np.float32)]
            embedding = np.concatenate(parts, axis=1)
        classes, images = project.classes.num_classes, len(project.images)
        pool = Pool(stats=stats, embedding=embedding, masks=masks, truth=project.truth.table, looks=looks, near=near)
    return pool, classes, images


class Stage:
    """The data of a run in memory, and an oracle that may skip."""

    def __init__(self, pool, classes, seed):
        extra = {} if pool.embedding is None else {EMBEDDING: pool.embedding}
        self.masks, self.truth = pool.masks, pool.truth
        self.source = MemorySource(
            pool.masks, pool.stats, pool.looks, pool.near, num_classes=classes, seed=seed, extra=extra
        )

    @property
    def now(self):
        return self.source.state()

    def answer(self, queries, oracle, skip_rate):
        """Put queries to the oracle and record its answers."""
        queries = self.source.ask(queries)
        answers = oracle.answer(queries, self.masks, self.truth, self.now)
        rows = self.masks.rows([query.image for query in queries], [query.mask_ids[0] for query in queries])
        for query, answer, row in zip(queries, answers, rows.tolist(), strict=True):
            skips = skip_rate and np.random.default_rng([oracle.seed, 9, row]).random() < skip_rate
            skipped = Answer(query_id=query.query_id, annotator="person", kind=AnswerKind.SKIP)
            self.source.answer(query, skipped if skips else answer)


def confusion(labels, true, area, classes):
    found = ConfusionCounts(classes, VOID)
    found.add(labels, true, area)
    return found


def covers(interval, value):
    if not np.isfinite(value):
        return None
    return bool(interval["low"] - 1e-9 <= value <= interval["high"] + 1e-9)


def by_class(intervals, values):
    """Share of the classes whose interval holds the value, where both are defined."""
    found = [
        covers(interval, value)
        for interval, value in zip(intervals, values, strict=True)
        if interval["low"] is not None and np.isfinite(interval["low"])
    ]
    found = [one for one in found if one is not None]
    return float(np.mean(found)) if found else None


def compare(figures, labels, true, area, classes, unknown):
    """Whether a round's figures hold the truth, and how far they reach."""
    counts = confusion(labels, true, area, classes)
    joint, total = counts.counts, np.maximum(counts.counts.sum(axis=0), 0)
    right = np.diag(joint).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = right / joint.sum(axis=1), right / total
    wrong = float((labels != true)[unknown].sum())
    found = {
        "pixel_accuracy": covers(figures["pixel_accuracy"], counts.pixel_accuracy),
        "miou": covers(figures["miou"], counts.miou),
        "wrong_masks": covers(figures["wrong_masks"], wrong),
        "recall": by_class(figures["recall"], recall),
        "precision": by_class(figures["precision"], precision),
    }
    for name, value in (("pixel_accuracy", counts.pixel_accuracy), ("miou", counts.miou), ("wrong_masks", wrong)):
        ends = figures[name]
        found |= {f"{name}_true": value, f"{name}_width": ends["high"] - ends["low"]}
        found[f"{name}_off"] = None if ends["estimate"] is None else ends["estimate"] - value
    return found


def worth(labels, rows, first, true, area, classes):
    """What mean IoU loses, exactly, if some masks go back to their first labels."""
    without = labels.copy()
    without[rows] = first[rows]
    return confusion(labels, true, area, classes).miou - confusion(without, true, area, classes).miou


def look_back(session, stage, true, classes):
    """What a round said, held against the truth."""
    masks, area = stage.masks, stage.masks.area
    belief, certification = session.belief, session.certification
    known, frozen, measured = belief.known(), certification.frozen(), certification.measured()
    said, found = session.findings(), {}
    after = masks.current(stage.now)
    unknown = known.truth == UNKNOWN
    found["before"] = compare(said["before"], masks.label, true, area, classes, unknown)
    found["after"] = compare(said["after"], after, true, area, classes, unknown)
    # The labels as the round says they are, against those the ledger has.
    claimed = np.where(unknown, np.where(known.asked, masks.label, measured.labels), known.truth)
    found["labels_differ"] = int((claimed != after).sum())
    found["answers_differ"] = int((known.truth != true)[~unknown].sum())

    # What was promised of the masks accepted, and of those kept from earlier rounds; a few were then asked about to measure.
    rows, promise = measured.accepted, said["promise"]
    changed = np.flatnonzero((stage.now.source == SOURCES.index("automatic")) & (stage.now.classes != FIRST))
    found |= {"proposed": promise["proposed"], "accepted": len(rows), "reason": promise.get("reason", "")}
    found["stand"] = promise.get("kept", 0)
    found |= {"changed": len(changed), "changed_of_masks": len(changed) / len(masks)}
    found["rows_differ"] = len(np.setxor1d(changed, np.setdiff1d(rows, measured.drawn)))
    if len(rows):
        right = frozen.labels[rows] == true[rows]
        found |= {"gain": worth(measured.labels, rows, masks.label, true, area, classes), "lower": promise["lower"]}
        found |= {
            "true_precision": float(right.mean()),
            "gain_of_changed": worth(after, changed, masks.label, true, area, classes),
        }
        unions, ious = certification.unions(frozen.labels, frozen.posteriors(classes))
        told = effects(area[rows], masks.label[rows], frozen.labels[rows], true[rows], unions, ious)
        found["linear"] = float(told.sum()) / classes

    # The forecast: the masks it is about, answered rightly.
    certain = belief.certain(frozen.posteriors(classes), known)
    scores = np.where(known.asked, 0.0, expected_iou_gain(area, belief.labels(certain, known), certain))
    top = np.argsort(-scores, kind="stable")[:NEXT]
    then = after.copy()
    then[top] = true[top]
    realised = 100 * (confusion(then, true, area, classes).miou - confusion(after, true, area, classes).miou)
    ends = said["next"]["gain"]
    found["next"] = {"estimate": ends["estimate"], "low": ends["low"], "high": ends["high"], "true": realised}
    linear = realised_gain(session.source, [(row, after[row], true[row]) for row in top.tolist()], certain, after)
    found["next"]["linear"] = 100 * float(linear.sum()) / classes
    found["next"]["inside"] = covers(
        {key: np.inf if ends[key] is None else ends[key] for key in ("low", "high")}, realised
    )
    found["informative"] = said["agreement"]["informative"]
    found["agreement"] = [said["agreement"]["right"], said["agreement"]["chance"]]
    found["error_rate"] = said["error_rate"]
    found["wrong_answers"] = promise.get("wrong_answers", 0.0)
    found["audits"] = [promise.get("audits", 0), said["after"]["audits"]]
    return found


def play(pool, classes, images, args, method, seed):
    """One run: its rounds, each as `look_back` has it."""
    rng = np.random.default_rng(seed)
    here = pool.take(rng.integers(0, images, args.images))
    if args.labels == "clean":
        here = here.clean(classes)
    elif args.labels == "random":
        here = here.random(rng)
    true = here.true_labels(classes)
    found = []
    stage = Stage(here, classes, int(rng.integers(2**31)))
    for number in range(1, args.rounds + 1):
        began = time.perf_counter()
        oracle = Oracle(num_classes=classes, error_rate=args.error_rate, seed=int(rng.integers(2**31)))
        seed_of_round = int(rng.integers(2**31))
        session = Session(stage.source, method, number, seed=seed_of_round, questions=args.questions)
        while queries := session.next_questions():
            stage.answer(queries, oracle, args.skip_rate)
        stage.source.change(session.changes(stage.now))
        row = look_back(session, stage, true, classes)
        asked = stage.source.queries(number)
        row["questions"] = {str(reason): sum(query.reason == reason for query in asked) for reason in Reason}
        found.append(row | {"round": number, "seconds": time.perf_counter() - began, "masks": len(true)})
    return found


def share(values, pattern="{:.3f}"):
    """A share of what is neither None nor NaN, and of how many."""
    values = np.array([value for value in values if value is not None], dtype=float)
    return f"{pattern.format(values.mean())} ({len(values)})" if len(values) else "-"


def kept(values):
    """Kept of all, and the lower end of the 95 % interval (one-sided) of that share."""
    values = [bool(value) for value in values if value is not None]
    if not values:
        return "-"
    good, count = sum(values), len(values)
    low = beta.ppf(0.05, good, count - good + 1) if good else 0.0
    return f"{good}/{count} (≥ {low:.2f})"


def promised(row, min_precision):
    """Whether the round's promise held: None where it changed nothing."""
    if not row["accepted"]:
        return None
    return row["true_precision"] >= min_precision if min_precision > 0 else row["gain"] > 0


def line(name, rows, min_precision):
    accepted = [row for row in rows if row["accepted"]]
    cells = [f"{name}", f"{len(rows)}"]
    for when in ("before", "after"):
        cells += [share([row[when][figure] for row in rows]) for figure in ("pixel_accuracy", "miou", "wrong_masks")]
        cells += [share([row[when][figure] for row in rows]).split(" ")[0] for figure in ("recall", "precision")]
        cells += [f"{np.mean([row[when]['miou_width'] for row in rows]):.3f}"]
    cells += [
        f"{len(accepted)}",
        f"{sum(row['stand'] > 0 for row in rows)}",
        kept([promised(row, min_precision) for row in rows]),
        kept([(row["true_precision"] if min_precision > 0 else row["gain"]) >= row["lower"] for row in accepted]),
        f"{np.mean([row['accepted'] for row in accepted]):.0f}" if accepted else "-",
        f"{np.mean([row['true_precision'] for row in accepted]):.3f}" if accepted else "-",
        f"{100 * np.mean([row['gain'] for row in accepted]):+.2f}" if accepted else "-",
        share([row["next"]["inside"] for row in rows]),
        share([row["informative"] for row in rows]),
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "project", "rounds", *(f"{when} {what}" for when in ("before", "after") for what in
    ("accuracy", "mIoU", "wrong masks", "recall", "precision", "width of mIoU")), "accepted", "with earlier ones", "kept",
    "above its lower end", "changed masks",
    "their precision", "their gain, points", "forecast holds", "informative",
)  # fmt: skip


def settings(texts):
    types = {field.name: type(field.default) for field in fields(Gain)}
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        found[name] = value == "true" if types[name] is bool else types[name](value)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", action="append", required=True)
    parser.add_argument("--runs", type=int, default=20, help="a project")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--questions", type=int, default=200, help="a round")
    parser.add_argument("--images", type=int, default=60, help="a run")
    parser.add_argument("--min-precision", type=float, default=0.0)
    parser.add_argument("--error-rate", type=float, default=0.0)
    parser.add_argument("--skip-rate", type=float, default=0.0)
    parser.add_argument("--labels", choices=("given", "clean", "random"), default="given")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    method = Gain(min_precision=args.min_precision, **settings(args.set))
    found = {}
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for folder in args.project:
        pool, classes, images = read_pool(folder)
        rows = []
        for run in range(args.runs):
            played = play(pool, classes, images, args, method, [args.seed, run])
            rows += [row | {"run": run} for row in played]
            found[folder] = rows
            if args.json is not None:
                args.json.write_text(json.dumps({"settings": vars(args), "rows": found}, default=str))
        print(line(Path(folder).stem, rows, args.min_precision), flush=True)
    if len(found) > 1:
        print(line("all", [row for rows in found.values() for row in rows], args.min_precision))
    rows = [row for rows in found.values() for row in rows]
    seconds, changed = [row["seconds"] for row in rows], [row["changed_of_masks"] for row in rows]
    wrong = sum(row["rows_differ"] for row in rows)
    print(
        f"\nseconds a round {np.mean(seconds):.1f}; masks changed unseen {np.mean(changed):.2%}, at most {max(changed):.2%}"
    )
    print(f"answers unlike the truth: {sum(row['answers_differ'] for row in rows)}; labels said and labels kept differ in "
          f"{sum(row['labels_differ'] for row in rows)} masks, accepted changes and those made in {wrong}")  # fmt: skip


if __name__ == "__main__":
    main()
