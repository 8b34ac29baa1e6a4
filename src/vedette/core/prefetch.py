"""Memory asked for ahead of its turn, in kernels. Nothing here changes a result."""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: allow-untyped-defs
from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

LINE = 64
"""Bytes that come from memory together."""


@intrinsic
def prefetch(_context, array, place):
    """Asks the processor to bring the line of an element near; the tuple `place` is in the array."""

    def code(context, builder, signature, arguments):
        kind = signature.args[0]
        held = context.make_array(kind)(context, builder, arguments[0])
        indices = cgutils.unpack_tuple(builder, arguments[1])
        word = cgutils.get_item_pointer(context, builder, kind, held, indices, wraparound=False)
        one = ir.IntType(32)
        byte = builder.bitcast(word, ir.IntType(8).as_pointer())
        asked = ir.FunctionType(ir.VoidType(), [byte.type, one, one, one])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", [byte.type], asked)
        # To be read, kept in every cache, data.
        builder.call(fetch, [byte, one(0), one(3), one(1)])
        return context.get_dummy_value()

    return types.void(array, place), code
