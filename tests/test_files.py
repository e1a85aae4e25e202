"""Files are written whole or not at all: by one process of several, for nobody else to read meanwhile."""

import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from nwb_files import in_child

from spikeinterface_nuclr import InputError, UnitEmbeddings, files
from spikeinterface_nuclr.files import check_writable, folder_written_whole, standing_folders, sweep, written_whole
from spikeinterface_nuclr.model.model_file import kind_of_model


def mode(path):
    return path.stat().st_mode & 0o777


def write(path, text="new", **options):
    with written_whole(path, **options) as temporary:
        temporary.write_text(text)


def refusal(path, **options):
    with pytest.raises(InputError) as caught:
        write(path, **options)
    return str(caught.value)


def raising(error):
    def raise_it():
        raise error

    return raise_it


def test_a_file_is_there_when_the_block_ends_well(tmp_path):
    path = tmp_path / "a.txt"
    with written_whole(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("x")
        assert not path.exists()
    assert path.read_text() == "x"
    assert os.listdir(tmp_path) == ["a.txt"]
    with pytest.raises(ZeroDivisionError):
        write(path, "half", overwrite=True, check=raising(ZeroDivisionError()))
    assert path.read_text() == "x"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_nothing_is_left_of_a_question(tmp_path):
    assert check_writable(tmp_path / "a.txt") == tmp_path / "a.txt"
    assert os.listdir(tmp_path) == []


WRITER = """
import sys
from pathlib import Path
from spikeinterface_nuclr import InputError
from spikeinterface_nuclr.files import written_whole
path, barrier, number = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
print("ready", flush=True)
while not barrier.exists():
    pass
try:
    with written_whole(path) as temporary:
        temporary.write_text(number)
    print("wrote", number)
except InputError as error:
    print("refused", error)
"""


def test_one_of_several_processes_wins(tmp_path):
    path, barrier = tmp_path / "out.txt", tmp_path / "go"
    command = [sys.executable, "-c", WRITER, path, barrier]
    writers = [subprocess.Popen([*command, str(k)], stdout=subprocess.PIPE, text=True) for k in range(3)]
    assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 3
    barrier.touch()
    outputs = [writer.communicate()[0].strip() for writer in writers]
    won = [line.split()[1] for line in outputs if line.startswith("wrote")]
    assert won == [path.read_text()]
    assert sum("exists already" in line or "was created by another process meanwhile" in line for line in outputs) == 2


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
@pytest.mark.parametrize("folder", [False, True])
def test_one_of_several_threads_wins(tmp_path, monkeypatch, links, folder):
    """All of them have begun before the first one ends."""
    path, inside, outcomes, refusals = tmp_path / "out", threading.Barrier(4), [], []
    if not links:

        def no_link(*_):
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_link)

    def one(number):
        try:
            with written_whole(path) as temporary:
                if folder:
                    temporary.mkdir()
                (temporary / "x" if folder else temporary).write_text(number)
                inside.wait()
            outcomes.append(number)
        except InputError as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=one, args=(str(k),)) for k in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert outcomes == [(path / "x" if folder else path).read_text()]
    assert refusals == [f"{path}: was created by another process meanwhile: give another name"] * 3
    assert os.listdir(tmp_path) == ["out"]


def test_nobody_else_reads_it_before_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    with written_whole(path) as temporary:
        temporary.write_text("secret")
        assert mode(temporary.parent) == 0o700


def test_relative_links_lead_to_the_same_from_beside(tmp_path):
    (tmp_path / "data").write_text("x")
    path = tmp_path / "link.txt"
    with written_whole(path, beside=True) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        temporary.touch(mode=0o600)
    assert sorted(os.listdir(tmp_path)) == ["data", "link.txt"]


def test_permissions_are_kept(tmp_path):
    old_mask = os.umask(0o022)
    try:
        secret, path = tmp_path / "secret", tmp_path / "a.txt"
        secret.write_text("x")
        secret.chmod(0o600)
        write(path)
        assert mode(path) == 0o644
        path.chmod(0o664)
        write(path, overwrite=True)
        assert mode(path) == 0o664
        write(path, overwrite=True, like=secret)
        assert mode(path) == 0o600
        secret.chmod(0o444)
        write(path, overwrite=True, like=secret)
        assert mode(path) == 0o644
    finally:
        os.umask(old_mask)


def test_permissions_of_folders_are_kept_with_what_is_new_in_them(tmp_path):
    store = tmp_path / "store"
    (store / "old").mkdir(parents=True)
    (store / ".zgroup").write_text("{}")
    (store / "old" / "x").write_text("1")
    (store / "old" / "x").chmod(0o604)
    store.chmod(0o750)
    with written_whole(store, overwrite=True) as temporary:
        shutil.copytree(store, temporary)
        (temporary / "new").mkdir()
        (temporary / "new" / "y").write_text("2")
    assert [mode(store / name) for name in (".", "new", "new/y", "old/x")] == [0o750, 0o750, 0o640, 0o604]
    with written_whole(store, overwrite=True) as temporary:
        temporary.write_text("a file in place of a folder")
    assert mode(store) == 0o640
    assert os.listdir(tmp_path) == ["store"]


