"""Find questions about similar masks: masks to which the model gave similar class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from a2lc.ledger import mask_keys
from a2lc.project.project import Project
from a2lc.records import Query
from a2lc.statistics.mask_stats import MaskStats

__all__ = ["Similarity"]


class Similarity:
    """Order questions of a round by how similar their masks are. Threads may share it.

    The similarity of two masks is the cosine of the square roots of their mean class probabilities, which is the
    Bhattacharyya coefficient (Bhattacharyya 1943). Unlike a dot product it notices differences in small probabilities.
    """

    def __init__(self, project: Project) -> None:
        """Use the mask statistics of an opened project."""
        self.project = project
        self._cache: tuple[int, dict[int, NDArray[np.float32]]] = (0, {})

    def order(self, queries: Sequence[Query]) -> list[Query]:
        """Sort questions of one round by similarity to the first one, most similar first; ties keep their order."""
        if not queries:
            return []
        vectors = self.vectors(queries[0].round, queries)
        return [queries[i] for i in np.argsort(-(vectors @ vectors[0]), kind="stable").tolist()]

    def vectors(self, round_index: int, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Return (n, K) unit vectors of the masks of questions of a round; zeros for masks without statistics."""
        cached_round, known = self._cache
        if cached_round != round_index:
            known = {}
        missing = [query for query in queries if query.query_id not in known]
        if missing:
            keys = mask_keys(np.array([q.image for q in missing]), np.array([q.mask_ids[0] for q in missing]))
            read = self._read(round_index, keys)
            known = known | {query.query_id: read[i] for i, query in enumerate(missing)}
            # One assignment: another thread sees the old pair or the new one.
            self._cache = (round_index, known)
        return np.stack([known[query.query_id] for query in queries])

    def _read(self, round_index: int, keys: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Read (n, K) unit vectors for mask keys in any order."""
        order = np.argsort(keys)
        ordered = keys[order]
        vectors = np.zeros((len(keys), self.project.classes.num_classes), dtype=np.float32)
        scored = {stage.round for stage in self.project.ledger.stages() if stage.stage == "score"}
        # Questions that are asked before their round is scored were chosen by the scores of the round before.
        scored_round = round_index if round_index in scored else round_index - 1
        folder = self.project.round_folder(scored_round)
        change = self.project.class_change_since(scored_round)
        for path in sorted((folder / "stats").glob("part-*.parquet")):
            stats = MaskStats.from_table(
                pq.read_table(path, columns=["image", "mask_ids", "prob_sums", "area"], use_threads=False)
            )
            shard_keys = mask_keys(stats.image, stats.mask_ids)
            position = np.searchsorted(ordered, shard_keys)
            hit = (position < len(keys)) & (ordered[np.minimum(position, len(keys) - 1)] == shard_keys)
            if not hit.any():
                continue
            probs = stats.prob_sums[hit] / np.maximum(stats.area[hit, None], 1)
            if change is not None:
                probs = probs @ change.T
            vectors[order[position[hit]]] = np.sqrt(np.clip(probs, 0, None))
        norm = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(norm, 1e-9), dtype=np.float32)
