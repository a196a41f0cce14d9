"""The target "optimizer": SGD and Adam move parameters as their formula says, or refuse with a ValueError and move nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from fuzz.arrays import Field, close, plain_copy
from fuzz.judge import ACCEPTED, REFUSED, demand, sentence
from fuzz.source import Source

from minunet.kernels import updates
from minunet.optim import SGD, Adam, Optimizer

SECONDS = 1.0  # of the processor, that a case may take
MEMORY = 2**26  # bytes that it may take
RATES = (0.1, 0.0, 1.0, -0.1, 0.9, 1e-3, 1e30, float("nan"), float("inf"))
LOSSES = (None, 0.5, float("nan"), float("inf"))


def test_one_input(data: bytes) -> tuple[str, str]:
    """Judge one case, one to three updates: return what became of it; Broken, or what was raised, where that is wrong."""
    source = Source(data)
    field = Field(source)
    optimizer = _optimizer(source)
    verdict = ACCEPTED, ""
    with np.errstate(all="ignore"):
        param, grad = _arrays(field, source)
        for _ in range(source.between(1, 3)):
            verdict = _update(optimizer, param, grad, field, source)
            change = source.below(8)
            if change == 7:  # another network's turn
                param, grad = _arrays(field, source)
            elif change == 6 and optimizer.moments:
                _meddle(optimizer, field, source, param)
    return verdict


def _optimizer(source: Source) -> Optimizer:
    if source.once_in(2):
        return SGD(source.choice(RATES), source.choice(RATES), source.choice((0.0, 0.1)), source.once_in(2))
    return Adam(source.choice(RATES[:6]), beta1=source.choice((0.9, 0.0)), weight_decay=source.choice((0.0, 0.1)))


def _arrays(field: Field, source: Source) -> tuple[Any, Any]:
    """Return parameters and gradients: one-dimensional, mostly of the same size and dtype."""
    size, dtype = source.choice((5, 16, 0, 1, 17, 1000)), source.choice(("f4", "f8"))
    param = field.array((size,), dtype)
    overlap = source.below(12)
    if overlap >= 9 and isinstance(param, np.ndarray) and param.ndim == 1 and param.size < 2**20:
        return (param, (param, param[::-1], np.concatenate([param, param[:1]])[1:])[overlap - 9])
    return param, field.array((size,), dtype)


def _meddle(optimizer: Optimizer, field: Field, source: Source, param: Any) -> None:
    """Give the optimizer moments that are not its own."""
    moments = list(optimizer.moments)
    i = source.below(len(moments))
    own = (
        moments[i]
        if isinstance(moments[i], np.ndarray)
        and moments[i].dtype.kind == "f"
        and moments[i].ndim == 1
        and moments[i].size < 2**20
        else np.zeros(3, np.float32)
    )
    others = (param, moments[0], own[:-1], field.array(own.shape, "f4"), own.astype("f2"))
    moments[i] = source.choice(others)
    optimizer.moments = tuple(moments)


def _update(optimizer: Optimizer, param: Any, grad: Any, field: Field, source: Source) -> tuple[str, str]:
    loss = source.choice(LOSSES) if source.once_in(4) else None
    loss = None if loss is None else np.asarray(loss, np.float32)
    field.remember()
    before = [_kept(a) for a in (param, grad, *optimizer.moments)]
    n_updates, n_moments = optimizer.n_updates, len(optimizer.moments)
    try:
        optimizer.update(param, grad, loss=loss)
    except (ValueError, MemoryError) as error:
        field.changed()
        after = [_kept(a) for a in (param, grad, *optimizer.moments[:n_moments])]
        demand(_alike(before, after), "a refusal moves nothing")
        demand(optimizer.n_updates == n_updates, "a refusal does not count", optimizer.n_updates)
        return REFUSED, sentence(str(error) or type(error).__name__)
    field.changed(param, *optimizer.moments)
    _demand_formula(optimizer, before, param, grad, loss)
    return ACCEPTED, ""


def _kept(array: Any) -> Any:
    return plain_copy(array) if isinstance(array, np.ndarray) and array.size < 2**20 else array


def _alike(before: list[Any], after: list[Any]) -> bool:
    return all(a is b or (isinstance(a, np.ndarray) and a.tobytes() == b.tobytes()) for a, b in zip(before, after, strict=True))


def _demand_formula(optimizer: Optimizer, before: list[Any], param: Any, grad: Any, loss: Any) -> None:
    """Compare with the definition, on copies that lie apart."""
    demand(all(isinstance(a, np.ndarray) for a in (param, grad)), "only arrays are taken", (type(param), type(grad)))
    expected, g, *moments = before
    moments = moments or [np.zeros_like(expected) for _ in optimizer.moments]
    names = ("learning_rate", "momentum", "weight_decay", "nesterov") if isinstance(optimizer, SGD) else (
        "learning_rate", "beta1", "beta2", "epsilon", "weight_decay")  # fmt: skip
    rates = {name: getattr(optimizer, name) for name in names}
    if loss is None or np.isfinite(loss):
        if isinstance(optimizer, SGD):
            updates.sgd_update(expected, g, *moments, **rates)
        else:
            updates.adam_update(expected, g, *moments, **rates, t=optimizer.n_updates)
    demand(close(plain_copy(param), expected), "parameters move by the formula", (param, expected))
    for found, moment in zip(optimizer.moments, moments, strict=True):
        demand(close(plain_copy(found), moment), "moments move by the formula", (found, moment))
