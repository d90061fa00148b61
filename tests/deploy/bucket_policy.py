"""Evaluates bucket policies by AWS's rules, for the few operators that the gate uses."""

from collections.abc import Mapping
from typing import Any


def policy_denies(
    policy: Mapping[str, Any], action: str, principal: str, context: Mapping[str, str] | None = None
) -> bool:
    """Return whether the policy makes AWS deny a request.

    Args:
        policy: The bucket policy, which contains only statements that deny.
        action: The action of the request, for example `s3:GetObject`.
        principal: The ARN of the role or the user that sends the request.
        context: The other condition keys of the request, for example the object's tags.
    """
    context = {"aws:PrincipalArn": principal, **(context or {})}
    return any(
        action in _listed(statement["Action"])
        and all(_holds(operator, wanted, context) for operator, wanted in statement["Condition"].items())
        for statement in policy["Statement"]
    )


def _holds(operator: str, wanted: Mapping[str, Any], context: Mapping[str, str]) -> bool:
    """Return whether a condition is true. A negated operator is true if the request lacks the key."""
    for key, value in wanted.items():
        if operator == "Null":
            if (key not in context) != (value == "true"):
                return False
        else:
            assert operator in {"StringNotEquals", "ArnNotEquals"}
            if context.get(key) in _listed(value):
                return False
    return True


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
