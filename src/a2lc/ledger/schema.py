"""Tables of the ledger, and the numbered migrations that make them.

Rows are only ever added: triggers refuse UPDATE and DELETE, a person's answer cannot be overwritten by an
automatic correction, and a query has one standing answer. So a bug above cannot lose what was recorded.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    inspect,
    select,
    text,
)

from a2lc.errors import NewerProjectError

__all__ = [
    "LATEST",
    "annotators",
    "answers",
    "corrections",
    "images",
    "metadata",
    "migrate",
    "queries",
    "query_masks",
    "rounds",
    "schema_version",
    "stages",
    "undos",
]

metadata = MetaData()

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # position of the image, from 0
    Column("image_id", String, nullable=False, unique=True),
    Column("file", String, nullable=False),
    Column("width", Integer, CheckConstraint("width > 0"), nullable=False),
    Column("height", Integer, CheckConstraint("height > 0"), nullable=False),
    Column("split", String, CheckConstraint("split in ('train', 'validation')"), nullable=False),
    Column("sha256", String(64), nullable=False),
)

annotators = Table(
    "annotators",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String, CheckConstraint("name <> ''"), nullable=False, unique=True),
    Column("created", String, nullable=False),
)

rounds = Table(
    "rounds",
    metadata,
    Column("round", Integer, CheckConstraint("round >= 0"), primary_key=True, autoincrement=False),
    Column("method", String, nullable=False),
    Column("config", Text, nullable=False),  # JSON: method settings, training, budget, annotator
    Column("model", String, nullable=False),  # what scored it: a file of the project, or where probabilities lie
    Column("seed", Integer, nullable=False),
    Column("versions", Text, nullable=False),  # JSON: package versions
    Column("started", String, nullable=False),
)

stages = Table(
    "stages",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, ForeignKey("rounds.round"), nullable=False),
    Column("stage", String, nullable=False),
    Column("seconds", Float, CheckConstraint("seconds >= 0"), nullable=False),
    Column("details", Text, nullable=False),  # JSON: what the stage found, such as model mIoU
    Column("ended", String, nullable=False),
    UniqueConstraint("round", "stage"),  # a finished stage is not repeated
)

queries = Table(
    "queries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, ForeignKey("rounds.round"), nullable=False, index=True),
    Column("image", Integer, ForeignKey("images.id"), nullable=False),
    Column("proposed", Integer),  # class index; null where the masks carry no class
    Column("suggestions", Text, nullable=False),  # JSON list of class indices, the likeliest first
    Column("score", Float, nullable=False),
    Column("reason", String, CheckConstraint("reason in ('acquisition', 'audit', 'gold')"), nullable=False),
    Column(
        "inclusion_probability",
        Float,
        CheckConstraint("inclusion_probability > 0 and inclusion_probability <= 1"),
    ),
)

query_masks = Table(
    "query_masks",
    metadata,
    Column("query", Integer, ForeignKey("queries.id"), primary_key=True),
    Column("mask_id", Integer, CheckConstraint("mask_id > 0"), primary_key=True),
    Column("image", Integer, ForeignKey("images.id"), nullable=False),
    Index("query_masks_by_mask", "image", "mask_id"),
)

answers = Table(
    "answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("query", Integer, ForeignKey("queries.id"), nullable=False),
    Column("annotator", Integer, ForeignKey("annotators.id"), nullable=False),
    Column(
        "kind",
        String,
        CheckConstraint("kind in ('confirm', 'correct', 'classes', 'mixed', 'void', 'skip')"),
        nullable=False,
    ),
    Column("classes", Text, nullable=False),  # JSON list of class indices
    Column("clicks", Float, CheckConstraint("clicks >= 0"), nullable=False),
    Column("milliseconds", Integer, CheckConstraint("milliseconds >= 0")),
    Column("time", String, nullable=False),
    Column("replaces", Integer, ForeignKey("answers.id"), unique=True),  # an answer is replaced once
    Index("answers_by_query", "query"),
)

corrections = Table(
    "corrections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("round", Integer, ForeignKey("rounds.round"), nullable=False, index=True),
    Column("image", Integer, ForeignKey("images.id"), nullable=False),
    Column("mask_id", Integer, CheckConstraint("mask_id > 0"), nullable=False),
    # Class indices; -1 stands for the ignore index and null for the first labels as they were imported, which need
    # not be one class over the mask.
    Column("old_class", Integer),
    Column("new_class", Integer),
    Column("source", String, CheckConstraint("source in ('manual', 'automatic', 'import', 'undo')"), nullable=False),
    Column("confidence", Float, CheckConstraint("confidence >= 0 and confidence <= 1")),
    Column("answer", Integer, ForeignKey("answers.id")),  # what a manual correction rests on
    Column("model", String),  # what an automatic one rests on
    CheckConstraint("source <> 'manual' or answer is not null", name="manual_has_answer"),
    CheckConstraint(
        "source <> 'automatic' or (confidence is not null and model is not null)", name="automatic_says_why"
    ),
    Index("corrections_by_mask", "image", "mask_id"),
)

undos = Table(
    "undos",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("undone_round", Integer, ForeignKey("rounds.round"), nullable=False),
    Column("round", Integer, ForeignKey("rounds.round"), nullable=False),  # the last one when it was undone
    Column("after", Integer, nullable=False),  # the last correction there was: later ones are not undone
    Column("source", String, CheckConstraint("source in ('manual', 'automatic', 'all')"), nullable=False),
    Column("time", String, nullable=False),
)

_APPEND_ONLY = (images, annotators, rounds, stages, queries, query_masks, answers, corrections, undos)


def _first(connection: Connection) -> None:
    """Version 1: all tables, and the triggers that keep them append-only."""
    metadata.create_all(connection)
    if connection.dialect.name != "sqlite":
        return
    for table in _APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            connection.execute(
                text(
                    f"CREATE TRIGGER {table.name}_no_{verb.lower()} BEFORE {verb} ON {table.name} "
                    f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: {verb} on {table.name}'); END"
                )
            )
    connection.execute(
        text(
            "CREATE TRIGGER answer_before_automatic BEFORE INSERT ON corrections WHEN NEW.source = 'automatic' AND "
            "EXISTS (SELECT 1 FROM query_masks JOIN answers ON answers.query = query_masks.query "
            "WHERE query_masks.image = NEW.image AND query_masks.mask_id = NEW.mask_id AND answers.kind <> 'skip' "
            "AND NOT EXISTS (SELECT 1 FROM answers AS later WHERE later.replaces = answers.id)) "
            "BEGIN SELECT RAISE(ABORT, 'an answer is never overwritten by an automatic correction'); END"
        )
    )
    connection.execute(
        text(
            "CREATE TRIGGER one_standing_answer BEFORE INSERT ON answers WHEN NEW.replaces IS NULL AND "
            "EXISTS (SELECT 1 FROM answers WHERE answers.query = NEW.query) "
            "BEGIN SELECT RAISE(ABORT, 'the question has an answer already'); END"
        )
    )


_MIGRATIONS = (_first,)
LATEST = len(_MIGRATIONS)
"""Version of the schema that this package writes."""

_versions = Table(
    "schema_versions",
    MetaData(),
    Column("version", Integer, primary_key=True, autoincrement=False),
)


def schema_version(connection: Connection) -> int:
    """Version of the schema a database has; 0 for an empty one."""
    if not inspect(connection).has_table("schema_versions"):
        return 0
    return connection.execute(select(func.max(_versions.c.version))).scalar_one() or 0


def migrate(connection: Connection) -> None:
    """Bring a database to the latest version, each step recorded in the transaction that makes it.

    Raises:
        NewerProjectError: The database is of a newer version than this package knows.
    """
    version = schema_version(connection)
    if version > LATEST:
        raise NewerProjectError(
            f"The ledger has schema version {version}; this a2lc knows versions up to {LATEST}. "
            "Install the a2lc that made the project, or a newer one: pip install -U a2lc"
        )
    _versions.create(connection, checkfirst=True)
    for number in range(version + 1, LATEST + 1):
        _MIGRATIONS[number - 1](connection)
        connection.execute(_versions.insert().values(version=number))
