"""Arithmetic on sixteen numbers at once, for compiled loops.

Numba does not reliably turn a loop over sixteen numbers into vector instructions. The sums over
dimensions that searches spend their time in are therefore written in the language of the compiler
beneath it, LLVM, with vectors of 16 float32, which it maps to what the processor has.

A *vector* is 16 numbers of float32, a *lane* the place of one of them. A *tile* is 16 points, or 16
boxes, side by side: an array (dimensions, parts, 16), one in each lane. Its *parts* are the numbers
that one of them has of a dimension, for example a lower and an upper bound. A function made here
adds up terms over the dimensions for all lanes of a tile, eight dimensions at a time, and ends
early when no lane is within the limit any more.

Tiles lie one after another in a flat array, and so do queries, of shape (dimensions, parts) each.
The number of dimensions is a multiple of `CHUNK`, filled up with what adds nothing. (Numba's cache
looks at the file of the caller alone: touch `tree_search.py` after a change here.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
"""Numbers of a vector."""

CHUNK = 8
"""Dimensions that are summed before the sums are held against the limit."""

_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_INT = ir.IntType(64)


class Vector:
    """16 numbers of float32 in code that is being generated."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Vector | float) -> Vector:
        # "contract" allows a product and a sum to be rounded once.
        return self._with("fadd", other, flags=("contract",))

    def __sub__(self, other: Vector | float) -> Vector:
        return self._with("fsub", other)

    def __mul__(self, other: Vector | float) -> Vector:
        return self._with("fmul", other, flags=("contract",))

    def __truediv__(self, other: Vector | float) -> Vector:
        return self._with("fdiv", other)

    def __rtruediv__(self, other: float) -> Vector:
        return Vector(self.builder, self._value(other)) / self

    def most(self, other: Vector | float) -> Vector:
        """Return the larger of both; the other where this is no number."""
        return self._choose(">", other)

    def least(self, other: Vector | float) -> Vector:
        """Return the smaller of both; the other where this is no number."""
        return self._choose("<", other)

    def low_log2(self) -> Vector:
        """At most the logarithm to the base of 2, by less than 0.09; exact for powers of 2.

        The bits of 2^e (1 + f) are (e + 127 + f) 2^23, and f <= log2(1 + f).
        """
        bits = self.builder.bitcast(self.value, _INTEGERS)
        return Vector(self.builder, self.builder.sitofp(bits, _VECTOR)) * 2.0**-23 - 127.0

    def _with(self, operation: str, other: Vector | float, **options: Any) -> Vector:
        value = getattr(self.builder, operation)(self.value, self._value(other), **options)
        return Vector(self.builder, value)

    def _choose(self, sign: str, other: Vector | float) -> Vector:
        value = self._value(other)
        chosen = self.builder.fcmp_ordered(sign, self.value, value)
        return Vector(self.builder, self.builder.select(chosen, self.value, value))

    def _value(self, other: Vector | float) -> Any:
        return other.value if isinstance(other, Vector) else ir.Constant(_VECTOR, [other] * LANES)


Step = Callable[[list[Vector], list[Vector], list[Vector]], list[Vector]]
"""From the sums so far, the parts of a dimension and those of the query to the new sums."""

Finish = Callable[[list[Vector]], Vector]
"""From the sums to what the limit is for; for some of the dimensions, no more than for all."""


class Bound(NamedTuple):
    """What is summed over the dimensions, and held against a limit.

    Attributes
    ----------
    parts, query_parts : int
        Numbers of a dimension, in tiles and in queries.
    start : sequence of float
        What the sums start with.
    step, finish : callable
        How a dimension changes the sums, and what is made of them.
    """

    parts: int
    query_parts: int
    start: Sequence[float]
    step: Step
    finish: Finish


