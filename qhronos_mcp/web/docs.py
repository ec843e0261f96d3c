"""The OpenAPI document as one readable page: plain HTML made here, so that nothing is fetched to read it."""

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Node = Mapping[str, Any]


def docs_page(document: Node) -> bytes:
    info = document["info"]
    calls = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])} REST</title>",
        '<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">',
        '<link rel="stylesheet" href="/assets/page.css"></head><body class="docs">',
        f"<header><h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
        f"<p>{escape(info['description'])}</p>",
        '<p><a href="/openapi.json">openapi.json</a> · <a href="/">the page</a></p></header>',
        '<nav aria-label="Calls">',
        *_contents(document, calls),
        "</nav><main>",
        *(part for path, method, operation in calls for part in _call(path, method, operation)),
        "<h2>Shapes</h2>",
        *(part for name, schema in document["components"]["schemas"].items() for part in _shape(name, schema)),
        "</main></body></html>",
    ]
    return "\n".join(parts).encode()


def _contents(document: Node, calls: list[tuple[str, str, Node]]) -> Iterator[str]:
    for topic in document["tags"]:
        yield f"<h2>{escape(topic['name'])}</h2><ul>"
        for path, method, operation in calls:
            if topic["name"] in operation["tags"]:
                name = f"<code>{method.upper()} {escape(path)}</code>"
                yield f'<li><a href="#{operation["operationId"]}">{name}</a></li>'
        yield "</ul>"


def _call(path: str, method: str, operation: Node) -> Iterator[str]:
    yield f'<section id="{operation["operationId"]}">'
    yield f"<h3><code>{method.upper()} {escape(path)}</code></h3>"
    yield f"<p><strong>{escape(operation['summary'])}.</strong> {_prose(operation['description'])}</p>"
    if operation["security"] == []:
        yield "<p>Needs no token.</p>"
    if operation["parameters"]:
        yield "<table><thead><tr><th>Parameter</th><th>Where</th><th>What</th></tr></thead><tbody>"
        for parameter in operation["parameters"]:
            says = _prose(parameter.get("description", "")) or "Its id."
            yield (
                f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{parameter['in']}</td>"
                f"<td>{says} {_kind(parameter['schema'])}</td></tr>"
            )
        yield "</tbody></table>"
    if (body := operation.get("requestBody")) is not None:
        media = body["content"]["application/json"]
        yield f"<p>Body: {_kind(media['schema'])}{'' if body['required'] else ', may be left out'}</p>"
        for example in media.get("examples", {}).values():
            yield f"<pre>{escape(json.dumps(example['value'], indent=2, ensure_ascii=False))}</pre>"
    yield "<table><thead><tr><th>Answer</th><th>What</th></tr></thead><tbody>"
    for status, answer in operation["responses"].items():
        content = answer.get("content", {})
        kind = _kind(next(iter(content.values()))["schema"]) if content else ""
        yield f"<tr><td><code>{status}</code></td><td>{_prose(answer['description'])} {kind}</td></tr>"
    yield "</tbody></table></section>"


def _shape(name: str, schema: Node) -> Iterator[str]:
    yield f'<section id="shape-{escape(name)}"><h3>{escape(name)}</h3>'
    if "description" in schema:
        yield f"<p>{_prose(schema['description'])}</p>"
    properties = schema.get("properties", {})
    if properties:
        required = set(schema.get("required", ()))
        yield "<table><thead><tr><th>Member</th><th>What</th></tr></thead><tbody>"
        for member, kind in properties.items():
            mark = " <em>always</em>" if member in required else ""
            yield (
                f"<tr><td><code>{escape(member)}</code>{mark}</td>"
                f"<td>{_kind(kind)} {_prose(kind.get('description', ''))}</td></tr>"
            )
        yield "</tbody></table>"
    yield "</section>"


def _kind(schema: Node) -> str:
    """A schema in a few words, with links to the shapes it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[1])
        return f'<a href="#shape-{name}">{name}</a>'
    for join in ("oneOf", "anyOf"):
        if join in schema and "properties" not in schema:
            return " or ".join(dict.fromkeys(_kind(part) for part in schema[join]))
    if "enum" in schema or "const" in schema:
        words = schema.get("enum", [schema.get("const")])
        return " ".join(f"<code>{escape(str(word))}</code>" for word in words)
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    kinds = schema.get("type", "anything")
    words = kinds if isinstance(kinds, list) else [schema.get("format", kinds) if kinds == "string" else kinds]
    return escape(" or ".join(str(word) for word in words)) + _limits(schema)


def _limits(schema: Node) -> str:
    names = (
        ("minLength", "≥ {} characters"),
        ("maxLength", "≤ {} characters"),
        ("minimum", "≥ {}"),
        ("maximum", "≤ {}"),
    )
    said = [says.format(schema[name]) for name, says in names if name in schema]
    return f" ({', '.join(said)})" if said else ""


def _prose(text: str) -> str:
    """Escaped, with `code` between backticks."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if index % 2 else piece for index, piece in enumerate(pieces))
