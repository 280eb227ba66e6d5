# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.yaml as a judge: which operation a request is, and whether a reply is what the document says."""
import functools
import os
import re

import jsonschema
import yaml
from world import REPOSITORY

GENERIC = {405: None, 413: None, 501: None}  # of no operation: no code of theirs is listed
seen = set()  # (method, template, status) of every reply that was checked in this process
METHODS = ("get", "post", "put", "patch", "delete")


@functools.cache
def document():
    with open(os.path.join(REPOSITORY, "docs", "openapi.yaml"), encoding="utf-8") as f:
        return yaml.load(f, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@functools.cache
def resolver():
    return jsonschema.RefResolver("", document())


def deref(node):
    while isinstance(node, dict) and "$ref" in node:
        node = resolver().resolve(node["$ref"])[1]
    return node


@functools.cache
def templates():
    """(regex, template), literal parts before parameters, so that named sub-resources win."""
    def regex(template):
        return re.compile("^" + re.sub(r"\{\w+\}", "[^/]+", template) + "/?$")
    paths = sorted(document()["paths"], key=lambda t: [part.startswith("{") for part in t.split("/")])
    return [(regex(t), t) for t in paths]


def template_of(path):
    return next((t for r, t in templates() if r.match(path.partition("?")[0])), None)


def operation_of(method, path):
    """The operation, with the parameters of its path; None when the document has none."""
    template = template_of(path)
    item = document()["paths"].get(template, {})
    operation = item.get(method.lower())
    if operation is None:
        return None
    parameters = [deref(p) for p in [*item.get("parameters", []), *operation.get("parameters", [])]]
    return {**operation, "parameters": parameters, "template": template}


def operations():
    return [(method, template) for template, item in document()["paths"].items() for method in METHODS if method in item]


def validator(schema):
    return jsonschema.Draft202012Validator(schema, resolver=resolver(), format_checker=jsonschema.FormatChecker())


@functools.cache
def reply_validator(template, method, status):
    """For the status as documented, else for `default`; None when neither is."""
    responses = document()["paths"][template][method]["responses"] if template else {}
    response = deref(responses.get(str(status)) or responses.get("default")) if status >= 400 or not template else deref(
        responses.get(str(status)))
    if status >= 400 and response is None:
        response = document()["components"]["responses"]["Error"]
    return validator(response["content"]["application/json"]["schema"]) if response else None


def request_schema(operation):
    body = operation.get("requestBody")
    return body["content"].get("application/json", {}).get("schema") if body else None


def complaint(method, path, status, body):
    """What is wrong with a reply, or None."""
    operation = operation_of(method, path) if status not in GENERIC else None
    check = reply_validator(operation["template"] if operation else None, method.lower(), status)
    if check is None:
        return f"{status} is not documented"
    for error in check.iter_errors(body):
        return f"{'/'.join(map(str, error.absolute_path))}: {error.message[:500]}"
    if body["statusCode"] != status:
        return "statusCode differs from the status"
    code = body.get("code")
    if operation and status >= 400 and code and code not in {*operation.get("x-error-codes", []),
                                                             *document()["x-common-error-codes"]}:
        return f"the code {code} is not documented"
    return None


def check(method, path, status, body):
    wrong = complaint(method, path, status, body)
    seen.add((method.lower(), template_of(path), status))
    assert wrong is None, f"{method} {path}: {wrong}\n{str(body)[:1500]}"
