"""Serve the HTTP API, and run the pipelines behind it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from vedette.cli._rules import Pipeline, today
from vedette.cli._settings import environment
from vedette.core.clock import SystemClock
from vedette.core.settings import load_settings
from vedette.core.turns import come_first
from vedette.judge.decisions.parts import Policy, Reasoning
from vedette.judge.sigma.pipelines import load_pipelines
from vedette.run.payments.lastgood import load_or_last
from vedette.run.pipeline.detection import load_detection
from vedette.run.platform import Platform
from vedette.serve.hardening import forbid_dumps
from vedette.serve.server import run_server
from vedette.serve.supervised import FOLLOW, INSIST, follow, inherited, supervise

EXAMPLES = """Examples:

  vedette keys create --scope decisions:write --scope charges:write      # a key for the calls

  vedette serve --model model/ --rules payment.rules --sigma rules/sigma

  curl -H "Authorization: Bearer vk_test_..." --json '{"event": {...}}' localhost:8700/v1/decisions

  vedette people password PERSON      # a one-time password for the console on the same address

GET /openapi.json describes every route."""

NOBODY = """Nobody can log in to the console yet. In the same home folder:
  vedette people create "Your Name"
  vedette people grant PERSON admin
  vedette people password PERSON"""


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command(name="serve", epilog=EXAMPLES)(serve)


def serve(
    *,
    host: Annotated[str, typer.Option(help="Address to listen on; put TLS in front of any other than loopback.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port; 0 takes a free one.")] = 8700,
    model: Annotated[Path | None, typer.Option(help="Model directory; without it rules decide alone.")] = None,
    rules: Annotated[Path | None, typer.Option(help="Payment rules: a YAML list, or one rule a line.")] = None,
    lists: Annotated[Path | None, typer.Option(help="YAML file of the lists that rules name with @.")] = None,
    policy: Annotated[Policy, typer.Option(help="Answer when a part stalls and no rule decides.")] = Policy.OPEN,
    policies: Annotated[
        Path | None, typer.Option(help="YAML file of merchants and their own policy: `merchant: closed`.")
    ] = None,
    reasoning: Annotated[
        Reasoning, typer.Option(help="For which decisions the model's reasons are recorded.")
    ] = Reasoning.ALWAYS,
    model_apart: Annotated[
        bool, typer.Option(help="Run the model in a process of its own, which is replaced when it hangs or dies.")
    ] = False,
    sigma: Annotated[list[Path] | None, typer.Option(help="Folder or archive of Sigma rules for the stream.")] = None,
    pipeline: Pipeline = None,
    sigma_lists: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Lists for placeholders of Sigma's `expand`.")
    ] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of the product's data; VEDETTE_HOME.")] = None,
    supervised: Annotated[
        bool,
        typer.Option(help="Keep a worker alive: one that ends or hangs is replaced; what follows the log runs apart."),
    ] = False,
    inherit: Annotated[str, typer.Option(hidden=True)] = "",
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.")] = None,
) -> None:
    """Serve the HTTP API, and run the pipelines behind it."""
    forbid_dumps()
    environ = environment()
    if home is not None:
        environ["VEDETTE_HOME"] = str(home)
    settings = load_settings(config, environ)
    if supervised:
        supervise(settings, sys.argv[1:], host=host, port=port, tell=lambda line: typer.echo(line, err=True))
        return
    pipelines = load_pipelines(pipeline or (), sigma_lists or ())
    detection = (
        load_detection(sigma, cache=settings.home / "cache", pipelines=pipelines, today=today()) if sigma else None
    )
    if inherit in {FOLLOW, INSIST}:
        follow(settings, detection, insists=inherit == INSIST)
        return
    come_first()  # before any thread begins
    files = {"model": model, "rules": rules, "lists": lists, "policies": policies}
    scoring, damaged = load_or_last(
        settings.home, files, policy, again=bool(inherit), reasoning=reasoning, apart=model_apart
    )
    platform = Platform(
        settings,
        clock=SystemClock(),
        scoring=scoring,
        detection=detection,
        environ=environ,
        apart=bool(inherit),
    )
    if damaged is not None:
        typer.echo(f"goes on with the last good copy: {damaged}", err=True)
        platform.faults.tell(settings.tenant, f"registry.{damaged.code}")
    try:
        run_server(
            platform, host=host, port=port, tell=lambda line: _tell(line, platform), inherited=inherited(inherit)
        )
    finally:
        platform.close()


def _tell(line: str, platform: Platform) -> None:
    typer.echo(line)
    if platform.access.logins.nobody():
        typer.echo(NOBODY, err=True)
