"""Bytes in blocks and words, as `scan` and `skim` read them: past their end, which is why arrays are padded."""

# Numba infers the types of kernels; annotations would be ignored by it.
# ruff: noqa: ANN001, ANN201, ANN202, ARG001, PLR2004
# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

PAD = 64
"""Bytes that every array has after its end."""
BLOCK = 32
"""Bytes looked at together."""
QUOTE, BACKSLASH, NEWLINE, SPACE = 34, 92, 10, 32
PRIME = np.uint64(0x9E3779B97F4A7C15)
LOW32 = np.uint64(0xFFFFFFFF)


def _address(context, builder, kind, array, at):
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [at])


_VECTOR = ir.VectorType(ir.IntType(8), BLOCK)


def _splat(value):
    return ir.Constant(_VECTOR, [value] * BLOCK)


def _block(context, builder, signature, args):
    place = builder.bitcast(_address(context, builder, signature.args[0], *args[:2]), _VECTOR.as_pointer())
    return builder.load(place, align=1)


@intrinsic
def word(_typing, text, at):
    """Eight bytes as a number."""

    def generate(context, builder, signature, args):
        place = builder.bitcast(_address(context, builder, signature.args[0], *args), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(text, types.intp), generate


@intrinsic
def specials(_typing, text, at):
    """Bits of the quotes, backslashes and control characters in a block."""

    def generate(context, builder, signature, args):
        block = _block(context, builder, signature, args)
        found = builder.icmp_unsigned("<", block, _splat(SPACE))
        for sign in (QUOTE, BACKSLASH):
            found = builder.or_(found, builder.icmp_unsigned("==", block, _splat(sign)))
        return builder.bitcast(found, ir.IntType(BLOCK))

    return types.uint32(text, types.intp), generate


@intrinsic
def newlines(_typing, text, at):
    """Bits of the newlines in a block."""

    def generate(context, builder, signature, args):
        block = _block(context, builder, signature, args)
        return builder.bitcast(builder.icmp_unsigned("==", block, _splat(NEWLINE)), ir.IntType(BLOCK))

    return types.uint32(text, types.intp), generate


@intrinsic
def lower(_typing, text, at, target, to):
    """Copies a block with its ASCII letters in lower case; the bits of what is beyond ASCII."""

    def generate(context, builder, signature, args):
        block = _block(context, builder, signature, args)
        letter = builder.icmp_unsigned("<", builder.sub(block, _splat(65)), _splat(26))
        lowered = builder.select(letter, builder.or_(block, _splat(32)), block)
        place = _address(context, builder, signature.args[2], args[2], args[3])
        builder.store(lowered, builder.bitcast(place, _VECTOR.as_pointer()), align=1)
        return builder.bitcast(builder.icmp_signed("<", block, _splat(0)), ir.IntType(BLOCK))

    return types.uint32(text, types.intp, target, types.intp), generate


@intrinsic
def first(_typing, bits):
    """The place of the lowest bit; there is one."""

    def generate(_context, builder, _signature, args):
        return builder.zext(builder.cttz(args[0], ir.Constant(ir.IntType(1), 1)), ir.IntType(64))

    return types.intp(types.uint32), generate


@njit(cache=True, _nrt=False)
def hash_of(text, at, end, seed):
    """A hash of some bytes, and of a number beside them."""
    found = np.uint64(seed) * PRIME + np.uint64(end - at)
    while end - at >= 8:
        found = (found ^ word(text, at)) * PRIME
        found ^= found >> np.uint64(32)
        at += 8
    if end > at:
        kept = (np.uint64(1) << np.uint64(8 * (end - at))) - np.uint64(1)
        found = (found ^ (word(text, at) & kept)) * PRIME
        found ^= found >> np.uint64(32)
    found *= PRIME
    return found ^ (found >> np.uint64(29))


@njit(cache=True, _nrt=False)
def equal(one, at, other, place, size):
    """Whether two places hold the same bytes."""
    while size >= 8:
        if word(one, at) != word(other, place):
            return False
        at += 8
        place += 8
        size -= 8
    if size == 0:
        return True
    kept = (np.uint64(1) << np.uint64(8 * size)) - np.uint64(1)
    return (word(one, at) ^ word(other, place)) & kept == 0
