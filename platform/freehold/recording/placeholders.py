"""Stand-ins for what only a cloud knows: ids, addresses, names that it makes up.

They are readable on purpose (`<network.id>`), and of the right form where other code reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import sdk

ACCOUNT = "<account-id>"

_RESULTS: dict[str, dict[str, Any]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {
        "accountId": ACCOUNT,
        "arn": "<caller-arn>",
        "id": ACCOUNT,
        "userId": "<user-id>",
    },
    "aws:index/getPartition:getPartition": {
        "partition": "aws",
        "dnsSuffix": "amazonaws.com",
        "id": "aws",
        "reverseDnsPrefix": "com.amazonaws",
    },
}


def invoke_result(token: str) -> dict[str, Any]:
    """What a provider's function gives. Raises LookupError for one that no program should call."""
    if token not in _RESULTS:
        raise LookupError(
            f"the program calls {token}, whose answer decides what is created: take it from the "
            "stack file or the catalog instead, so that plan, render and preview agree"
        )
    return dict(_RESULTS[token])


def resource_id(name: str) -> str:
    return f"<{name}.id>"


def state(token: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Every output of a resource: its inputs come back, the rest is made up."""
    made_up = {
        key: _output(name, key, type_)
        for key, type_ in sdk.output_types(token).items()
        if key not in inputs
    }
    return {key: value for key, value in made_up.items() if value is not None} | dict(inputs)


def _output(name: str, property_name: str, type_: Any) -> Any:
    """The value of an output that is no input; None for types that no program here reads."""
    if type_ is str:
        return f"<{name}.{property_name}>"
    if type_ is int:
        return 1
    if property_name == "resources":  # of a node group
        return [{"autoscalingGroups": [{"name": f"<{name}.autoscalingGroup>"}]}]
    return None
