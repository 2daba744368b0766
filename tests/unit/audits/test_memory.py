"""A session in memory asks what the same session over a project folder asks."""

from a2lc.audits.memory import MemorySource
from a2lc.audits.session import Session
from a2lc.ledger.replay import SOURCES
from a2lc.records import Answer, AnswerKind
from a2lc.rounds.loop import Loop
from a2lc.rounds.source import ProjectSource
from a2lc.statistics.mask_stats import LAYOUT
from a2lc.statistics.store import joined


def test_it_asks_as_over_a_project_and_learns_from_answers(scored):
    with scored.project("memory.a2lc") as project:
        loop = Loop(project, scored.plan(project))
        for stage in ("train", "evaluate", "score"):
            loop.run_stage(stage)
        context = loop.context
        folder = ProjectSource(context, 1)
        stats, _ = next(joined(context.statistics(1).read(frozenset(LAYOUT))))
        looks, near = folder.appearance()
        seed = project.config.seed
        memory = MemorySource(project.masks, stats, looks, near, num_classes=project.classes.num_classes, seed=seed)
        sessions = [Session(source, loop.method, 1, seed=7, questions=60) for source in (folder, memory)]
        first, same = (session.next_questions() for session in sessions)
        assert first == same and len(first) == 10
        asked = memory.ask(same)
        for query in asked:
            wrong = AnswerKind.CORRECT
            memory.answer(query, Answer(query_id=query.query_id, annotator="eve", kind=wrong, classes=(2,)))
        assert memory.answered(1) == {query.query_id: 1.0 for query in asked}
        assert (memory.state().source == SOURCES.index("manual")).sum() == 10
        keys = {(query.image, query.mask_ids) for query in asked}
        following = sessions[1].next_questions()
        assert following and not keys & {(query.image, query.mask_ids) for query in following}
