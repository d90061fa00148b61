"""`keyhole audit` scans all objects of a bucket. `keyhole audits` lists the audits."""

import sys
import time

import click

from keyhole.cli import audit_view
from keyhole.cli.audit_end import refuse_without_objects, selected_of, tell_of_owners
from keyhole.cli.audit_id import full_audit_id, no_audit
from keyhole.cli.audit_table import print_audits, print_runs
from keyhole.cli.audit_tags import refuse_without_tags, tell_of_tags
from keyhole.cli.aws_options import aws_options
from keyhole.cli.backend import backend, is_embedded
from keyhole.cli.errors import (
    ALL_SAFE,
    INTERRUPTED,
    SOME_NOT_SAFE,
    UNDECIDED,
    USAGE,
    CommandError,
    load_settings,
    one_line_errors,
)
from keyhole.cli.exit_code import exit_code
from keyhole.cli.output import Output, output_options
from keyhole.cli.parsed import parsed
from keyhole.cli.quantities import parse_rate
from keyhole.cli.terminal import SafeConsole
from keyhole.cli.worker_note import (
    refuse_policy,
    refused_policy_option,
    tell_if_no_worker,
    tell_if_policies_differ,
)
from keyhole.fleet.services import services, use_settings
from keyhole.intake.audits.audit import Audit, AuditSpec, AuditState
from keyhole.intake.selection import Selection, parse_share
from keyhole.jobs.queues import AUDITS, HOUSEKEEPING
from keyhole.results.owner import parse_owner_tag
from keyhole.scan.sizes import parse_size
from keyhole.settings import Settings
from keyhole.sources.s3_uri import parse_s3_uri

#: Seconds between two reads of an audit from Redis while the command shows the audit's progress.
LOOK_SECONDS = 0.25
#: If an audit has not listed any object after this many seconds, the command prints whether workers run.
PATIENCE_SECONDS = 15.0
NOT_DETACHED = (
    "--detach has no effect, because no Redis is configured: the workers end with this command. "
    "Set KEYHOLE_REDIS_URL, and start workers with `keyhole worker`."
)
#: The options that change the state of an audit, and the state that each option sets.
TURNS = {"pause": AuditState.PAUSED, "resume": AuditState.RUNNING, "cancel": AuditState.CANCELLED}


