"""What is kept of a kernel is used only if it is whole, is of that kernel, and nobody else can have written it."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil

import pytest

pytest.importorskip("numba")

import numba

from minunet.kernels.cpu import trust
from minunet.kernels.cpu.cache import KernelCache, Pair

as_root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes here")


def double(x):
    return x + x


def triple(x):
    return x * 3


class Process:
    """A kernel as a new process has it: compiled from nothing, or taken from the folder."""

    def __init__(self, folder, function=double, stamp="stamp"):
        self.lost, self.unkept = [], []
        self.kernel = numba.njit(function)
        self.kernel._cache = KernelCache(function, folder, stamp, lost=self.lost.append, unkept=self.unkept.append)

    def run(self, argument=3):
        """Return what the kernel gives, and whether it was taken from the folder."""
        result = self.kernel(argument)
        return result, bool(self.kernel.stats.cache_hits)


@pytest.fixture
def folder(tmp_path):
    """A folder in which `double` of an integer is kept."""
    folder = tmp_path / "cache"
    trust.make_folder(folder)
    process = Process(folder)
    assert process.run() == (6, False) and not process.lost and not process.unkept
    return folder


def about(folder):
    return next(folder.glob("double-*.nbi"))


def code(folder):
    return next(folder.glob("double-*.nbc"))


def recompiles(folder, match, unkept=False):
    """Assert that a process cannot use what is kept, says why, and goes on; and that the next finds it mended."""
    process = Process(folder)
    assert process.run() == (6, False)
    assert len(process.lost) == 1 and match in process.lost[0] and "\n" not in process.lost[0]
    assert bool(process.unkept) == unkept, process.unkept
    if not unkept:
        served(folder)
        assert len(list(folder.iterdir())) == 2  # a pair, and nothing else


def served(folder):
    process = Process(folder)
    assert process.run() == (6, True) and not process.lost and not process.unkept


class Planted:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def plant(folder, tmp_path):
    """Put another program into the place of the code, with a hash that is right; return the folder that it would make."""
    data = pickle.dumps(Planted(tmp_path / "it ran"))
    digest = hashlib.sha256(data).hexdigest()
    code(folder).unlink()
    name = about(folder).with_suffix(f".{digest[:16]}.nbc")
    name.write_bytes(data)
    name.chmod(0o600)
    about(folder).write_text(json.dumps(json.loads(about(folder).read_text()) | {"sha256": digest}))
    return tmp_path / "it ran"


def test_what_is_kept_serves_the_next_process(folder):
    served(folder)
    assert Process(folder).run(1.5) == (3.0, False)  # another signature has files of its own
    assert Process(folder).run(1.5) == (3.0, True)
    served(folder)


def test_the_plant_of_these_tests_would_run(folder, plant):
    """Where it is the user's own, it is as trusted as his other files: who can write these needs no cache."""
    recompiles(folder, "is of no use here (TypeError")
    assert plant.exists()


@posix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770])
@pytest.mark.parametrize("above", [False, True])
def test_a_planted_pickle_never_runs_where_others_may_write(folder, plant, mode, above):
    place = folder.parent if above else folder
    place.chmod(mode)
    if above and mode & 0o1000:  # as in /tmp: who may write there cannot touch a folder of ours
        return
    recompiles(folder, f"others may write {place} ", unkept=True)
    assert not plant.exists()


@posix
@pytest.mark.parametrize("mode", [0o666, 0o620])
@pytest.mark.parametrize("which", [about, code])
def test_nor_from_a_file_that_others_may_write(folder, plant, mode, which):
    which(folder).chmod(mode)
    recompiles(folder, f"others may write {folder}")
    assert not plant.exists()


@as_root
@pytest.mark.parametrize("place", [about, code, lambda folder: folder, lambda folder: folder.parent])
def test_nor_from_what_belongs_to_somebody_else(folder, plant, place):
    path = place(folder)
    is_file = path.is_file()
    os.chown(path, 65534, 65534)
    recompiles(folder, "belongs to another user", unkept=not is_file)
    assert not plant.exists()


@posix
@pytest.mark.parametrize("which", [about, code])
def test_nor_through_a_link_or_a_second_name(folder, plant, which, tmp_path):
    path = which(folder)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    recompiles(folder, "is a link")
    path = which(folder)
    path.unlink()
    os.link(elsewhere, path)
    process = Process(folder)
    assert process.run() == (6, False) and "2 names" in process.lost[0]
    assert not plant.exists() and elsewhere.exists()


