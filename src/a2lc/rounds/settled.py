"""What an open round has settled: method, budget and seed by its queries, the annotator by the first answer."""

from __future__ import annotations

import json
from typing import Any

from a2lc.errors import LedgerError, StageError
from a2lc.rounds.context import Context
from a2lc.rounds.models import columns_by, model_name
from a2lc.rounds.oracle import ORACLE
from a2lc.rounds.stages import next_stage
from a2lc.version import versions

__all__ = ["check_plan", "open_round"]


def check_plan(context: Context) -> None:
    """Refuse a plan that contradicts what the open round has done by another one.

    Training may change at any time: each round's model is scored with the settings it was trained by. Method, budget and
    seed are settled when the queries are chosen, the annotator when the first is answered.

    Raises:
        StageError: The open round was settled by another plan.
    """
    ledger, plan = context.project.ledger, context.plan
    round_index, _ = next_stage(context.project)
    done = {stage.stage: stage.details for stage in ledger.stages(round_index)}
    settled = dict(done["select"].get("plan", {})) if "select" in done else _begun_ahead(context, round_index)
    answers = ledger.answers(round_index)
    if answers:
        # What the plan says, but of the kind that has answered: people and the oracle do not share a round.
        kind = "oracle" if answers[0][0].annotator == ORACLE else "human"
        settled["annotator"] = plan.annotator.model_dump(mode="json") | {"kind": kind}
    elif context.method.query.priced_by_answer:
        settled.pop("budget", None)  # nothing is paid for yet, and a budget that pays for nothing must be raised
    if "budget" in done.get("answer", {}):
        settled["budget"] = done["answer"]["budget"]
    if "score" in done and "select" not in done:
        begun, now = done["score"].get("columns_by", ""), columns_by(context, round_index)
        if now not in {"", begun}:
            method = json.loads(begun)[0] if begun else ledger.rounds()[-1].method
            other = "other settings" if method == plan.method else f"method {method!r}"
            raise StageError(
                f"Round {round_index} was scored for {other}, and these scores do not serve method {plan.method!r}. "
                f"Finish it with its original settings, a2lc run DIR --rounds {round_index}, and change them for "
                "the next round."
            )
    wanted = json.loads(json.dumps(plan.to_json()))
    if settled.get("method") == plan.method and "settings" in settled:
        # A version that did not know a setting did what its default says, and a default of an earlier one was nobody's choice.
        former = {
            name: wanted["settings"][name]
            for name, values in context.method.former_defaults.items()
            if name not in plan.settings and settled["settings"].get(name) in values
        }
        settled["settings"] = {**plan.defaults(), **settled["settings"], **former}
    differ = [key for key in settled if settled[key] != wanted[key]]
    if differ:
        raise StageError(
            f"Round {round_index} was started with a different {' and '.join(differ)}: "
            + "; ".join(f"{key} {_difference(settled[key], wanted[key])}" for key in differ)
            + (
                f". Finish it with the original values, a2lc run DIR --rounds {round_index}, and change them for the "
                "next round."
            )
        )


def open_round(context: Context, round_index: int) -> None:
    """Record that a round begins, unless it has begun.

    Raises:
        StageError: The plan contradicts the open round.
    """
    check_plan(context)
    ledger = context.project.ledger
    if _is_open(context, round_index):
        return
    try:
        ledger.open_round(
            round_index,
            method=context.plan.method,
            config=json.loads(json.dumps(context.plan.to_json())),
            model=model_name(context, round_index),
            seed=context.seed(round_index),
            versions=versions(),
        )
    except LedgerError:
        # Begun meanwhile by the other of the two that share a project: who trains, and who asks ahead.
        if not _is_open(context, round_index):
            raise


def _is_open(context: Context, round_index: int) -> bool:
    return round_index in {record.round for record in context.project.ledger.rounds()}


def _begun_ahead(context: Context, round_index: int) -> dict[str, Any]:
    """Return what settled a round whose first queries were asked before it was selected."""
    if not context.project.ledger.queries(round_index):
        return {}
    (config,) = [record.config for record in context.project.ledger.rounds() if record.round == round_index]
    return {key: config[key] for key in ("method", "settings", "budget", "seed")}


def _difference(begun: Any, now: Any) -> str:
    if isinstance(begun, dict) and isinstance(now, dict):
        keys = [key for key in now if begun.get(key) != now[key]]
        return ", ".join(f"{key} was {begun.get(key)!r}, now {now[key]!r}" for key in keys[:3])
    return f"was {begun!r}, now {now!r}"
