"""Normalisation by CuPy's own functions, in float32 where activations are bfloat16: first the definitions, at their price."""

from __future__ import annotations

from typing import Any

from .. import parameter_dtype, reference
from .pointwise import cast, placed


def moments(x: Any, groups: int) -> Any:
    return reference.moments(_wide(x), groups)


def normalize(x: Any, *of: Any, out: Any = None) -> Any:
    return placed(cast(reference.normalize(_wide(x), *of), x.dtype), out)


def normalize_grads(x: Any, dy: Any, *of: Any) -> Any:
    dx, dgamma, dbeta = reference.normalize_grads(_wide(x), _wide(dy), *of)
    return cast(dx, x.dtype), dgamma, dbeta


def _wide(x: Any) -> Any:
    return cast(x, parameter_dtype(x.dtype))
