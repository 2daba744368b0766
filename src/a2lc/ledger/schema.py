"""Tables of the ledger, and the numbered migrations that make them.

Rows are only ever added, but for the leases of questions: triggers refuse UPDATE and DELETE, a person's answer cannot be
overwritten by an automatic correction, and a query has one standing answer. So a bug above cannot lose what was recorded.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Dialect,
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
    select,
    text,
)
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement, sort_tables

from a2lc.errors import NewerProjectError

__all__ = [
    "LATEST",
    "annotators",
    "answers",
    "class_edits",
    "corrections",
    "images",
    "layer_files",
    "layers",
    "leases",
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
    Column(
        "kind",
        String,
        CheckConstraint("kind in ('correction', 'dominant', 'pixel', 'classes', 'precise')"),
        nullable=False,
        server_default="correction",
    ),
    Column("pixel", Integer, CheckConstraint("pixel >= 0")),  # flat index of the pixel asked about
    # The first of the questions that one grid shows, all of them corrections; null for a question shown alone.
    Column("grid", Integer, CheckConstraint("grid > 0")),
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
    Column("pixels", String(64)),  # SHA-256 of the pixel labels that came with it, a file beside the round
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

# Labels below the mask, of a whole round: PNG files beside it, each named by its hash.
layers = Table(
    "layers",
    metadata,
    Column("round", Integer, ForeignKey("rounds.round"), primary_key=True, autoincrement=False),
    Column("after", Integer, nullable=False),  # the last correction there was: a mask corrected later is not covered
    Column("model", String, nullable=False),
    Column("time", String, nullable=False),
)

layer_files = Table(
    "layer_files",
    metadata,
    Column("round", Integer, ForeignKey("layers.round"), primary_key=True, autoincrement=False),
    Column("image", Integer, ForeignKey("images.id"), primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False),
    Column("pixels", Integer, CheckConstraint("pixels > 0"), nullable=False),
)

# Who looks at which question until when. Nothing that was said: rows come and go.
leases = Table(
    "leases",
    metadata,
    Column("query", Integer, ForeignKey("queries.id"), primary_key=True, autoincrement=False),
    Column("annotator", String, nullable=False),
    Column("until", Float, nullable=False),  # seconds since 1970
)

# What classes are called, and which of them are one: other tables name classes by codes that never change.
class_edits = Table(
    "class_edits",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String, CheckConstraint("kind in ('rename', 'merge', 'split', 'add', 'undo')"), nullable=False),
    Column("codes", Text, nullable=False),  # JSON list: the classes it is about
    Column("details", Text, nullable=False),  # JSON: names, colours, values; what they were merged into; what is undone
    Column("round", Integer, nullable=False),  # the last one there was, -1 before the first
    Column("after", Integer, nullable=False),  # the last question there was
    Column("time", String, nullable=False),
)

_LAYERS = (layers, layer_files)
_APPEND_ONLY = (
    *(images, annotators, rounds, stages, queries, query_masks, answers, corrections, undos, class_edits),
    *_LAYERS,
)


def _triggers(tables: tuple[Table, ...]) -> list[str]:
    return [
        f"CREATE TRIGGER {table.name}_no_{verb.lower()} BEFORE {verb} ON {table.name} "
        f"BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: {verb} on {table.name}'); END"
        for table in tables
        for verb in ("UPDATE", "DELETE")
    ]


def _append_only(connection: Connection, tables: tuple[Table, ...]) -> None:
    for statement in _triggers(tables):
        connection.exec_driver_sql(statement)


@cache
def _definitions(dialect: Dialect) -> list[str]:
    """Return the statements that create all tables as they are today, and the triggers that keep them append-only."""
    made: list[DDLElement] = []
    for table in sort_tables(list(metadata.tables.values())):
        made += [CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))]
    return [
        *(str(statement.compile(dialect=dialect)) for statement in made),
        *_triggers(_APPEND_ONLY),
        "CREATE TRIGGER answer_before_automatic BEFORE INSERT ON corrections WHEN NEW.source = 'automatic' AND "
        "EXISTS (SELECT 1 FROM query_masks JOIN answers ON answers.query = query_masks.query "
        "WHERE query_masks.image = NEW.image AND query_masks.mask_id = NEW.mask_id AND answers.kind <> 'skip' "
        "AND NOT EXISTS (SELECT 1 FROM answers AS later WHERE later.replaces = answers.id)) "
        "BEGIN SELECT RAISE(ABORT, 'an answer is never overwritten by an automatic correction'); END",
        "CREATE TRIGGER one_standing_answer BEFORE INSERT ON answers WHEN NEW.replaces IS NULL AND "
        "EXISTS (SELECT 1 FROM answers WHERE answers.query = NEW.query) "
        "BEGIN SELECT RAISE(ABORT, 'the question has an answer already'); END",
    ]


def _create(connection: Connection) -> None:
    for statement in _definitions(connection.dialect):
        connection.exec_driver_sql(statement)


def _second(connection: Connection) -> None:
    """Version 2: what a question asks, pixel labels that come with an answer, and layers of labels below the mask."""
    kinds = "'correction', 'dominant', 'pixel', 'classes', 'precise'"
    for statement in (
        f"ALTER TABLE queries ADD COLUMN kind VARCHAR NOT NULL DEFAULT 'correction' CHECK (kind in ({kinds}))",
        "ALTER TABLE queries ADD COLUMN pixel INTEGER CHECK (pixel >= 0)",
        "ALTER TABLE answers ADD COLUMN pixels VARCHAR(64)",
    ):
        connection.execute(text(statement))
    metadata.create_all(connection, tables=list(_LAYERS))
    _append_only(connection, _LAYERS)


def _third(connection: Connection) -> None:
    """Version 3: questions are lent to annotators."""
    metadata.create_all(connection, tables=[leases])


def _fourth(connection: Connection) -> None:
    """Version 4: classes are renamed, merged, split and added."""
    metadata.create_all(connection, tables=[class_edits])
    _append_only(connection, (class_edits,))


def _fifth(connection: Connection) -> None:
    """Version 5: questions that one grid shows."""
    connection.execute(text("ALTER TABLE queries ADD COLUMN grid INTEGER CHECK (grid > 0)"))


_MIGRATIONS = {2: _second, 3: _third, 4: _fourth, 5: _fifth}
LATEST = 5
"""Version of the schema that this package writes."""

_versions = Table(
    "schema_versions",
    MetaData(),
    Column("version", Integer, primary_key=True, autoincrement=False),
)


def schema_version(connection: Connection) -> int:
    """Version of the schema a database has; 0 for an empty one."""
    tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_versions'"
    if connection.exec_driver_sql(tables).first() is None:
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
            f"The ledger has schema version {version}, but this a2lc knows versions up to {LATEST}. Install the "
            "a2lc that created the project, or a newer one: pip install -U a2lc"
        )
    _versions.create(connection, checkfirst=True)
    if version == 0:
        _create(connection)
    for number in range(version + 1, LATEST + 1):
        if version:
            _MIGRATIONS[number](connection)
        connection.execute(_versions.insert().values(version=number))
