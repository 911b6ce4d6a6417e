"""Whether the database file has what SQLite wrote, whichever program it was that used SQLite."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from wandb_submit.server.storage.database import Database
from wandb_submit.server.storage.place import GoneError, Place

BIG = "INSERT OR REPLACE INTO settings VALUES (hex(randomblob(8)), hex(randomblob(4000000)))"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """The file of a database that a server has open."""
    file = tmp_path / "data" / "server.sqlite3"
    file.parent.mkdir()
    (file.parent / "server.lock").touch()
    opened = Database(file)
    yield file
    opened.close()


def use(file: Path) -> None:
    """Writes so much that SQLite copies the log, as another program does."""
    size = file.stat().st_size
    with closing(sqlite3.connect(file, isolation_level=None)) as shell:
        shell.execute(BIG)
    assert file.stat().st_size > size


def test_another_program_may_use_sqlite(data: Path) -> None:
    place = Place(data.parent)
    for _ in range(2):
        use(data)
        place.check_content()
    with closing(sqlite3.connect(data, isolation_level=None)) as shell:
        for statement in ("DELETE FROM settings", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            shell.execute(statement)
            place.check_content()
    place.check()
    place.check_all()


def test_another_program_may_use_sqlite_at_this_moment(data: Path) -> None:
    place = Place(data.parent)
    using = threading.Thread(target=lambda: [use(data) for _ in range(10)])
    using.start()
    while using.is_alive():
        place.check_content()
    using.join()


@pytest.mark.parametrize("after", ["nothing", "another program has used SQLite", "a crash"])
def test_a_file_that_is_overwritten_is_noticed(data: Path, tmp_path: Path, after: str) -> None:
    other = tmp_path / "other"
    with closing(sqlite3.connect(data)) as source, closing(sqlite3.connect(other)) as target:
        source.backup(target)
    place = Place(data.parent)
    if after != "nothing":
        use(data)
        place.check_content()
    with ExitStack() as stack:
        if after == "a crash":
            with closing(sqlite3.connect(data)) as shell, shell:
                shell.execute("INSERT INTO settings VALUES ('a', 'b')")
            data = Path(shutil.copytree(data.parent, tmp_path / "crashed"), data.name)
            data.with_name(f"{data.name}-shm").unlink()
            stack.enter_context(closing(Database(data)))  # SQLite makes the log's index anew
            place = Place(data.parent)
        shutil.copyfile(other, data)
        with pytest.raises(GoneError, match="overwritten"):
            place.check_content()
    assert data.with_name(f"{data.name}-wal.overwritten").exists()
