"""Arithmetic on sixteen numbers at once, for compiled loops.

The compiler turns no loop over sixteen lanes reliably into vector instructions, so that the sums
over dimensions that searches spend their time in are written in its own language, with vectors of
16 float32, which it maps to what the processor has. A function here adds up terms of 16 lanes over
the dimensions, eight at a time, and ends early when no lane is within the limit any more.

Blocks are flat arrays of shape (blocks, dimensions, parts, 16), where the parts of a dimension are
for example a lower and an upper bound; queries are flat arrays of shape (queries, dimensions,
parts). The number of dimensions is a multiple of `CHUNK`, filled up with what adds nothing.
(Numba's cache looks at the file of the caller alone: touch `tree_search.py` after a change here.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
CHUNK = 8

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_INT = ir.IntType(64)


class Lanes:
    """16 numbers of float32 in code that is being generated."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Lanes | float) -> Lanes:
        # "contract" allows a product and a sum to be rounded once.
        return self._with("fadd", other, flags=("contract",))

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self._with("fsub", other)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self._with("fmul", other, flags=("contract",))

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self._with("fdiv", other)

    def __rtruediv__(self, other: float) -> Lanes:
        return Lanes(self.builder, self._value(other)) / self

    def most(self, other: Lanes | float) -> Lanes:
        """Return the larger of both; the other where this is no number."""
        return self._choose(">", other)

    def least(self, other: Lanes | float) -> Lanes:
        """Return the smaller of both; the other where this is no number."""
        return self._choose("<", other)

    def low_log2(self) -> Lanes:
        """At most the logarithm to the base of 2, by less than 0.09; exact for powers of 2.

        The bits of 2^e (1 + f) are (e + 127 + f) 2^23, and f <= log2(1 + f).
        """
        bits = self.builder.bitcast(self.value, _INTEGERS)
        return Lanes(self.builder, self.builder.sitofp(bits, _VECTOR)) * 2.0**-23 - 127.0

    def _with(self, operation: str, other: Lanes | float, **options: Any) -> Lanes:
        value = getattr(self.builder, operation)(self.value, self._value(other), **options)
        return Lanes(self.builder, value)

    def _choose(self, sign: str, other: Lanes | float) -> Lanes:
        value = self._value(other)
        chosen = self.builder.fcmp_ordered(sign, self.value, value)
        return Lanes(self.builder, self.builder.select(chosen, self.value, value))

    def _value(self, other: Lanes | float) -> Any:
        return other.value if isinstance(other, Lanes) else ir.Constant(_VECTOR, [other] * LANES)


Step = Callable[[list[Lanes], list[Lanes], list[Lanes]], list[Lanes]]
"""From the sums so far, the parts of a dimension and those of the query to the new sums."""

Finish = Callable[[list[Lanes]], Lanes]
"""From the sums to what the limit is for; for some of the dimensions, no more than for all."""


def lanes_within(
    parts: int, query_parts: int, start: Sequence[float], step: Step, finish: Finish
) -> Any:
    """Make a compiled function that tells which lanes of a block are within a limit of a query.

    Parameters
    ----------
    parts, query_parts : int
        Numbers of a dimension, in blocks and in queries.
    start : sequence of float
        What the sums start with.
    step, finish : callable
        How a dimension changes the sums, and what is made of them.

    Returns
    -------
    function
        Of the blocks, where the block begins, the queries, where the query begins, the number of
        dimensions, the limit and an array (16,) of float32 for what is found. Bit j of the integer
        it returns is set where lane j is not beyond the limit; then all dimensions were summed.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def within(_: Any, blocks: Any, at: Any, queries: Any, row: Any, d: Any, limit: Any, out: Any):  # type: ignore[no-untyped-def]
        signature = types.int64(
            blocks, types.int64, queries, types.int64, types.int64, types.float32, out
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            def pointer(number: int) -> Any:
                array = context.make_array(signature.args[number])
                return array(context, builder, arguments[number]).data

            def lanes(address: Any) -> Lanes:
                loaded = builder.load(builder.bitcast(address, _VECTOR.as_pointer()))
                loaded.align = 4
                return Lanes(builder, loaded)

            def splat(number: Any) -> Lanes:
                nothing = ir.Constant(_VECTOR, ir.Undefined)
                one = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
                zeros = ir.Constant(_INTEGERS, [0] * LANES)
                return Lanes(builder, builder.shuffle_vector(one, nothing, zeros))

            _, at, _, row, dimensions, limit, _ = arguments
            block = builder.gep(pointer(0), [at])
            query = builder.gep(pointer(2), [row])
            most = splat(limit)
            before = builder.block
            chunk, end = builder.append_basic_block(), builder.append_basic_block()
            builder.branch(chunk)
            builder.position_at_end(chunk)
            first = builder.phi(_INT)
            first.add_incoming(ir.Constant(_INT, 0), before)
            carried = [builder.phi(_VECTOR) for _ in start]
            for value, number in zip(carried, start, strict=True):
                value.add_incoming(ir.Constant(_VECTOR, [number] * LANES), before)
            sums = [Lanes(builder, value) for value in carried]
            for dimension in range(CHUNK):
                number = builder.add(first, ir.Constant(_INT, dimension))
                mine = builder.mul(number, ir.Constant(_INT, parts * LANES))
                its = builder.mul(number, ir.Constant(_INT, query_parts))
                values = [
                    lanes(builder.gep(block, [builder.add(mine, ir.Constant(_INT, i * LANES))]))
                    for i in range(parts)
                ]
                query_values = [
                    splat(
                        builder.load(builder.gep(query, [builder.add(its, ir.Constant(_INT, i))]))
                    )
                    for i in range(query_parts)
                ]
                sums = step(sums, values, query_values)
            result = finish(sums)
            # What is no number is not beyond the limit: it is looked at in full.
            near = builder.fcmp_unordered("<=", result.value, most.value)
            bits = builder.zext(builder.bitcast(near, ir.IntType(LANES)), _INT)
            after = builder.add(first, ir.Constant(_INT, CHUNK))
            for value, total in zip(carried, sums, strict=True):
                value.add_incoming(total.value, builder.block)
            first.add_incoming(after, builder.block)
            any_near = builder.icmp_signed("!=", bits, ir.Constant(_INT, 0))
            more = builder.and_(builder.icmp_signed("<", after, dimensions), any_near)
            builder.cbranch(more, chunk, end)
            builder.position_at_end(end)
            address = builder.bitcast(pointer(6), _VECTOR.as_pointer())
            builder.store(result.value, address).align = 4
            return bits

        return signature, generate

    return within


@intrinsic  # type: ignore[untyped-decorator]
def lowest_bit(_: Any, bits: Any):  # type: ignore[no-untyped-def]
    """Return the number of the lowest bit that is set, of an integer that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(_: Any, array: Any, at: Any):  # type: ignore[no-untyped-def]
    """Ask for 16 numbers of a flat array to be brought into the cache."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, soon_again, data_not_code = (ir.Constant(number, i) for i in (0, 3, 1))
        builder.call(function, [address, to_read, soon_again, data_not_code])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate
