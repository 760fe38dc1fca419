"""The rows of a gallery in PostgreSQL: what `mien.gallery.rows` has to do otherwise there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32, Int64
from psycopg import Error, sql

from mien.errors import GalleryError
from mien.gallery.crypto import Cipher, Plain
from mien.gallery.index import Remote, Templates, cosine, top
from mien.gallery.postgres.address import Address
from mien.gallery.postgres.database import Database, HalfVector
from mien.gallery.records import ActiveModel
from mien.gallery.rows import Rows
from mien.gallery.sqlite import VERSION

__all__ = ["PostgresRows"]

_BLOCK = 4096  # templates read at a time
_MARGIN = 16  # candidates scored again in full precision beyond those asked for: the server rounds the probe to float16
_KINDS: dict[type, str] = {bytes: "bytes", int: "int", str: "str"}
_TABLES = ("subject", "sample", "crop", "template")
_CHANNEL = "mien"


class PostgresRows(Rows):
    """The rows of one gallery in a schema of a PostgreSQL database.

    Args:
        address: Server, database and schema.
        create: Make the gallery if there is none.
        read_only: Change nothing.
        timeout_s: How long to wait for another process's write.
    """

    _joined_names = "string_agg(model.name, chr(10))"
    clock = "extract(epoch FROM clock_timestamp())"
    claim_suffix = " FOR UPDATE SKIP LOCKED"

    def __init__(self, address: Address, *, create: bool, read_only: bool, timeout_s: float) -> None:
        self.path, self.file = address, None
        self.read_only, self.timeout_s = read_only, timeout_s
        self.cipher: Cipher = Plain()
        self.writes = 0
        self.connection = self.database = Database(address, read_only=read_only, timeout_s=timeout_s)
        self._version = VERSION  # of the columns that both have; the server's own steps are counted in `migration`
        self._scored = False
        self._model: ActiveModel | None = None
        try:
            with self.errors_in_words():
                self.database.set_up(create=create)
        except BaseException:
            self.database.close()
            raise

    def close(self) -> None:
        """Let go of the connections."""
        self.database.close()

    def errors_in_words(self) -> contextlib.AbstractContextManager[None]:
        """Turn the database's errors into one line that says what to do."""
        return self.database.errors_in_words()

    def unlock(self, key: bytes | None) -> None:
        """Set up a new gallery, or check the key; see `Rows.unlock`."""
        is_new = self.meta("gallery") is None
        super().unlock(key)
        if is_new and not self.read_only and not self.cipher.encrypted:
            self.score_here()

    def bring_up_to_date(self) -> None:
        """Do nothing: `Database.set_up` did it before anything was read."""

    # Transactions

    @contextlib.contextmanager
    def write(self) -> Iterator[None]:
        """Hold the gallery's write lock; nested uses join the outer one."""
        if self.database.in_transaction:
            yield
            return
        if self.read_only:
            raise GalleryError(f"{self.path} was opened read-only.")
        try:
            with self.database.write("SELECT scored FROM state FOR UPDATE") as (scored,):
                self._scored, self._model = scored, None
                yield
                self.database.execute("UPDATE state SET revision = revision + 1")
                self.database.execute("SELECT pg_notify(?, ?)", (_CHANNEL, self.database.address.schema))
        finally:
            self.writes += 1

    @contextlib.contextmanager
    def side_write(self) -> Iterator[None]:
        """Write something that no search or index depends on: without the gallery's lock."""
        if self.read_only:
            raise GalleryError(f"{self.path} was opened read-only.")
        with self.database.write("SELECT 1"):
            yield

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of the gallery, whatever others commit meanwhile."""
        with self.database.snapshot():
            self._model = None
            yield

    def upkeep(self, action: Callable[[], None]) -> None:
        """Do a piece of upkeep inside a write if nothing stands in its way."""
        if not self.read_only:
            with contextlib.suppress(OSError, Error), self.write():
                action()

    def state(self) -> tuple[int, int]:
        """Return what differs once anything was committed, by whatever process."""
        row = self.connection.execute("SELECT revision, scored FROM state").fetchone()
        assert row is not None, "the tables were made with it"
        self._scored = row[1]
        return row[0], self.writes

    def announcements(self, stop: threading.Event) -> Iterator[None]:
        """Yield whenever somebody has written to this gallery, until told to stop."""
        for schema in self.database.announcements(_CHANNEL, stop):
            if schema in ("", self.database.address.schema):
                yield

    # Facts and models

    def meta(self, key: str) -> bytes | int | str | None:
        """Return a fact about the gallery; None where it is not set."""
        row = self.connection.execute("SELECT kind, value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        kind, value = row
        return bytes(value) if kind == "bytes" else int(value) if kind == "int" else bytes(value).decode()

    def set_meta(self, key: str, value: bytes | int | str) -> None:
        """Set a fact about the gallery."""
        self._model = None
        stored = value if isinstance(value, bytes) else str(value).encode()
        self.connection.execute(
            "INSERT INTO meta VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET kind = excluded.kind, "
            "value = excluded.value",
            (key, _KINDS[type(value)], stored),
        )

    def active_model(self) -> ActiveModel | None:
        """Return the model in use; None while the gallery is empty. Inside a write it is asked for once."""
        if self._model is not None and self.database.in_transaction:
            return self._model
        row = self.connection.execute(
            "SELECT id, name, dimension FROM model WHERE id = "
            "(SELECT convert_from(value, 'UTF8')::bigint FROM meta WHERE key = 'model')"
        ).fetchone()
        self._model = None if row is None else ActiveModel(*row)
        return self._model

    # Templates

    def add_template(self, sample_id: int, model: ActiveModel, vector: Float16[np.ndarray, " dimension"]) -> None:
        """Store a vector, and where the server scores, in its type as well."""
        super().add_template(sample_id, model, vector)
        if self._scored:
            self.connection.execute(
                "INSERT INTO embedding SELECT id, ? FROM template WHERE sample_id = ? AND model_id = ?",
                (HalfVector(vector), sample_id, model.row_id),
            )

    def add_templates(
        self, samples: Sequence[int], model: ActiveModel, vectors: Sequence[Float16[np.ndarray, " dimension"]]
    ) -> None:
        """Store many vectors."""
        super().add_templates(samples, model, vectors)
        if self._scored:
            self.connection.executemany(
                "INSERT INTO embedding SELECT id, ? FROM template WHERE sample_id = ? AND model_id = ?",
                [(HalfVector(v), sample, model.row_id) for sample, v in zip(samples, vectors, strict=True)],
            )

    def templates(self, model: ActiveModel, after: int = 0) -> Templates:
        """Yield ids and vectors of a model's templates in the order of enrolment, a block at a time."""
        while True:
            block = self.connection.execute(
                "SELECT id, sample_id, vector, checksum FROM template WHERE id > ? AND model_id = ? "
                "ORDER BY id LIMIT ?",
                (after, model.row_id, _BLOCK),
                binary=True,
            ).fetchall()
            if not block:
                return
            yield np.array([row[0] for row in block], dtype=np.int64), self._vectors(block, model)
            after = block[-1][0]

    def remote(self, model: ActiveModel) -> Remote | None:
        """Return what scores templates where they are; None where this process has to: they are encrypted."""
        return None if self.cipher.encrypted else _Scorer(self, model)

    def score_here(self) -> None:
        """Give every template its row in the type that the server scores, where it has pgvector."""
        if self.cipher.encrypted or not self.database.install_extension():
            return
        with self.write():
            self.connection.execute("SET LOCAL client_min_messages = warning")
            self.connection.execute(
                "CREATE TABLE IF NOT EXISTS embedding (template_id bigint PRIMARY KEY "
                "REFERENCES template (id) ON DELETE CASCADE, vector halfvec NOT NULL)"
            )
            self.connection.execute("DELETE FROM embedding")
            active = self.active_model()
            for ids, vectors in self.templates(active) if active is not None else ():
                self.connection.executemany(
                    "INSERT INTO embedding VALUES (?, ?)",
                    [(i, HalfVector(vector)) for i, vector in zip(ids.tolist(), vectors, strict=True)],
                )
            self.connection.execute("UPDATE state SET scored = true")

    # Counts, health, erasure

    def files(self) -> list[Path]:
        """Return no file: those of the server are its own."""
        return []

    def size_bytes(self) -> int:
        """Return what the tables and their indexes take on the server's disk."""
        return self._one(
            "SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0) FROM pg_class "
            "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = ? AND relkind = 'r'",
            self.database.address.schema,
        )

    def compact(self) -> None:
        """Rewrite the tables without the rows that went, and what the server scores from the templates."""
        self.score_here()
        names = ", ".join((*_TABLES, "work") + (("embedding",) if self._scored else ()))
        self.database.alone(sql.SQL("VACUUM (FULL, ANALYZE) " + names))

    def empty_log(self) -> bool:
        """Make the room of deleted rows free for new ones, which overwrite them."""
        return True

    def database_problems(self) -> list[str]:
        """Return no problem: the server checks pages and references itself."""
        return []

    def holds(self, place: str, fragment: bytes) -> bool:
        """Return whether a row that is still there holds these bytes in a place such as ``template.vector``."""
        table, column = place.split(".")
        return bool(self._one(f"SELECT count(*) FROM {table} WHERE position(? IN {column}) > 0", fragment))

    def held(self, place: str, values: Iterable[bytes]) -> int:
        """Count the values that a row holds in a place such as ``template.vector``."""
        table, column = place.split(".")
        return self._one(f"SELECT count(DISTINCT {column}) FROM {table} WHERE {column} = ANY(?)", list(values))

    def has_work(self) -> bool:
        """Return that there is a table of pictures to enrol."""
        return True

    def tables(self) -> tuple[str, ...]:
        """Return the tables that hold something of a subject."""
        return (*_TABLES, *(("embedding",) if self._scored else ()), "work")

    def texts(self) -> list[str]:
        """Return no text: no file is searched."""
        return []

    def _next_id(self, table: str) -> int:
        return self._one("SELECT nextval(pg_get_serial_sequence(?, 'id'))", table)

    def raise_ids(self, table: str, last: int) -> None:
        """See that no id up to this one is given to a new row. Inside a write, so that nobody else draws one."""
        self.connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "
            f"greatest(?::bigint, (SELECT coalesce(max(id), 0) FROM {table}), "
            f"coalesce(pg_sequence_last_value(pg_get_serial_sequence('{table}', 'id')), 0), 1))",
            (last,),
        )

    def last_id(self, table: str) -> int:
        """Return the highest id that a row ever had."""
        return self._one(f"SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('{table}', 'id')), 0)")

    def _each(self, query: str) -> Iterator[Sequence[object]]:
        return self.database.stream(query)


