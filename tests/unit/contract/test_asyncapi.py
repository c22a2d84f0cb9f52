"""The AsyncAPI document says what arrives in the queues; AsyncAPI's own schema is asked in an integration test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import referencing
from referencing.jsonschema import DRAFT7

from celery_tasker_events import envelope
from celery_tasker_events.contract.asyncapi import DECLARED, asyncapi_document, entries_of_document
from celery_tasker_events.contract.entry import CatalogEntry
from celery_tasker_events.errors import ConfigurationError

from .making import LINKED, PAYMENT, make_entry

ENTRIES = [
    make_entry(description="The order is paid", delivery_mode="broadcast"),
    make_entry("payment.failed", condition="permanent_failure", schema=None),
    make_entry("payment.failed", condition="permanent_failure", step="validate", schema=None),
    make_entry("payment.seen", delivery_mode="fast"),
    make_entry("payment.flagged", condition=None, step=None, task=None, schema=LINKED),
    make_entry("order.placed", namespace="shop", schema={"type": "string"}),
    make_entry("order.placed", namespace="shop", step="other", schema={"type": "integer", "deprecated": "by us"}),
]


def document_of(entries: list[CatalogEntry], wire: str = "native") -> dict[str, Any]:
    return asyncapi_document(entries, envelope.by_name(wire), "Shop", "1.2.3")


def at(document: Any, reference: str) -> Any:
    for part in reference.removeprefix("#/").split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref" and isinstance(inner, str) and inner.startswith("#/c"):
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def errors_of(document: dict[str, Any], name: str, body: Any) -> list[str]:
    """What is wrong with a message's body by its schema in the document."""
    registry = referencing.Registry().with_resource("urn:document", DRAFT7.create_resource(document))
    form = "/schema" if "schemaFormat" in document["components"]["messages"][name]["payload"] else ""
    schema = {"$ref": f"urn:document#/components/messages/{name}/payload{form}"}
    return [error.message for error in jsonschema.Draft7Validator(schema, registry=registry).iter_errors(body)]


def test_there_is_a_channel_for_each_queue_with_its_events() -> None:
    document = document_of(ENTRIES)

    assert document["asyncapi"] == "3.0.0"
    assert document["info"]["title"] == "Shop"
    assert document["info"]["version"] == "1.2.3"
    assert {channel["address"]: list(channel["messages"]) for channel in document["channels"].values()} == {
        "payments_domain_events": [
            "payments.payment.failed-1.0",
            "payments.payment.flagged-1.0",
            "payments.payment.processed-1.0",
        ],
        "shop_domain_events": ["shop.order.placed-1.0"],
    }
    assert {operation["action"] for operation in document["operations"].values()} == {"send"}


def test_a_message_says_when_it_comes_and_what_is_in_it() -> None:
    document = document_of(ENTRIES)
    message = document["components"]["messages"]["payments.payment.processed-1.0"]

    assert message["name"] == "payment.processed"
    assert message["summary"] == "published by charge on success"
    assert message["description"] == "The order is paid"
    assert message["correlationId"] == {"location": "$message.payload#/metadata/correlation_id"}
    assert at(document, message["payload"]["properties"]["payload"]["$ref"]) == PAYMENT
    assert document["components"]["messages"]["payments.payment.failed-1.0"]["summary"] == (
        "published by charge on permanent_failure; published by validate on permanent_failure"
    )


def test_a_fast_event_has_no_channel_and_is_among_the_declarations() -> None:
    document = document_of(ENTRIES)

    assert not any("payment.seen" in name for name in document["components"]["messages"])
    assert "payment.seen" in [declared["event"] for declared in document[DECLARED]]


@pytest.mark.parametrize("wire", envelope.NAMES)
def test_every_reference_leads_somewhere(wire: str) -> None:
    document = document_of(ENTRIES, wire)

    for reference in references(document):
        at(document, reference)


