"""What scikit-learn asks of an estimator, where it is there: an error that it knows, and what the estimator takes."""

from __future__ import annotations

import sys
from typing import Any


class NotFittedError(ValueError, AttributeError):
    """Raised where a model is used before `fit`; where scikit-learn is loaded, it is scikit-learn's error of that name, too."""


def not_fitted(message: str) -> NotFittedError:
    """Return the error, as an `except` of scikit-learn's catches it, too. (It cannot be in use where it is not loaded.)"""
    theirs = getattr(sys.modules.get("sklearn.exceptions"), "NotFittedError", None)
    if theirs is None:
        return NotFittedError(message)
    # Pickled as a call of this function: it may be read where scikit-learn is not.
    body = {"__reduce__": lambda error: (not_fitted, error.args), "__doc__": NotFittedError.__doc__, "__module__": __name__}
    both: type[NotFittedError] = type("NotFittedError", (NotFittedError, theirs), body)
    return both(message)


def tags() -> Any:
    """Return what is true of UNet: images N x H x W or N x H x W x C, no rows of features, and a mask for each.

    One image H x W is taken, too; but scikit-learn means by a 2-D array one row a sample, and would cut it into rows. It is no
    classifier to it: that has one label a sample.
    """
    from sklearn.utils import InputTags, Tags, TargetTags

    return Tags(
        estimator_type=None,
        target_tags=TargetTags(required=True, one_d_labels=False, two_d_labels=False, multi_output=True, single_output=False),
        input_tags=InputTags(two_d_array=False, three_d_array=True),
    )
