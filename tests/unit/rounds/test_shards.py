"""Work on images gives the same bytes in this process, in several, and in any order of completion."""

import hashlib

import pytest

from a2lc.project.project import Project
from a2lc.rounds import shards as module
from a2lc.rounds.loop import Loop
from a2lc.rounds.shards import Shard, close_pools, map_shards, shards_of


def squares(context, round_index, shard):
    return [round_index * index**2 for index in shard.images]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(autouse=True)
def no_pool_is_left():
    yield
    close_pools()


@pytest.fixture
def project(scored, request):
    with scored.project(f"{request.node.name}.a2lc") as opened:
        yield opened


def test_shards_cover_all_images_once(tiny_project):
    cut = shards_of(tiny_project.images, 3)
    assert [shard.images for shard in cut] == [(0, 1, 2), (3,)]
    assert [shard.index for shard in cut] == [0, 1]
    assert cut[0].records(tiny_project) == tiny_project.images[:3]
    assert shards_of([], 3) == []


def test_one_worker_needs_no_pool(scored, project, monkeypatch):
    monkeypatch.setattr(module, "_pool", lambda *_: pytest.fail("a pool was made"))
    loop = Loop(project, scored.plan(project))
    found = map_shards(loop.context, 2, squares, shards_of(project.images, 2), "squares")
    assert [value for part in found for value in part] == [2 * i**2 for i in range(len(project.images))]


def test_a_network_that_was_handed_over_stays_in_this_process(scored, project, monkeypatch):
    monkeypatch.setattr(module, "_pool", lambda *_: pytest.fail("a pool was made"))
    loop = Loop(project, scored.plan(project), model=object(), workers=4)
    assert list(
        map_shards(loop.context, 1, squares, [Shard(index=0, images=(2,)), Shard(index=1, images=(3,))], "")
    ) == [
        [4],
        [9],
    ]


@pytest.mark.slow
def test_processes_write_the_same_bytes(scored):
    files = {}
    for workers in (1, 2):
        with scored.project(f"workers{workers}.a2lc") as project:
            loop = Loop(project, scored.plan(project, 20), workers=workers)
            loop.context.shard_size = 2
            loop.run(1)
            names = sorted(p for p in project.folder.rglob("*.parquet"))
            files[workers] = {str(p.relative_to(project.folder)): digest(p) for p in names}
            files[workers]["evaluation"] = (
                (project.round_folder(1) / "evaluation.json").read_text().split('"forward')[0]
            )
            files[workers]["rows"] = [(q.image, q.mask_ids, q.score, q.suggestions) for q in project.ledger.queries()]
    assert sum("part-" in name for name in files[1]) > 1, "several shards"
    assert files[1] == files[2]


@pytest.mark.slow
def test_an_error_in_a_worker_reaches_the_caller(scored):
    with scored.project("broken.a2lc") as project:
        loop = Loop(project, scored.plan(project), workers=2)
        loop.context.shard_size = 2
        for stage in ("train", "evaluate"):
            loop.run_stage(stage)
        gone = project.folder / "masks" / f"{project.images[-1].image_id}.png"
        gone.unlink()
        with pytest.raises(Exception, match="is missing: the project folder is damaged"):
            loop.run_stage("score")
        assert isinstance(project, Project)
