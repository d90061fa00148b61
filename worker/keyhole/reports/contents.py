"""Prepares the parts of the HTML page about the whole audit: its state, figures, costs and options."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple

from keyhole.intake.audits.audit import Audit, AuditState, Totals
from keyhole.reasons import STATUSES, Status, meaning
from keyhole.remedies import what_to_do
from keyhole.reports.changes import Changes
from keyhole.reports.figures import counted, dollars, duration, exact, moment, number, price, share, size
from keyhole.reports.kinds import KINDS, NOT_IMAGES, kinds

#: What it means that an object is not an image.
NO_IMAGE: Final = "unrecognized, and certainly no disk image: another kind of file, such as a PDF, or empty"


class Notice(NamedTuple):
    """A notice for an audit that is not done.

    The notice states why the audit is not done, and what the figures describe.
    """

    heading: str
    text: str


class Figure(NamedTuple):
    """A figure on the page: its name, its rounded value, a note, and the exact value."""

    label: str
    value: str
    note: str = ""
    exact: str = ""
    #: Whether this figure is included in another figure, which the page shows above this figure.
    part: bool = False


class Advice(NamedTuple):
    """A reason of a verdict: its code, its meaning, and what to do about it, one line each."""

    code: str
    meaning: str
    what_to_do: str


class Counted(NamedTuple):
    """The objects of one kind (`kinds`): their number, their share of the images, and what the kind means.

    `share` is empty for objects that are not images. `change` is the difference to the number in the last
    audit, or `None` if there was no such audit.
    """

    kind: str
    objects: int
    share: str
    change: int | None
    meaning: str


_ENDINGS: Final = {
    AuditState.CANCELLED: "Cancelled before it was done",
    AuditState.STOPPED: "Stopped before it was done",
    AuditState.FAILED: "Failed before it was done",
}


def notice(audit: Audit, now: datetime) -> Notice | None:
    """Return the notice at the top of the page.

    Return `None` if the audit is done, because its figures are then final.
    """
    if audit.state is AuditState.DONE:
        return None
    reason = _sentence(audit.reason)
    if audit.state is AuditState.RUNNING:
        return Notice("Still running", f"{reason}The figures are from {moment(now)}. {_to_come(audit)}")
    if audit.state is AuditState.PAUSED:
        resume = f"To continue the audit, run `keyhole audit --resume {audit.id}`."
        return Notice("Paused", f"{reason}The figures are not final. {_to_come(audit)} {resume}")
    unseen = _to_come(audit) if audit.listed_all else "Objects that were not listed by then are not included."
    return Notice(_ENDINGS[audit.state], f"{reason}The figures describe the audit at its end. {unseen}")


def _sentence(text: str | None) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}. " if text else ""


def _to_come(audit: Audit) -> str:
    waiting = max(0, audit.totals.queued - audit.totals.scanned)
    if audit.listed_all and not waiting:
        return "The whole bucket is listed, and every object to scan has a verdict."
    listed = "completely listed" if audit.listed_all else "not completely listed"
    without = f"{counted(waiting, 'listed object')} {'has' if waiting == 1 else 'have'} no verdict"
    return f"The bucket is {listed}, and {without}."


def verdict(statuses: Mapping[Status, int], not_images: int = 0) -> str:
    """Return one to three sentences that summarize all verdicts.

    Objects that are certainly not disk images, such as PDFs, are told apart: nobody would import them.
    `not_images` is their number; they are included in `statuses` as `unrecognized`.
    """
    total, safe = sum(statuses.values()), statuses.get(Status.SAFE, 0)
    images = total - not_images
    if not images:
        return _no_images(total)
    apart = ""
    if not_images:
        noun = "a disk image" if not_images == 1 else "disk images"
        apart = f" {_are(not_images, 'other object')} not {noun}."
    if safe == images:
        return (
            f"The only {'image' if not_images else 'object'} is safe to import.{apart}"
            if safe == 1
            else f"All {number(safe)} {'images' if not_images else 'objects'} are safe to import.{apart}"
        )
    counts = Counter(statuses) - Counter({Status.UNRECOGNIZED: not_images, Status.SAFE: safe})
    rest = ", ".join(f"{number(count)} {of}" for of, count in by_urgency(counts))
    if not safe:
        return f"No object is safe to import: {rest}.{apart}"
    are = "is" if safe == 1 else "are"
    return f"{number(safe)} of {counted(images, 'object')} {are} safe to import. The others: {rest}.{apart}"


def _no_images(total: int) -> str:
    if total > 1:
        return f"None of the {number(total)} objects is a disk image."
    return "The only object is not a disk image." if total else "There are no verdicts."


def _are(count: int, noun: str) -> str:
    return f"{counted(count, noun)} {'is' if count == 1 else 'are'}"


def what_changed(changes: Changes) -> str:
    """Return one sentence that summarizes what changed since the last audit."""
    if not changes.compared:
        return "There are too many objects to compare them one by one."
    changed = [
        counted(changes.changed, "verdict") + " changed" if changes.changed else "",
        _are(changes.new, "object") + " new" if changes.new else "",
        _are(changes.gone, "object") + " gone" if changes.gone else "",
    ]
    return f"{', '.join(filter(None, changed)) or 'Nothing changed'}."


def advice(reasons: Iterable[str]) -> list[Advice]:
    """Return what the reasons of a verdict mean, and what to do about each, in the order of the reasons."""
    return [Advice(code, meaning(code), what_to_do(code)) for code in reasons]


def by_urgency(statuses: Mapping[Status, int]) -> list[tuple[Status, int]]:
    """Return the number of objects for each status that occurs, with the most urgent status first."""
    return [(status, statuses[status]) for status in STATUSES if statuses.get(status)]


def counted_kinds(totals: Totals, changes: Changes | None) -> list[Counted]:
    """Return the number of objects of each kind, and its change since the last audit, if there was one.

    A kind is included if it occurs in one of the audits, so that a page also shows that a problem is gone.
    """
    now = kinds(totals.statuses, totals.not_images)
    last = kinds(changes.last.totals.statuses, changes.last.totals.not_images) if changes else {}
    images = _images(totals)
    return [
        Counted(
            kind,
            now.get(kind, 0),
            "" if kind == NOT_IMAGES else share(now.get(kind, 0), images),
            now.get(kind, 0) - last.get(kind, 0) if changes else None,
            NO_IMAGE if kind == NOT_IMAGES else STATUSES[Status(kind)],
        )
        for kind in KINDS
        if kind in now or kind in last
    ]


def share_of(totals: Totals) -> str:
    """Return one sentence that states what the shares are of; an empty text if there are no images."""
    images, other = _images(totals), totals.not_images
    if not images:
        return ""
    if not other:
        return f"Shares are of all {counted(images, 'object')}."
    return (
        f"Shares are of the {counted(images, 'object')} that can be images, without the "
        f"{counted(other, 'object that is not an image', 'objects that are not images')}."
    )


def _images(totals: Totals) -> int:
    return sum(totals.statuses.values()) - totals.not_images


def figures(audit: Audit, virtual: int) -> list[Figure]:
    """Return the main figures, which the page shows first. `virtual` is the sum of all virtual sizes."""
    totals, statuses = audit.totals, audit.totals.statuses
    objects, safe, images = sum(statuses.values()), statuses.get(Status.SAFE, 0), _images(totals)
    return [
        Figure(
            "Objects", number(objects), f"{number(totals.listed)} listed, {number(totals.left_out)} left out"
        ),
        Figure("Safe", share(safe, images), f"{number(safe)} of {counted(images, 'image')}"),
        Figure("Not safe", number(images - safe), f"{share(images - safe, images)} of the images"),
        Figure("Not images", number(totals.not_images), "left out of the shares"),
        Figure(
            "Stored bytes", size(totals.listed_bytes), "in the listed objects", exact(totals.listed_bytes)
        ),
        Figure("Virtual bytes", size(virtual or None), "as the images state", exact(virtual or None)),
        Figure(
            "Bytes read",
            size(totals.bytes_read),
            f"{share(totals.bytes_read, totals.listed_bytes)} of the stored bytes",
            exact(totals.bytes_read),
        ),
        Figure("Cost", price(totals.dollars), counted(totals.requests, "request"), dollars(totals.dollars)),
    ]


def costs(audit: Audit, now: datetime) -> Iterator[Figure]:
    """Yield the costs of the audit, in total and per object."""
    totals, spec = audit.totals, audit.spec
    length = (audit.ended_at or now) - audit.started_at
    seconds = length.total_seconds()
    verdicts = sum(totals.statuses.values())
    for_objects = max(0, totals.requests - totals.lists)
    limit = f"at most {number(spec.max_requests)}" if spec.max_requests else ""
    yield Figure("Requests", number(totals.requests), limit)
    yield Figure("for listing", number(totals.lists), counted(totals.pages, "page"), part=True)
    each = f"{for_objects / totals.scanned:.2f} per scanned object" if totals.scanned else ""
    yield Figure("for objects and their tags", number(for_objects), each, part=True)
    each = f"{size(round(totals.bytes_read / totals.scanned))} per scanned object" if totals.scanned else ""
    yield Figure("Bytes read", size(totals.bytes_read), each, exact(totals.bytes_read))
    notes = [f"{price(totals.dollars / totals.listed * 1e6)} per million objects"] if totals.listed else []
    if spec.max_dollars:
        notes.append(f"at most {dollars(spec.max_dollars)}")
    yield Figure("Cost", price(totals.dollars), ", ".join(notes), dollars(totals.dollars))
    pace = f"{number(round(verdicts / seconds))} verdicts per second" if verdicts > seconds >= 1 else ""
    yield Figure("Time", duration(length), pace)
    yield Figure("Objects listed", number(totals.listed))
    yield Figure("scanned", number(totals.scanned), part=True)
    yield Figure("unchanged", number(totals.unchanged), "not read: their verdicts are still valid", part=True)
    yield Figure("archived", number(totals.archived), "not read: they must be restored first", part=True)
    yield Figure("left out", number(totals.left_out), "not selected", part=True)


def asked(audit: Audit) -> Iterator[tuple[str, str]]:
    """Yield labels and values that describe the audit.

    The values are the audit's id, bucket, prefix, times, rules and scanner, and the options that differ from
    the defaults.
    """
    spec = audit.spec
    yield "Audit", audit.id
    yield "Bucket", spec.bucket
    yield "Prefix", spec.prefix or "none: the whole bucket"
    yield "Started", moment(audit.started_at)
    yield "Ended", moment(audit.ended_at)
    yield "Rules", audit.ruleset
    yield "Scanner", audit.scanner
    yield from selected(audit)
    stated: dict[str, object] = {
        "Versions": "all, not only the current ones" if spec.versions else "",
        "Unchanged objects": "also scanned" if spec.full else "",
        "Tags": "compared with the verdicts" + (", and corrected" if spec.fix_tags else "")
        if spec.compares_tags
        else "",
        "Owner tag": spec.owner_tag,
        "Inventory": spec.inventory,
        "Rate": f"at most {spec.rate:g} requests per second" if spec.rate else "",
        "Schedule": spec.schedule,
    }
    yield from _told(stated)


def selected(audit: Audit) -> Iterator[tuple[str, str]]:
    """Yield the options that select objects, as labels and values.

    Yield nothing if no option restricts the objects.
    """
    spec, selection = audit.spec, audit.spec.selection
    stated: dict[str, object] = {
        "Keys matching": ", ".join(selection.include),
        "Keys not matching": ", ".join(selection.exclude),
        "Suffixes": ", ".join(selection.suffixes),
        "Minimum size": exact(selection.min_size) if selection.min_size is not None else "",
        "Maximum size": exact(selection.max_size) if selection.max_size is not None else "",
        "Sample": f"{100 * selection.sample:g}% of the keys" if selection.sample != 1 else "",
        "Limit": counted(spec.limit, "object") if spec.limit else "",
    }
    return _told(stated)


def _told(stated: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    return ((label, str(value)) for label, value in stated.items() if value)
