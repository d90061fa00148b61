"""Runs storms of faults against workers, Valkey and S3: `python -m tests.faults`."""

import argparse
import signal
import sys
from pathlib import Path

from tests.faults.outcome import Plan, say
from tests.faults.run import run
from tests.faults.storms import LASTING, OUTAGES, STORMS, named

#: Jobs and seconds of a storm in a soak test. The load is light, so that other work can run beside it.
SOAK_JOBS, SOAK_SECONDS = 200, 40.0
#: The maximum number of jobs of an outage. Workers can scan this many within two minutes after it.
OUTAGE_JOBS = 1000


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Scan while S3, the workers and Valkey fail, and count what came of every job. "
        "Exits with 0 if each has exactly one end, each verdict is that of an undisturbed run, no tag says "
        "safe of other bytes, and all was done two minutes after each storm.",
        epilog="Without --hours or --outage-minutes: each storm once. Storms: "
        + ", ".join(storm.name for storm in (*STORMS, *OUTAGES)),
    )
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="draws the faults (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="STORM", help="these storms alone")
    parser.add_argument("--hours", type=float, help="a soak: light storms for so long, no worker is killed")
    parser.add_argument("--outage-minutes", type=float, help="S3 is away for so long, once for each reason")
    parser.add_argument("--workers", type=int, default=2, help="workers (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="processes of each (default: %(default)s)")
    parser.add_argument("--rabbitmq", action="store_true", help="RabbitMQ is the broker, not Valkey")
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")
    parser.add_argument("--logs", type=Path, help="keep the logs of the workers in this folder")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    """Return the plan of the run that a command line requests.

    Raises:
        ValueError: The command line names a storm that does not exist.
    """
    fleet = {
        "workers": options.workers,
        "processes": options.processes,
        "logs": options.logs,
        "rabbitmq": options.rabbitmq,
    }
    if options.outage_minutes:
        seconds = options.outage_minutes * 60
        return Plan(options.seed, named(OUTAGES, options.only), OUTAGE_JOBS, seconds, **fleet)
    if options.hours:
        storms = named([storm for storm in STORMS if storm.name in LASTING], options.only)
        return Plan(options.seed, storms, SOAK_JOBS, SOAK_SECONDS, hours=options.hours, agrees=True, **fleet)
    storms = named(STORMS, options.only)
    return Plan(options.seed, storms, max(1, options.jobs // len(storms)), **fleet)


def main() -> int:
    """Run, and print the outcome."""
    options = parsed()
    # SIGTERM ends all started processes, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        outcome = run(plan_of(options))
    except ValueError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("interrupted; all that was started has ended")
        return 130
    if options.json:
        print(outcome.json())
    for kind, count in outcome.trouble.count.items():
        say(f"{count} times {kind}: {'; '.join(outcome.trouble.examples[kind])}")
    jobs = sum(told.jobs for told in outcome.told)
    say(f"{jobs} jobs: {dict(outcome.total('ends'))}, {outcome.dead_letters} dead letters, {outcome.gauges}")
    say("every promise was kept" if outcome.holds else "NOT every promise was kept")
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