def test_nor_where_the_hash_is_another(folder, plant):
    path = about(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sha256": "0" * 64}))
    path.with_suffix(f".{'0' * 16}.nbc").write_bytes(code(folder).read_bytes())
    recompiles(folder, "is damaged")
    assert not plant.exists()


def test_nor_an_index_that_is_a_pickle_as_numbas_is(folder, tmp_path):
    about(folder).write_bytes(pickle.dumps(numba.__version__) + pickle.dumps(Planted(tmp_path / "it ran")))
    recompiles(folder, "is damaged")
    about(folder).write_bytes(pickle.dumps(Planted(tmp_path / "it ran")))
    recompiles(folder, "is damaged")
    assert not (tmp_path / "it ran").exists()


@pytest.mark.parametrize("digest", ["../../../tmp/x" + "0" * 50, "/" * 64, "", None, 7, ["0" * 64], "ß" * 63])
def test_nor_from_a_place_that_the_index_makes_up(folder, digest):
    about(folder).write_text(json.dumps(json.loads(about(folder).read_text()) | {"sha256": digest}))
    process = Process(folder)
    assert process.run() == (6, False) and len(process.lost) == 1
    served(folder)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize("which", [about, code])
def test_a_cut_file_is_compiled_anew_and_mended(folder, which, share):
    path = which(folder)
    os.truncate(path, int(path.stat().st_size * share))
    recompiles(folder, f"{path} is damaged")


@pytest.mark.parametrize("which", [about, code])
def test_so_is_one_with_a_flipped_bit_or_more_at_its_end_wherever(folder, which):
    for place in range(0, 100, 7):
        path = which(folder)
        data = bytearray(path.read_bytes())
        place = place * len(data) // 100
        data[place] ^= 0x10
        path.write_bytes(data)
        process = Process(folder)
        assert process.run() == (6, False), place
        assert len(process.lost) == 1 or "No such file" in str(process.lost) or which is about, place
        served(folder)
    path = which(folder)
    path.write_bytes(path.read_bytes() + b"more")
    recompiles(folder, "is damaged")


@pytest.mark.parametrize("text", [b"[" * 100000, b"null", b"[]", b"{}", b'{"of": 1, "sha256": 2}', b"\xff\xfe", b"\0" * 64])
def test_so_is_whatever_else_lies_there(folder, text):
    about(folder).write_bytes(text)
    process = Process(folder)
    assert process.run() == (6, False) and len(process.lost) == 1
    served(folder)


def test_so_is_a_giant(folder):
    os.truncate(about(folder), 1 << 40)
    recompiles(folder, "bytes; at most")


@posix
@pytest.mark.parametrize("which", [about, code])
def test_a_pipe_in_its_place_is_not_waited_for(folder, which):
    path = which(folder)
    path.unlink()
    os.mkfifo(path)
    recompiles(folder, "no ordinary file")


def test_a_folder_in_the_place_of_a_file_stays_and_kernels_are_compiled(folder):
    path = about(folder)
    path.unlink()
    path.mkdir()
    process = Process(folder)
    assert process.run() == (6, False) and len(process.lost) == len(process.unkept) == 1
    assert path.is_dir()


def test_files_of_two_functions_that_changed_places_are_told_apart(folder):
    Process(folder, triple).run()
    other = next(folder.glob("triple-*.nbi"))
    mine, theirs = about(folder).read_bytes(), other.read_bytes()
    about(folder).write_bytes(theirs)
    other.write_bytes(mine)
    for function, result in ((double, 6), (triple, 9)):
        process = Process(folder, function)
        assert process.run() == (result, False) and "of another kernel or version" in process.lost[0]
    paths = [next(folder.glob(f"{name}-*.nbc")) for name in ("double", "triple")]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, reversed(contents), strict=True):
        path.write_bytes(content)
    for function, result in ((double, 6), (triple, 9)):
        process = Process(folder, function)
        assert process.run() == (result, False) and "is damaged" in process.lost[0]
        assert Process(folder, function).run() == (result, True)