def make_within(bound: Bound) -> Any:
    """Make a compiled function that tells which lanes of a tile are within a limit of a query.

    Returns
    -------
    function
        Of the tiles, where the tile begins, the queries, where the query begins, the number of
        dimensions, the limit and an array (16,) of float32 for what is found. Bit j of the integer
        it returns is set where lane j is not beyond the limit; then all dimensions were summed.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def within(_: Any, tiles: Any, at: Any, queries: Any, row: Any, d: Any, limit: Any, out: Any):  # type: ignore[no-untyped-def]
        signature = types.int64(
            tiles, types.int64, queries, types.int64, types.int64, types.float32, out
        )

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arrays = [
                _data(context, builder, signature.args[number], arguments[number])
                for number in (0, 2, 6)
            ]
            _, at, _, row, dimensions, limit, _ = arguments
            tile, query = builder.gep(arrays[0], [at]), builder.gep(arrays[1], [row])
            bits, found = _sum_within(builder, bound, tile, query, dimensions, limit)
            address = builder.bitcast(arrays[2], _VECTOR.as_pointer())
            builder.store(found, address).align = 4
            return bits

        return signature, generate

    return within


def _sum_within(
    builder: Any, bound: Bound, tile: Any, query: Any, dimensions: Any, limit: Any
) -> tuple[Any, Any]:
    """Write the loop over chunks of dimensions; the lanes within the limit, as bits, and sums."""
    most = _spread(builder, limit)
    before = builder.block
    chunk, end = builder.append_basic_block(), builder.append_basic_block()
    builder.branch(chunk)
    builder.position_at_end(chunk)
    first = builder.phi(_INT)
    first.add_incoming(ir.Constant(_INT, 0), before)
    carried = [builder.phi(_VECTOR) for _ in bound.start]
    for value, number in zip(carried, bound.start, strict=True):
        value.add_incoming(ir.Constant(_VECTOR, [number] * LANES), before)
    sums = [Vector(builder, value) for value in carried]
    sums = _add_chunk(builder, bound, sums, tile, query, first)
    found = bound.finish(sums)
    # What is no number is not beyond the limit: it is looked at in full.
    near = builder.fcmp_unordered("<=", found.value, most.value)
    bits = builder.zext(builder.bitcast(near, ir.IntType(LANES)), _INT)
    after = builder.add(first, ir.Constant(_INT, CHUNK))
    for value, total in zip(carried, sums, strict=True):
        value.add_incoming(total.value, builder.block)
    first.add_incoming(after, builder.block)
    any_near = builder.icmp_signed("!=", bits, ir.Constant(_INT, 0))
    more = builder.and_(builder.icmp_signed("<", after, dimensions), any_near)
    builder.cbranch(more, chunk, end)
    builder.position_at_end(end)
    return bits, found.value


def _add_chunk(
    builder: Any, bound: Bound, sums: list[Vector], tile: Any, query: Any, first: Any
) -> list[Vector]:
    """Write how the next dimensions, from `first` on, change the sums."""
    for dimension in range(CHUNK):
        number = builder.add(first, ir.Constant(_INT, dimension))
        mine = builder.mul(number, ir.Constant(_INT, bound.parts * LANES))
        its = builder.mul(number, ir.Constant(_INT, bound.query_parts))
        parts = [
            _load(builder, builder.gep(tile, [builder.add(mine, ir.Constant(_INT, i * LANES))]))
            for i in range(bound.parts)
        ]
        query_parts = [
            _spread(
                builder,
                builder.load(builder.gep(query, [builder.add(its, ir.Constant(_INT, i))])),
            )
            for i in range(bound.query_parts)
        ]
        sums = bound.step(sums, parts, query_parts)
    return sums


def _data(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """Where the numbers of an array begin."""
    return context.make_array(kind)(context, builder, array).data


def _load(builder: Any, address: Any) -> Vector:
    """Read the 16 numbers at an address."""
    loaded = builder.load(builder.bitcast(address, _VECTOR.as_pointer()))
    loaded.align = 4
    return Vector(builder, loaded)


def _spread(builder: Any, number: Any) -> Vector:
    """Put one number into all lanes."""
    nothing = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(_INTEGERS, [0] * LANES)
    return Vector(builder, builder.shuffle_vector(one, nothing, zeros))


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
        data = _data(context, builder, signature.args[0], arguments[0])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        address = builder.bitcast(builder.gep(data, [arguments[1]]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, soon_again, data_not_code = (ir.Constant(number, i) for i in (0, 3, 1))
        builder.call(function, [address, to_read, soon_again, data_not_code])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate
