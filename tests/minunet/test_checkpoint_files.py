"""Where a checkpoint stands, who else is there, and what cannot be written: what is refused changes nothing, nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from faults.disks import read_only
from faults.trial import SkippedError
from stopped import at_every_step, stopped

import minunet
from minunet import ModelFileError, UNet, checkpoint, description, leftovers, losses, modelfile
from minunet.flat import Weights

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and limits are made as on Linux")

SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "batch_size": 2, "max_epochs": 3, "verbose": 0, "dropout": 0.25,
    "random_state": 5, "validation_fraction": 0.4, "n_threads": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def often():
    with at_every_step():
        yield


@pytest.fixture
def path(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "training"


@pytest.fixture(scope="module")
def whole():
    """Return what a training comes to that nothing disturbs."""
    with at_every_step():
        return trained(UNet(**SMALL).fit(*images()))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the bytes of its checkpoint in the second epoch."""
    path = tmp_path_factory.mktemp("checkpoint") / "training"
    stopped(UNet(**SMALL), *images(), path, 1, 2)
    return path.read_bytes()


def images():
    x = np.random.default_rng(0).random((5, 20, 24), np.float32)
    return x, (x > 0.6).astype(int)


def trained(unet):
    """Return what a training has made, but for the time that it took."""
    history = {name: values for name, values in unet.history_.items() if name != "seconds"}
    return unet.network_.flat.tobytes(), history, unet.best_score_


