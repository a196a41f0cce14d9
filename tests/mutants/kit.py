"""Errors planted in the gradient kit: what it would then take wrongly, or refuse though it is right, in the catalogue's form."""

from __future__ import annotations

from .mutant import Row

KIT = "minunet/testing/"
CONTRACT, LAYOUTS, ELSEWHERE = f"{KIT}contract.py", f"{KIT}layouts.py", f"{KIT}elsewhere.py"
CHECKS, ARGUMENT, KEPT = f"{KIT}checks.py", f"{KIT}argument.py", f"{KIT}kept.py"
BROKEN, SHAPE, SUITS = ("broken_contract",), ("kept_by_shape",), ("do_not_suit",)

KIT_TAKES: list[Row] = [
    ("None for all gradients passes", CONTRACT, "if all(g is None for g in grads):", "if not grads:", BROKEN),
    ("a cache is never asked for a second backward", CONTRACT, "        if not once:\n", "        if False:\n", BROKEN),
    ("a second backward that gives None passes", CONTRACT, "return first is not second", "return False", BROKEN),
    ("a second backward is compared with itself", CONTRACT, "zip(grads, again, strict=True)):\n            if _differ",
     "zip(again, again, strict=True)):\n            if _differ", BROKEN),
    ("no point is turned round", CONTRACT, "else np.flip(a)) for a", "else a) for a", SHAPE),
    ("the first other point is the one given", CONTRACT, '"halved": [_smaller(a) for', '"halved": [a for', SHAPE),
    ("knots are turned round", CONTRACT, "a.shape[-1] > 2 and bool(", "a.shape[-1] > 9 and bool(", SUITS),
    ("pairs in order are not turned round", CONTRACT, "a.shape[-1] > 2 and bool(", "a.shape[-1] > 1 and bool(", ("pairs",)),
    ("dy is laid out where layouts are asked for alone", LAYOUTS, "range(0 if every else len(op.arrays), len(given))",
     "range(0 if every else len(given), len(given))", ("takes_memory",)),
    ("the last dy is not laid out", LAYOUTS, "range(0 if every else len(op.arrays), len(given))",
     "range(0 if every else len(op.arrays), len(given) - 1)", ("takes_memory",)),
    ("a refusal of a layout passes where layouts are asked for", LAYOUTS, "if not every:", "if True:", ("refusal",)),
    ("a refusal of a layout is told unasked", LAYOUTS, "if not every:", "if False:", ("refusal",)),
    ("broadcast numbers are compared with the usual ones", LAYOUTS, 'if layout != "broadcast" else', 'if layout != "" else',
     ("strides_pass",)),
    ("wrong gradients of other points pass", ELSEWHERE, "if error.error is not None:", "if False:", SHAPE),
    ("a kink of another point is told as wrong", ELSEWHERE, "if error.error is not None:", "if True:", SUITS),
    ("one step for elements of all sizes", ELSEWHERE, "2.0 ** (np.frexp(a)[1] - 1)", "1", ("other_sizes",)),
    ("what has no gradient moves too", ELSEWHERE, "[grad is not None for grad in found.grads]",
     "[a.dtype.kind == 'f' for a in arrays]", ("several_arguments",)),
    ("arrays are not put back", KEPT, "partial(_write, thing, thing.copy())", "partial(_write, thing, thing)", ("put_back",)),
    ("generators are not put back", KEPT, "isinstance(thing, np.random.Generator)", "isinstance(thing, np.random.BitGenerator)",
     ("put_back",)),
    ("lists keep what came along", KEPT, "partial(thing.__setitem__, slice(None), list(thing))", "partial(len, thing)",
     ("put_back",)),
    ("attributes that came along stay", KEPT, "inner: list[Any] = [vars(thing)] if hasattr(thing, \"__dict__\") else []",
     "inner: list[Any] = list(vars(thing).values()) if hasattr(thing, \"__dict__\") else []", ("put_back",)),
    ("tuples are not looked into", KEPT, "(tuple, set, frozenset)", "(set, frozenset)", ("put_back",)),
    ("running statistics stay changed", CHECKS, "with kept(layer):", "with kept(None):", ("running_statistics",)),
    ("a layer's cache must serve two", CHECKS, "    once: bool = True, **options", "    once: bool = False, **options",
     ("serve_one",)),
    ("a layer is never asked for two", CHECKS, "linear=linear, once=once, **options", "linear=linear, once=True, **options",
     ("serve_one",)),
    ("a network's parameters do not move with its backward", CHECKS,
     "        with holding(values):  # a layer's backward reads its parameters\n            returned = backward(dy, own)",
     "        returned = backward(dy, own)", ("layers_pass",)),
    ("any dx of several inputs is taken", CHECKS, "isinstance(each, tuple) and len(each) == count", "len(each) == count",
     ("several_inputs",)),
    ("an adjoint is checked once", CHECKS, "for _ in range(draws):", "for _ in range(1):", ("draw",)),
    ("an adjoint's cache must serve two", CHECKS, "found = op.analyse(draw, once)", "found = op.analyse(draw, False)", ("draw",)),
    ("outputs of float32 are held to float64", CHECKS, "for a in (*arrays, *found.outputs))", "for a in arrays)", ("float32",)),
    ("inputs of float32 are held to float64", CHECKS, "for a in (*arrays, *found.outputs))", "for a in found.outputs)",
     ("float32",)),
    ("linear may bend ten times as far", ARGUMENT, "1e3 * self.tolerance", "1e4 * self.tolerance", ("bends",)),
    ("linear may bend a tenth as far", ARGUMENT, "1e3 * self.tolerance", "1e2 * self.tolerance", ("bends",)),
    ("a small output is as exact as it is small", ARGUMENT, "self.precision.unit * max(1.0, abs(float(self.x[index])))", "0.0",
     ("cancels",)),
]  # fmt: skip
