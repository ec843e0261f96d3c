"""`qhronos` on the command line: serve, stdio, demo, migrate, token, secret, rotate-key, doctor.

Heavy imports are inside the commands, so that `qhronos --help` and the first answer over stdio come at once.
Credentials are never taken as arguments: arguments show in `ps` (security.md S42).
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from qhronos_core.domain.errors import QhronosError, StartRefusedError
from qhronos_mcp import __version__
from qhronos_mcp.collector import collect_later

if TYPE_CHECKING:
    from qhronos_core.config import Settings
    from qhronos_core.wiring import Core

app = typer.Typer(
    name="qhronos",
    help="A scheduler that AI agents can trust with time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
token_app = typer.Typer(help="Mint, list and revoke tokens.", no_args_is_help=True)
app.add_typer(token_app, name="token")

AT_ONCE: Final = 1_000  # rows of a list

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="The configuration file (else QHRONOS_CONFIG, else config.yaml).")
]


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qhronos {__version__}")
        raise typer.Exit


@app.callback()
def program(
    _version: Annotated[
        bool, typer.Option("--version", help="Say the version and exit.", callback=_tell_version, is_eager=True)
    ] = False,
) -> None:
    """A scheduler that AI agents can trust with time."""


def main() -> None:
    """Run a command. What the operator must mend is one line on stderr and exit code 2."""
    try:
        app()
    except StartRefusedError as refusal:
        _fail(str(refusal), 2)
    except QhronosError as error:
        _fail(str(error), 1)
    except OSError as error:  # of this machine: no room for what is said, no place for what is made
        _fail(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), 1)


def stdio_main() -> None:
    """`qhronos-mcp`: the same as `qhronos stdio`, for an agent host's configuration."""
    sys.argv.insert(1, "stdio")
    main()


def _fail(line: str, code: int) -> None:
    typer.echo(f"qhronos: {line}", err=True)
    raise SystemExit(code)


def _settings(config: Path | None, flags: Mapping[str, Any] | None = None) -> "Settings":
    from qhronos_core.config import load

    return load(config, os.environ, flags=flags)


def _logging(settings: "Settings") -> None:
    from qhronos_core.wiring import configure_logs

    configure_logs(settings)


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="The address to bind.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 for any that is free.")] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="Bind a public address without TLS in front.")
    ] = False,
) -> None:
    """Serve REST, MCP at /mcp and the web page, and run the scheduler."""
    settings = _settings(config, {"server": {"host": host, "port": port}})
    settings.server.require_guarded_bind(insecure_http=insecure_http)
    _logging(settings)
    collect_later()
    from qhronos_mcp.app import serve as serve_app

    serve_app(settings)


@app.command()
def stdio(
    config: ConfigOption = None,
    url: Annotated[
        str | None,
        typer.Option(help="Bridge to the /mcp of a remote server instead; its token comes from QHRONOS_TOKEN."),
    ] = None,
    text: Annotated[str, typer.Option(help="`json`, or `line` for a host that shows the model both.")] = "json",
    claude_channel: Annotated[
        bool, typer.Option("--claude-channel", help="Experimental: wake a Claude Code session by its channel.")
    ] = False,
) -> None:
    """Speak MCP on stdin and stdout, launched by an agent host; runs the scheduler beside it."""
    if text not in ("json", "line"):
        raise StartRefusedError("--text is json or line")
    if url is not None:
        from qhronos_mcp.mcp_server.bridge import serve_bridge

        raise SystemExit(asyncio.run(serve_bridge(url)))
    collect_later()
    from qhronos_mcp.mcp_server.stdio import serve_stdio

    serving = serve_stdio(partial(_settings, config), text_line=text == "line", claude_channel=claude_channel)
    raise SystemExit(asyncio.run(serving))


@app.command()
def demo() -> None:
    """Show the job on the screen in under 15 seconds: a signed webhook, an agent woken, how late each was."""
    from qhronos_mcp.demo import run_demo

    raise SystemExit(run_demo())


@app.command()
def migrate(config: ConfigOption = None) -> None:
    """Bring the store's schema up to date. Safe to run from several nodes at once."""

    async def run(core: "Core") -> None:
        applied = await core.store.migrate()
        typer.echo("\n".join(f"applied {name}" for name in applied) or "The schema is up to date.")

    _with_core(config, run)


@app.command()
def secret(
    event: Annotated[str, typer.Argument(help="The event's id or key.")],
    config: ConfigOption = None,
) -> None:
    """Make a new signing secret for a webhook event and print it, once. The old one signs along for 24 hours."""

    async def run(core: "Core") -> None:
        from qhronos_core.domain.errors import InvalidInputError

        answer = await core.events.update(_ref(event), {"hmac_secret": None}, caller=_operator())
        if answer.secret_once is None:
            raise InvalidInputError("Only a webhook event has a signing secret; this one sends none.")
        typer.echo(answer.secret_once)
        typer.echo("note: the secret before this one signs along for 24 hours", err=True)

    _with_core(config, run)


