# SPDX-License-Identifier: Apache-2.0
"""Values that a JSON schema of docs/openapi.yaml admits, and values near them that it does not, for hypothesis."""
import openapi
from hypothesis import strategies as st

TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=12)
ANY = st.recursive(st.none() | st.booleans() | st.integers(-2**63, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
                   lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)


def merged(schema):
    """allOf as one schema: enough for what the document has."""
    schema = openapi.deref(schema)
    if "allOf" not in schema:
        return schema
    whole = {k: v for k, v in schema.items() if k != "allOf"}
    for part in schema["allOf"]:
        whole.update(merged(part))
    return whole


def string(schema):
    low, high = schema.get("minLength", 0), schema.get("maxLength", 40)
    if "pattern" in schema:
        base = st.from_regex(schema["pattern"].replace(r"\d", "[0-9]"), fullmatch=True)
    else:
        base = st.text(st.characters(min_codepoint=32, max_codepoint=0x2ff, blacklist_characters="\x7f"), min_size=low, max_size=min(high, 60))
    accepts = openapi.validator(schema)
    return base.filter(lambda s: low <= len(s) <= high and accepts.is_valid(s) and not any(c in s for c in "\n\r\0"))


def objects(schema):
    properties = schema.get("properties", {})
    required = set(schema.get("required", []))
    fixed = st.fixed_dictionaries({k: valid(v) for k, v in properties.items() if k in required},
                                  optional={k: valid(v) for k, v in properties.items() if k not in required})
    if properties or not isinstance(schema.get("additionalProperties"), dict):
        return fixed
    names = valid(schema["propertyNames"]) if "propertyNames" in schema else TEXT
    return st.dictionaries(names, valid(schema["additionalProperties"]), min_size=schema.get("minProperties", 0), max_size=4)


def valid(schema):
    schema = merged(schema)
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema and "type" not in schema:
        return st.one_of([valid(s) for s in schema["anyOf"]])
    kinds = schema.get("type", "object")
    return st.one_of([of_kind(schema, k) for k in ([kinds] if isinstance(kinds, str) else kinds)])


def of_kind(schema, kind):
    if kind == "null":
        return st.none()
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        return st.integers(schema.get("minimum", -2**40), schema.get("maximum", 2**40))
    if kind == "number":
        return st.integers(int(schema.get("minimum", -1000)), int(schema.get("maximum", 1000)))
    if kind == "string":
        formats = {a.get("format") for a in schema.get("anyOf", [])}
        if "ipv4" in formats:
            return st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str)
        return string(schema)
    if kind == "array":
        return st.lists(valid(schema.get("items", {"type": "string"})), max_size=min(schema.get("maxItems", 3), 3))
    return objects(schema)


@st.composite
def near(draw, schema):
    """A valid object with one thing changed: mostly not valid any more."""
    body = draw(valid(schema))
    if not isinstance(body, dict):
        body = {}
    names = list(merged(schema).get("properties", {})) or ["name"]
    how = draw(st.sampled_from(["value", "drop", "extra", "whole", "long", "number"]))
    name = draw(st.sampled_from(names))
    if how == "value":
        return {**body, name: draw(ANY)}
    if how == "drop":
        return {k: v for k, v in body.items() if k != name}
    if how == "extra":
        return {**body, draw(st.text("abcdefgh_", min_size=1, max_size=8)): draw(ANY)}
    if how == "long":
        return {**body, name: "x" * draw(st.sampled_from([64, 256, 513, 1001, 4097, 16001, 70000]))}
    if how == "number":
        return {**body, name: draw(st.sampled_from([-1, 0, 1, 2**31, 2**53 + 1, -2**63, 2**63 - 1, 1.5]))}
    return draw(st.lists(ANY, max_size=2) | TEXT | st.integers(0, 9) | st.booleans())
