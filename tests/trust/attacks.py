"""How tests attack: work in a fork of this process, which has imported everything already, that dies or runs dry."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

DIED = 9
"""Exit status of a child that was killed on purpose."""
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.copyfile")


def in_child(work: Callable[[], Any], said: Path | None = None) -> int:
    """Work in a fork; returns its exit status, `DIED` if it was killed, 99 for an error, whose traceback is shown.

    What it prints goes into the file `said`, if one is named.
    """
    child = os.fork()
    if not child:
        status, output = 99, io.StringIO()
        try:
            with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
                work()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc(file=output)
        finally:
            if said is not None:
                said.write_text(output.getvalue(), encoding="utf-8")
            elif status == 99:
                sys.__stderr__.write(output.getvalue())
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def at_change(folder: Path, number: int | None, then: Callable[[], None]) -> Callable[[], int]:
    """Count what changes below a folder in this process, opening for writing and renaming say, and act at a number.

    Returns what tells the count. A process can't be rid of this again: only children may call it.
    """
    seen = [0]

    def hook(event: str, details: tuple) -> None:
        written = event == "open" and isinstance(details[2], int) and details[2] & _WRITES
        if (written or event in _CHANGES) and str(folder) in str(details[:2]):
            seen[0] += 1
            if number is not None and seen[0] >= number:
                then()

    sys.addaudithook(hook)
    return lambda: seen[0]


def die() -> None:
    """End this process as SIGKILL would: nothing is flushed, nothing is tidied up."""
    os._exit(DIED)


def no_room() -> None:
    """What every writer meets on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
