"""What a worker puts into the queue is what its AsyncAPI document says, in every envelope."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import referencing
from queues import messages
from referencing.jsonschema import DRAFT7, DRAFT202012
from worker_process import wait_until

from celery_tasker_events.envelope import NAMES, read

APPS = Path(__file__).parent / "apps"


def document_of(settings):
    """What ``celery -A contracted domain-events catalog`` writes about the app with these settings."""
    command = [sys.executable, "-m", "celery", "-A", "contracted", "domain-events", "catalog", "--format", "asyncapi"]
    environment = {**os.environ, "SHOP_SETTINGS": json.dumps(settings), "PYTHONPATH": str(APPS)}
    done = subprocess.run(command, cwd=APPS, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def validator_of(document, key):
    """Checks bodies by the schema of a message, which refers to other parts of its document."""
    is_multi_format = "schemaFormat" in document["components"]["messages"][key]["payload"]
    draft, kind = (DRAFT202012, jsonschema.Draft202012Validator) if is_multi_format else (DRAFT7, jsonschema.Draft7Validator)
    place = f"#/components/messages/{key}/payload{'/schema' if is_multi_format else ''}"
    registry = referencing.Registry().with_resource("urn:document", draft.create_resource(document))
    return kind({"$ref": f"urn:document{place}"}, registry=registry)


@pytest.mark.parametrize("envelope", NAMES)
def test_each_message_in_the_queue_is_one_of_the_document(envelope, shop, dsn):
    pytest.importorskip("pydantic")
    template = APPS / "contract_templates" / "contracted.yaml"
    settings = {"namespace": "payments", "envelope": envelope, "templates": [str(template)]}
    shop.start(app="contracted", dsn=dsn, **settings)
    shop.send("pay", 500)
    shop.send("pay", 700, fails=True)
    wait_until(lambda: len(messages(dsn, "payments")) == 7, "all seven events")

    document = document_of({f"tasker_events_{key}": value for key, value in settings.items()})

    channel = document["channels"]["payments_domain_events"]
    key_of = {document["components"]["messages"][key]["name"]: key for key in channel["messages"]}
    bodies = messages(dsn, "payments")
    assert {read(body).event_name for body in bodies} == key_of.keys()
    for body in bodies:
        validators = {name: validator_of(document, key) for name, key in key_of.items()}
        assert [name for name, validator in validators.items() if validator.is_valid(body)] == [read(body).event_name]