@click.command("audit")
@click.argument("uri", required=False, metavar="[S3-URI]")
@click.option(
    "--include", multiple=True, metavar="GLOB", help="Only keys that match this glob; can be repeated."
)
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Leave out keys that match this glob; can be repeated."
)
@click.option("--suffix", "suffixes", multiple=True, help="Only keys with this suffix, such as .qcow2.")
@click.option(
    "--min-size", type=parsed("SIZE", parse_size), help="Leave out objects below this size, such as 1MiB."
)
@click.option("--max-size", type=parsed("SIZE", parse_size), help="Leave out objects above this size.")
@click.option(
    "--sample",
    type=parsed("SHARE", parse_share),
    help="Only this share of the keys, such as 1%; each run selects the same keys.",
)
@click.option("--limit", type=click.IntRange(1), help="Audit at most this many objects.")
@click.option("--full", is_flag=True, help="Also scan objects that are unchanged since their verdict.")
@click.option("--versions", is_flag=True, help="Scan every version of each object.")
@click.option("--check-tags", is_flag=True, help="Compare tags with verdicts, with one request per object.")
@click.option("--fix-tags", is_flag=True, help="Like --check-tags, and correct missing and wrong tags.")
@click.option(
    "--owner-tag",
    metavar="NAME",
    type=parsed("NAME", parse_owner_tag),
    help="Report objects by the value of their tag NAME, such as team, with up to one request per object.",
)
@click.option(
    "--inventory",
    metavar="S3-URI",
    help="Read the list of objects from this manifest.json of an S3 Inventory.",
)
@click.option(
    "--rate",
    type=parsed("RATE", parse_rate),
    help="At most this many requests per second to the bucket; 0: no limit.",
)
@click.option(
    "--max-requests", type=click.IntRange(1), help="Stop before the audit makes more requests than this."
)
@click.option(
    "--max-dollars",
    type=click.FloatRange(0, min_open=True),
    help="Stop before the audit costs more than this.",
)
@click.option("--dry-run", is_flag=True, help="Estimate requests and costs without reading objects.")
@click.option(
    "--detach",
    is_flag=True,
    help="Start the audit, and do not show its progress; only with KEYHOLE_REDIS_URL.",
)
@click.option(
    "--follow", metavar="ID", help="Show the progress of an audit; you can shorten its id, or write latest."
)
@click.option(
    "--pause", metavar="ID", help="Pause an audit; workers still scan the objects that are already queued."
)
@click.option("--resume", metavar="ID", help="Resume an audit that is paused or has failed.")
@click.option("--cancel", metavar="ID", help="Cancel an audit.")
@refused_policy_option
@output_options(
    without=("csv", "sarif", "markdown"),
    wide=False,
    fail_on=True,
    json_help="The same as -o jsonl: print the audit every 10 s and at the end.",
)
@aws_options
def audit_command(
    uri: str | None,
    *,
    output: Output,
    dry_run: bool,
    detach: bool,
    policy: str | None,
    **options: object,
) -> None:
    """Scan all objects of a bucket, or below a prefix, that have no valid verdict.

    \b
    keyhole audit s3://images/
    keyhole audit s3://images/ --dry-run
    keyhole audit s3://images/uploads/ --suffix .qcow2 --sample 1% --rate 50
    keyhole audit --follow latest

    The command shows the audit's progress until the audit ends. After Ctrl-C, the workers continue the audit.
    If no Redis is configured, the workers end together with the command. Run it again with --follow to
    continue the audit. An object that has a verdict is scanned again only if one of the following has changed
    since then: its ETag, its size, its time of last modification, the version of Keyhole's rules, or the
    policy. KEYHOLE_POLICY of the workers sets the policy. To check a bucket against another policy, without
    recording verdicts, use `keyhole inspect -r --policy`.

    Exit code: 0 all objects are safe, 1 some are not safe, 2 wrong usage, 3 the audit did not reach its end
    or had no objects, or Keyhole could not read an object or decide about it. Objects that are certainly not
    images, such as PDFs, do not count, unless there is nothing else. -o json and -o jsonl print the audit;
    `keyhole report` prints its objects.
    """
    settings = load_settings()
    refuse_policy(policy, uri or "s3://BUCKET/", embedded=is_embedded(settings), recursive=True)
    on = {name: options.pop(name) for name in ("follow", *TURNS)}
    chosen = [name for name, audit_id in on.items() if audit_id is not None]
    if len(chosen) + (uri is not None) != 1:
        raise click.UsageError("name an S3 URI, or one audit to --follow, --pause, --resume or --cancel")
    if options["fix_tags"]:
        refuse_without_tags(settings)
    with one_line_errors(), backend(settings, work=not dry_run) as ready:
        if detach and is_embedded(settings):
            click.echo(NOT_DETACHED, err=True)
        from keyhole.app import configure

        configure(ready)
        use_settings(ready)
        if uri is not None:
            tell_if_policies_differ()
            spec = _spec(uri, ready, options)
            if dry_run:
                from keyhole.cli.dry_run import print_estimate

                print_estimate(spec, as_json=not output.is_table)
                return
            audit_id = _begin(spec)
        else:
            audit_id = full_audit_id(str(on[chosen[0]]), ready)
            if chosen[0] != "follow":
                _turn(audit_id, chosen[0])
                if chosen[0] != "resume":
                    detach = True
        if detach and not is_embedded(settings):
            _tell_detached(audit_id, output)
            if chosen in ([], ["resume"]):
                tell_if_no_worker(output.tell, HOUSEKEEPING, AUDITS, waits=False)
            return
        code = _follow(audit_id, output, embedded=is_embedded(settings))
    sys.exit(code)


def _spec(uri: str, settings: Settings, options: dict[str, object]) -> AuditSpec:
    try:
        bucket, prefix = parse_s3_uri(uri, is_prefix=True)
        if options["inventory"]:
            parse_s3_uri(str(options["inventory"]))
    except ValueError as error:
        raise CommandError(str(error), USAGE) from error
    rate = options["rate"]
    selection = {name: options[name] for name in ("include", "exclude", "suffixes", "min_size", "max_size")}
    return AuditSpec.model_validate(
        {
            "bucket": bucket,
            "prefix": prefix,
            "selection": Selection.model_validate(selection | {"sample": options["sample"] or 1.0}),
            "rate": settings.audit_rate if rate is None else rate,
            "outstanding": settings.audit_outstanding,
            "batch_size": settings.batch_size,
            **{
                name: options[name]
                for name in (
                    "limit",
                    "full",
                    "versions",
                    "check_tags",
                    "fix_tags",
                    "owner_tag",
                    "inventory",
                    "max_requests",
                    "max_dollars",
                )
            },
        }
    )


