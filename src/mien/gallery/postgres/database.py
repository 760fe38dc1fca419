"""Connections to a PostgreSQL server: a pool that mends itself, transactions, tables, and errors in words."""

from __future__ import annotations

import contextlib
import functools
import logging
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Any, TypeVar

import numpy as np
import psycopg
from jaxtyping import Float16
from psycopg import errors, sql
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from mien.errors import GalleryError
from mien.gallery.names import shown
from mien.gallery.postgres.address import Address
from mien.gallery.records import UnreachableError

__all__ = ["Database", "HalfVector", "Result", "migrations"]

T = TypeVar("T")
Connection = psycopg.Connection[tuple[Any, ...]]

_CONNECTIONS = 2  # of one gallery at most; its verbs take turns, so one is the rule
CONNECT_S = 5
"""Seconds to wait for a server that does not answer."""
_IDLE_IN_WRITE_S = 120  # after which the server takes the lock from a writer that says nothing any more
_STREAMED_ROWS = 500
_LISTEN_S = 0.5  # between looks whether to stop listening


class HalfVector:
    """A float16 vector as an argument of a query: pgvector's type ``halfvec``."""

    def __init__(self, vector: Float16[np.ndarray, " dimension"]) -> None:
        self.vector = vector


class _HalfVectorDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: HalfVector) -> bytes:
        return struct.pack(">HH", len(obj.vector), 0) + obj.vector.astype(">f2").tobytes()


class Result:
    """All rows of a query, and how many it changed: the part of a DB-API cursor that `Rows` uses."""

    def __init__(self, cursor: psycopg.Cursor[tuple[Any, ...]]) -> None:
        self.rowcount = cursor.rowcount
        self._rows = iter(cursor.fetchall() if cursor.description is not None else ())

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row; None where there is none."""
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows that are left."""
        return list(self._rows)


def migrations() -> list[tuple[int, str, str]]:
    """Return number, name and SQL of each step that makes the tables, in order."""
    folder = resources.files("mien.gallery.postgres") / "schema"
    files = sorted((file.name, file.read_text(encoding="utf-8")) for file in folder.iterdir() if file.name[0].isdigit())
    return [(int(name[:4]), name, text) for name, text in files]