@app.command("rotate-key")
def rotate_key(
    forget: Annotated[
        bool, typer.Option("--forget", help="Only remove retired keys that no secret needs any more.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Encrypt every stored secret anew with the at-rest key, while servers serve.

    Embedded: makes a new key first, which running servers take up by themselves. PostgreSQL: set auth.at_rest_key first,
    as config.example.yaml says. A run that was interrupted is finished by the next.
    """
    from qhronos_mcp import rotation

    finished = True

    async def run(core: "Core") -> None:
        nonlocal finished
        if core.at_rest is not None:
            finished = await (rotation.forget if forget else rotation.rotate)(core.at_rest, typer.echo)

    _with_core(config, run)
    raise SystemExit(0 if finished else 1)


@app.command()
def restored(config: ConfigOption = None) -> None:
    """Say that a backup of the store was put back, before servers start on it.

    Occurrences keep their ids, so what is sent again is known to receivers. Readers of the journal that had come
    further than the backup are told that they missed something, instead of missing it.
    """

    async def run(core: "Core") -> None:
        await core.store.begin_epoch()
        typer.echo("Cursors from before are known as such; subscriptions go on where the backup has them.")

    _with_core(config, run)


@app.command()
def doctor(config: ConfigOption = None) -> None:
    """Look at this installation and say what is well and what is not. Changes nothing, and makes nothing."""
    from qhronos_mcp.doctor import Finding, examine, unopened

    healthy = True

    def say(finding: Finding) -> None:
        nonlocal healthy
        healthy = healthy and finding.well
        typer.echo(f"{'ok  ' if finding.well else 'FIX '} {finding.says}")

    async def run(core: "Core") -> None:
        async for finding in examine(core):
            say(finding)

    settings = _settings(config)
    try:
        for finding in unopened(settings):
            say(finding)
        if healthy:
            _with_core(config, run, only_look=True)
    except StartRefusedError as refusal:
        say(Finding(False, str(refusal)))
    raise SystemExit(0 if healthy else 1)


@token_app.command("mint")
def token_mint(
    sub: Annotated[str, typer.Option(help="Whose token it is.")],
    access: Annotated[str, typer.Option(help="read, write or admin.")] = "write",
    scope: Annotated[list[str] | None, typer.Option(help="resource:identifier; may be given again.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="RFC 3339; one hour ahead unless said.")] = None,
    config: ConfigOption = None,
) -> None:
    """Mint a token and print it."""

    async def run(core: "Core") -> None:
        fields: dict[str, Any] = {"sub": sub, "access": access, "scope": scope or [f"user:{sub}"]}
        if expires_at is not None:
            fields["expires_at"] = expires_at
        minted = await core.tokens.mint(fields, caller=_operator())
        for warning in minted.warnings:
            typer.echo(f"note: {warning.says}", err=True)
        typer.echo(minted.token)

    _with_core(config, run)


@token_app.command("list")
def token_list(config: ConfigOption = None) -> None:
    """The tokens that were minted, newest first; never the tokens themselves."""

    async def run(core: "Core") -> None:
        from qhronos_core.ports import whole

        async for record in whole(lambda page: core.tokens.list(page, caller=_operator()), AT_ONCE):
            state = f"revoked {record.revoked_at:%Y-%m-%dT%H:%MZ}" if record.revoked_at else ""
            scope = ",".join(record.scope)
            typer.echo(
                f"{record.jti}  {record.sub}  {record.access}  {scope}  {record.expires_at:%Y-%m-%dT%H:%MZ}  {state}"
            )

    _with_core(config, run)


@token_app.command("revoke")
def token_revoke(
    jti: Annotated[str | None, typer.Argument(help="The token's id.")] = None,
    sub: Annotated[str | None, typer.Option(help="All tokens of this subject.")] = None,
    before: Annotated[str | None, typer.Option(help="All tokens issued before this instant (RFC 3339).")] = None,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also pause the events made with them.")] = False,
    config: ConfigOption = None,
) -> None:
    """Revoke tokens. They stop within 5 seconds on every node."""

    async def run(core: "Core") -> None:
        from qhronos_core.domain.schedule import parse_instant

        issued_before = parse_instant(before, field="before", timezone=None) if before else None
        revoked = await core.tokens.revoke(
            jti=_jti(jti) if jti else None,
            sub=sub,
            issued_before=issued_before,
            cascade=cascade,
            caller=_operator(),
        )
        typer.echo(json.dumps({"revoked_at": f"{revoked.revoked_at:%Y-%m-%dT%H:%M:%SZ}"}))

    _with_core(config, run)


def _with_core(config: Path | None, run: Any, *, only_look: bool = False) -> None:
    """Open a core that only answers, do one thing, close it."""
    settings = _settings(config)
    _logging(settings)

    async def opened() -> None:
        from qhronos_core.wiring import open_core

        async with open_core(settings, run_scheduler=False, only_look=only_look) as core:
            for path in core.secrets_made:
                typer.echo(f"note: made {path}", err=True)
            await run(core)

    asyncio.run(opened())


def _operator() -> Any:
    """Whoever may start a process that reads the secrets is the operator."""
    from qhronos_core.domain.access import Access, Principal

    return Principal("master", Access.ADMIN, frozenset(), master=True, holder="master")


def _jti(text: str) -> Any:
    from uuid import UUID

    from qhronos_core.domain.errors import InvalidInputError

    try:
        return UUID(text)
    except ValueError:
        raise InvalidInputError.of("jti", "Not a token's id. `qhronos token list` shows them.", got=text) from None


def _ref(text: str) -> Any:
    from uuid import UUID

    try:
        return UUID(text)
    except ValueError:
        return text
