"""`Store`: what the rest of midsl sees of the results store.

A run writes its own folder and never opens the database; `import_runs` does, for as long as it
takes. Questions open it read-only, with DuckDB's access to files and settings shut, so that an SQL
text can be run that nobody has read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from midsl.diagnostics.model import Bag, Diagnostic, MiError, fail
from midsl.store.importer import Pending, pending, scan, schema_version, sync
from midsl.store.lock import locked
from midsl.store.parts import CONFIG
from midsl.store.record import RunRecord
from midsl.store.schema import SCHEMA_VERSION, literal
from midsl.store.writer import RunWriter

__all__ = ["QueryResult", "RunWriter", "Store"]

DATABASE = "results.duckdb"

_SHUT: dict[str, bool | str] = {
    "access_mode": "READ_ONLY",
    "enable_external_access": False,
    "lock_configuration": True,
}
"""What a connection needs that runs somebody's SQL: nothing outside the database can be reached."""


@dataclass(frozen=True)
class QueryResult:
    """The answer to an SQL statement; `notes` say what it may lack (runs that cannot be imported)."""

    columns: list[str]
    types: list[str]
    rows: list[tuple[Any, ...]]
    notes: list[Diagnostic] = field(default_factory=list)


class Store:
    """A results store at a folder, which need not exist before the first run.

    Attributes:
        root: the folder. patience: seconds to wait for another process to leave the database.
    """

    def __init__(self, root: Path, patience: float = 10.0) -> None:
        self.root = root
        self.patience = patience
        self.path = root / DATABASE

    def begin(self, record: RunRecord) -> RunWriter:
        """Start a run: make its folder and write what is known of it."""
        return RunWriter(self.root / "runs" / record.run_uuid, record)

    def import_runs(self, warnings: Bag | None = None) -> int:
        """Bring the database up to the run folders; return how many runs were imported.

        A run folder that is damaged does not keep the others out: it is a warning in `warnings`, or,
        without one, an error raised after the rest is in.

        Raises:
            MI0801: another process keeps the database open. Nothing is lost: the rows are in the
                run's folder, and the next import takes them in.
            MI0803: there is no store. MI0805: a damaged folder. MI0806: a newer midsl's store.
        """
        self._must_exist()
        with self._alone():
            found, problems = scan(self.root / "runs")
            if self._version() not in (None, SCHEMA_VERSION):
                self._remove()  # an older schema: the folders hold everything, so make it again
            with self._connect() as con:
                count, more = sync(con, found)
        problems += more
        if warnings is not None:
            warnings.extend(problems)
        elif problems:
            raise MiError(*problems)
        return count

    def rebuild(self, warnings: Bag | None = None) -> int:
        """Make the database again from the run folders; return how many runs it holds.

        Raises:
            as `import_runs`.
        """
        self._must_exist()
        with self._alone():
            if self.path.exists():
                with self._connect():
                    pass  # waits until nobody has it open
            self._remove()
        return self.import_runs(warnings)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> QueryResult:
        """Answer an SQL statement, importing first what the database lacks; `parameters` are its ``$name``s.

        Raises:
            MI0801: another process keeps the database open.
            MI0802: DuckDB refuses the statement; the message is DuckDB's own.
            MI0803: there is no store.
        """
        with self.reading() as (con, notes):
            try:
                con.execute(sql, parameters)
                described = con.description or []
                zoned = [d[0] for d in described if str(d[1]) == "TIMESTAMP WITH TIME ZONE"]
                if zoned:  # Python could hold it only with a package that midsl does not need
                    raise fail(
                        "MI0802",
                        f"column `{zoned[0]}` is a time with a time zone",
                        help="cast it to a time of its own: ...::TIMESTAMP",
                    )
                rows = con.fetchall() if described else []
            except duckdb.Error as error:
                raise fail("MI0802", str(error)) from error
        return QueryResult([d[0] for d in described], [str(d[1]) for d in described], rows, notes)

    def runs(self) -> list[dict[str, Any]]:
        """Return every run, oldest first: uuid, spec, status, times, params, reports and checks.

        Raises:
            MI0801, MI0803: as `query`.
        """
        answer = self.query(
            "SELECT run_id, run_uuid::VARCHAR AS run_uuid, spec_name, spec_path, status, exit_code, error, "
            "started_at, finished_at, epoch(finished_at - started_at) AS seconds, params::VARCHAR AS params, "
            "(SELECT list(experiment || '.' || report ORDER BY experiment, report) FROM reports p "
            " WHERE p.run_id = r.run_id) AS reports, "
            "(SELECT count(*) FROM checks c WHERE c.run_id = r.run_id) AS checks, "
            "(SELECT count(*) FROM checks c WHERE c.run_id = r.run_id AND NOT passed) AS checks_failed "
            "FROM runs r ORDER BY started_at, run_uuid"
        )
        return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]

    # ---------------------------------------------------------------- opening

    def _must_exist(self) -> None:
        if not (self.root / "runs").is_dir() and not self.path.exists():
            raise fail(
                "MI0803",
                f"there is no results store at {self.root}",
                help="`midsl run SPEC` makes one; --store DIR names another place",
            )

    @contextmanager
    def reading(
        self, write_to: Path | None = None
    ) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Diagnostic]]]:
        """Open the database to ask it, importing first what it lacks; and say what it still lacks.

        Nothing outside the database can be reached, except a file that `write_to` allows to be written.

        Raises:
            MI0801: another process keeps the database open. MI0803: there is no store.
        """
        self._must_exist()
        if self.path.exists():
            found, problems = scan(self.root / "runs")
            with self._asking(write_to) as con:
                current = schema_version(con) == SCHEMA_VERSION
                todo = pending(con, found) if current else None
                if todo is not None and not todo:
                    yield con, problems
                    return
            notes = self._catch_up(todo, problems)
        else:
            warnings = Bag()
            self.import_runs(warnings)
            notes = warnings.items
        with self._asking(write_to) as con:
            yield con, notes

    @contextmanager
    def _asking(self, write_to: Path | None) -> Iterator[duckdb.DuckDBPyConnection]:
        if write_to is None:
            with self._connect(**_SHUT) as con:
                yield con
            return
        with self._connect(
            access_mode="READ_ONLY"
        ) as con:  # what is allowed has to be said before it is shut
            con.execute(f"SET allowed_paths = [{literal(str(write_to))}]")
            con.execute("SET enable_external_access = false")
            con.execute("SET lock_configuration = true")
            yield con

    def _catch_up(self, todo: Pending | None, problems: list[Diagnostic]) -> list[Diagnostic]:
        """Import what is missing; where that cannot be done now, say how much is missing."""
        warnings = Bag()
        try:
            Store(self.root, min(self.patience, 2.0)).import_runs(warnings)
        except (MiError, PermissionError) as error:
            if todo is None or (isinstance(error, MiError) and error.diagnostics[0].code != "MI0801"):
                raise
            lacks = f"{len(todo.new)} new or changed runs are not in this answer"
            return [*problems, Diagnostic("MI0801", f"{lacks}: {error}", severity="warning")]
        return warnings.items

    def _version(self) -> int | None:
        if not self.path.exists():
            return None
        with self._connect(**_SHUT) as con:
            return schema_version(con)

    def _remove(self) -> None:
        for path in (self.path, self.path.with_name(f"{DATABASE}.wal")):
            path.unlink(missing_ok=True)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only importer."""
        try:
            with locked(self.root / "import.lock", self.patience):
                yield
        except TimeoutError as error:
            raise self._in_use(str(error)) from error

    @contextmanager
    def _connect(self, **config: Any) -> Iterator[duckdb.DuckDBPyConnection]:
        con = self._retry(lambda: duckdb.connect(self.path, config={**CONFIG, **config}))
        try:
            yield con
        finally:
            con.close()

    def _retry(self, connect: Callable[[], duckdb.DuckDBPyConnection]) -> duckdb.DuckDBPyConnection:
        until = time.monotonic() + self.patience
        while True:
            try:
                return connect()
            except duckdb.Error as error:
                # The second: this very process has it open otherwise (another thread is importing).
                if not any(s in str(error) for s in ("Could not set lock", "different configuration")):
                    raise fail("MI0806", f"the database cannot be opened: {error}") from error
                if time.monotonic() >= until:
                    raise self._in_use(str(error)) from error
                time.sleep(0.05)

    def _in_use(self, why: str) -> MiError:
        return fail(
            "MI0801",
            f"the results store {self.path} is in use: {why}",
            help="close what has it open and ask again; results that were just written are safe in "
            "their run's folder and are taken in at the next import",
        )
