"""The contract of an op, watched: y, cache = forward(*arrays); grads = backward(dy, cache); nothing else is touched.

y is an array, or a tuple of arrays; dy then is a tuple too. Checks see all outputs in one row, one after another.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import Array, require
from .report import GradientError, StateError, element, relative_error

Forward = Callable[..., tuple[Any, Any]]
Backward = Callable[[Any, Any], tuple[Any, ...]]

# Two calls with the same arrays may differ by what another order of summation explains, and by no more.
REPEATS = {"float64": 1e-12, "float32": 1e-4}


class Op:
    """An op, and the arrays at which it is looked at, each with a name: forward's own for it unless `names` are given."""

    def __init__(self, forward: Forward, backward: Backward, arrays: Sequence[Array], names: Sequence[str] | None = None) -> None:
        self._forward, self._backward, self.arrays = forward, backward, arrays
        self.names = _argument_names(forward, len(arrays), names)
        self.several = False  # whether y is a tuple, as forward last returned it
        self._check_arrays()
        self.kept = {f"input.{name}": a for name, a in zip(self.names, arrays, strict=True)}  # to be saved where a check fails

    def _check_arrays(self) -> None:
        """Refuse what has no derivative: lists, NaN, nothing but whole numbers."""
        if not self.arrays:
            raise ValueError("no arrays were given; it takes forward, backward and at least one array to differentiate by")
        floats = any(isinstance(a, np.ndarray) and a.dtype.name in REPEATS for a in self.arrays)
        for i, a in enumerate(self.arrays):
            if not isinstance(a, np.ndarray):
                raise ValueError(
                    f"{self.label(i)} is of type {type(a).__name__}; it takes a NumPy array, float64 or float32. Give the "
                    "arrays of a tuple one by one: lambda a, b: op((a, b)); and bind settings before: lambda x: op(x, stride=2)"
                )
            if a.dtype.name not in REPEATS and not (floats and a.dtype.kind in "iub"):
                raise ValueError(self._undifferentiable(i))
            if a.dtype.kind == "f" and not np.isfinite(a).all():
                where = element(_first(~np.isfinite(a)))
                raise ValueError(f"{self.label(i)} is not finite at {where}; it takes numbers that a step can be added to")

    def _undifferentiable(self, i: int) -> str:
        dtype, why = self.arrays[i].dtype, "no step is chosen for others"
        if dtype.kind in "iub":
            why = (
                "there is no small step between whole numbers, so no derivative; an argument without a gradient "
                "(labels) belongs into forward: lambda x: op(x, labels), or backward returns None for it"
            )
        return f"{self.label(i)} is of dtype {dtype}; it takes float64 or float32: {why}"

    def label(self, i: int) -> str:
        """Return "w (argument 1)", or "argument 1" where it has no name of its own."""
        return self.names[i] if self.names[i] == f"argument {i}" else f"{self.names[i]} (argument {i})"

    def at(self, i: int, value: Array) -> Array:
        """Return y where argument i has that value."""
        return joined(self.forward(*self.arrays[:i], value, *self.arrays[i + 1 :])[0])

    def forward(self, *arrays: Array) -> tuple[tuple[Array, ...], Any]:
        """Return the outputs and the cache, or say what forward returned instead."""
        returned = self._forward(*arrays)
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            raise GradientError(f"forward returned {_describe(returned)}; the contract is a pair: return y, cache")
        y, cache = returned
        self.several = isinstance(y, (tuple, list))
        outputs = tuple(y) if isinstance(y, (tuple, list)) else (y,)
        if not outputs or not all(map(_is_output, outputs)):
            named = self.named("y", outputs) if outputs else {"y": y}
            name, part = next((name, part) for name, part in named.items() if not _is_output(part))
            raise GradientError(
                f"forward returned {_describe(part)} as {name}; the contract is one float64 or float32 array, or a tuple of "
                "them: return y, cache"
            )
        return tuple(np.asarray(part) for part in outputs), cache

    def named(self, name: str, outputs: Sequence[Any]) -> dict[str, Any]:
        """Return what belongs to the outputs by name: "y", or "y[0]", "y[1]" where they are a tuple."""
        return {f"{name}[{i}]" if self.several else name: part for i, part in enumerate(outputs)}

    def analyse(self, draw: Callable[[tuple[int, ...]], Any], once: bool) -> Analysis:
        """Return the outputs, a random dy of each and the gradients, all copies, once both functions have kept to the contract.

        They run twice. Between the second forward and its backward stand two more, of other numbers, which must not matter:
        all that backward knows is dy and its cache. `draw` makes dy from a shape. A cache serves any number of backwards, or
        `once`.
        """
        inputs = _Watch(dict(zip(self.names, self.arrays, strict=True)), StateError)
        y, cache = self.forward(*self.arrays)
        inputs.check("forward")
        for name, part in self.named("y", y).items():
            if not np.isfinite(part).all():
                where = _first(~np.isfinite(part))
                at = f"{part[where]} in {name}, at {element(where)}"
                raise GradientError(f"forward gives {at}: there is no slope to compare with")
        dy = self._drawn(y, draw)
        grads = self._watched_gradients(dy, cache, y, inputs)
        if all(g is None for g in grads):
            raise GradientError(
                f"backward returned None for all of {', '.join(self.names)}: nothing would be checked. It takes None for what "
                "is not to be checked (labels, indices), and an array for at least one argument"
            )
        returned = {f"the gradient of {n}": g for n, g in zip(self.names, grads, strict=True) if g is not None}
        outputs = _Watch(self.named("y", y) | returned, StateError)

        again, cache = self.forward(*self.arrays)
        self._check_repeated(y, again)
        for other in self.elsewhere().values():
            with suppress(Exception), np.errstate(all="ignore"):  # it may not be defined there
                self.forward(*other)
        later = self._watched_gradients(dy, cache, again, inputs)
        outputs.check("a second call", "was returned by the first: each call returns arrays of its own")
        for i, (first, second) in enumerate(zip(grads, later, strict=True)):
            if _differ(first, second):
                raise StateError(
                    f"backward gives another gradient of {self.label(i)} after a later forward: it uses something that is "
                    "neither dy nor its cache. Put all that it needs into the cache"
                )
        if not once:
            self._check_reused(dy, cache, grads)
        found = Analysis(_copies(y), _copies(dy), tuple(None if g is None else g.copy() for g in grads))
        self.kept |= self.named("y", found.outputs) | self.named("dy", found.upstream)
        self.kept |= {f"gradient.{n}": g for n, g in zip(self.names, found.grads, strict=True) if g is not None}
        return found

    def elsewhere(self) -> dict[str, list[Array]]:
        """Return other arrays of the same shapes, by what was done to them.

        Halves keep the sign, so that logarithms stay defined. Turned round, masks and maxima change too. What is in order may
        mean something by it, as knots do, and is not turned.
        """
        return {
            "halved": [_smaller(a) for a in self.arrays],
            "halved and turned round": [_smaller(a if _in_order(a) else np.flip(a)) for a in self.arrays],
        }

    def look(self, draw: Callable[[tuple[int, ...]], Any]) -> Analysis:
        """Return what analyse does, from one call each, with nothing watched."""
        y, cache = self.forward(*self.arrays)
        dy = self._drawn(y, draw)
        return Analysis(_copies(y), dy, self.gradients(dy, cache))

    @staticmethod
    def _drawn(y: tuple[Array, ...], draw: Callable[[tuple[int, ...]], Any]) -> tuple[Array, ...]:
        return tuple(np.asarray(draw(part.shape), part.dtype) for part in y)

    def _check_reused(self, dy: tuple[Array, ...], cache: Any, grads: Sequence[Array | None]) -> None:
        """Refuse a backward that uses its cache up: by taking things out of it, or by writing into it."""
        told = "backward uses its cache up: a second call with the same dy and the same cache"
        cure = "It may only read its cache. If one backward is all that a cache is meant to serve, say so: once=True"
        try:
            again = self.gradients(dy, cache)
        except Exception as error:
            raise GradientError(f"{told} raises {type(error).__name__}: {str(error).strip()}. {cure}") from error
        for i, (first, second) in enumerate(zip(grads, again, strict=True)):
            if _differ(first, second):
                raise GradientError(f"{told} gives another gradient of {self.label(i)}. {cure}", argument=self.names[i])

    def _check_repeated(self, y: tuple[Array, ...], again: tuple[Array, ...]) -> None:
        same = [part.shape for part in y] == [part.shape for part in again]
        errors = [relative_error(a, b) / REPEATS[b.dtype.name] for a, b in zip(again, y, strict=True)] if same else [np.inf]
        if max(errors) > 1:
            off = max(relative_error(a, b) for a, b in zip(again, y, strict=True)) if same else 0.0
            raise StateError(
                "forward is not deterministic: two calls with the same arrays differ"
                + (f" by a relative {off:.1e}" if same else " in shape")
                + ". Seed its random numbers anew in every call: np.random.default_rng(0)"
            )

    def _watched_gradients(
        self, dy: tuple[Array, ...], cache: Any, y: tuple[Array, ...], inputs: _Watch
    ) -> tuple[Array | None, ...]:
        passed = _Watch(self.named("dy", dy) | self.named("y", y), GradientError)
        grads = self._backward(dy if self.several else dy[0], cache)
        passed.check("backward", "belongs to its caller: backward may only read it. Work on a copy")
        inputs.check("backward", "is an input of forward (or a view of one is in the cache): it may only be read. Work on a copy")
        return self._checked(grads)

    def gradients(self, dy: tuple[Array, ...], cache: Any) -> tuple[Array | None, ...]:
        """Return backward's gradients, once their number, shapes, dtypes and values have been looked at."""
        return self._checked(self._backward(dy if self.several else dy[0], cache))

    def _checked(self, grads: Any) -> tuple[Array | None, ...]:
        names = ", ".join(self.names)
        if not isinstance(grads, tuple):
            raise GradientError(
                f"backward returned {_describe(grads)}; the contract is a tuple with one gradient an array ({names})"
                + (": return (dx,)" if len(self.arrays) == 1 else "")
            )
        if len(grads) != len(self.arrays):
            few = "few" if len(grads) < len(self.arrays) else "many"
            raise GradientError(
                f"backward returned {len(grads)} gradients, too {few}; it takes {len(self.arrays)}, one for each array that "
                f"forward got, in their order ({names}), None where there is none"
            )
        for i, (g, a) in enumerate(zip(grads, self.arrays, strict=True)):
            if g is not None:
                if a.dtype.kind != "f":
                    raise ValueError(self._undifferentiable(i))
                _check_gradient(g, a, f"the gradient of {self.label(i)}", self.names[i])
        return tuple(None if g is None else np.asarray(g) for g in grads)