def _begin(spec: AuditSpec) -> str:
    from keyhole.tasks import audit_work

    return audit_work().begin(spec)


def _turn(audit_id: str, how: str) -> None:
    from keyhole.tasks import audit_work

    audit = _audit(audit_id)
    if not services().audits.set_state(
        audit_id, TURNS[how], f"by keyhole audit --{how}" if how != "resume" else ""
    ):
        raise CommandError(f"audit {audit_id} is {audit.state.value}, so --{how} is not possible", USAGE)
    if how == "resume":
        audit_work().advance(audit_id)


def _audit(audit_id: str) -> Audit:
    audit = services().audits.get(audit_id)
    if audit is None:
        raise no_audit(audit_id)
    return audit


def _tell_detached(audit_id: str, output: Output) -> None:
    audit = _audit(audit_id)
    if not output.is_table:
        click.echo(audit.model_dump_json(ensure_ascii=True))
    elif not output.quiet:
        click.echo(
            f"audit {audit_id} is {audit.state.value}; follow it with: keyhole audit --follow {audit_id}"
        )


def _follow(audit_id: str, output: Output, *, embedded: bool) -> int:
    from keyhole.tasks import audit_work

    if embedded:
        # An earlier command may have begun this audit. The embedded worker of the earlier command ended with
        # that command, and may have left steps of the audit unfinished. Do these steps again.
        audit_work().resume(audit_id)
    told = (
        not embedded
        and not _audit(audit_id).state.ended
        and tell_if_no_worker(output.tell, HOUSEKEEPING, AUDITS, waits=True)
    )
    hint_at = float("inf") if told else time.monotonic() + PATIENCE_SECONDS
    try:
        with audit_view.following(output) as tell:
            while True:
                audit = _audit(audit_id)
                tell(audit)
                if not audit.totals.pages and not audit.reason and time.monotonic() > hint_at:
                    hint_at = float("inf")
                    output.tell("Nothing is listed yet, although a worker runs. Still waiting.")
                if audit.state.ended or audit.state is AuditState.PAUSED:
                    break
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        how = (
            "is paused, because its workers end with this command; resume it with"
            if embedded
            else "continues; follow it with"
        )
        click.echo(f"audit {audit_id} {how}: keyhole audit --follow {audit_id}", err=True)
        return INTERRUPTED
    if not output.is_table:
        click.echo(audit.model_dump_json(ensure_ascii=True))
    else:
        SafeConsole().print(audit_view.page(audit))
        if selected_of(audit.totals):
            output.tell(f"The report: keyhole report {audit_id}")
    refuse_without_objects(audit)
    tell_of_owners(audit, output)
    tell_of_tags(audit, output, embedded=embedded)
    return _exit_code(audit, output)


def _exit_code(audit: Audit, output: Output) -> int:
    code = exit_code(audit.totals.statuses, audit.totals.not_images, output.fail_on)
    if audit.state is AuditState.DONE or code == SOME_NOT_SAFE:
        return code
    return UNDECIDED


@click.command("audits")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="List at most this many audits."
)
@output_options()
def audits_command(*, limit: int, output: Output) -> None:
    """List audits, the latest first. `keyhole report` shows the objects of an audit.

    \b
    keyhole audits
    keyhole audits -o jsonl | jq -r 'select(.state == "running") | .id'
    keyhole audits --limit 1 -o sarif > last.sarif

    SARIF contains a run for each audit, with everything that is not safe.
    """
    settings = load_settings()
    with one_line_errors(), backend(settings, work=False) as ready:
        use_settings(ready)
        audits = services().audits.latest(limit + 1)
        if output.form == "sarif":
            print_runs(audits[:limit])
        else:
            print_audits(audits[:limit], output)
    if output.is_table and not audits:
        click.echo("no audits yet; start one with: keyhole audit s3://bucket/prefix")
    if len(audits) > limit and output.form in {"table", "sarif"}:
        output.tell(f"These are the latest {limit:,}; there are more (--limit).")
    sys.exit(ALL_SAFE)
