"""scikit-learn's manners, without scikit-learn: parameters by name, copies for a search, what is handed on, an error it knows."""

from __future__ import annotations

import copy
import inspect
import sys
from typing import Any, TypeVar

T = TypeVar("T", bound="Estimator")


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


class Estimator:
    """What cross_val_score, GridSearchCV, pipelines and `clone` ask of an estimator. A subclass may add or drop parameters."""

    _stops_a_search = False
    _requests: dict[str, dict[str, bool | str | None]] = {}  # what a user asked for; an instance has its own

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor's parameters by name."""
        return {name: getattr(self, name) for name in defaults(type(self))}

    def set_params(self: T, **params: Any) -> T:
        """Set constructor parameters by name. Return self."""
        known = defaults(type(self))
        for name in params:
            if name not in known:
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has: {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def set_fit_request(self: T, **requests: bool | str | None) -> T:
        """Say which arguments of `fit` scikit-learn's metadata routing hands on: True, False, or another name. Return self."""
        return self._request("fit", requests)

    def set_score_request(self: T, **requests: bool | str | None) -> T:
        """Say which arguments of `score` scikit-learn's metadata routing hands on: True, False, or another name. Return self."""
        return self._request("score", requests)

    def get_metadata_routing(self) -> Any:
        """Return what was asked for, as scikit-learn's metadata routing reads it."""
        from sklearn.utils.metadata_routing import MetadataRequest

        routing = MetadataRequest(owner=type(self).__name__)
        for method in ("fit", "score"):
            asked = dict.fromkeys(self._companions(method)) | self._requests.get(method, {})
            for name, alias in asked.items():
                getattr(routing, method).add_request(param=name, alias=alias)
        return routing

    def __sklearn_clone__(self: T) -> T:
        """Return an unfitted copy for a search (cross_val_score, GridSearchCV): Ctrl-C ends the search, not one fit of it."""
        twin = type(self)(**copy.deepcopy(self.get_params(deep=False)))
        twin._stops_a_search, twin._requests = True, copy.deepcopy(self._requests)
        return twin

    def __sklearn_tags__(self) -> Any:
        """Return what is true of UNet: images N x H x W or N x H x W x C, no rows of features, and a mask for each.

        One image H x W is taken, too; but scikit-learn means by a 2-D array one row a sample, and would cut it into rows. It is
        no classifier to it: that has one label a sample.
        """
        from sklearn.utils import InputTags, Tags, TargetTags

        target = TargetTags(required=True, one_d_labels=False, two_d_labels=False, multi_output=True, single_output=False)
        return Tags(estimator_type=None, target_tags=target, input_tags=InputTags(two_d_array=False, three_d_array=True))

    def __repr__(self) -> str:
        given, usual = self.get_params(), defaults(type(self))
        changed = (f"{name}={value!r}" for name, value in given.items() if repr(value) != repr(usual[name]))
        return f"{type(self).__name__}({', '.join(changed)})"

    def _request(self: T, method: str, requests: dict[str, bool | str | None]) -> T:
        import sklearn

        if not sklearn.get_config().get("enable_metadata_routing"):  # else nothing would read it, and nobody tell
            raise RuntimeError(f"set_{method}_request takes sklearn.set_config(enable_metadata_routing=True) first")
        for name in requests.keys() - self._companions(method):
            takes = ", ".join(self._companions(method))
            raise TypeError(f"{method} of {type(self).__name__} takes no {name!r}; beside x and y it takes {takes}")
        self._requests = self._requests | {method: self._requests.get(method, {}) | requests}
        return self

    def _companions(self, method: str) -> list[str]:
        """Return the names of what a method takes beside self, x and y."""
        return list(inspect.signature(getattr(type(self), method)).parameters)[3:]


def defaults(of: type) -> dict[str, Any]:
    """Return the parameters of a class's constructor with their defaults; its parents' too, where **settings lead to them."""
    found: dict[str, Any] = {}
    for base in (base for base in of.__mro__ if "__init__" in vars(base)):
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        named = {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        found = named | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found
