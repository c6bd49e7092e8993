"""`scorehouse keys`: API keys are made, listed and revoked in the file that the services read."""

import json
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from scorehouse.terminal import EXIT_CODES, complain, err, in_columns, out, say
from shared.keys import Key, KeyFileError, Scope, digest_of, read_keys
from shared.problems import validation_faults

PREFIX = "sh_"
"""What keys begin with, so that searches for secrets find them."""
_SECRET_BYTES = 32
_AGES = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys that the services ask for.")

KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's name, in the log and in lists.")]
File = Annotated[
    Path,
    typer.Option("--file", envvar="API_KEYS_FILE", dir_okay=False, show_default=False, help="The services' key file."),
]


def parse_expiry(text: str) -> datetime:
    """When a key ends: `90d` (`h`, `w`) from now, a date (its first moment, UTC), or a time with its offset."""
    now = datetime.now(UTC).replace(microsecond=0)
    if age := re.fullmatch(r"([1-9][0-9]{0,4})([hdw])", text):
        return now + int(age[1]) * _AGES[age[2]]
    try:
        is_date = re.fullmatch(r"\d{4}-\d\d-\d\d", text)
        expires = datetime.fromisoformat(f"{text}T00:00Z" if is_date else text)
    except ValueError:
        expires = None
    if expires is None or expires.tzinfo is None:
        raise typer.BadParameter(
            f"{text!r} is none of: 90d (or 12h, 8w), 2030-01-31, 2030-01-31T12:00:00Z", param_hint="--expires"
        )
    if expires <= now:
        raise typer.BadParameter(f"{text!r} has passed", param_hint="--expires")
    return expires.astimezone(UTC).replace(microsecond=0)


@keys_app.command(epilog=f"{EXIT_CODES}.")
def create(
    key_id: KeyId,
    file: File,
    scope: Annotated[list[Scope], typer.Option(help="What it allows; may be given several times.")],
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 90d, or a date; else never.", show_default=False)
    ] = None,
) -> None:
    """Make an API key and print it, once: the file has nothing but its SHA-256.

    Services that read the file know the key within a second. Whoever uses
    it has it in SCOREHOUSE_API_KEY.

      export API_KEYS_FILE=keys.toml
      scorehouse keys create runner --scope results:write --expires 90d
      key=$(scorehouse keys create ci --scope results:read \\
        --scope analysis:read)
    """
    from scorehouse.key_file import edit_keys  # noqa: PLC0415 - its TOML library is not loaded for each push

    ends = None if expires is None else parse_expiry(expires)
    token = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    created = datetime.now(UTC).replace(microsecond=0)
    try:
        key = Key(id=key_id, sha256=digest_of(token), scopes=frozenset(scope), created=created, expires=ends)
    except ValidationError as error:
        raise typer.BadParameter(
            "; ".join(fault.detail for fault in validation_faults(error)), param_hint="ID"
        ) from None
    with _exiting_on_faults(), edit_keys(file, may_be_new=True) as editing:
        if any(other.id == key_id for other in editing.keys):
            raise KeyFileError(f"{file} has a key {key_id!r} already; revoke it first, or take another id")
        editing.add(key)
    say(err(), f"{key_id!r} is in {file}. This is the only time that its key is shown:")
    say(out(), token)


@keys_app.command(name="list", epilog=f"{EXIT_CODES}.")
def list_keys(
    file: File, as_json: Annotated[bool, typer.Option("--json", help="As JSON, an object a key.")] = False
) -> None:
    """List the keys: what each allows, and until when.

    The keys themselves are nowhere to be seen: the file has nothing but
    their SHA-256.

      scorehouse keys list --file keys.toml
    """
    with _exiting_on_faults():
        keys = read_keys(file.read_text(encoding="utf-8"), file)
    now = datetime.now(UTC)
    if as_json:
        entries = [
            {
                "id": key.id,
                "scopes": sorted(key.scopes),
                "created": _in_words(key.created),
                "expires": _in_words(key.expires),
                "expired": _is_over(key, now),
            }
            for key in keys
        ]
        say(out(), json.dumps(entries, indent=2, ensure_ascii=False))
        return
    rows = [("ID", "SCOPES", "CREATED", "EXPIRES")]
    for key in keys:
        expires = (_in_words(key.expires) or "never") + (" (expired)" if _is_over(key, now) else "")
        rows.append((key.id, " ".join(sorted(key.scopes)), _in_words(key.created) or "-", expires))
    for line in in_columns(rows):
        say(out(), line)


@keys_app.command(epilog=f"{EXIT_CODES}.")
def revoke(
    key_id: KeyId, file: File, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False
) -> None:
    """Take a key out of the file.

    Services that read the file refuse the key within a second. Its id is
    free then.

      scorehouse keys revoke nightly-runner --file keys.toml
    """
    from scorehouse.key_file import edit_keys  # noqa: PLC0415 - as above

    if not yes and sys.stdin.isatty():
        typer.confirm(f"Revoke {key_id!r} in {file}? Whoever uses it is refused from then on", abort=True, err=True)
    with _exiting_on_faults(), edit_keys(file) as editing:
        ids = [key.id for key in editing.keys]
        if key_id not in ids:
            near = get_close_matches(key_id, ids, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise KeyFileError(f"{file} has no key {key_id!r}{hint}")
        editing.remove(ids.index(key_id))
    say(err(), f"{key_id!r} is revoked")


def _in_words(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _is_over(key: Key, now: datetime) -> bool:
    return key.expires is not None and key.expires <= now


@contextmanager
def _exiting_on_faults() -> Iterator[None]:
    """Exit code 1, with a sentence, where the file cannot be read, understood or written."""
    try:
        yield
    except KeyFileError as error:
        complain(str(error))
    except UnicodeDecodeError as error:
        complain(f"a key file is UTF-8: {error}")
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}")
    else:
        return
    raise typer.Exit(1)
