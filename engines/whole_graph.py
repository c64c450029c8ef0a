"""Whether a compiler took a graph as a whole.

torch_tensorrt gives the graph back unchanged, with a warning only, where it supports too few of its operations, even
when full compilation is required; and a split graph runs with copies and launches between its parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_PLUMBING = ("placeholder", "output", "get_attr")
_COMPILED_MODULE = "TorchTensorRTModule"


def left_over(graph_module: torch.fx.GraphModule) -> list[str]:
    """Names of operations outside compiled modules; "several parts" for more modules than one, "no part" for none."""
    found, parts = set(), 0
    for node in graph_module.graph.nodes:
        if node.op in _PLUMBING or getattr(node.target, "__name__", "") == "getitem":
            continue
        module = graph_module.get_submodule(node.target) if node.op == "call_module" else None
        if type(module).__name__.endswith(_COMPILED_MODULE):
            parts += 1
        else:
            found.add(getattr(node.target, "__name__", str(node.target)))
    if parts != 1 and not found:
        found.add("several parts" if parts else "no part")
    return sorted(found)
