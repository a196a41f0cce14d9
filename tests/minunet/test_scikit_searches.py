"""Searches, cross-validation and pipelines of scikit-learn's: each number is that of fits made by hand on the same split."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest

import minunet
from minunet import UNet

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")
if not hasattr(sklearn.utils, "Tags"):
    pytest.skip("this scikit-learn has no tags of estimators: 1.6 has", allow_module_level=True)

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import FitFailedWarning, UnsetMetadataPassedError  # noqa: E402
from sklearn.metrics import make_scorer  # noqa: E402
from sklearn.model_selection import (  # noqa: E402
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402

SMALL = {
    "base_channels": 2, "depth": 0, "patch_size": 8, "batch_size": 1, "max_epochs": 1, "learning_rate": 0.01, "augment": False,
    "random_state": 0, "n_threads": 1, "verbose": 0,
}  # fmt: skip
HALVES = KFold(2, shuffle=True, random_state=1)


def images(n=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, (n, 10, 10))
    return rng.normal(0, 0.2, y.shape) + y, y, rng.integers(0, 3, y.shape).astype(float)


x, y, weight = images()


def objects(arrays):
    box = np.empty(len(arrays), object)
    for i, a in enumerate(arrays):
        box[i] = a
    return box


def picked(arrays, index):
    return arrays[index] if isinstance(arrays, np.ndarray) else [arrays[i] for i in index]


CUT = [slice(None), slice(0, 9), (slice(None), slice(2, 9)), slice(None)]  # of each image, that they differ in size
RAGGED = [[a[i][cut] for i, cut in enumerate(CUT)] for a in (x, y, weight)]
FORMS = {"an array": (x, y, weight), "negative": (-x, y, weight), "lists": RAGGED, "arrays of arrays": list(map(objects, RAGGED))}


@functools.cache
def by_hand(form="an array", weighted=False, **settings):
    """Return for each fold the UNet that was fitted without it, its score on it, and where it lies."""
    fits = []
    x, y, weights = FORMS[form]
    for train, test in HALVES.split(x):
        own = {"sample_weight": picked(weights, train)} if weighted else {}
        unet = UNet(**SMALL | settings).fit(picked(x, train), picked(y, train), **own)
        fits.append((unet, unet.score(picked(x, test), picked(y, test)), test))
    return fits


def scores(*given, **settings):
    return [score for _, score, _ in by_hand(*given, **settings)]


@pytest.mark.parametrize("form", ["lists", "arrays of arrays"])
def test_cross_validation_is_what_fits_by_hand_give(form):
    x, y, weights = FORMS[form]
    found = cross_validate(
        UNet(**SMALL), x, y, cv=HALVES, params={"sample_weight": weights}, return_estimator=True, error_score="raise"
    )
    assert found["test_score"].tolist() == scores(form, weighted=True) != scores(form)  # else the weights did not arrive
    for (unet, _, _), theirs in zip(by_hand(form, weighted=True), found["estimator"], strict=True):
        np.testing.assert_array_equal(unet.predict_proba(x[0]), theirs.predict_proba(x[0]))


@pytest.mark.parametrize("form", ["an array", "arrays of arrays"])
def test_each_image_is_predicted_by_who_never_saw_it(form):
    x, y, _ = FORMS[form]
    found = cross_val_predict(UNet(**SMALL), x, y, cv=HALVES)
    assert len(found) == len(x) and found.dtype == (y.dtype if form == "an array" else object)
    for unet, _, test in by_hand(form):
        for i in test:
            np.testing.assert_array_equal(found[i], unet.predict(x[i]))


def test_scores_of_ones_own_and_curves():
    def right(truth, predicted):
        return (truth == predicted).mean()

    def sure(unet, x, y):
        return unet.predict_proba(x).max(axis=-1).mean()

    found = cross_validate(UNet(**SMALL), x, y, cv=HALVES, scoring={"right": make_scorer(right), "sure": sure})
    hand = [(unet, test) for unet, _, test in by_hand()]
    assert found["test_right"].tolist() == [right(y[test], unet.predict(x[test])) for unet, test in hand]
    assert found["test_sure"].tolist() == [sure(unet, x[test], y[test]) for unet, test in hand]
    sizes, trained, tested = learning_curve(UNet(**SMALL), x, y, cv=HALVES, train_sizes=[1, 2])
    assert sizes.tolist() == [1, 2] and tested[1].tolist() == scores()
    first = [(UNet(**SMALL).fit(x[train[:1]], y[train[:1]]), train[:1], test) for train, test in HALVES.split(x)]
    assert tested[0].tolist() == [unet.score(x[test], y[test]) for unet, _, test in first]
    assert trained[0].tolist() == [unet.score(x[train], y[train]) for unet, train, _ in first]


GRID = {"learning_rate": [1e-3, 3e-2, 1e-4]}


def test_a_search_finds_what_is_best_by_hand_and_fits_it_on_all():
    search = GridSearchCV(UNet(**SMALL), GRID, cv=HALVES, error_score="raise").fit(x, y)
    hand = [np.mean(scores(learning_rate=rate)) for rate in GRID["learning_rate"]]
    assert search.cv_results_["mean_test_score"].tolist() == hand and len(set(hand)) == 3
    assert search.best_params_ == {"learning_rate": GRID["learning_rate"][int(np.argmax(hand))]}
    best = UNet(**SMALL | search.best_params_).fit(x, y)
    np.testing.assert_array_equal(search.best_estimator_.predict_proba(x), best.predict_proba(x))
    assert search.score(x, y) == best.score(x, y) and search.classes_.tolist() == [0, 1]


def test_settings_that_fail_score_nan_and_others_as_they_would():
    search = GridSearchCV(UNet(**SMALL), {"base_channels": [2, -1]}, cv=HALVES, refit=False)
    with pytest.warns(FitFailedWarning, match="base_channels is -1; it takes a whole number"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One or more of the test scores are non-finite")
        search.fit(x, y)
    good, bad = search.cv_results_["mean_test_score"]
    assert good == np.mean(scores()) and np.isnan(bad)
    with pytest.raises(ValueError, match="base_channels is -1"):
        search.set_params(error_score="raise").fit(x, y)


def test_values_that_a_search_draws_are_kept_by_the_file(tmp_path):
    """A search gives NumPy's numbers and texts; the file gives Python's."""
    drawn = {"base_channels": np.int64(3), "momentum": np.float64(0.2), "padding": np.str_("valid"), "augment": np.bool_(True)}
    unet = clone(UNet(**SMALL)).set_params(**drawn).fit(x, y)
    unet.save(tmp_path / "m")
    assert minunet.load(tmp_path / "m").get_params() == UNet(**SMALL).set_params(**drawn).get_params()
    np.testing.assert_array_equal(minunet.load(tmp_path / "m").predict_proba(x), unet.predict_proba(x))


# ---- Pipelines ----


def test_a_pipeline_is_searched_with_weights_and_predicts_as_by_hand():
    pipeline = Pipeline([("negative", FunctionTransformer(np.negative)), ("unet", UNet(**SMALL))])
    search = GridSearchCV(pipeline, {"unet__max_epochs": [1, 2]}, cv=HALVES, error_score="raise")
    search.fit(x, y, unet__sample_weight=weight)
    hand = [np.mean(scores("negative", weighted=True, max_epochs=n)) for n in (1, 2)]
    assert search.cv_results_["mean_test_score"].tolist() == hand
    assert search.best_params_ == {"unet__max_epochs": 1 + int(np.argmax(hand))}
    best = UNet(**SMALL | {"max_epochs": search.best_params_["unet__max_epochs"]}).fit(-x, y, sample_weight=weight)
    np.testing.assert_array_equal(search.predict(x), best.predict(-x))


def test_notebooks_show_settings_and_whether_it_is_fitted():
    from sklearn.utils import estimator_html_repr

    pipeline = make_pipeline(FunctionTransformer(np.negative), UNet(base_channels=3))
    for shown in (estimator_html_repr(UNet(base_channels=3)), pipeline._repr_html_(), GridSearchCV(pipeline, {})._repr_html_()):
        assert "UNet(base_channels=3)" in shown
    assert "Not fitted" in estimator_html_repr(UNet())
    assert "Not fitted" not in estimator_html_repr(UNet(**SMALL).fit(x[0], y[0]))


# ---- Copies ----


def test_copies_and_pickles_predict_the_same_bits_and_go_their_own_ways(tmp_path):
    unet = UNet(**SMALL | {"warm_start": True}).fit(x, y)
    proba = unet.predict_proba(x)
    joblib = pytest.importorskip("joblib")
    joblib.dump(unet, tmp_path / "unet.joblib")
    mapped = joblib.load(tmp_path / "unet.joblib", mmap_mode="r")  # as joblib hands large arrays to its processes: read-only
    copies = (copy.deepcopy(unet), mapped, pickle.loads(pickle.dumps(unet)))
    more = [copied.fit(x[:1], y[:1]).predict_proba(x) for copied in copies]
    np.testing.assert_array_equal(unet.predict_proba(x), proba)  # which the others trained on without
    for other in more:
        assert (other != proba).any()
        np.testing.assert_array_equal(other, more[0])
    unfitted = pickle.loads(pickle.dumps(UNet(**SMALL)))
    np.testing.assert_array_equal(unfitted.fit(x, y).predict_proba(x), proba)


class Cut(UNet):
    def __init__(self, *, cutoff=0.5, **settings):
        super().__init__(**settings)
        self.cutoff = cutoff


class Fixed(UNet):
    def __init__(self, depth=0):
        super().__init__(**SMALL | {"depth": depth})


def test_parameters_of_a_subclass_are_cloned_searched_and_shown(tmp_path):
    one, other = Cut(cutoff=0.3, base_channels=2), Fixed(depth=2)
    assert set(one.get_params()) == {"cutoff", *UNet().get_params()} and other.get_params() == {"depth": 2}
    assert (repr(one), repr(other)) == ("Cut(base_channels=2, cutoff=0.3)", "Fixed(depth=2)")
    assert clone(one).cutoff == 0.3 and clone(other).depth == 2 and type(clone(other)) is Fixed
    with pytest.raises(ValueError, match=r"Fixed has no parameter 'cutoff'; it has: depth$"):
        other.set_params(cutoff=1)
    for unet in (Cut(cutoff=0.3, **SMALL), Fixed()):
        unet.fit(x, y).save(tmp_path / "m")
        assert minunet.load(tmp_path / "m").get_params() == UNet(**SMALL).get_params()


# ---- Metadata routing ----


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def weighed(**asked):
    return UNet(**SMALL).set_fit_request(**asked).set_score_request(**asked)


def test_what_is_asked_for_is_handed_on_to_fit_and_score(routing):
    with pytest.raises(UnsetMetadataPassedError, match=r"UNet\.set_fit_request"):
        cross_val_score(UNet(**SMALL), x, y, cv=HALVES, params={"sample_weight": weight})
    hand = by_hand(weighted=True)
    expected = [unet.score(x[test], y[test], sample_weight=weight[test]) for unet, _, test in hand]
    assert expected != scores(weighted=True)
    for unet, name in ((weighed(sample_weight=True), "sample_weight"), (clone(weighed(sample_weight="trust")), "trust")):
        found = cross_val_score(unet, x, y, cv=HALVES, params={name: weight}, error_score="raise")
        assert found.tolist() == expected
    half = UNet(**SMALL).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
    found = cross_val_score(half, x, y, cv=HALVES, params={"sample_weight": weight}, error_score="raise")
    assert found.tolist() == scores(weighted=True)


def test_pipelines_and_searches_route_too(routing):
    pipeline = make_pipeline(FunctionTransformer(np.negative), weighed(sample_weight=True))
    search = GridSearchCV(pipeline, {"unet__depth": [0]}, cv=HALVES, error_score="raise").fit(x, y, sample_weight=weight)
    hand = [unet.score(-x[test], y[test], sample_weight=weight[test]) for unet, _, test in by_hand("negative", weighted=True)]
    assert search.cv_results_["mean_test_score"].tolist() == [np.mean(hand)]
    plain = make_pipeline(FunctionTransformer(np.negative), UNet(**SMALL)).fit(x, y)
    assert plain.score(x, y) == UNet(**SMALL).fit(-x, y).score(-x, y)


def test_groups_are_parted_neither_by_the_search_nor_by_fit(routing):
    groups = [0, 0, 1, 1, 2, 2]
    x, y, _ = images(6)
    unet = UNet(**SMALL).set_fit_request(groups=True)
    found = cross_validate(unet, x, y, cv=GroupKFold(3), params={"groups": groups}, return_estimator=True, return_indices=True)
    for fitted, train in zip(found["estimator"], found["indices"]["train"], strict=True):
        assert len({groups[i] for i in train}) == 2
        assert [groups[train[part.image]] for part in fitted.held_out_] in ([0, 0], [1, 1], [2, 2])


def test_what_cannot_be_asked_for_is_refused(routing):
    with pytest.raises(TypeError, match="fit of UNet takes no 'weight'; beside x and y it takes sample_weight"):
        UNet().set_fit_request(weight=True)
    with sklearn.config_context(enable_metadata_routing=False), pytest.raises(RuntimeError, match="set_config"):
        UNet().set_score_request(sample_weight=True)
    asked = UNet().set_fit_request(sample_weight=True)
    assert not UNet._requests and asked._requests == {"fit": {"sample_weight": True}}
    assert pickle.loads(pickle.dumps(asked)).get_metadata_routing().fit.requests["sample_weight"] is True


# ---- Processes, and Ctrl-C ----

PROGRAM = """
import os, pathlib, pickle, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where the tests run in the background
from sklearn.model_selection import GridSearchCV
from minunet import UNet, kernels

