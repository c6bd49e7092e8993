"""API keys: the file that `scorehouse keys` writes, and what a service makes of it."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import tomlkit
import typer
from typer.testing import CliRunner, Result

from scorehouse.cli import app
from scorehouse.key_file import edit_keys
from scorehouse.keys_command import parse_expiry
from shared import key_ring
from shared.key_ring import KeyRing
from shared.keys import Key, KeyFileError, Scope, read_keys
from shared.problems import NotAuthenticated, NotAuthorized

COMMENTED = """\
# Whoever asks: ops@example.org

# the nightly runner
[[keys]]
id = "a"
sha256 = "{}"   # made by hand
scopes = ["results:write"]

# the dashboard
[[keys]]
id = "b"
sha256 = "{}"
scopes = [
  "results:read",   # for the detail page
  "analysis:read",
]
# the end
""".format(sha256(b"key a").hexdigest(), sha256(b"key b").hexdigest())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the keys are; nothing is there yet."""
    return tmp_path / "keys.toml"


def keys(file: Path, *arguments: str) -> Result:
    """`scorehouse keys …`."""
    return CliRunner().invoke(app, ["keys", *arguments], env={"API_KEYS_FILE": str(file)})


def comments(text: str) -> list[str]:
    """The comments of a file, in order."""
    return [f"#{line.partition('#')[2]}" for line in text.splitlines() if "#" in line]


def test_a_created_key_is_let_in(file: Path) -> None:
    done = keys(file, "create", "nightly", "--scope", "results:write", "--scope", "results:read", "--expires", "90d")
    assert done.exit_code == 0, done.output
    token = done.stdout.strip()
    assert token.startswith("sh_")
    assert len(token) == len("sh_") + 43  # 256 bits in base64
    assert token not in file.read_text()
    assert token not in done.stderr
    key = KeyRing(file).authorize(token, Scope.RESULTS_WRITE)
    assert key.id == "nightly"
    assert key.scopes == {Scope.RESULTS_WRITE, Scope.RESULTS_READ}
    assert key.created is not None
    assert key.expires is not None
    assert key.expires - key.created == timedelta(days=90)
    with pytest.raises(NotAuthorized):
        KeyRing(file).authorize(token, Scope.ANALYSIS_READ)


def test_no_two_keys_are_the_same(file: Path) -> None:
    tokens = {keys(file, "create", f"k{number}", "--scope", "admin").stdout for number in range(5)}
    assert len(tokens) == 5
    assert [key.id for key in read_keys(file.read_text(), file)] == [f"k{number}" for number in range(5)]


def test_a_new_file_is_for_its_owner_alone(file: Path) -> None:
    keys(file, "create", "a", "--scope", "admin")
    assert file.stat().st_mode & 0o7777 == 0o600


def test_an_old_file_keeps_its_mode_its_owner_and_its_link(file: Path) -> None:
    file.write_text(COMMENTED)
    file.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(file, 10001, 10002)
    before = file.stat()
    link = file.with_name("link.toml")
    link.symlink_to(file)
    assert keys(link, "create", "c", "--scope", "admin").exit_code == 0
    after = file.stat()
    assert link.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino  # replaced, not written over
    assert sorted(path.name for path in file.parent.iterdir()) == ["keys.toml", "link.toml"]


def test_comments_outlive_a_new_key(file: Path) -> None:
    file.write_text(COMMENTED.rstrip("\n"))
    assert keys(file, "create", "c", "--scope", "admin").exit_code == 0
    assert file.read_text().startswith(COMMENTED)
    assert [key.id for key in read_keys(file.read_text(), file)] == ["a", "b", "c"]


@pytest.mark.parametrize("revoked", [["a"], ["b"], ["a", "b"], ["b", "a"]])
def test_comments_outlive_a_revoked_key(file: Path, revoked: list[str]) -> None:
    file.write_text(COMMENTED)
    for key_id in revoked:
        assert keys(file, "revoke", key_id).exit_code == 0
    text = file.read_text()
    assert [key.id for key in read_keys(text, file)] == [key_id for key_id in "ab" if key_id not in revoked]
    # Those behind a value go with it.
    gone = {"a": {"# made by hand"}, "b": {"# for the detail page"}}
    lost = set().union(*(gone[key_id] for key_id in revoked))
    assert comments(text) == [comment for comment in comments(COMMENTED) if comment not in lost]
    assert keys(file, "create", "c", "--scope", "admin").exit_code == 0
    assert [key.id for key in read_keys(file.read_text(), file)][-1] == "c"
    assert "[[keys]]" in file.read_text()


