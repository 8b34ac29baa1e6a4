"""Four quadrature points of a walk as one number of the processor, which compilers do not find by themselves.

Each array is read as rows of four: row `n` holds elements `4 n` to `4 n + 3`.
"""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, ARG001, PLR0917
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

BLOCK = 4
"""Quadrature points of one walk: as many as one vector register holds everywhere."""

_FOUR = ir.VectorType(ir.DoubleType(), BLOCK)
_BYTES = 8
"""What memory is aligned to."""


class _Rows:
    """An array's rows of four."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        data = context.make_array(kind)(context, builder, array).data
        self._builder, self._data = builder, builder.bitcast(data, _FOUR.as_pointer())

    def _place(self, row: Any, more: int) -> Any:
        return self._builder.gep(self._data, [self._builder.add(row, ir.Constant(row.type, more))])

    def get(self, row: Any, more: int = 0) -> Any:
        return self._builder.load(self._place(row, more), align=_BYTES)

    def put(self, value: Any, row: Any, more: int = 0) -> None:
        self._builder.store(value, self._place(row, more), align=_BYTES)


@intrinsic
def spread(_typing, held, parent, factors, way, edge):
    """What a parent holds, times each of two factors, becomes what two edges hold."""

    def code(context, builder, signature, arguments):
        held, parent, factors, way, edge = arguments
        edges, by = (
            _Rows(context, builder, signature.args[0], held),
            _Rows(context, builder, signature.args[2], factors),
        )
        above = edges.get(parent)
        for side in range(2):
            edges.put(builder.fmul(above, by.get(way, side)), edge, side)
        return context.get_dummy_value()

    return types.void(held, types.uint64, factors, types.uint64, types.uint64), code


@intrinsic
def collect(_typing, held, edge, factors, way, parent, sums, feature):
    """The sum of what two edges hold becomes what their parent holds; that of each times its gain is added to a sum."""

    def code(context, builder, signature, arguments):
        kinds = signature.args
        held, edge, factors, way, parent, sums, feature = arguments
        edges, by, given = (
            _Rows(context, builder, kinds[place], array) for place, array in ((0, held), (2, factors), (5, sums))
        )
        left, right = edges.get(edge), edges.get(edge, 1)
        edges.put(builder.fadd(left, right), parent)
        gains = builder.fadd(builder.fmul(left, by.get(way, 2)), builder.fmul(right, by.get(way, 3)))
        given.put(builder.fadd(given.get(feature), gains), feature)
        return context.get_dummy_value()

    numbers = (types.uint64,) * 2
    return types.void(held, types.uint64, factors, *numbers, sums, types.uint64), code
