"""The values that the scalar interpreter works on, and the interface of the interpreter that rules use.

A rule is called as `rule(scalars, eqn, *operands)`. It returns the list of results, or NotImplemented where the
primitive is better applied to the assembled arrays.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import NotImplementedType
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax import Array

from xorjax.lanes import control_flow


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class KeyWords:
    """A key of JAX's default generator, as two uint32 scalars. (Not a sequence, which NumPy would unpack.)"""

    first: Any
    second: Any


Number = Array | np.generic  # a scalar; known while tracing if it is NumPy's
Element = Number | KeyWords
# An array of known numbers, an array of objects (an `Element` each), or a JAX array that is not split yet.
Value = np.ndarray | Array
Leaf = Element | Value  # of a loop's carry: an element, or an array that is too large to split
Emit = Callable[..., Any]  # `emit(name, operation, *operands)`, of scalars or of arrays, see `Interpreter.emit`
Choose = Callable[[Any, Any, Any], Any]  # `choose(condition, yes, no)`


@runtime_checkable
class Interpreter(control_flow.Interpreter, Protocol):
    """The part of `ScalarInterpreter` that rules use."""

    def elements(self, value: Value) -> np.ndarray: ...
    def emit(self, name: str, operation: Callable[..., Any], /, *operands: Any, **params: Any) -> Any: ...
    def select(self, index: Number, *elements: Any) -> Any: ...
    def choose(self, condition: Number, yes: Any, no: Any) -> Any: ...


Results = Sequence[Value] | NotImplementedType
Rule = Callable[..., Results]
