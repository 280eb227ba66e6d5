# SPDX-License-Identifier: Apache-2.0
"""Generated bodies and queries from the schemas of docs/openapi.yaml on a live node: nothing ends in a 5xx or hangs, what the schema
refuses is refused and named, and a refusal changes nothing. The same values every run; NODED_PROPERTY_EXAMPLES asks for more."""
import json
import os
import urllib.parse

import openapi
import pytest
from daemon import PROJECT, Daemon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemas import ANY, near, valid

BOX, OTHER, GONE = "ab" * 12, "cd" * 12, "f" * 24
EXAMPLES = int(os.environ.get("NODED_PROPERTY_EXAMPLES", "20"))
COMMON = {"deadline": None, "derandomize": True, "database": None, "suppress_health_check": list(HealthCheck)}
# Refusals that are about the state of things, not about a field.
OF_STATE = {"OPERATION_STATE_CONFLICT", "CONTAINER_FIREWALL_RULE_LIMIT", "CONTAINER_SNAPSHOT_LIMIT", "SERVER_CONTAINER_LIMIT", "PROJECT_CONTAINER_LIMIT"}


@pytest.fixture(scope="module")
def node():
    d = Daemon().start()
    for cid, name in ((BOX, "prop-box"), (OTHER, "prop-other")):
        d.create(name, id=cid, hoody_kit=False)
    d.snapshot = d.post(f"/api/v1/containers/{BOX}/snapshots", {"alias": "prop"}).data["snapshot"]["name"]
    d.share = d.post(f"/api/v1/containers/{BOX}/storage/shares", {"source_path": "/srv", "mode": "readonly", "target_container_id": OTHER}).data["id"]
    d.server = d.get("/api/v1/node").data["id"]
    d.event = d.get("/api/v1/events?limit=1").data["events"][0]["id"]
    yield d
    d.close()


def path_of(node, template):
    receiver = template.endswith("/mount")
    ids = {"{shareId}": node.share, "{name}": node.snapshot, "{key}": "PROPERTY", "{operation}": "resume", "{logId}": GONE, "{fingerprint}": "f" * 64}
    whose = {"containers": OTHER if receiver else BOX, "projects": PROJECT, "servers": node.server, "events": node.event, "images": GONE}
    path = template.replace("{id}", whose[template.split("/")[3]] if "{id}" in template else "")
    for word, value in ids.items():
        path = path.replace(word, value)
    return path


def state(node):
    """What a request could have changed."""
    paths = [f"/api/v1/containers/{c}{rest}" for c in (BOX, OTHER)
             for rest in ("", "/env", "/snapshots", "/firewall/rules", "/network", "/storage/shares", "/storage/incoming")]
    texts = [node.call("GET", p, check=False).text for p in paths]
    ids = sorted(c["id"] for c in node.call("GET", "/api/v1/containers?limit=100", check=False).data["containers"])
    return texts, ids, node.call("GET", "/api/v1/projects?limit=100", check=False).text


def tidy(node):
    """What valid bodies have made."""
    for c in node.call("GET", "/api/v1/containers?limit=100", check=False).data["containers"]:
        if c["id"] not in (BOX, OTHER):
            assert node.call("DELETE", f"/api/v1/containers/{c['id']}", check=False).status in (200, 404)
    for s in node.call("GET", "/api/v1/storage/shares", check=False).data:
        if s["id"] != node.share:
            node.call("DELETE", f"/api/v1/storage/shares/{s['id']}", check=False)
    for p in node.call("GET", "/api/v1/projects?limit=100", check=False).data["projects"]:
        if not p["is_default"]:
            node.call("DELETE", f"/api/v1/projects/{p['id']}", check=False)


def heavy(template):
    return template.endswith(("/containers", "/copy", "/sync")) and "{id}" in template


# Of what another node asks for an operator is refused before it is read: test_peers.py.
WITH_BODY = [(m, t) for m, t in openapi.operations() if "/peer/" not in t and t != "/api/v1/node/recovery" and openapi.request_schema(openapi.document()["paths"][t][m])]
WITH_QUERY = [(m, t) for m, t in openapi.operations() if m == "get" and any(
    p["in"] == "query" for p in openapi.operation_of(m, t.replace("{id}", GONE))["parameters"]) and not t.endswith(("/stream", "/export"))]


def judge(node, method, path, body, admitted):
    before = None if admitted else state(node)
    query = "?wait=true" if heavy(openapi.template_of(path)) and path.endswith(("/containers", "/copy")) else ""
    reply = node.call(method.upper(), path + query, json.dumps(body), timeout=30)
    assert reply.status < 500, (body, reply)
    if not admitted:
        assert 400 <= reply.status, (body, reply)
    if reply.status >= 400:
        assert reply.status != 400 or reply.json.get("field") or reply.json.get("code") in OF_STATE, (body, reply)
        assert before is None or state(node) == before, (body, reply)


@pytest.mark.parametrize("method, template", WITH_BODY)
def test_generated_bodies(node, method, template):
    operation = openapi.document()["paths"][template][method]
    schema = openapi.request_schema(operation)
    admits = openapi.validator(schema)
    path = path_of(node, template)

    @settings(max_examples=EXAMPLES, **COMMON)
    @given(near(schema))
    def near_ones(body):
        judge(node, method, path, body, admits.is_valid(body))

    @settings(max_examples=4 if heavy(template) else EXAMPLES // 2, **COMMON)
    @given(valid(schema))
    def valid_ones(body):
        judge(node, method, path, body, True)
    near_ones()
    valid_ones()
    tidy(node)


@pytest.mark.parametrize("method, template", WITH_QUERY)
def test_generated_queries(node, method, template):
    path = path_of(node, template)
    parameters = [p for p in openapi.operation_of(method, path)["parameters"] if p["in"] == "query"]

    @settings(max_examples=EXAMPLES * 2, **COMMON)
    @given(st.data())
    def ask(data):
        p = data.draw(st.sampled_from(parameters))
        value = data.draw(valid(p["schema"]) | ANY)
        text = value if isinstance(value, str) else json.dumps(value)
        if "\0" in text:
            return
        reply = node.call("GET", f"{path}?{p['name']}={urllib.parse.quote(text, safe='')}", timeout=30)
        assert reply.status < 500, (p["name"], text, reply)
        if reply.status == 400:
            assert reply.json.get("field") == p["name"] or reply.json.get("code") == "INVALID_DATE_RANGE", (text, reply)
    ask()


def test_bodies_that_are_no_json(node):
    before = state(node)
    for method, template in WITH_BODY:
        for text in ("{", "[1,", "{\"a\":1}{", "nul", "\xff\xfe", "{\"a\":1,\"a\":2}", "[" * 3000):
            reply = node.call(method.upper(), path_of(node, template), text.encode("latin-1"), check=False)
            assert reply.status == 400 and reply.json["field"] == "body", (template, text[:20], reply)
    assert state(node) == before