@pytest.mark.parametrize("wire", envelope.NAMES)
def test_the_examples_are_messages_that_their_schema_and_envelope_accept(wire: str) -> None:
    document = document_of(ENTRIES, wire)

    found = 0
    for name, message in document["components"]["messages"].items():
        for example in message.get("examples", ()):
            found += 1
            assert errors_of(document, name, example["payload"]) == []
            assert envelope.read(example["payload"]).event_name == message["name"]
            assert example["headers"].keys() <= message["headers"]["properties"].keys()
    assert found == 5


@pytest.mark.parametrize("wire", envelope.NAMES)
def test_a_message_whose_payload_is_wrong_is_not_accepted(wire: str) -> None:
    document = document_of(ENTRIES, wire)
    name = "payments.payment.flagged-1.0"
    right = json.dumps(document["components"]["messages"][name]["examples"][0]["payload"])

    assert '"cents": 1' in right
    assert errors_of(document, name, json.loads(right.replace('"cents": 1', '"cents": "many"')))


def test_an_event_that_steps_declare_with_different_schemas_may_have_any_of_them() -> None:
    entries = [
        make_entry(schema={"type": "string"}),
        make_entry(step="other", schema={"type": "integer"}),
        make_entry(step="same"),
    ]
    document = document_of(entries[:2])
    payload = document["components"]["messages"]["payments.payment.processed-1.0"]["payload"]["properties"]["payload"]

    assert [at(document, choice["$ref"]) for choice in payload["anyOf"]] == [{"type": "string"}, {"type": "integer"}]
    without = document_of([*entries, make_entry(step="free", schema=None)])
    assert without["components"]["messages"]["payments.payment.processed-1.0"]["payload"]["properties"]["payload"] == {}


@pytest.mark.parametrize(
    ("dialect", "form"),
    [
        ("https://json-schema.org/draft/2020-12/schema", "application/schema+json;version=draft-2020-12"),
        ("http://json-schema.org/draft-04/schema#", "application/schema+json;version=draft-04"),
    ],
)
def test_another_draft_says_which_it_is(dialect: str, form: str) -> None:
    schema = {"$schema": dialect, "type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "null"}}}
    document = document_of([make_entry(schema=schema)])
    payload = document["components"]["messages"]["payments.payment.processed-1.0"]["payload"]

    assert payload["schemaFormat"] == form
    inner = at(document, payload["schema"]["properties"]["payload"]["$ref"])
    assert at(document, inner["properties"]["a"]["$ref"]) == {"type": "null"}
    assert document["components"]["schemas"]["payment.processed-1.0"]["schemaFormat"] == form


def test_the_same_events_make_the_same_document_in_whatever_order_they_come() -> None:
    documents = {
        json.dumps(document_of(list(order))) for order in itertools.islice(itertools.permutations(ENTRIES), 0, None, 500)
    }

    assert len(documents) == 1


@pytest.mark.parametrize("wire", envelope.NAMES)
def test_the_declarations_can_be_read_back(wire: str) -> None:
    entries = [*ENTRIES, make_entry("tree.grown", schema={**LINKED, "$schema": "https://json-schema.org/draft/2019-09/schema"})]
    document = json.loads(json.dumps(document_of(entries, wire)))

    again = entries_of_document(document)

    assert document_of(again, wire) == document
    processed = next(entry for entry in again if entry.event == "payment.processed")
    assert processed == ENTRIES[0]


def test_versions_with_odd_characters_stay_two_messages() -> None:
    document = document_of([make_entry(version="1/0"), make_entry(version="1_0"), make_entry(version="ü 1")])

    assert list(document["components"]["messages"]) == [
        "payments.payment.processed-1_2f_0",
        "payments.payment.processed-1_0",
        "payments.payment.processed-_fc__20_1",
    ]


def test_a_document_of_another_program_is_told_from_ours() -> None:
    with pytest.raises(ConfigurationError, match="has no 'x-domain-events'"):
        entries_of_document({"asyncapi": "3.0.0"})
