"""The watch over attempts: an ended attempt is not reported as overdue, and is known until it is settled."""

from keyhole.jobs.cpu_watch import CpuWatch


def test_an_attempt_that_runs_is_overdue_by_its_threads_cpu_time() -> None:
    watch = CpuWatch(cpu_seconds=-1)

    watch.begin("job")

    assert set(watch.overdue()) == {"job"}
    assert set(watch.running) == set(watch.unfinished) == {"job"}


def test_one_that_broke_off_is_not_measured_by_what_its_thread_does_next() -> None:
    watch = CpuWatch(cpu_seconds=-1)
    watch.begin("broken off")

    watch.end("broken off", known=False)
    watch.begin("next")

    assert set(watch.overdue()) == set(watch.running) == {"next"}
    assert watch.unfinished == ["broken off", "next"]


def test_one_whose_end_is_known_is_finished() -> None:
    watch = CpuWatch(cpu_seconds=-1)
    watch.begin("job")

    watch.end("job", known=True)

    assert not watch.overdue()
    assert watch.unfinished == []