class Tell:
    def on_epoch_end(self, epoch, logs):
        pathlib.Path(f"{epoch}-{os.getpid()}-{kernels.n_threads()}-{os.environ['NUMBA_NUM_THREADS']}").touch()

small, grid, x, y, fitted = pickle.load(sys.stdin.buffer)
print(fitted.predict_proba(x).tobytes().hex(), flush=True)
search = GridSearchCV(UNet(**small), grid, cv=2, n_jobs=2, refit=False).fit(x, y)
print(search.cv_results_["mean_test_score"].tolist(), flush=True)
endless = GridSearchCV(UNet(**small | {"max_epochs": 10**6, "n_threads": None}), grid, cv=2, n_jobs=2)
try:
    endless.fit(x, y, callbacks=[Tell()])
finally:
    print([hasattr(endless, name) for name in ("best_estimator_", "cv_results_", "best_params_")], flush=True)
"""


@pytest.mark.rare
@pytest.mark.skipif(sys.platform == "win32", reason="groups of processes are POSIX's")
def test_processes_find_the_same_and_ctrl_c_ends_them_all(tmp_path):
    """A pickle predicts the same bits in another process; two find the scores that one finds; all end within seconds."""
    grid, unet = {"learning_rate": [1e-3, 3e-2]}, UNet(**SMALL).fit(x, y)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, start_new_session=True, **pipes
    ) as process:
        try:
            process.stdin.write(pickle.dumps((SMALL, grid, x, y, unet)))
            process.stdin.flush()
            predicted, found = (process.stdout.readline().decode().strip() for _ in range(2))
            while len(list(tmp_path.glob("1-*"))) < 2 and process.poll() is None:
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to all processes of the search
            out, err = (text.decode() for text in process.communicate(timeout=60))  # when the last has closed its streams
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode in (130, -signal.SIGINT), err
    assert out.strip() == "[False, False, False]" and "KeyboardInterrupt" in err
    assert predicted == unet.predict_proba(x).tobytes().hex()
    assert found == str(GridSearchCV(UNet(**SMALL), grid, cv=2).fit(x, y).cv_results_["mean_test_score"].tolist())
    for name in os.listdir(tmp_path):
        _, _, used, told = name.split("-")
        assert int(used) <= int(told)  # all processes together have one thread a processor
