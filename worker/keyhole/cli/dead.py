"""`keyhole dead`: shows, retries and drops dead letters.

A dead letter, or letter for short, is a record of failed work that Keyhole no longer retries. The body of a
letter contains this work, for example a message.
"""

import sys
from collections.abc import Sequence
from itertools import islice

import click

from keyhole.cli.aws_options import aws_options
from keyhole.cli.backend import backend
from keyhole.cli.dead_view import ID_CHARACTERS, page, print_table
from keyhole.cli.errors import ALL_SAFE, UNDECIDED, USAGE, CommandError, load_settings, one_line_errors
from keyhole.cli.terminal import SafeConsole
from keyhole.inspectors.text import shown
from keyhole.intake.dead_letters import DeadLetter, DeadLetters, LetterKind, with_new_ids
from keyhole.intake.events.counters import DUPLICATES, PUBLISHED
from keyhole.intake.events.handling import Handler
from keyhole.intake.events.notifications import NotUnderstoodError
from keyhole.jobs.deliveries import Deliveries
from keyhole.jobs.entry import ENTRY
from keyhole.jobs.tag_debts import TagDebts
from keyhole.results.sinks.event import Event
from keyhole.results.tags import TAG_DEBT
from keyhole.settings import Settings
from keyhole.sources.allowed import BucketNotAllowedError
from keyhole.store.connection import connect
from keyhole.versions import why_unreadable


@click.group("dead")
def dead_command() -> None:
    """Show, retry or drop dead letters: messages, jobs, tags and events that failed.

    The following become dead letters: an event message that Keyhole received KEYHOLE_DEAD_AFTER times and did
    not understand; a message from the broker that no worker accepts; a job whose retries have failed, or that
    kills its workers; tags that Keyhole still cannot write after KEYHOLE_UNDECIDED_SECONDS; and an event that
    a sink refuses, or that Keyhole still cannot send after KEYHOLE_UNDECIDED_SECONDS. Dead letters are stored
    until you retry or drop them.

    \b
    keyhole dead list
    keyhole dead show ID
    keyhole dead show ID --body > message
    keyhole dead retry ID                  or --all
    keyhole dead drop --all

    You can shorten the id of a letter, as long as no other id begins with the shortened id.
    """