def content(folder):
    """Return all that stands in a folder: names, and bytes of files."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refused(kind, says, path, *, resume=True, unet=None, folder=None):
    """Fit; require this error, an estimator that is what it was, and files that are what they were. Return the error."""
    unet = unet or UNet(**SMALL)
    folder = folder or path.parent
    before, files = dict(vars(unet)), content(folder)
    with pytest.raises(kind, match=says) as caught:
        unet.fit(*images(), checkpoint=path, resume=resume)
    assert type(caught.value) is kind
    assert vars(unet) == before and content(folder) == files
    return caught.value


def fitted():
    """Return a model of another training, which is to stay, of the settings of this one."""
    return UNet(**SMALL | {"random_state": 1, "max_epochs": 1}).fit(*images()).set_params(**SMALL)


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "make, kind, says",
    [
        (lambda p: p.mkdir(), IsADirectoryError, "training is a folder; give the name of a file in it"),
        (os.mkfifo, FileExistsError, "training is no ordinary file and will not be replaced; give another name"),
        (lambda p: p.symlink_to("/dev/full"), FileExistsError, "/dev/full is no ordinary file and will not be replaced"),
        (lambda p: p.parent.rmdir(), FileNotFoundError, "there is no folder .*folder to write training into; make it first"),
        (lambda p: (p.parent.rmdir(), p.parent.touch()), NotADirectoryError, "folder is a file, so that training cannot be"),
        (lambda p: locked_by(p).mkdir(), IsADirectoryError, r"alone, as \..*minunet-lock beside it cannot be locked: Is a dir"),
        (lambda p: locked_by(p).symlink_to("x"), OSError, r"minunet-lock beside it cannot be locked: .*links\. Delete that, if"),
    ],
    ids=["folder", "pipe", "device", "no folder", "a file as a folder", "a folder as a lock", "a link as a lock"],
)
def test_where_no_file_can_be_written_it_is_told_before_anything_is_trained(path, make, kind, says, resume):
    make(path)
    error = refused(kind, says, path, resume=resume, unet=fitted(), folder=path.parent.parent)
    assert str(path.parent) in str(error) or "/dev/full" in str(error)


def locked_by(path):
    return path.with_name(f".{path.name}.{leftovers._digest(path.name)}.minunet-lock")


@pytest.mark.parametrize(
    "make, kind, says",
    [
        (lambda data: b"", ModelFileError, "not a safetensors file"),
        (lambda data: data[:-1], ModelFileError, "truncated: its weights take .* bytes"),
        (lambda data: data[: len(data) // 2], ModelFileError, "truncated"),
        (lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:], ModelFileError, "do not have their sum, sha256_weights"),
        (lambda data: data.replace(b"n_updates", b"n_updatez"), ModelFileError, "training.n_updatez is unknown; it takes"),
        (lambda data: b"\x89PNG" * 40, ModelFileError, "not a safetensors file"),
        (None, ValueError, r"is a model, and has no training to go on with; warm_start=True \(--init\) begins another one"),
    ],
    ids=["empty", "a byte short", "half", "a bit of a moment", "a letter of the description", "an image", "a model"],
)
def test_what_is_no_checkpoint_is_refused_and_left_as_it_is(path, written, make, kind, says):
    if make is None:
        fitted().save(path)
    else:
        path.write_bytes(make(written))
    error = refused(kind, says, path, unet=fitted())
    assert str(path) in str(error)
    refused(FileExistsError, r"is there already: resume=True \(--resume\) goes on with its training", path, resume=False)


def test_a_link_to_itself_is_told_by_its_name(path):
    path.symlink_to(path.name)
    assert refused(OSError, "Too many levels of symbolic links", path).errno == errno.ELOOP


def changed(written, path, change):
    """Write a checkpoint whose training and moments were changed, by somebody who makes the sums anew."""
    path.write_bytes(written)
    network, said, moments, trained = modelfile.load_checkpoint(path, description.check)
    moments, own = change(said["training"], moments) or moments, None
    if trained is not None:
        own = Weights(network.flat.copy(), network.state.flat.copy())
        network.flat[...], network.state.flat[...] = trained
    modelfile.save(path, network, said, moments=moments, model=own)


def a_negative_square(training, moments):
    moments[1][0] = -0.5


def one_moment(training, moments):
    training["moments"] = 1
    return moments[:1]


def a_third_moment(training, moments):
    training["moments"] = 3
    return [*moments, moments[0]]


def more_steps(training, moments):
    training |= {"index": 9, "losses": [0.5] * 9, "n_steps": 12, "n_updates": 12}


@pytest.mark.parametrize(
    "change, says",
    [
        (a_negative_square, r"training's description is damaged: moments\[1\] is -0.5 to .*from 0 up: a mean of squares"),
        (one_moment, "training's description is damaged: training.moments is 1, of type int; it takes 2, as Adam has"),
        (a_third_moment, "training.moments is 3, of type int; it takes 2, as Adam has"),
        (more_steps, "training's description is damaged: training.index is 9, of type int; it takes 3 at most, an epoch's steps"),
    ],
)
def test_a_state_that_no_such_training_can_have_is_refused_although_its_model_loads(written, path, change, says):
    changed(written, path, change)
    minunet.load(path)
    refused(ModelFileError, says, path, unet=fitted())


def test_a_mean_of_weights_without_the_weights_is_refused(path):
    settings = SMALL | {"average": 0.9}
    stopped(UNet(**settings), *images(), path, 1, 2)
    written = path.read_bytes()
    changed(written, path, lambda training, moments: training.update(moments=2) or moments[:2])
    says = "training.moments is 2, of type int; it takes 3, as Adam has, and the mean of the weights"
    refused(ModelFileError, says, path, unet=UNet(**settings))
    changed(written, path, a_negative_square)
    refused(ModelFileError, r"moments\[1\] is .*from 0 up: a mean of squares", path, unet=UNet(**settings))


def in_a_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def in_a_fork(call):
    if not (child := os.fork()):
        try:
            call()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize("run", [in_a_thread, in_a_fork, lambda call: call()], ids=["thread", "fork", "callback"])
@pytest.mark.parametrize("by_link", [False, True])
def test_a_second_training_is_refused_and_the_first_goes_on(path, whole, run, by_link, tmp_path):
    other = path
    if by_link:
        (tmp_path / "elsewhere").symlink_to(path.parent)
        other = tmp_path / "elsewhere" / "link"
        (path.parent / "link").symlink_to(path.name)
    before, told = content(path.parent), tmp_path / "told"

    class Meanwhile:
        def on_epoch_end(self, epoch, logs):
            if epoch == 1:
                run(self.second)

        def second(self):
            for resume in (True, False):
                unet = UNet(**SMALL)
                try:
                    unet.fit(*images(), checkpoint=other, resume=resume)
                except BlockingIOError as error:
                    said = f"{error.errno} {error} {vars(unet) == vars(UNet(**SMALL))}\n"
                    with told.open("a") as file:
                        file.write(said)

    unet = UNet(**SMALL).fit(*images(), checkpoint=path, callbacks=[Meanwhile()])
    sentence = f"another training writes {path.resolve()}: wait until it has ended, or give another path"
    assert told.read_text() == f"{errno.EAGAIN} {sentence} True\n" * 2
    assert trained(unet) == whole and trained(minunet.load(path)) == whole
    assert content(path.parent).keys() == before.keys() | {path.name}


HOLDER = """
import sys, pathlib
from minunet import leftovers
with leftovers.sole(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_process_is_waited_for_by_nobody_and_a_killed_one_holds_nothing(path, whole, written):
    path.write_bytes(written)
    words = [sys.executable, "-c", HOLDER, os.path.realpath(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            refused(BlockingIOError, "another training writes .*training: wait until", path)
        finally:
            process.kill()
            process.wait()
    assert locked_by(path).exists()
    assert trained(UNet(**SMALL).fit(*images(), checkpoint=path, resume=True)) == whole
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("missing", ["flock", "fcntl"])
def test_where_files_cannot_be_locked_a_training_is_gone_on_with_all_the_same(path, whole, written, monkeypatch, missing):
    if missing == "fcntl":
        monkeypatch.setattr(leftovers, "fcntl", None)
    else:
        monkeypatch.setattr(leftovers.fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks")))
    path.write_bytes(written)
    assert trained(UNet(**SMALL).fit(*images(), checkpoint=path, resume=True)) == whole
    assert os.listdir(path.parent) == [path.name]


def test_a_link_stays_one_and_leads_to_the_checkpoint(path, whole, written, tmp_path):
    link = tmp_path / "link"
    link.symlink_to("folder/training")
    stopped(UNet(**SMALL), *images(), link, 1, 2)
    assert link.is_symlink() and path.is_file() and not path.is_symlink()
    assert trained(UNet(**SMALL).fit(*images(), checkpoint=link, resume=True)) == whole
    assert link.is_symlink() and trained(minunet.load(path)) == whole


def test_a_folder_that_may_not_be_written_is_told_at_once(path, written):
    path.write_bytes(written)
    kind = OSError if os.geteuid() == 0 else PermissionError
    try:
        with read_only(path.parent):
            refused(kind, "nothing can be written into .*folder: ", path.with_name("new"))
            refused(PermissionError, "training is there and may not be written|nothing can be written into .*folder", path)
    except SkippedError as reason:
        pytest.skip(str(reason))


class At:
    """A callback that does something at the end of an epoch."""

    def __init__(self, **calls):
        self.calls = calls

    def on_epoch_end(self, epoch, logs):
        self.calls.get(f"epoch{epoch}", lambda: None)()


def with_warnings(call):
    """Return what a call returns, and what it warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        return call(), [str(warning.message) for warning in told]


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_folder_that_vanishes_is_told_once_and_ends_no_training(path, whole, comes_back):
    folder = path.parent
    calls = {"epoch0": lambda: shutil.rmtree(folder)} | ({"epoch1": folder.mkdir} if comes_back else {})
    unet, told = with_warnings(lambda: UNet(**SMALL).fit(*images(), checkpoint=path, callbacks=[At(**calls)]))
    assert len(told) == 1 and f"the checkpoint was not written: there is no folder {folder}" in told[0]
    assert trained(unet) == whole and folder.exists() is comes_back
    if comes_back:
        assert trained(minunet.load(path)) == whole and os.listdir(folder) == [path.name]


@pytest.mark.parametrize("until_the_end", [True, False])
def test_a_disk_that_is_full_leaves_the_last_checkpoint_and_the_training_its_end(path, whole, until_the_end):
    import resource

    kept, before = [], resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        kept.append(path.read_bytes())
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # bytes of a file: less than it takes

    def make_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    calls = {"epoch0": fill} | ({} if until_the_end else {"epoch1": make_room})
    try:
        unet, told = with_warnings(lambda: UNet(**SMALL).fit(*images(), checkpoint=path, callbacks=[At(**calls)]))
    finally:
        make_room()
    assert len(told) == 1 and "the checkpoint was not written: " in told[0] and "File too large" in told[0]
    assert trained(unet) == whole and os.listdir(path.parent) == [path.name]
    if until_the_end:
        assert path.read_bytes() == kept[0]
    assert trained(UNet(**SMALL).fit(*images(), checkpoint=path, resume=True)) == whole


@pytest.mark.parametrize("error", [MemoryError(), ValueError("moment1.head.bias holds values that are not finite")])
def test_whatever_hinders_writing_ends_no_training(path, whole, monkeypatch, error):
    def save(*arguments, **options):
        raise error

    monkeypatch.setattr(modelfile, "save", save)
    unet, told = with_warnings(lambda: UNet(**SMALL).fit(*images(), checkpoint=path))
    what = str(error) or "there is not enough memory"
    assert told == [f"the checkpoint was not written: {what}. The training goes on; it is tried again"]
    assert trained(unet) == whole


class Silent(losses.CrossEntropy):
    """A loss that tells nothing of what is held out, until it learns to."""

    tells = False

    def of_counts(self, counts):
        return super().of_counts(counts) if self.tells else None


def test_what_a_loss_of_ones_own_tells_only_later_is_unknown_before(path, monkeypatch):
    stopped(UNet(**SMALL | {"loss": Silent()}), *images(), path, 1, 2)
    monkeypatch.setattr(Silent, "tells", True)
    found = UNet(**SMALL | {"loss": Silent()}).fit(*images(), checkpoint=path, resume=True).history_
    right = UNet(**SMALL | {"loss": Silent()}).fit(*images()).history_
    np.testing.assert_equal(found["val_loss"], [np.nan, *right["val_loss"][1:]])
    assert found["val_dice"] == right["val_dice"] and len(right["val_loss"]) == 3
    assert set(minunet.load(path).history_) == set(found)


def test_the_file_is_its_own_however_the_current_folder_changes(path, whole, monkeypatch):
    monkeypatch.chdir(path.parent)
    unet = UNet(**SMALL).fit(*images(), checkpoint=path.name, callbacks=[At(epoch0=lambda: os.chdir("/"))])
    assert trained(unet) == whole == trained(minunet.load(path)) and checkpoint.files.taken(path)


@pytest.mark.parametrize(
    ("settings", "copies"),
    [({"optimizer": "sgd"}, 2), ({}, 3), ({"early_stopping": True}, 4), ({"average": 0.9}, 5)],
)
def test_room_is_asked_for_as_many_copies_of_the_weights_as_are_written(path, monkeypatch, settings, copies):
    """Weights and moments; those of the best epoch, where an end may choose it; the mean, and what it is made of."""
    asked, require_writable = [], checkpoint.files.require_writable
    monkeypatch.setattr(checkpoint.files, "require_writable", lambda p, n_bytes=0: asked.append(n_bytes) or require_writable(p))
    unet = UNet(**SMALL | settings).fit(*images(), checkpoint=path)
    data = path.read_bytes()
    body = len(data) - 8 - int.from_bytes(data[:8], "little")
    assert body == copies * 4 * unet.n_parameters_ and max(asked) == copies * unet.network_.flat.nbytes
