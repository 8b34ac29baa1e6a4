"""Key ceremonies: make a key with several custodians, bring one back from their shares, verify a transcript."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import typer

from vedette.cli._settings import environment
from vedette.core.clock import SystemClock, to_iso
from vedette.core.errors import DataError, DefinitionError
from vedette.core.ids import Ids
from vedette.core.render import printable
from vedette.prove.custody.ceremony import Making, Rebuilding, plan_to_rebuild
from vedette.prove.custody.officers import make_officer, open_officer
from vedette.prove.custody.opening import open_provider
from vedette.prove.custody.provider import KeyUse
from vedette.prove.custody.transcript import Goal, Plan, Transcript, read_transcript, verify_transcript
from vedette.prove.keys import Signer, write_private
from vedette.prove.secrets import Secret, Secrets
from vedette.prove.verifier import Invalid, VerifierKey, parse_key

OFFICER_EXAMPLES = """Example:

  vedette ceremony officer ann.example officers/ann.pem     # asks for a passphrase, prints the key others trust"""

MAKE_EXAMPLES = """Examples:

  vedette ceremony make vault:acme:1 --threshold 2 --custodian Ada --custodian Bo --custodian Cy \\
      --officer officers/ann.pem --officer officers/ben.pem \\
      --keys 'pkcs11:token=vedette?module-path=/usr/lib/softhsm/libsofthsm2.so' --transcript root.json

Each share is shown to its custodian alone, who writes it down and repeats three of its words. Use a machine of its own,
without a network, and a terminal whose lines are kept nowhere."""

REBUILD_EXAMPLES = """Example:

  vedette ceremony rebuild --of root.json --officer officers/ann.pem --officer officers/ben.pem \\
      --custodian Ada --custodian Cy --keys file:/secure/keys.json --transcript rebuilt.json"""

VERIFY_EXAMPLES = """Examples:

  vedette ceremony verify root.json --trust ann.example+1f2e3d4c+AY...  --trust ben.example+...

Needs no key and no network. Take the officers' keys from somewhere other than the transcript."""

STATEMENT = "I hold this share alone, keep it locked away, and tell at once if anybody may have seen it."
TRIES = 3
CLEAR = "\x1b[2J\x1b[3J\x1b[H"
"""Clears the screen and the lines that were scrolled away."""

Keys = Annotated[str, typer.Option(metavar="URI", help="Provider: file:PATH, or pkcs11:token=LABEL?module-path=FILE.")]
Officers = Annotated[list[Path], typer.Option("--officer", help="File of an officer's key; two or more.")]
Out = Annotated[Path, typer.Option("--transcript", help="File to write; it must not exist.")]
SecretsFolder = Annotated[Path | None, typer.Option("--secrets", help="Folder of secret files, for the provider's.")]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    verb = typer.Typer(name="ceremony", no_args_is_help=True, help=__doc__, epilog=MAKE_EXAMPLES)
    verb.command("officer", epilog=OFFICER_EXAMPLES)(officer)
    verb.command("make", epilog=MAKE_EXAMPLES)(make)
    verb.command("rebuild", epilog=REBUILD_EXAMPLES)(rebuild)
    verb.command("verify", epilog=VERIFY_EXAMPLES)(verify)
    app.add_typer(verb)


def officer(
    name: Annotated[str, typer.Argument(help="Name in signatures: no space, no +.")],
    path: Annotated[Path, typer.Argument(help="File of the key; it must not exist.")],
) -> None:
    """Make the key of an officer, under a passphrase of their own."""
    phrase = typer.prompt(f"Passphrase of {name}", hide_input=True, confirmation_prompt=True, err=True)
    typer.echo(str(make_officer(path, name, Secret(phrase))))


def make(
    label: Annotated[str, typer.Argument(help="Label of the key in its provider, such as vault:acme:1.")],
    *,
    threshold: Annotated[int, typer.Option(help="How many custodians bring it back.")],
    custodian: Annotated[list[str], typer.Option(help="Name of a custodian; repeat it.")],
    officers: Officers,
    keys: Keys,
    transcript: Out,
    use: Annotated[KeyUse, typer.Option(help="What the key may do.")] = KeyUse.WRAP,
    secrets: SecretsFolder = None,
) -> None:
    """Make a key, and give each custodian a share of it."""
    _refuse_existing(transcript)
    clock = SystemClock()
    provider = open_provider(keys, Secrets(secrets, environment()), clock)
    signers = _open(officers)
    plan = Plan(
        goal=Goal.MAKE,
        label=label,
        use=use,
        threshold=threshold,
        custodians=tuple(custodian),
        officers=tuple(str(signer.verifier) for signer in signers),
        place=repr(provider),
    )
    making = Making(plan, signers, clock, Ids(clock))
    try:
        making.generate()
        for name in plan.custodians:
            _hand_over(making, name)
        info = making.place(provider)
    except (DataError, DefinitionError, typer.Abort) as error:
        _give_up(making, transcript, error)
    _write(transcript, making.finish())
    typer.echo(f"{info.label}  check value {info.check}  {threshold} of {len(plan.custodians)} custodians")