def test_the_last_word_is_asked_for_when_all_is_on_the_disk(tmp_path, monkeypatch):
    path, events, fsync = tmp_path / "a.txt", [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (events.append("synced"), fsync(number)))

    def check():
        events.append("checked")
        assert not path.exists()

    write(path, check=check)
    assert events == ["synced", "checked", "synced"]  # the file; then the folder that names it

    assert refusal(path, overwrite=True, check=raising(InputError("no: ask again"))) == "no: ask again"
    assert os.listdir(tmp_path) == ["a.txt"]


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def killed_while(moment, path):
    """Kill this process while it asks whether a file can be written, or while it writes it."""
    if moment == "probe":
        files.Path.rmdir = lambda _: kill()
        check_writable(path)
    with written_whole(path, beside=moment == "beside") as temporary:
        temporary.write_text("half")
        kill()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("moment", ["probe", "half", "beside"])
def test_what_a_killed_process_left_is_swept(tmp_path, moment):
    path = tmp_path / "a.txt"
    assert in_child(killed_while, moment, path)[0] == -signal.SIGKILL
    assert os.listdir(tmp_path)
    (tmp_path / ".a.txt.other-machine-1-aa").mkdir()  # of a process that nobody here can ask after
    write(path)
    assert sorted(os.listdir(tmp_path)) == [".a.txt.other-machine-1-aa", "a.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_is_neither_waited_for_nor_replaced(tmp_path):
    path = tmp_path / "pipe.npz"
    os.mkfifo(path)
    assert "is a device or a pipe: name a file" in refusal(path, overwrite=True)
    with pytest.raises(InputError, match="no such file"):
        UnitEmbeddings.load(path)
    assert kind_of_model(path) == ""


def test_refusals_name_the_place(tmp_path):
    assert "no such directory: create it first" in refusal(tmp_path / "absent" / "a.txt")
    assert "is a directory: name a file inside it" in refusal(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    assert "a.txt: exists already" in refusal(tmp_path / "a.txt")
    assert "x: cannot be written (File name too long): give another name" in refusal(tmp_path / ("x" * 300))
    nothing = refusal(tmp_path / "a\0b")
    assert r"a\x00b: cannot be written (" in nothing
    assert "embedded null" in nothing
    full = OSError(28, "No space left on device")
    assert "b.txt: could not be written (No space left on device)" in refusal(tmp_path / "b.txt", check=raising(full))
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_a_link_leads_to_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "scratch").mkdir()
    link, target = tmp_path / "link.txt", tmp_path / "scratch" / "of-another-name"
    link.symlink_to(target)
    with written_whole(link) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("first")
    assert link.is_symlink()
    assert target.read_text() == "first"
    write(link, "second", overwrite=True)
    assert link.is_symlink()
    assert target.read_text() == "second"
    shutil.rmtree(tmp_path / "scratch")
    assert "scratch: cannot write there (No such file or directory)" in refusal(link)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_file_system_without_permissions_or_sync_is_written_to(tmp_path, monkeypatch, number):
    """As memory sticks, and folders of a network that another user has mounted."""

    def unsupported(*_, **__):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "chmod", unsupported)
    monkeypatch.setattr(files.Path, "chmod", unsupported)
    monkeypatch.setattr(os, "fsync", unsupported)
    write(path, overwrite=True)
    assert path.read_text() == "new"


def test_a_disk_that_fails_is_said(tmp_path, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    assert "could not be written (Input/output error)" in refusal(tmp_path / "a.txt")
    assert os.listdir(tmp_path) == []


def folder_with(path, text):
    with folder_written_whole(path) as staged:
        staged.mkdir()
        (staged / "x").write_text(text)


@pytest.mark.parametrize("system", ["linux", "win32", "freebsd14"])
def test_folders_are_replaced_on_every_system(tmp_path, monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    path = tmp_path / "folder"
    folder_with(path, "old")
    folder_with(path, "new")
    assert (path / "x").read_text() == "new"
    assert os.listdir(tmp_path) == ["folder"]


def test_a_folder_that_a_kill_left_aside_is_found_and_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    path = tmp_path / "folder"
    folder_with(path, "old")
    with monkeypatch.context() as patch:
        rename = os.rename

        def killed(source, target):
            if target == path:
                raise KeyboardInterrupt
            rename(source, target)

        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            folder_with(path, "new")
    [left] = standing_folders(tmp_path)
    assert (left / "x").read_text() == "old"
    folder_with(path, "new")
    assert standing_folders(tmp_path) == [path]
    assert os.listdir(tmp_path) == ["folder"]


def test_long_names_leave_room_for_that_of_the_workshop(tmp_path):
    path = tmp_path / f"{'x' * 120}.txt"
    with written_whole(path) as temporary:
        assert len(temporary.parent.name) < 143
        temporary.write_text("x")
    assert path.read_text() == "x"


def test_what_processes_of_a_machine_of_a_longer_name_do_is_left_alone(tmp_path, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setattr(platform, "node", lambda: "lab")
    ours, theirs = f".a.txt.lab-{ended.pid}-0123abcd", f".a.txt.lab-2-{ended.pid}-0123abcd"
    for name in (ours, theirs):
        (tmp_path / name).mkdir()
    sweep(tmp_path, "b.txt")
    assert sorted(os.listdir(tmp_path)) == sorted([ours, theirs])
    sweep(tmp_path)
    assert os.listdir(tmp_path) == [theirs]
