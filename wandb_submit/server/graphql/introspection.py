"""The little that this server says about its own schema, to clients that look for a field before they use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wandb_submit.server.graphql.arguments import Arguments

_QUERY, _MUTATION = "Query", "Mutation"


class Introspection:
    """Answers `__schema`, `__type` and `__typename` from the names of the root fields; other types it does not tell."""

    def __init__(self, queries: Iterable[str], mutations: Iterable[str]) -> None:
        self._types = {_QUERY: sorted(queries), _MUTATION: sorted(mutations)}

    def answers(self, name: str) -> bool:
        """Whether a root field is one of introspection."""
        return name in ("__schema", "__type", "__typename")

    def resolve(self, name: str, arguments: Arguments, *, mutates: bool) -> object:
        """The answer to such a field."""
        if name == "__typename":
            return _MUTATION if mutates else _QUERY
        if name == "__type":
            wanted = arguments.required_text("name")
            return self._type(wanted) if wanted in self._types else None
        return {
            "__typename": "__Schema",
            "queryType": self._type(_QUERY),
            "mutationType": self._type(_MUTATION),
            "subscriptionType": None,
            "types": [self._type(one) for one in self._types],
            "directives": [],
        }

    def _type(self, name: str) -> Mapping[str, object]:
        fields = [
            {"__typename": "__Field", "name": field, "args": [], "isDeprecated": False} for field in self._types[name]
        ]
        return {"__typename": "__Type", "kind": "OBJECT", "name": name, "fields": fields, "inputFields": None}
