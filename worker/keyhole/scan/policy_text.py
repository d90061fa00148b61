"""What people read about a policy: its text as a file, the state of its waivers, and warnings."""

from collections.abc import Iterator
from datetime import date
from typing import Final

from keyhole.scan.profile_names import PROFILES
from keyhole.scan.rules import Policy, profile_text
from keyhole.scan.waivers import Waiver
from keyhole.toml_files import read_text

#: A waiver that ends within this many days is mentioned, so that somebody can decide in time.
_SOON_DAYS: Final = 14
#: A waiver that ends later than this many days is probably not meant as an exception.
_LONG_DAYS: Final = 366


def as_file(name: str) -> str:
    """Return the text of a policy as a policy file. `name` is a profile, or the path of a policy file.

    A profile becomes a file with one rule, which has all settings of the profile.

    Raises:
        FileError: The file cannot be read.
    """
    if name not in PROFILES:
        text = read_text(name, "is not a readable file")
        return text if text.endswith("\n") else f"{text}\n"
    lines = profile_text(name).splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    settings = [f"[rules.{line[1:]}" if line.startswith("[") else line for line in lines[first:]]
    return "\n".join([*lines[:first], f'profile = "{name}"', "", "[[rules]]", *settings, ""])


def remarks(policy: Policy, today: date) -> Iterator[str]:
    """Yield a line for each waiver: what it waives, and whether it is in force."""
    for waiver in policy.waivers:
        days = (waiver.until - today).days
        state = f"in force, ends in {_days(days)}" if days >= 0 else f"ended {_days(-days)} ago, ignored"
        by = f" by {waiver.by}" if waiver.by else ""
        yield f"waiver for {_named(waiver)}{by} until {waiver.until}: {state}"


def warnings(policy: Policy, today: date) -> Iterator[str]:
    """Yield a sentence for each part of a policy that probably does not do what its author expects."""
    for number, rule in enumerate(policy.rules[:-2]):
        if rule.bucket == "*" and rule.key == "*":
            yield (
                f"rules[{number}] matches every object, so the rules after it never apply; move it to the end"
            )
            break
    for waiver in policy.waivers:
        days = (waiver.until - today).days
        if days < 0:
            yield f"the waiver for {_named(waiver)} ended on {waiver.until} and is ignored; remove it"
        elif days <= _SOON_DAYS:
            yield f"the waiver for {_named(waiver)} ends in {_days(days)}, on {waiver.until}"
        elif days > _LONG_DAYS:
            yield f"the waiver for {_named(waiver)} ends only on {waiver.until}; an exception should end soon"


def _named(waiver: Waiver) -> str:
    """Return the check and the objects of a waiver in a few words."""
    pins = [
        f"{name} {value}" for name, value in (("etag", waiver.etag), ("version", waiver.version_id)) if value
    ]
    where = f"s3://{waiver.bucket}/{waiver.key or '*'}"
    return f"{waiver.check} in {where}" + (f" ({', '.join(pins)})" if pins else "")


def _days(days: int) -> str:
    return f"{days} day{'' if days == 1 else 's'}"