def test_keys_in_one_array(file: Path) -> None:
    file.write_text(f'keys = [\n  {{id = "a", sha256 = "{"0" * 64}", scopes = ["admin"]}},  # first\n]\n')
    assert keys(file, "create", "b", "--scope", "admin").exit_code == 0
    assert [key.id for key in read_keys(file.read_text(), file)] == ["a", "b"]
    assert "# first" in file.read_text()
    assert keys(file, "revoke", "a").exit_code == 0
    assert [key.id for key in read_keys(file.read_text(), file)] == ["b"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["create", "a", "--scope", "admin"], 1, "already"),
        (["create", "c"], 2, "--scope"),
        (["create", "c", "--scope", "everything"], 2, "everything"),
        (["create", "c", "--scope", "admin", "--expires", "2020-01-01"], 2, "has passed"),
        (["create", "", "--scope", "admin"], 2, "empty"),
        (["create", "c\nd", "--scope", "admin"], 2, "control"),
        (["revoke", "aa"], 1, "did you mean 'a'"),
        (["revoke", "zzz"], 1, "no key 'zzz'"),
    ],
)
def test_what_is_refused_changes_nothing(file: Path, arguments: list[str], code: int, says: str) -> None:
    file.write_text(COMMENTED)
    before = file.stat()
    done = keys(file, *arguments)
    assert done.exit_code == code
    assert says in done.stderr
    assert done.stdout == ""
    assert file.stat() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("keys = 1", "keys"),
        ("[[keys", "Expected"),
        ('[[keys]]\nid = "x"\n', "is required"),
        (COMMENTED * 2, "twice"),
    ],
)
def test_files_that_no_service_takes_are_not_edited(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    for arguments in (["create", "c", "--scope", "admin"], ["revoke", "a"], ["list"]):
        done = keys(file, *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert says in done.stderr
    assert file.read_text() == text
    with pytest.raises(KeyFileError, match=says):
        KeyRing(file)


def test_what_no_service_would_take_is_never_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(COMMENTED)
    monkeypatch.setattr(tomlkit, "dumps", lambda _: "[[keys")
    assert keys(file, "create", "c", "--scope", "admin").exit_code == 1
    assert [path.read_text() for path in file.parent.iterdir()] == [COMMENTED]


def test_list_and_revoke_want_a_file(file: Path) -> None:
    for arguments in (["list"], ["revoke", "a"]):
        done = keys(file, *arguments)
        assert done.exit_code == 1
        assert str(file) in done.stderr
    assert keys(file / "deeper", "create", "a", "--scope", "admin").exit_code == 1


def test_lists(file: Path) -> None:
    file.write_text(
        COMMENTED.replace('sha256 = "', 'expires = 2020-01-01T00:00:00Z\ncreated = 2019-01-01T00:00:00Z\nsha256 = "', 1)
    )
    done = keys(file, "list")
    assert done.stdout.startswith("ID  SCOPES")
    assert "2020-01-01T00:00:00Z (expired)" in done.stdout
    assert "analysis:read results:read" in done.stdout
    assert not any(digest in done.stdout for digest in (sha256(b"key a").hexdigest(), sha256(b"key b").hexdigest()))
    entries = json.loads(keys(file, "list", "--json").stdout)
    assert entries[0] == {
        "id": "a",
        "scopes": ["results:write"],
        "created": "2019-01-01T00:00:00Z",
        "expires": "2020-01-01T00:00:00Z",
        "expired": True,
    }
    assert [entry["expires"] for entry in entries] == ["2020-01-01T00:00:00Z", None]


def test_edits_at_once_lose_no_key(file: Path) -> None:
    def create(number: int) -> None:
        key = Key(id=f"k{number}", sha256="0" * 64, scopes=frozenset({Scope.ADMIN}))
        with edit_keys(file, may_be_new=True) as opened:
            opened.add(key)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(40)))
    assert {key.id for key in read_keys(file.read_text(), file)} == {f"k{number}" for number in range(40)}


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("2999-01-31", datetime(2999, 1, 31, tzinfo=UTC)),
        ("2999-01-31T12:00:00Z", datetime(2999, 1, 31, 12, tzinfo=UTC)),
        ("2999-01-31T12:00:00.5+02:00", datetime(2999, 1, 31, 10, tzinfo=UTC)),
    ],
)
def test_expiry_as_a_date(text: str, expires: datetime) -> None:
    assert parse_expiry(text) == expires


@pytest.mark.parametrize(("text", "age"), [("90d", 90 * 86_400), ("12h", 43_200), ("2w", 14 * 86_400)])
def test_expiry_as_an_age(text: str, age: int) -> None:
    assert abs(parse_expiry(text).timestamp() - time.time() - age) < 5


@pytest.mark.parametrize(
    "text", ["", "soon", "0d", "-1d", "90", "2999-01-31T12:00:00", "2999-13-01", "99999999d", "9d "]
)
def test_expiry_that_is_none(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_expiry(text)


def test_a_ring_sees_a_change_within_its_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    file.write_text(COMMENTED)
    ring = KeyRing(file)
    assert ring.authorize("key a", Scope.RESULTS_WRITE).id == "a"
    keys(file, "revoke", "a")
    now += key_ring.LOOK_EVERY_S
    with pytest.raises(NotAuthenticated):
        ring.authorize("key a", Scope.RESULTS_WRITE)
    file.write_text("[[keys")
    now += key_ring.LOOK_EVERY_S
    assert ring.authorize("key b", Scope.RESULTS_READ).id == "b"  # a broken change is none


def test_a_ring_does_not_look_at_each_request(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    file.write_text(COMMENTED)
    ring = KeyRing(file)
    file.unlink()
    looks: list[Path] = []
    stat = Path.stat

    def look(path: Path) -> os.stat_result:
        looks.append(path)
        return stat(path)

    monkeypatch.setattr(Path, "stat", look)
    for _ in range(10):
        ring.authorize("key a", Scope.RESULTS_WRITE)
    assert looks == []
    now += key_ring.LOOK_EVERY_S
    for _ in range(10):
        ring.authorize("key a", Scope.RESULTS_WRITE)
    assert looks == [file]


def test_an_expired_key_is_refused(file: Path) -> None:
    file.write_text(COMMENTED.replace('id = "a"', 'id = "a"\nexpires = 2020-01-01T00:00:00Z'))
    with pytest.raises(NotAuthenticated, match="expired"):
        KeyRing(file).authorize("key a", Scope.RESULTS_WRITE)
