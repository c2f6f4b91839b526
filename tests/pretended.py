"""A device that no machine has, computed on the CPU: what code for accelerators gets wrong shows without one.

Inside `pretended()` tensors can be made on and moved to `DEVICE`. As with an accelerator's, an operation on them and on
a tensor of the CPU's memory raises, unless it copies or the other is a single number; so do drawing from a generator of
the CPU and asking numpy for their memory. Views, in-place writes and autocast are torch's own. Kernels are the CPU's,
so results can be compared. Autograd, streams and what an accelerator's own kernels refuse are left out.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

DEVICE = torch.device("privateuseone:0")
MOVES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class Pretended(Tensor):
    """`memory` on the CPU that says it lies on DEVICE."""

    memory: Tensor

    @staticmethod
    def __new__(cls, memory: Tensor) -> "Pretended":
        made = Tensor._make_wrapper_subclass(
            cls, memory.shape, memory.stride(), memory.storage_offset(), dtype=memory.dtype, device=DEVICE
        )
        made.memory = memory
        return made

    def tolist(self) -> Any:
        return self.memory.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


@contextlib.contextmanager
def pretended() -> Iterator[torch.device]:
    """Gives DEVICE, once in a process and best in one of its own: torch knows of the device for the rest of it."""
    _setup_privateuseone_for_python_backend(backend_module=_Backend())
    operators = torch.library.Library("_", "IMPL")
    operators.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=DEVICE) then moves what it made on the CPU
    with _Mode():
        yield DEVICE


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        with _Mode():  # inference mode hands on whole what autograd would have taken apart
            return func.decompose(*args, **kwargs)
    leaves, _ = tree_flatten((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    there = any(isinstance(one, Pretended) for one in tensors)
    if there and func not in MOVES and any(one.dim() and not isinstance(one, Pretended) for one in tensors):
        raise RuntimeError(f"{func} was given tensors of {DEVICE} and of the CPU's memory")
    if there and any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(f"{func} was given tensors of {DEVICE} and a generator of the CPU")
    wanted = kwargs.get("device")
    if func is torch.ops.aten.copy_.default:
        there = isinstance(args[0], Pretended)
    elif wanted is not None:
        there = torch.device(wanted).type == DEVICE.type
        kwargs = kwargs | {"device": torch.device("cpu")}
    plain_args, plain_kwargs = tree_map_only(Pretended, lambda one: one.memory, (args, kwargs))
    out = func(*plain_args, **plain_kwargs)
    if not there:
        return out
    out = tree_map_only(Tensor, Pretended, out)
    return return_and_correct_aliasing(func, args, kwargs, out)