@pytest.mark.parametrize("place", range(7))
def test_what_another_version_kept_is_not_used(folder, place):
    """Each of the versions, the sources' stamp, the function, the signature: none of them may differ."""
    found = json.loads(about(folder).read_text())
    found["of"][place] = "another" if place else 0
    about(folder).write_text(json.dumps(found))
    recompiles(folder, "of another kernel or version")


def test_what_other_sources_kept_has_other_names(folder):
    process = Process(folder, stamp="another")
    assert process.run() == (6, False) and not process.lost
    served(folder)
    assert Process(folder, stamp="another").run() == (6, True)


def test_a_folder_that_vanishes_is_made_again(folder):
    process = Process(folder)
    shutil.rmtree(folder)
    assert process.run() == (6, False) and not process.lost and not process.unkept
    served(folder)


def test_a_file_in_the_place_of_the_folder_is_told_and_stays(folder):
    process = Process(folder)
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert process.run() == (6, False) and len(process.unkept) == 1
    assert folder.read_text() == "in the way"


def test_code_without_its_index_and_an_index_without_its_code_are_nothing(folder):
    code(folder).unlink()
    process = Process(folder)
    assert process.run() == (6, False) and not process.lost
    about(folder).unlink()
    process = Process(folder)
    assert process.run() == (6, False) and not process.lost
    served(folder)


@pytest.mark.parametrize("call", ["mkdir", "open", "write", "close", "replace"])
def test_whatever_fails_in_writing_the_kernel_runs_and_the_next_process_is_well(tmp_path, monkeypatch, call):
    """Each call of each kind, in its turn: a full disk, a limit, a folder that may not be written."""
    kind, real = f"os.{call}", getattr(os, call)
    for failing in range(20):
        folder, calls = tmp_path / str(failing) / "cache", []

        def fail(*arguments, calls=calls, failing=failing, **options):
            ours = isinstance(arguments[0], int) or str(tmp_path) in str(arguments[0])
            if ours and (call != "open" or arguments[1] & os.O_CREAT):
                calls.append(arguments)
                if len(calls) == failing + 1:
                    if call == "close":
                        real(*arguments)
                    raise OSError(28, "No space left on device")
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(kind, fail)
            process = Process(folder)
            assert process.run() == (6, False)
        if len(calls) <= failing:
            break
        assert len(process.unkept) + len(process.lost) == 1 and "No space left" in str(process.unkept + process.lost)
        if folder.exists():
            assert not list(folder.glob("*.tmp"))
        process = Process(folder)
        process.run()
        assert not process.lost and not process.unkept
        served(folder)
    assert 1 < failing < 20


def test_of_two_processes_that_keep_the_same_kernel_the_first_stays(folder):
    late = Process(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    late.kernel._cache.disable()
    assert late.run() == (6, False)  # it found nothing yet, and compiles
    late.kernel._cache.enable()
    ((sig, compiled),) = late.kernel.overloads.items()
    late.kernel._cache.save_overload(sig, compiled)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    served(folder)


def test_a_cache_that_is_switched_off_neither_reads_nor_writes_and_a_flushed_one_is_empty(folder):
    process = Process(folder)
    process.kernel._cache.disable()
    assert process.run() == (6, False)
    process.kernel._cache.enable()
    process.kernel._cache.flush()
    assert Process(folder).run() == (6, False)
    assert process.kernel.stats.cache_path == str(folder)


def test_where_both_wrote_before_either_looked_the_pair_is_whole(folder, monkeypatch):
    """Whichever order the four files come in: the code of each has a name of its own."""
    late = Process(folder)
    late.kernel._cache.disable()
    late.run()
    late.kernel._cache.enable()
    before = code(folder)
    ((sig, compiled),) = late.kernel.overloads.items()
    with monkeypatch.context() as patch:
        patch.setattr(Pair, "read", lambda pair: (_ for _ in ()).throw(FileNotFoundError()))
        late.kernel._cache.save_overload(sig, compiled)
    assert before.exists()
    served(folder)


def test_memory_that_is_short_is_not_taken_for_damage(folder, monkeypatch):
    def short(*arguments):
        raise MemoryError

    process = Process(folder)
    with monkeypatch.context() as patch:
        patch.setattr("minunet.kernels.cpu.cache.pickle.loads", short)
        with pytest.raises(MemoryError):
            process.run()
    assert not process.lost
    served(folder)
