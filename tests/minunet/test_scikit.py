"""scikit-learn's manners, by scikit-learn's own checks: rows of features are images of one pixel, whose channels they are."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import minunet
from minunet import UNet

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed")
if not hasattr(sklearn.utils, "Tags"):
    pytest.skip("this scikit-learn has no tags of estimators: 1.6 has", allow_module_level=True)

SMALL = {
    "base_channels": 2, "depth": 1, "patch_size": 16, "max_epochs": 1, "verbose": 0, "random_state": 0, "augment": False,
    "n_threads": 1,
}  # fmt: skip
ROWS = SMALL | {
    "depth": 0, "patch_size": 1, "batch_size": 8, "normalize": "dataset", "validation_fraction": 0.0, "learning_rate": 0.03,
}  # fmt: skip

WORDS = "refused, in other words than scikit-learn's for a table"
LEFT_OUT = {
    "check_n_features_in": "an image has no features; its channels are n_channels_in_",
    "check_n_features_in_after_fitting": "an image has no features; its channels are n_channels_in_",
    "check_sample_weight_equivalence_on_dense_data": "patches are drawn from the images there are: other images, other patches",
    "check_classifiers_classes": "masks hold numbers, no words: refused with the call that numbers them",
    "check_classifiers_train": "300 images of one pixel, learned three times, take seconds; images are learned in other tests",
    "check_supervised_y_2d": "masks of one column more are masks of other shapes than their images: refused",
    "check_dtype_object": "numbers in an array of objects are refused, with the call that makes numbers of them",
    "check_estimators_empty_data_messages": WORDS,
    "check_classifiers_regression_target": WORDS,
    "check_fit2d_predict1d": WORDS,
}
PARTS = 6  # that pytest-xdist shares out


class Rows(UNet):
    """A UNet for tables: a row (C,) is an image of 1 x 1 pixel, and its label a mask of 1 x 1."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(images(X), masks(y), sample_weight=sample_weight)

    def predict(self, X):
        return super().predict(images(X))[:, 0, 0]

    def predict_proba(self, X):
        return super().predict_proba(images(X))[:, 0, 0]

    def score(self, X, y):
        return super().score(images(X), masks(y))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.target_tags.single_output, tags.target_tags.multi_output = True, True, False
        tags.estimator_type, tags.classifier_tags = "classifier", sklearn.utils.ClassifierTags()
        return tags


def images(x):
    x = x if hasattr(x, "toarray") else np.asarray(x)
    return x[:, None, None, :] if getattr(x, "ndim", 0) == 2 and isinstance(x, np.ndarray) else x


def masks(y):
    return y if y is None or np.asarray(y).ndim != 1 else np.asarray(y)[:, None, None]


@pytest.mark.parametrize("part", range(PARTS))
def test_scikit_learns_checks_of_estimators_pass(part):
    from sklearn.utils.estimator_checks import estimator_checks_generator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it inherits nothing from scikit-learn
        checks = list(estimator_checks_generator(Rows(**ROWS), expected_failed_checks=LEFT_OUT, mark="skip"))
        assert len(checks) > 30
        for estimator, check in checks[part::PARTS]:
            try:
                check(estimator)
            except Exception as error:
                if type(error).__name__ != "SkipTest":
                    raise AssertionError(f"{check}: {error}") from error


def test_its_tags_say_what_it_takes():
    tags = sklearn.utils.get_tags(UNet())
    assert (tags.input_tags.two_d_array, tags.input_tags.three_d_array, tags.input_tags.sparse) == (False, True, False)
    assert tags.target_tags.required and tags.target_tags.multi_output and not tags.target_tags.single_output
    assert tags.requires_fit and tags.estimator_type is None and not tags.no_validation


# ---- The error of a model that is not fitted ----


def test_the_error_of_an_unfitted_model_is_scikit_learns_too():
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    for use in (lambda: UNet().predict(np.zeros((8, 8))), lambda: UNet().save("m"), lambda: check_is_fitted(UNet())):
        with pytest.raises(NotFittedError):
            use()
    with pytest.raises(minunet.NotFittedError, match="call fit") as raised:
        UNet().score(np.zeros((8, 8)), np.zeros((8, 8)))
    again = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(again, NotFittedError) and isinstance(again, minunet.NotFittedError) and again.args == raised.value.args


def test_a_pickled_error_is_read_where_scikit_learn_is_not_loaded():
    with pytest.raises(minunet.NotFittedError) as raised:
        UNet().predict(np.zeros((8, 8)))
    program = (
        "import pickle, sys, minunet; error = pickle.load(sys.stdin.buffer); "
        "assert type(error) is minunet.NotFittedError and 'sklearn' not in sys.modules; print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(raised.value), capture_output=True, check=True)
    assert done.stdout.decode().strip() == str(raised.value)


# ---- Pipelines (searches are in test_scikit_searches.py) ----


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (4, 16, 16))
    return rng.normal(0, 0.2, y.shape) + y, y


def test_it_is_cloned_and_ends_a_pipeline(data):
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    x, y = data
    assert clone(UNet(base_channels=8, random_state=3)).get_params() == UNet(base_channels=8, random_state=3).get_params()
    pipeline = make_pipeline(FunctionTransformer(np.negative), UNet(**SMALL))
    pipeline.set_params(unet__base_channels=3).set_output(transform="default")
    fitted = pickle.loads(pickle.dumps(clone(pipeline).fit(x, y)))
    np.testing.assert_array_equal(fitted.predict(x), UNet(**SMALL | {"base_channels": 3}).fit(-x, y).predict(-x))
    assert "UNet(base_channels=3" in repr(pipeline) and fitted.score(x, y) > 0
    with pytest.raises(ValueError, match="no parameter 'chanels'"):
        pipeline.set_params(unet__chanels=3)
