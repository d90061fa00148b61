"""The pool of a worker's processes, which survives the kill of a process while the worker starts."""

from celery.concurrency import prefork


class TaskPool(prefork.TaskPool):  # type: ignore[misc] # Celery has no types
    """Celery's pool, extended: it replaces a process that was killed while the worker started."""

    def did_start_ok(self) -> bool:
        """Return whether no process has ended by itself since the pool was created.

        Celery calls this once, before the worker takes work, and ends the worker if it returns false. A
        process that ended by itself probably cannot work on this machine. But another program can kill a
        process at any time, for example the kernel if memory is short. So replace the processes that were
        killed, as the pool does later.
        """
        codes = [process.exitcode for process in self._pool._pool]  # noqa: SLF001 - Celery's own method reads it, too
        if any(code is not None and code >= 0 for code in codes):
            return False
        self._pool.maintain_pool()
        return True
