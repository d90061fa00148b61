"""Reads `deploy/aws/keyhole.yaml` and computes its resources, as CloudFormation does."""

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from tests.pages import ROOT

FOLDER: Final = ROOT / "deploy" / "aws"
PATH: Final = FOLDER / "keyhole.yaml"
_NO_VALUE: Final = object()
#: CloudFormation's own parameters, and the attributes of resources that the template uses.
ACCOUNT: Final = "111122223333"
GIVEN: Final[Mapping[str, object]] = {
    "AWS::Partition": "aws",
    "AWS::AccountId": ACCOUNT,
    "AWS::NoValue": _NO_VALUE,
    "Queue.Arn": "arn:aws:sqs:eu-central-1:111122223333:queue",
    "DeadLetters.Arn": "arn:aws:sqs:eu-central-1:111122223333:dead",
    "Uploads.Arn": "arn:aws:events:eu-central-1:111122223333:rule/uploads",
    "ReaderRole.Arn": "arn:aws:iam::111122223333:role/reader",
    "TaggerRole.Arn": "arn:aws:iam::111122223333:role/tagger",
}


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    """Reads `!Sub "a"` as `{"Fn::Sub": "a"}`, and `!Ref a` as `{"Ref": "a"}`."""


def _function(loader: yaml.SafeLoader, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.SequenceNode):
        value: Any = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.ScalarNode)
        value = loader.construct_scalar(node)
    return {name if name == "Ref" else f"Fn::{name}": value}


_Loader.add_multi_constructor("!", _function)

TEMPLATE: Final[dict[str, Any]] = yaml.load(PATH.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a kind of SafeLoader


class Stack:
    """The template with values for its parameters. Other values replace those in `GIVEN`."""

    def __init__(self, **parameters: object) -> None:
        defaults = {name: one.get("Default") for name, one in TEMPLATE["Parameters"].items()}
        self._values = {**GIVEN, **defaults, **parameters}

    def properties(self, resource: str) -> Any:
        """Return the properties of a resource. References to other resources stay as they are."""
        return self._resolved(TEMPLATE["Resources"][resource]["Properties"])

    def policy(self, resource: str) -> Any:
        """Return the policy document of a resource."""
        return self._resolved(TEMPLATE["Resources"][resource]["Properties"]["PolicyDocument"])

    def has(self, resource: str) -> bool:
        """Return whether the stack contains a resource."""
        condition = TEMPLATE["Resources"][resource].get("Condition")
        return condition is None or self._holds(TEMPLATE["Conditions"][condition])

    def _holds(self, condition: Any) -> bool:
        ((function, arguments),) = condition.items()
        if function == "Fn::Not":
            return not self._holds(arguments[0])
        assert function == "Fn::Equals"
        left, right = map(self._resolved, arguments)
        return bool(left == right)

    def _resolved(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for one in node if (value := self._resolved(one)) is not _NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1 and next(iter(node)).startswith(("Ref", "Fn::")):
            return self._called(node)
        return {key: value for key, one in node.items() if (value := self._resolved(one)) is not _NO_VALUE}

    def _called(self, call: dict[str, Any]) -> Any:
        ((function, value),) = call.items()
        match function:
            case "Ref" | "Fn::GetAtt":
                return self._values.get(value, call)
            case "Fn::Sub":
                return re.sub(r"\$\{([\w:.]+)\}", lambda found: str(self._values[found[1]]), value)
            case "Fn::FindInMap":
                name, key, second = map(self._resolved, value)
                return TEMPLATE["Mappings"][name][key][second]
            case "Fn::If":
                condition, yes, no = value
                return self._resolved(yes if self._holds(TEMPLATE["Conditions"][condition]) else no)
        raise NotImplementedError(function)