class _Scorer:
    """Scores templates where they are stored; see `mien.gallery.index.Remote`."""

    def __init__(self, rows: PostgresRows, model: ActiveModel) -> None:
        self._rows, self._model = rows, model

    def vectors(
        self, ids: Int64[np.ndarray, " rows"]
    ) -> tuple[Int64[np.ndarray, " found"], Float16[np.ndarray, "found dimension"]]:
        """Return the vectors that are still there, by rising id: as the server scores them, else from the templates."""
        if self._rows._scored:
            found = self._rows.connection.execute(
                "SELECT template_id, vector FROM embedding WHERE template_id = ANY(?) ORDER BY template_id",
                (ids.tolist(),),
                binary=True,
            )
            return _unpacked(list(found), self._model.dimension)
        rows = self._rows.connection.execute(
            "SELECT id, sample_id, vector, checksum FROM template WHERE id = ANY(?) AND model_id = ? ORDER BY id",
            (ids.tolist(), self._model.row_id),
            binary=True,
        ).fetchall()
        return np.array([row[0] for row in rows], dtype=np.int64), self._rows._vectors(rows, self._model)

    def best(
        self, ids: Int64[np.ndarray, " rows"], probe: Float32[np.ndarray, " dimension"], k: int
    ) -> tuple[Int64[np.ndarray, " k"], Float32[np.ndarray, " k"]]:
        """Score these templates and return the best k; see `mien.gallery.index.top`."""
        if self._rows._scored:
            rows = self._rows.connection.execute(
                "SELECT template_id, vector FROM embedding WHERE template_id = ANY(?) ORDER BY vector <#> ? LIMIT ?",
                (ids.tolist(), HalfVector(probe.astype(np.float16)), k + _MARGIN),
                binary=True,
            )
            found, vectors = _unpacked(list(rows), self._model.dimension)
        else:
            found, vectors = self.vectors(ids)
        return top(cosine(vectors, probe), found, k)


def _unpacked(
    rows: Sequence[tuple[int, bytes]], dimension: int
) -> tuple[Int64[np.ndarray, " rows"], Float16[np.ndarray, "rows dimension"]]:
    """Read what the server sends for ``halfvec``: two 16-bit words, then the values, most significant byte first."""
    data = b"".join(stored[4:] for _, stored in rows)
    vectors = np.frombuffer(data, dtype=">f2").reshape(len(rows), dimension).astype(np.float16)
    return np.array([row[0] for row in rows], dtype=np.int64), vectors
