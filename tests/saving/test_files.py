"""Files appear whole or not at all, and nothing is left of those that did not."""

import errno
import os
import subprocess

import pytest

from quickstudy.saving.files import (
    UnwritableError,
    atomically,
    check_folder_writable,
    check_writable,
    explained,
    remove_abandoned,
    write_text_atomically,
)


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    write_text_atomically(path, "old")
    with atomically(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_what_was_there_is_kept_if_asked(tmp_path):
    path, kept = tmp_path / "file", tmp_path / "kept"
    for text in ("first", "second", "third"):
        with atomically(path, keep=kept) as temporary:
            temporary.write_text(text)
    assert (path.read_text(), kept.read_text()) == ("third", "second")


def test_nothing_is_left_of_a_write_that_failed(tmp_path):
    path = tmp_path / "file"
    write_text_atomically(path, "old")
    with pytest.raises(ZeroDivisionError), atomically(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_reasons_are_sentences_and_keep_their_number(tmp_path, number):
    path = tmp_path / "file"
    sentence = r"file cannot be written: .+; .+\.$"
    with pytest.raises(UnwritableError, match=sentence) as raised, atomically(path) as temporary:
        raise OSError(number, os.strerror(number), str(temporary))
    assert raised.value.errno == number
    assert "Errno" not in str(raised.value)
    with pytest.raises(FileNotFoundError), explained(path):
        path.read_text()  # says enough by itself


def test_errors_name_the_path_and_not_the_temporary_file(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(UnwritableError) as raised, atomically(path) as temporary:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(temporary))
    said = f"{path} cannot be written: No such file or directory; choose another place."
    assert str(raised.value) == said
    for writing in (check_writable, lambda folder: write_text_atomically(folder, "")):
        with pytest.raises(UnwritableError, match="is a folder; give the name of a file"):
            writing(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_finding_out_whether_a_file_can_be_written_leaves_it_as_it_was(tmp_path):
    path = tmp_path / "folder" / "file"
    check_writable(path)
    assert not path.parent.exists()
    path.parent.mkdir()
    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_links_stay_and_what_they_point_to_is_written(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "file").write_text("old")
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(store / "file")
    (tmp_path / "folder").symlink_to(store)
    check_writable(tmp_path / "first")
    write_text_atomically(tmp_path / "first", "new")
    assert (tmp_path / "first").is_symlink()
    assert (store / "file").read_text() == "new"
    write_text_atomically(tmp_path / "folder" / "file", "newer")
    assert (store / "file").read_text() == "newer"
    assert [each.name for each in store.iterdir()] == ["file"]
    (tmp_path / "new").symlink_to(store / "not yet")
    write_text_atomically(tmp_path / "new", "begun")
    assert (store / "not yet").read_text() == "begun"


def test_links_that_lead_nowhere_are_refused(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "lost").symlink_to(tmp_path / "gone" / "file")
    for name, said in (("circle", "leads back to itself"), ("lost", "there is no folder")):
        with pytest.raises(UnwritableError, match=said):
            check_writable(tmp_path / name)
        with pytest.raises(UnwritableError, match=said):
            write_text_atomically(tmp_path / name, "")


def test_permissions_and_copies_by_hard_links_stay(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    os.link(path, tmp_path / "backup")
    write_text_atomically(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "backup").read_text() == "old"


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True)
    write_text_atomically(pipe, "all of it")
    assert reader.communicate()[0] == "all of it"
    assert pipe.is_fifo()


def test_folders_that_cannot_be_made_are_noticed_and_none_is_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableError, match="is a file; choose another folder"):
        check_folder_writable(tmp_path / "file" / "run")
    check_folder_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


WRITER = """
import sys
from pathlib import Path
from quickstudy.saving.files import atomically
with atomically(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    sys.stdin.read()  # until the test ends it
"""


def test_temporary_files_go_when_their_writer_is_dead_and_not_before(start_python, tmp_path):
    pytest.importorskip("fcntl")
    writer = start_python("-c", WRITER, tmp_path / "file", stdin=subprocess.PIPE)
    assert writer.stdout.readline()
    remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    writer.kill()
    writer.communicate()
    assert len(list(tmp_path.iterdir())) == 1
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_other_programs_stay(tmp_path):
    others = [tmp_path / ".work-in-progress.tmp", tmp_path / ".notes-1.tmp"]
    for other in others:
        other.write_text("mine")
    write_text_atomically(tmp_path / "file", "new")
    remove_abandoned(tmp_path)
    assert all(other.read_text() == "mine" for other in others)