@dataclass(frozen=True)
class Analysis:
    """What forward and backward gave at a point: outputs, their random upstream gradients, and a gradient (or None) an array."""

    outputs: tuple[Array, ...]
    upstream: tuple[Array, ...]
    grads: tuple[Array | None, ...]


def joined(outputs: Sequence[Array]) -> Array:
    """Return the one output as it is, several in one row."""
    return outputs[0] if len(outputs) == 1 else np.concatenate([part.ravel() for part in outputs])


def split(row: Array, like: Sequence[Array]) -> tuple[Array, ...]:
    """Undo joined: return arrays of those shapes and dtypes."""
    ends = np.cumsum([part.size for part in like])[:-1]
    parts = np.split(row.ravel(), ends)
    return tuple(part.reshape(old.shape).astype(old.dtype) for part, old in zip(parts, like, strict=True))


def _differ(first: Array | None, second: Array | None) -> bool:
    """Tell whether two gradients differ by more than another order of summation explains."""
    if first is None or second is None:
        return first is not second
    return relative_error(first, second) > REPEATS[first.dtype.name]


def _smaller(a: Array) -> Array:
    """Return half of an array of floats; indices as they are, for others may not be allowed."""
    return np.array(a / 2 if a.dtype.kind == "f" else a, a.dtype, order="C")


