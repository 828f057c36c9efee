import os

import pytest

from rope_deploy.errors import UsageError
from rope_deploy.safe_reading import parse_json, read_bytes, require_small


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "line 1, column"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "within each other"),
        (b"[" * 200 + b"]" * 200, "within each other"),
        (b'{"a": 1, "a": 2}', "states 'a' twice"),
        (b"9" * 5000, "a number of 5000 digits"),
        (b'{"a": [1, ' + b"9" * 301 + b"]}", "holds a number of 301 digits"),
        (b'{"a": {"rope_theta": ' + b"9" * 301 + b"}}", "'rope_theta' is a number of 301 digits"),
    ],
)
def test_what_is_no_plain_json_is_refused_in_our_words(content, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(content)


def test_one_of_many_keys_that_is_there_twice_is_found_at_once():
    pairs = ", ".join(f'"{number}": 0' for number in [*range(200_000), 199_999])
    with pytest.raises(ValueError, match="states '199999' twice"):
        parse_json(f"{{{pairs}}}".encode())


def test_plain_json_is_read():
    assert parse_json(b'\xef\xbb\xbf{"a": [1, 2.5, null, Infinity]}') == {"a": [1, 2.5, None, float("inf")]}


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert read_bytes(tmp_path / "file") == b"abc"
    with pytest.raises(UsageError, match="has 3 bytes; 2 at most"):
        read_bytes(tmp_path / "file", most=2)
    with pytest.raises(UsageError, match="is a folder"):
        read_bytes(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="no regular file"):
        read_bytes(tmp_path / "pipe")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * 100_000)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        require_small(archive, tmp_path / "a.npz")
        with pytest.raises(UsageError, match="unpacks to 100000 bytes; 1000 at most"):
            require_small(archive, tmp_path / "a.npz", most=1000)
