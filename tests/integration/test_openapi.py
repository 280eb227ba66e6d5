# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.yaml and the daemon's route table tell the same, and the document is sound."""
import re
import subprocess

import jsonschema
import openapi
import pytest
from world import BUILD

ID = "0123456789abcdef01234567"


def served():
    """(method, example path) of each row of the route table."""
    text = subprocess.run([BUILD + "/noded", "--routes"], text=True, capture_output=True, check=True).stdout
    rows = []
    for line in text.splitlines():
        verbs, path, *choices = line.split(" ")
        last = re.findall(r"\{\w+\}", path)[-1:]
        for word in choices[0].split("|") if choices else [None]:
            one = path.replace(last[0], word) if word else path
            rows += [(verb, re.sub(r"\{\w+\}", ID, one)) for verb in verbs.split(",")]
    return rows


@pytest.mark.parametrize("method, path", served())
def test_every_route_is_documented(method, path):
    assert openapi.operation_of(method, path), "docs/openapi.yaml has no such operation"


def test_every_documented_operation_is_served():
    there = {(method.lower(), openapi.template_of(path)) for method, path in served()}
    assert not set(openapi.operations()) - there


def test_schemas_are_schemas():
    for name, schema in openapi.document()["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert openapi.deref({"$ref": f"#/components/schemas/{name}"}) is schema


def test_operation_ids_are_unique_and_references_resolve():
    ids = [openapi.document()["paths"][t][m]["operationId"] for m, t in openapi.operations()]
    assert len(ids) == len(set(ids))

    def walk(node):
        if isinstance(node, dict):
            if "$ref" in node:
                assert openapi.deref(node) is not None
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)
    walk(openapi.document())


def test_a_wrong_reply_is_noticed():
    body = {"statusCode": 200, "message": "m", "data": {"environment_vars": {}}}
    path = f"/api/v1/containers/{ID}/env"
    openapi.check("GET", path, 200, body)
    for wrong in ({**body, "data": None}, {**body, "data": {"environment_vars": {}, "more": 1}}, {**body, "statusCode": 201}):
        assert openapi.complaint("GET", path, 200, wrong)
    assert openapi.complaint("GET", path, 201, body)
    error = {"statusCode": 404, "error": "Not Found", "message": "m", "code": "DUPLICATE_ALIAS"}
    assert "not documented" in openapi.complaint("GET", path, 404, error)