@dead_command.command("list")
@click.option("--kind", type=click.Choice([kind.value for kind in LetterKind]), help="Only this kind.")
@click.option(
    "--limit", type=click.IntRange(1), default=100, show_default=True, help="List at most this many letters."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, and nothing else.")
def list_command(*, kind: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, the latest first.

    \b
    keyhole dead list --kind message
    keyhole dead list --json | jq -r .reason
    """
    settings = load_settings()
    with one_line_errors(), backend(settings, work=False) as ready:
        dead = _dead_letters(ready)
        letters = list(islice(dead.letters(LetterKind(kind) if kind else None), limit + 1))
        if as_json:
            for letter in letters[:limit]:
                click.echo(letter.model_dump_json(exclude={"body"}, ensure_ascii=True))
            return
        if not letters:
            click.echo("no dead letters" + (" of this kind" if kind else ""))
            return
        print_table(letters[:limit])
        if len(letters) > limit:
            click.echo(f"These are the latest {limit} of {dead.count()}; there are more (--limit).", err=True)


@dead_command.command("show")
@click.argument("letter_id", metavar="ID")
@click.option("--body", "body_alone", is_flag=True, help="Print only the bytes of the body, unchanged.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the letter as one line of JSON; the body is base64."
)
def show_command(letter_id: str, *, body_alone: bool, as_json: bool) -> None:
    """Show one dead letter.

    \b
    keyhole dead show ID
    """
    settings = load_settings()
    with one_line_errors(), backend(settings, work=False) as ready:
        letter = _letter(_dead_letters(ready), letter_id)
        if as_json:
            click.echo(letter.model_dump_json(ensure_ascii=True))
        elif body_alone:
            if sys.stdout.isatty():
                raise CommandError(
                    "the body can contain control codes; write it to a file: … --body > message", USAGE
                )
            click.echo(letter.body or b"", nl=False)
        else:
            SafeConsole().print(page(letter))


@dead_command.command("retry")
@click.argument("letter_ids", nargs=-1, metavar="ID...")
@click.option("--all", "every", is_flag=True, help="Retry all.")
@aws_options
def retry_command(letter_ids: tuple[str, ...], *, every: bool) -> None:
    """Process dead letters again.

    \b
    keyhole dead retry ID
    keyhole dead retry --all

    An event message is processed as if it had just arrived, with the KEYHOLE_EVENTS_… settings of this
    command. If Keyhole still does not understand the message, its letter stays. A job is queued again. If the
    job belonged to an audit, the audit does not count the new job. If the letter contains tags or an event,
    the workers try to write the tags or to send the event again. A letter is removed after its work has been
    queued or recorded. If KEYHOLE_SIGNING_KEY_FILE is set, the command sends a message without a valid
    signature only if you name the id of its letter. Inspect such a letter first with `keyhole dead show`.

    Exit code: 0 all letters were removed, 3 some letters stay.
    """
    settings = load_settings()
    stay = 0
    with one_line_errors(), backend(settings, work=False) as ready:
        from keyhole.cli.event_handler import event_handler

        handler = event_handler(ready)
        dead = _dead_letters(ready)
        for letter_id in _chosen(dead, letter_ids, every=every):
            letter = dead.get(letter_id)
            if letter is None:
                continue  # another command has removed the letter
            try:
                told = _retry(letter, handler, named=not every)
            except NotUnderstoodError as error:
                stay += 1
                dead.add_again(letter_id, error.reason)
                click.echo(f"{shown(letter_id[:ID_CHARACTERS])} stays: {shown(error.reason)}", err=True)
            else:
                # If the same work has failed again since the letter was read, Keyhole has updated the letter.
                # This call removes only a letter that has not been updated.
                dead.drop_unchanged(letter)
                click.echo(f"{shown(letter_id[:ID_CHARACTERS])} is removed: {told}")
    sys.exit(UNDECIDED if stay else ALL_SAFE)


@dead_command.command("drop")
@click.argument("letter_ids", nargs=-1, metavar="ID...")
@click.option("--all", "every", is_flag=True, help="Drop all.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def drop_command(letter_ids: tuple[str, ...], *, every: bool, yes: bool) -> None:
    """Delete dead letters permanently. On a terminal, the command asks for confirmation.

    \b
    keyhole dead drop ID
    keyhole dead drop --all --yes
    """
    settings = load_settings()
    with one_line_errors(), backend(settings, work=False) as ready:
        dead = _dead_letters(ready)
        chosen = _chosen(dead, letter_ids, every=every)
        if chosen and not yes and sys.stdin.isatty():
            click.confirm(f"Delete {_counted(len(chosen), 'letter')} permanently?", abort=True, err=True)
        click.echo(f"{_counted(dead.drop(chosen), 'letter')} dropped")


def _retry(letter: DeadLetter, handler: Handler, *, named: bool) -> str:
    """Do the work of a letter again, and return one line about what was done.

    `named` states whether the user gave the letter's id (true) or `--all` (false).

    Raises:
        NotUnderstoodError: The letter cannot be processed and stays.
    """
    if letter.body is None or not letter.is_whole:
        raise NotUnderstoodError(f"it has {letter.size:,} bytes, so only its beginning is stored; drop it")
    if letter.kind is LetterKind.MESSAGE:
        counts = handler.take_over(letter.body)
        known = f", {counts[DUPLICATES]} already known" if counts[DUPLICATES] else ""
        return f"{_counted(counts[PUBLISHED], 'object')} queued{known}"
    if letter.kind is LetterKind.REFUSED:
        return _send_again(letter.body, named=named)
    from keyhole.fleet.services import services

    if letter.kind is LetterKind.TAGS:
        return _owe_again(letter.body, services().tag_debts)
    if letter.kind is LetterKind.EVENT:
        return _send_event(letter)
    try:
        entry = with_new_ids(ENTRY.validate_json(letter.body))
    except ValueError as error:
        reason = f"this version of Keyhole cannot read the job: {why_unreadable(error)}"
        raise NotUnderstoodError(reason) from error
    from keyhole.fleet.ledger_task import check_buckets
    from keyhole.tasks import publisher

    try:
        check_buckets(entry.jobs)
    except BucketNotAllowedError as error:
        raise NotUnderstoodError(str(error)) from error
    publisher().publish(services().ledger.record_many([entry]))
    return f"{_counted(len(entry.jobs), 'object')} queued"


def _owe_again(body: bytes, debts: TagDebts) -> str:
    """Record again that an object should get tags, so that the workers write the tags.

    Raises:
        NotUnderstoodError: This version of Keyhole cannot read the tags.
    """
    try:
        debts.record(TAG_DEBT.validate_json(body))
    except ValueError as error:
        raise NotUnderstoodError(f"its tags cannot be read: {why_unreadable(error)}") from error
    return "its tags will be written"


def _send_event(letter: DeadLetter) -> str:
    """Record again that an event must be sent to its sink, so that the workers send it.

    Raises:
        NotUnderstoodError: This version of Keyhole cannot read the event.
    """
    from keyhole.fleet.services import services

    try:
        Deliveries(services().redis, letter.source).record(Event.from_json(letter.body or b""))
    except ValueError as error:
        raise NotUnderstoodError(f"its event cannot be read: {str(error).splitlines()[0]}") from error
    return f"its event will be sent to {letter.source}"


def _send_again(body: bytes, *, named: bool) -> str:
    """Give a new signature to a message that a worker refused, and send the message to its queue again.

    If the old signature is missing or wrong, send the message only if the user gave the letter's id
    (`named`).

    Raises:
        NotUnderstoodError: The message cannot be sent.
    """
    from keyhole.app import app
    from keyhole.fleet.signing import signed, why_forged
    from keyhole.intake.refused import Refused, why_invalid

    try:
        message = Refused.of(body)
    except (ValueError, KeyError, TypeError) as error:
        raise NotUnderstoodError(f"it cannot be sent again: {error}") from error
    wrong = why_invalid(message.headers, message.body)
    if wrong is not None:
        raise NotUnderstoodError(wrong)
    forged = None if named else why_forged(message.queue, message.headers, message.body)
    if forged is not None:
        raise NotUnderstoodError(f"{forged}; inspect it, and retry it by its id if it is genuine")
    with app.producer_pool.acquire(block=True) as producer:
        producer.publish(
            message.body,
            routing_key=message.queue,
            exchange=message.queue,
            headers=signed(message.queue, message.headers, message.body),
            content_type="application/json",
            content_encoding="utf-8",
        )
    return f"sent to {message.queue} again"


def _dead_letters(settings: Settings) -> DeadLetters:
    return DeadLetters(connect(str(settings.redis_url)))


def _letter(dead: DeadLetters, text: str) -> DeadLetter:
    letter = dead.get(_id_of(dead, text))
    if letter is None:
        raise CommandError(f"there is no dead letter {shown(text)}; `keyhole dead list` lists them", USAGE)
    return letter


def _chosen(dead: DeadLetters, texts: Sequence[str], *, every: bool) -> list[str]:
    """Return the full ids of the letters that the user named, or of all letters if `every` is true."""
    if bool(texts) == every:
        raise click.UsageError("name letters by their ids, or use --all")
    if every:
        return dead.ids()
    return list(dict.fromkeys(_id_of(dead, text) for text in texts))


def _id_of(dead: DeadLetters, text: str) -> str:
    """Return the full id of the only letter whose id begins with `text`."""
    found = dead.ids(text)
    if len(found) == 1:
        return found[0]
    what = f"the ids of {len(found)} dead letters begin with" if found else "there is no dead letter"
    raise CommandError(f'{what} "{shown(text)}"; `keyhole dead list` lists them', USAGE)


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
