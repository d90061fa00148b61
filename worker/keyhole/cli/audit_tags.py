"""What `keyhole audit` says and does about the tags of objects that kept their verdicts."""

import time

from keyhole.cli.errors import USAGE, CommandError
from keyhole.cli.output import Output
from keyhole.cli.terminal import busy
from keyhole.fleet.services import services
from keyhole.intake.audits.audit import Audit
from keyhole.reports.figures import counted
from keyhole.settings import Settings

#: How long the command waits for tags that the embedded worker is writing, and the pause between two looks at
#: them, in seconds.
SETTLING, PAUSE = 5.0, 0.1


def refuse_without_tags(settings: Settings, *needed: str) -> None:
    """End a command with `--fix-tags` if these settings say that Keyhole writes no tags.

    Args:
        settings: The settings.
        needed: Other sinks that the command needs.

    Raises:
        CommandError: A sink is missing.
    """
    for sink in (*needed, "tags"):
        if sink not in settings.sinks:
            sinks = ",".join(settings.sinks)
            raise CommandError(
                f"--fix-tags needs the sink {sink}, but KEYHOLE_SINKS is {sinks}; "
                f"set KEYHOLE_SINKS={sinks},{sink} here and for the workers",
                USAGE,
            )


def tell_of_tags(audit: Audit, output: Output, *, embedded: bool) -> None:
    """Print how many tags agree and are corrected, or that the tags of unchanged objects were not compared.

    If the workers end with the command, first write the tags that are still to be corrected.
    """
    totals = audit.totals
    if audit.spec.compares_tags and audit.state.ended:
        _tell_of_agreement(audit, output)
    if totals.tag_fixes:
        if embedded:
            write_owed_tags()
        left = services().tag_debts.count()
        told = f"{counted(totals.tag_fixes, 'object')} had missing or wrong tags"
        if left:
            output.tell(f"{told}. Workers write them; `keyhole status` shows how many are owed.")
        else:
            output.tell(f"{told}. They are corrected.")
    elif (
        totals.unchanged
        and audit.state.ended
        and not audit.spec.compares_tags
        and "tags" in services().settings.sinks
    ):
        objects = counted(totals.unchanged, "unchanged object")
        if audit.spec.owner_tag is None:
            output.tell(
                f"The tags of {objects} were not compared with the verdicts; --fix-tags compares them, and "
                "writes missing tags."
            )
        else:
            output.tell(
                f"The tags of {objects} were read for the owners, but not compared with the verdicts. "
                "--check-tags compares them without further requests; --fix-tags also writes missing tags."
            )


def _tell_of_agreement(audit: Audit, output: Output) -> None:
    """Print how many objects have tags that agree with their verdicts."""
    totals = audit.totals
    if totals.tags_agree:
        agree = f"The tags of {counted(totals.tags_agree, 'object')} agree with the verdicts"
        others = totals.tag_mismatches - totals.tag_fixes
        if others:
            of_others = f"those of {counted(others, 'object')} do not, or could not be read"
            output.tell(f"{agree}; {of_others}: keyhole report {audit.id}")
        else:
            output.tell(f"{agree}.")
    elif totals.queued and not (totals.unchanged or totals.archived or audit.spec.full):
        output.tell("No tags were compared, because no object had a valid verdict before this audit.")


def write_owed_tags() -> None:
    """Write the owed tags in this process, except those that S3 refuses for now."""
    from keyhole.fleet.tagging import TagWork

    debts, work = services().tag_debts, TagWork(services())
    until = time.monotonic() + SETTLING
    with busy("writing tags"):
        while debts.count() and time.monotonic() < until:
            if debts.count_due():
                work.write_due(patient=True)
                until = time.monotonic() + SETTLING
            else:
                time.sleep(PAUSE)
