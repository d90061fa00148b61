"""Says at once that no worker takes the work, or that workers apply another policy than the user expects."""

import shlex
from collections.abc import Callable
from typing import Any

import click

from keyhole.cli.errors import USAGE, CommandError
from keyhole.fleet.services import services
from keyhole.inspectors.text import shown
from keyhole.jobs.presence import Presence
from keyhole.scan.policy import policy_of


def tell_if_no_worker(tell: Callable[[str], object], *needed: str, waits: bool) -> bool:
    """If no worker takes the work, tell so in one line that says what to do, and return true.

    A worker that was killed counts as present for up to half a minute (`keyhole.jobs.presence`).

    Args:
        tell: Prints a line.
        needed: The names of the queues that the work goes through.
        waits: Whether the command waits for the results.
    """
    workers = Presence(services().redis).queues().values()
    end = "Still waiting." if waits else "The work stays in the queue until then."
    if not workers:
        tell(f"No worker takes work at the moment. Start one with the same settings: keyhole worker. {end}")
        return True
    # A worker of an earlier version does not state its queues, so it may take all.
    missing = [name for name in needed if all(taken is not None and name not in taken for taken in workers)]
    if missing:
        queues = f"queue{'s' if missing[1:] else ''} {' and '.join(missing)}"
        start = f"Start one that takes all queues: keyhole worker. {end}"
        tell(f"Workers run, but none takes the {queues}. {start}")
    return bool(missing)


def tell_if_policies_differ() -> None:
    """Print a warning if `KEYHOLE_POLICY` is set for this command, and a worker applies another policy.

    The policy of the command has no influence on the verdicts of workers.
    """
    ours = services()
    if "policy" not in ours.settings.model_fields_set:
        return
    own = policy_of(ours.ruleset)
    rulesets = Presence(ours.redis).rulesets()
    others = {name: policy_of(rules) for name, rules in rulesets.items() if rules and policy_of(rules) != own}
    if others:
        named = ", ".join(sorted(set(others.values())))
        if len(others) == len(rulesets):
            who = "the workers apply"
        else:
            who = f"{len(others)} of {len(rulesets)} workers {'applies' if len(others) == 1 else 'apply'}"
        click.echo(
            shown(
                f"Warning: KEYHOLE_POLICY of this command is {own}, but {who} {named}. "
                "The policy of the workers decides the verdicts."
            ),
            err=True,
        )


def refused_policy_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--policy`, which `refuse_policy` refuses, to a command whose objects workers scan."""
    return click.option("--policy", metavar="NAME|FILE", hidden=True)(command)


def refuse_policy(policy: str | None, target: str, *, embedded: bool, recursive: bool) -> None:
    """End the command if the user chose a policy for it.

    A job does not contain a policy. An object has one recorded verdict and one set of tags, which must follow
    the operator's policy, and not the policy of the last user who queued the object.

    Args:
        policy: The policy that the user chose; `None` if there is none.
        target: An object or a prefix that the user named.
        embedded: Whether the command starts the worker itself.
        recursive: Whether the target is a prefix.

    Raises:
        CommandError: The user chose a policy. The message says where the policy is set, and which command
            checks objects against another policy.
    """
    if policy is None:
        return
    where = "for this command, which starts the worker" if embedded else "where the workers run"
    inspect = shlex.join(["keyhole", "inspect", *(["-r"] if recursive else []), "--policy", policy, target])
    raise CommandError(
        shown(
            "there is no --policy here, because the policy of the workers decides; set KEYHOLE_POLICY "
            f"{where}. To check against another policy, without recording verdicts: {inspect}"
        ),
        USAGE,
    )