def rebuild(
    *,
    of: Annotated[Path, typer.Option("--of", help="Transcript of the ceremony that made the key.")],
    custodian: Annotated[list[str], typer.Option(help="A custodian who is here; repeat it.")],
    officers: Officers,
    keys: Keys,
    transcript: Out,
    label: Annotated[str, typer.Option(help="Another label for it.")] = "",
    secrets: SecretsFolder = None,
) -> None:
    """Bring a key back from the shares of enough custodians."""
    _refuse_existing(transcript)
    clock = SystemClock()
    made = _read(of)
    verify_transcript(made, ())
    provider = open_provider(keys, Secrets(secrets, environment()), clock)
    signers = _open(officers)
    plan = plan_to_rebuild(made, signers, label=label, place=repr(provider))
    rebuilding = Rebuilding(plan, made, signers, clock, Ids(clock))
    try:
        for name in custodian:
            _take_share(rebuilding, name)
        info = rebuilding.place(provider)
    except (DataError, DefinitionError, typer.Abort) as error:
        _give_up(rebuilding, transcript, error)
    _write(transcript, rebuilding.finish())
    typer.echo(f"{info.label}  check value {info.check}")


def verify(
    path: Annotated[Path, typer.Argument(metavar="TRANSCRIPT", help="File of a transcript.")],
    *,
    trust: Annotated[list[str] | None, typer.Option(help="Key of an officer, from elsewhere; repeat it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify a transcript: plan, steps, people and signatures. Offline."""
    transcript = _read(path)
    verify_transcript(transcript, [_key(text) for text in trust or ()])
    plan = transcript.plan
    if as_json:
        shape = {
            "id": transcript.id,
            "goal": plan.goal,
            "label": plan.label,
            "check": transcript.check_value(),
            "threshold": plan.threshold,
            "custodians": plan.custodians,
            "officers": [key.name for key in plan.officer_keys()],
            "trusted": bool(trust),
        }
        typer.echo(msgspec.json.encode(shape).decode())
        return
    for step in transcript.steps:
        typer.echo(f"{to_iso(step.time)[:19]}  {step.act:<14}{printable(step.who)}")
    typer.echo(f"verified: {plan.goal} {plan.label}, check value {transcript.check_value() or 'none: it was aborted'}")
    if not trust:
        typer.echo("The officers' keys are the transcript's own: name them with --trust to know who signed.", err=True)


def _hand_over(making: Making, name: str) -> None:
    typer.prompt(f"Only {name} looks at the screen. Press Enter", default="", show_default=False, err=True)
    words = making.show(name).reveal().split()
    for start in range(0, len(words), 4):
        typer.echo(
            "   ".join(f"{n:>2} {word:<10}" for n, word in enumerate(words[start : start + 4], start + 1)), err=True
        )
    typer.prompt("Write them down. Enter clears the screen", default="", show_default=False, err=True)
    typer.echo(CLEAR, err=True, nl=False)
    for left in reversed(range(TRIES)):
        said = [typer.prompt(f"{name}, word {place}", hide_input=True, err=True) for place in making.ask(name)]
        if not typer.confirm(f"{name}: {STATEMENT}", err=True):
            raise DataError("ceremony.share.declined", "a custodian did not accept", at=name)
        try:
            making.acknowledge(name, said, STATEMENT)
        except DataError:
            if not left:
                raise
            typer.echo("These are not the words. Once more.", err=True)
        else:
            return


def _take_share(rebuilding: Rebuilding, name: str) -> None:
    for left in reversed(range(TRIES)):
        share = Secret(typer.prompt(f"{name}, the words of your share", hide_input=True, err=True))
        try:
            missing = rebuilding.give(name, share)
        except DataError:
            if not left:
                raise
            typer.echo("This is not the share that was shown. Once more.", err=True)
            continue
        typer.echo(f"taken; {missing} more needed" if missing else "taken; these are enough", err=True)
        return


def _give_up(ceremony: Making | Rebuilding, path: Path, error: Exception) -> NoReturn:
    """An aborted ceremony has a transcript too."""
    _write(path, ceremony.abort(getattr(error, "code", "stopped by hand")))
    raise error


def _open(paths: list[Path]) -> list[Signer]:
    return [
        open_officer(path, Secret(typer.prompt(f"Passphrase of {path.stem}", hide_input=True, err=True)))
        for path in paths
    ]


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise DefinitionError("ceremony.transcript.exists", "this file exists", hint="name a new one", at=str(path))


def _write(path: Path, transcript: Transcript) -> None:
    write_private(path, msgspec.json.format(msgspec.json.encode(transcript)) + b"\n")


def _read(path: Path) -> Transcript:
    try:
        return read_transcript(path.read_bytes())
    except OSError as error:
        raise DataError("ceremony.transcript.unreadable", f"cannot be read: {error.strerror}", at=str(path)) from None


def _key(text: str) -> VerifierKey:
    try:
        return parse_key(text)
    except Invalid as error:
        raise DefinitionError("ceremony.officer.key", f"not an officer's key: {error}", at=text[:80]) from None