def _in_order(a: Array) -> bool:
    """Tell whether the elements of each row ascend: more than two, as which half of all pairs would."""
    return a.ndim > 0 and a.shape[-1] > 2 and bool((np.sort(a, axis=-1) == a).all())


def _copies(arrays: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(a.copy() for a in arrays)


def _argument_names(forward: Forward, count: int, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return a name for each array: those given, else those of forward's own parameters, else "argument 0", ..."""
    if given is not None:
        names = tuple(given)
        require(len(names) == count == len(set(names)), "names", repr(names), f"{count} different names, one an array")
        return names
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):  # some compiled functions have none
        parameters = []
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(named[i] if i < len(named) else f"argument {i}" for i in range(count))


class _Watch:
    """Copies of arrays, by which it shows who writes into them."""

    def __init__(self, arrays: Mapping[str, Array], error: type[GradientError]) -> None:
        self.arrays, self.error = arrays, error
        self.copies = {name: a.copy() for name, a in arrays.items()}

    def check(self, who: str, why: str = "was passed in: it may only be read. Work on a copy") -> None:
        """Raise, and put back what was written over, if an array has changed."""
        changed = [n for n, a in self.arrays.items() if a.tobytes() != self.copies[n].tobytes()]
        for name in changed[:1]:
            a, old = self.arrays[name], self.copies[name]
            where = _first((a != old) | (np.signbit(a) != np.signbit(old)))
            now = a[where]
            for other in changed:
                self.arrays[other][...] = self.copies[other]
            text = f"{who} changes {name} at {element(where)}, from {old[where]:g} to {now:g}. It {why}"
            raise self.error(text, argument=name)


def _check_gradient(g: Any, a: Array, what: str, name: str) -> None:
    """Refuse a gradient that is not of its argument's shape and dtype, or not finite."""
    if not isinstance(g, (np.ndarray, np.floating)):
        raise GradientError(f"{what} is {_describe(g)}; it takes an array of {name}'s shape {a.shape}, or None", argument=name)
    if g.shape != a.shape:
        raise GradientError(f"{what} has shape {g.shape}; it takes {name}'s own shape, {a.shape}", argument=name)
    if g.dtype != a.dtype:
        raise GradientError(f"{what} is of dtype {g.dtype}; it takes {name}'s own dtype, {a.dtype}", argument=name)
    if not np.isfinite(g).all():
        where = _first(~np.isfinite(g))
        text = f"{what} is {np.asarray(g)[where]} at {element(where)}, where forward is finite"
        raise GradientError(text, argument=name, index=where)


def _is_output(part: Any) -> bool:
    return isinstance(part, (np.ndarray, np.floating, float)) and np.asarray(part).dtype in (np.float64, np.float32)


def _first(mask: Any) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of length {len(value)}"
    return "None" if value is None else f"a {type(value).__name__}"
