"""What `keyhole audit` says when an audit has ended: that it had no objects, and how many have an owner."""

from keyhole.cli.errors import CommandError
from keyhole.cli.output import Output
from keyhole.cli.terminal import busy
from keyhole.fleet.services import services
from keyhole.inspectors.text import shown
from keyhole.intake.audits.audit import Audit, AuditState, Totals
from keyhole.intake.selection import Selection
from keyhole.reports.figures import counted

#: The most different owners that the command counts exactly. Uploaders choose the names, so there can be as
#: many as objects.
MOST_OWNERS = 100_000


def selected_of(totals: Totals) -> int:
    """Return how many of the listed objects are selected."""
    return totals.listed - totals.left_out


def refuse_without_objects(audit: Audit) -> None:
    """End the command if the audit is done and had no objects, which does not mean that all are safe.

    Raises:
        CommandError: Nothing was listed, or the selection leaves out all objects.
    """
    totals = audit.totals
    if audit.state is not AuditState.DONE or selected_of(totals):
        return
    if not totals.listed:
        also = ", and that the inventory is up to date" if audit.spec.inventory else ""
        raise CommandError(f"there are no objects; check the prefix{also}")
    options = _options_of(audit.spec.selection)
    raise CommandError(
        f"none of the {counted(totals.listed, 'object')} is selected; check {' and '.join(options)}"
    )


def _options_of(selection: Selection) -> list[str]:
    """Return the options that leave out objects."""
    chosen = {
        "--include": selection.include,
        "--exclude": selection.exclude,
        "--suffix": selection.suffixes,
        "--min-size": selection.min_size is not None,
        "--max-size": selection.max_size is not None,
        "--sample": selection.sample < 1,
    }
    return [option for option, is_set in chosen.items() if is_set] or ["the selection"]


def tell_of_owners(audit: Audit, output: Output) -> None:
    """Print how many objects have the audit's owner tag. Warn if there are none, because the tag is mistyped.

    The owners are read from Redis, so print nothing if the user wants no hints.
    """
    if audit.spec.owner_tag is None or not audit.state.ended or output.quiet:
        return
    names: set[str] = set()
    without = unknown = 0
    with busy("counting owners"):
        for owner in services().audits.owners(audit.id):
            if owner.name is not None:
                if len(names) <= MOST_OWNERS:
                    names.add(owner.name)
            elif owner.unknown is not None:
                unknown += 1
            else:
                without += 1
    tag, readable = shown(audit.spec.owner_tag), " whose tags could be read" if unknown else ""
    if names:
        if without:
            rest = f"{counted(without, 'object has', 'objects have')} no such tag"
        else:
            rest = f"all objects{readable} have this tag"
        values = counted(min(len(names), MOST_OWNERS), "value")
        more = "more than " if len(names) > MOST_OWNERS else ""
        output.tell(f"{tag} has {more}{values}; {rest}.")
    elif without:
        output.tell(
            f"No object{readable} has the tag {tag}. Names of tags are case-sensitive; check --owner-tag."
        )
