"""The backends' convolutions as tests ask for them: by an algorithm, each pass with all that may be fused into it.

The specification computes the same one after another; `mask` is what relu gave.
"""

from __future__ import annotations

from minunet import kernels
from minunet.kernels import cpu as cpu_kernels
from minunet.kernels import reference as definitions


class Fused:
    """A backend, its convolutions with relu=, mask=, b=, out= and algorithm=."""

    def __init__(self, backend):
        self._backend = backend._backend if isinstance(backend, Fused) else backend

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def conv2d(self, x, w, b=None, *, algorithm="auto", relu=False, out=None, **geometry):
        if self._backend is definitions:
            return finished(definitions.conv2d(x, w, b, **geometry), None, relu, out)
        with kernels.algorithm(algorithm):
            return self._backend.conv2d(x, w, b, relu=relu, out=out, **geometry)

    def conv2d_input_grad(self, dy, w, x_shape, *, algorithm="auto", mask=None, b=None, relu=False, out=None, **geometry):
        if self._backend is definitions or (mask is not None and self._backend is not cpu_kernels):
            dy, mask = (dy if mask is None else self._backend.relu_grad(dy, mask)), None
        if self._backend is definitions:
            return finished(definitions.conv2d_input_grad(dy, w, x_shape, **geometry), b, relu, out)
        fused = {"b": b, "relu": relu, "out": out} | ({} if mask is None else {"mask": mask})
        with kernels.algorithm(algorithm):
            return self._backend.conv2d_input_grad(dy, w, x_shape, **fused, **geometry)

    def conv2d_weight_grad(self, x, dy, w_shape, *, algorithm="auto", mask=None, **geometry):
        if mask is not None and self._backend is not cpu_kernels:
            dy, mask = self._backend.relu_grad(dy, mask), None
        with kernels.algorithm(algorithm):
            return self._backend.conv2d_weight_grad(x, dy, w_shape, **({} if mask is None else {"mask": mask}), **geometry)

    def conv2d_grads(self, x, dy, w, *, algorithm="auto", mask=None, **options):
        if self._backend is definitions and mask is not None:
            dy, mask = definitions.relu_grad(dy, mask), None
        with kernels.algorithm(algorithm):
            if mask is None:
                return self._backend.conv2d_grads(x, dy, w, **options)
            return self._backend.conv2d_relu_grads(x, dy, w, mask, **options)


def finished(y, b, relu, out):
    """Return y + b, relu of that if asked for, in `out` if there is one."""
    y = y if b is None else y + b
    y = definitions.relu(y) if relu else y
    if out is None:
        return y
    out[...] = y
    return out


cpu, reference = Fused(cpu_kernels), Fused(definitions)
