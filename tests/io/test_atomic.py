"""Files that appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from bragg_numba.errors import InputError
from bragg_numba.io.atomic import atomic_path, require_writable, write_bytes
from bragg_numba.io.data_file import PartFile


def test_file_appears_under_its_name_and_nothing_else_is_left(tmp_path):
    write_bytes(tmp_path / "image.bin", b"photons")

    assert (tmp_path / "image.bin").read_bytes() == b"photons"
    assert os.listdir(tmp_path) == ["image.bin"]


def test_temporary_file_lies_in_the_same_folder_under_a_hidden_name(tmp_path):
    with atomic_path(tmp_path / "image.bin") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(f".image.bin.{os.getpid()}-")
        assert temporary.name.endswith(".part")
        assert not (tmp_path / "image.bin").exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_interrupted_write_leaves_the_old_file_alone(tmp_path, error):
    target = tmp_path / "image.bin"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise error

    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["image.bin"]


def test_temporary_file_that_the_writer_removed_is_no_second_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "image.bin") as temporary:
        temporary.unlink()
        raise KeyboardInterrupt


def test_missing_folder_is_found_before_any_work_is_done(tmp_path):
    target = tmp_path / "nowhere" / "image.bin"
    with (
        pytest.raises(InputError, match=r"image\.bin cannot be written: No such file") as caught,
        atomic_path(target),
    ):
        pytest.fail("the work began")

    assert caught.value.name == str(target)


def test_folder_as_target_is_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        write_bytes(tmp_path, b"")


def test_file_as_folder_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="Not a directory"):
        write_bytes(tmp_path / "file" / "image.bin", b"")


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs /dev/null")
def test_device_is_written_directly_and_stays_a_device():
    write_bytes("/dev/null", b"gone")

    assert not os.path.isfile("/dev/null")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_one_sentence_that_names_the_file():
    with pytest.raises(InputError, match="/dev/full cannot be written: No space left on device"):
        write_bytes("/dev/full", b"too much")


def test_write_error_inside_the_block_names_the_target(tmp_path):
    with (
        pytest.raises(InputError, match=r"image\.bin cannot be written: No space"),
        atomic_path(tmp_path / "image.bin"),
    ):
        raise OSError(28, "No space left on device")

    assert os.listdir(tmp_path) == []


def test_error_about_another_file_is_left_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "image.bin"):
        (tmp_path / "other.bin").read_bytes()


def test_link_stays_a_link(tmp_path):
    (tmp_path / "data").mkdir()
    link = tmp_path / "image.bin"
    link.symlink_to(tmp_path / "data" / "real.bin")
    write_bytes(link, b"photons")

    assert link.is_symlink()
    assert (tmp_path / "data" / "real.bin").read_bytes() == b"photons"


def test_a_write_protected_file_is_not_replaced(tmp_path):
    target = tmp_path / "kept.bin"
    target.write_bytes(b"kept")
    target.chmod(0o444)
    (tmp_path / "link.bin").symlink_to(target)
    for name in ("kept.bin", "link.bin"):
        for write in (lambda path: write_bytes(path, b"new"), require_writable, lambda path: PartFile(path)):
            with pytest.raises(InputError, match=rf"{name} exists and is write-protected"):
                write(tmp_path / name)

    assert target.read_bytes() == b"kept"
    assert target.stat().st_mode & 0o777 == 0o444
    assert sorted(os.listdir(tmp_path)) == ["kept.bin", "link.bin"]


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o755, 0o200])
def test_a_file_that_is_replaced_hands_its_mode_on(tmp_path, mode):
    for name, write in (("a", _write_at_once), ("b", _write_part)):
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / name).chmod(mode)
        write(tmp_path / name)
        assert (tmp_path / name).stat().st_mode & 0o777 == mode
        assert (tmp_path / name).stat().st_size == 3


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_that_the_umask_says(tmp_path, umask):
    before = os.umask(umask)
    try:
        _write_at_once(tmp_path / "a")
        _write_part(tmp_path / "b")
    finally:
        os.umask(before)
    for name in "ab":
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask


def _write_at_once(path):
    write_bytes(path, b"new")


def _write_part(path):
    part = PartFile(path)
    part.part.write_bytes(b"new")
    part.publish()
