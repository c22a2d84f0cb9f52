"""The AsyncAPI document is valid by AsyncAPI's own JSON Schema, which npm has."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from services import path_of, skip_without_program

from celery_tasker_events.cli.main import main

SPECS = "@asyncapi/specs@6.11.1"

TEMPLATE = """\
name: checkout
namespace_name: payments
domain_events:
  - name: checkout.flagged
    schema:
      $schema: https://json-schema.org/draft/2020-12/schema
      $ref: "#/$defs/Any"
      $defs: {Any: {type: [string, "null"]}}
  - {name: checkout.seen, delivery_mode: fast}
steps:
  - name: charge
    publishes_events:
      - name: payment.processed
        description: Paid
        delivery_mode: broadcast
        version: "2.0"
        schema:
          type: object
          required: [amount]
          properties:
            amount: {type: number, examples: [1, 2]}
            parts: {type: array, items: {$ref: "#"}}
            old: {deprecated: "since 2020", discriminator: {}}
      - {name: payment.failed, condition: failure}
  - name: refund
    publishes_events:
      - {name: payment.processed, version: "2.0", namespace: refunds, schema: {type: [integer, string]}}
"""


@pytest.fixture(scope="session")
def official_schema(tmp_path_factory: pytest.TempPathFactory) -> object:
    folder = tmp_path_factory.mktemp("specs")
    packed = subprocess.run(
        [path_of("npm", "npm"), "pack", "--silent", SPECS], cwd=folder, capture_output=True, text=True, timeout=120
    )
    if packed.returncode != 0:
        skip_without_program(f"npm, with a registry that has {SPECS}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        file = archive.extractfile("package/schemas/3.0.0-without-$id.json")
        assert file is not None
        return json.load(file)


@pytest.mark.parametrize("envelope", ["native", "tasker", "cloudevents"])
@pytest.mark.parametrize("name", ["asyncapi.json", "asyncapi.yaml"])
def test_the_document_is_valid_by_the_official_schema(official_schema, envelope, name, tmp_path: Path):
    template, output = tmp_path / "template.yaml", tmp_path / name
    template.write_text(TEMPLATE)

    arguments = ["catalog", "--format", "asyncapi", "--envelope", envelope, "--output", str(output), str(template)]
    result = CliRunner().invoke(main, arguments)

    assert (result.exit_code, result.output) == (0, "")
    document = yaml.safe_load(output.read_text())
    validator = jsonschema.Draft7Validator(official_schema)
    assert [f"{list(error.absolute_path)}: {error.message}" for error in validator.iter_errors(document)] == []
    # It does find fault.
    del document["channels"]["payments_domain_events"]["messages"]["payments.payment.failed-1.0"]["$ref"]
    document["components"]["messages"]["payments.payment.failed-1.0"]["contentType"] = 5
    assert not validator.is_valid(document)