class Database:
    """The connections of one gallery.

    A statement outside a transaction is tried on a second connection where the first turns out to be dead, so a server
    that was restarted is noticed by nobody; a transaction is begun anew as long as it has done nothing.

    Args:
        address: Server, database and schema.
        read_only: Change nothing.
        timeout_s: How long to wait for another's write.

    Raises:
        GalleryError: The server does not answer, or does not let us in.
    """

    def __init__(self, address: Address, *, read_only: bool, timeout_s: float) -> None:
        self.address, self.read_only, self.timeout_s = address, read_only, timeout_s
        self.extension: str | None = None
        self._vector_oid = 0
        self._held = threading.local()
        # Without a handler of its own, what the pool logs of a server that is down would go to stderr.
        logging.getLogger("psycopg").addHandler(logging.NullHandler())
        self._settings: dict[str, Any] = {
            "autocommit": True,
            "connect_timeout": CONNECT_S,
            "application_name": "mien",
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        }
        with self.errors_in_words():
            with psycopg.connect(address.conninfo, **self._settings) as first:  # says why where it fails
                self._look_for_extension(first)
            self._pool: ConnectionPool[Connection] = ConnectionPool(
                address.conninfo,
                kwargs=self._settings,
                min_size=1,
                max_size=_CONNECTIONS,
                open=True,
                configure=self._configure,
                # Short, so that after an outage the next statement dials at once rather than after a long pause.
                reconnect_timeout=CONNECT_S,
                num_workers=1,
                name="mien",
            )

    def close(self) -> None:
        """Let go of all connections."""
        self._pool.close(timeout=1)

    # Statements

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is inside `write` or `snapshot`."""
        return getattr(self._held, "connection", None) is not None

    def execute(self, query: str, values: Sequence[object] = (), *, binary: bool = False) -> Result:
        """Run one statement, written with ``?`` for its values; outside a transaction, one that only reads."""
        translated = _translated(query)
        if self.in_transaction:
            return Result(self._held.connection.execute(translated, values, binary=binary))
        return self._alive(lambda connection: Result(connection.execute(translated, values, binary=binary)))

    def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for many rows, inside a transaction: sent together, without waiting for each answer."""
        assert self.in_transaction, "many rows are written inside a transaction"
        with self._held.connection.cursor() as cursor:
            cursor.executemany(_translated(query), rows)

    def stream(self, query: str, values: Sequence[object] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query that may be too many for memory, as of one moment."""
        with self.snapshot(), self._held.connection.cursor(name="stream", withhold=False) as cursor:
            cursor.itersize = _STREAMED_ROWS
            cursor.execute(_translated(query), values)
            yield from cursor

    def announcements(self, channel: str, stop: threading.Event) -> Iterator[str]:
        """Yield what is announced on a channel, on a connection of its own, until told to stop; "" after a break."""
        while not stop.is_set():
            try:
                with psycopg.connect(self.address.conninfo, **self._settings) as connection:
                    connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    yield ""  # what was announced before was missed
                    while not stop.is_set():
                        for heard in connection.notifies(timeout=_LISTEN_S, stop_after=1):
                            yield heard.payload
            except psycopg.Error:
                stop.wait(1)

    def alone(self, *statements: sql.SQL) -> None:
        """Run statements that no transaction may hold, such as VACUUM."""

        def run(connection: Connection) -> None:
            for statement in statements:
                connection.execute(statement)

        self._alive(run)

    def _alive(self, action: Callable[[Connection], T]) -> T:
        """Do something that may be done twice, on a connection that works."""
        for last in (False, True):
            connection = self._connection()
            try:
                return action(connection)
            except psycopg.OperationalError:
                if last or not connection.broken:
                    raise
            finally:
                self._pool.putconn(connection)
            self._pool.check()  # the others may be dead as well
        raise AssertionError("the second attempt returns or raises")

    def _connection(self) -> Connection:
        return self._pool.getconn(timeout=CONNECT_S)

    # Transactions

    @contextlib.contextmanager
    def write(self, lock: str) -> Iterator[tuple[Any, ...]]:
        """Hold a row's lock: all is kept, or nothing.

        Args:
            lock: A query for one row ending in FOR UPDATE, which is yielded.
        """
        with self._transaction("BEGIN", lock) as row:
            assert row is not None, "the locked row is there"
            yield row

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state; nested uses join the outer transaction."""
        if self.in_transaction:
            yield
            return
        with self._transaction("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT 1"):
            yield

    @contextlib.contextmanager
    def _transaction(self, begin: str, first: str) -> Iterator[tuple[Any, ...] | None]:
        connection, row = self._begun(begin, first)
        self._held.connection = connection
        try:
            yield row
            try:
                connection.execute("COMMIT")
            except psycopg.OperationalError as error:
                if connection.broken and begin == "BEGIN":
                    raise UnreachableError(
                        f"The connection to {self.address} was lost while a write was being kept: whether it was is "
                        "not known. Do it again; what is there already stays once."
                    ) from error
                raise
        except BaseException:
            if not connection.broken:
                with contextlib.suppress(psycopg.Error):
                    connection.execute("ROLLBACK")
            raise
        finally:
            self._held.connection = None
            self._pool.putconn(connection)

    def _begun(self, begin: str, first: str) -> tuple[Connection, tuple[Any, ...] | None]:
        """Begin a transaction on a connection that works."""
        for last in (False, True):
            connection = self._connection()
            try:
                connection.execute(begin)
                return connection, connection.execute(first).fetchone()
            except BaseException as error:
                if not connection.broken:
                    with contextlib.suppress(psycopg.Error):
                        connection.execute("ROLLBACK")
                broken = connection.broken
                self._pool.putconn(connection)
                if last or not (broken and isinstance(error, psycopg.OperationalError)):
                    raise
            self._pool.check()
        raise AssertionError("the second attempt returns or raises")

    # Set-up

    def _look_for_extension(self, connection: Connection) -> None:
        """Find out whether the server has pgvector with ``halfvec``, and in which schema it is."""
        row = connection.execute(
            "SELECT nspname, pg_type.oid FROM pg_type JOIN pg_namespace ON pg_namespace.oid = typnamespace "
            "JOIN pg_depend ON pg_depend.objid = pg_type.oid AND pg_depend.deptype = 'e' "
            "JOIN pg_extension ON pg_extension.oid = pg_depend.refobjid AND extname = 'vector' "
            "WHERE typname = 'halfvec'"
        ).fetchone()
        self.extension, self._vector_oid = (None, 0) if row is None else row

    def _configure(self, connection: Connection) -> None:
        schemas = [self.address.schema, *([self.extension] if self.extension else [])]
        path = sql.SQL(", ").join(map(sql.Identifier, schemas)).as_string(connection)
        connection.execute(
            "SELECT set_config('search_path', %s, false), set_config('lock_timeout', %s, false), "
            "set_config('idle_in_transaction_session_timeout', %s, false), "
            "set_config('default_transaction_read_only', %s, false)",
            (
                path,
                f"{max(int(self.timeout_s * 1000), 1)}ms",
                f"{_IDLE_IN_WRITE_S}s",
                "on" if self.read_only else "off",
            ),
        )
        if self._vector_oid:
            dumper = type("HalfVectorDumper", (_HalfVectorDumper,), {"oid": self._vector_oid})
            connection.adapters.register_dumper(HalfVector, dumper)

    def set_up(self, *, create: bool) -> None:
        """Make the tables, or bring them up to date, under a lock that all processes share.

        Raises:
            GalleryError: There is no gallery and none may be made; the schema holds something else; or it was made by a
                newer mien.
        """
        steps = migrations()
        done = self._steps_done()
        if done == steps[-1][0]:
            return
        if done is None and (not create or self.read_only):
            raise GalleryError(
                f"There is no gallery {self.address}. Make one with: mien enroll DIR --gallery {self.address}"
            )
        if self.read_only:
            raise GalleryError(f"{self.address} was made by an older mien. Open it once for writing.")
        self._alive(lambda connection: self._migrate(connection, steps))

    def _steps_done(self) -> int | None:
        """Return the number of the last step that was done; None where there is no gallery."""
        schema = self.address.schema
        if not self.execute("SELECT 1 FROM pg_tables WHERE schemaname = ?", (schema,)).fetchone():
            return None
        if not self.execute(
            "SELECT 1 FROM pg_tables WHERE schemaname = ? AND tablename = 'migration'", (schema,)
        ).fetchone():
            raise GalleryError(
                f"The schema '{schema}' of that database holds something else than a gallery. Name another "
                "?collection= or another database."
            )
        last = (self.execute("SELECT max(number) FROM migration").fetchone() or (0,))[0]
        newest = migrations()[-1][0]
        if last > newest:
            raise GalleryError(
                f"{self.address} was made by a newer mien (gallery version {last}, this one reads up to {newest}). "
                "Upgrade with: pip install --upgrade mien"
            )
        return int(last)

    def _migrate(self, connection: Connection, steps: list[tuple[int, str, str]]) -> None:
        schema = self.address.schema
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s, %s)", (0x4D69656E, zlib.crc32(schema.encode()) >> 1))
            # IF NOT EXISTS asks for the right to make schemas even where the schema is there.
            if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone():
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migration "
                "(number integer PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now())"
            )
            row = connection.execute("SELECT coalesce(max(number), 0) FROM migration").fetchone()
            done = row[0] if row else 0
            for number, name, text in steps:
                if number > done:  # another process may have been faster
                    connection.execute(text.encode())
                    connection.execute("INSERT INTO migration (number, name) VALUES (%s, %s)", (number, name))

    def install_extension(self) -> bool:
        """Make sure of pgvector where the server has it and we may install it; return whether it is there."""
        if self.extension is not None or self.read_only:
            return self.extension is not None

        def install(connection: Connection) -> None:
            with contextlib.suppress(psycopg.Error):
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
            self._look_for_extension(connection)

        self._alive(install)
        if self.extension is not None:  # connections of before know neither its schema nor its type
            with self._pool.connection() as connection:
                self._configure(connection)
            self._pool.drain()
        return self.extension is not None

    # Errors

    @contextlib.contextmanager
    def errors_in_words(self) -> Iterator[None]:
        """Turn the database's errors into one line that says what to do."""
        try:
            yield
        except PoolTimeout as error:
            raise self._why_down() from error
        except PoolClosed as error:
            raise GalleryError(f"{self.address} was closed.") from error
        except psycopg.Error as error:
            raise self._in_words(error) from error

    def _why_down(self) -> GalleryError:
        try:
            psycopg.connect(self.address.conninfo, **self._settings).close()
        except psycopg.Error as error:
            return self._in_words(error)
        return UnreachableError(
            f"{self.address} had no free connection for {CONNECT_S} s. Try again, or allow more on the server."
        )

    def _in_words(self, error: psycopg.Error) -> GalleryError:
        place = str(self.address)
        for kind, words in {
            errors.LockNotAvailable: f"{place} is locked: another process held it for {self.timeout_s:g} s. Try again "
            "when it has finished.",
            errors.DiskFull: f"No room left for {place}: the server's disk is full. What was acknowledged is kept; "
            "free some space and go on.",
            errors.InsufficientPrivilege: f"{place} does not let this user do that: {_first_line(error)}. Ask its "
            "administrator for the right to create in the database, or for a schema of its own.",
            errors.ReadOnlySqlTransaction: f"{place} cannot be written: it was opened read-only, or the server is a "
            "standby.",
            errors.UndefinedTable: f"{place} is no gallery any more: its tables are gone.",
            errors.DataError: f"{place} does not take that value: {_first_line(error)}.",
            errors.IntegrityError: f"{place} holds something that contradicts it: {_first_line(error)}. See: mien "
            "gallery check",
        }.items():
            if isinstance(error, kind):
                return GalleryError(words)
        told = _first_line(error)
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return UnreachableError(
                f"The database {place} does not answer: {told}. See that it runs; what was acknowledged is kept."
            )
        if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
            return GalleryError(f"{place} is no address that can be used: {told}.")
        return GalleryError(f"The database {place} refused: {told}.")


def _first_line(error: psycopg.Error) -> str:
    """Return what the server or libpq says, on one line and without a full stop."""
    message = error.diag.message_primary or (str(error).strip().splitlines() or [type(error).__name__])[0]
    return shown(message.strip()).rstrip(".")


@functools.lru_cache(512)
def _translated(query: str) -> bytes:
    """Write a query of ours as psycopg wants it: our SQL has neither ? nor % in a literal."""
    return query.replace("%", "%%").replace("?", "%s").encode()
