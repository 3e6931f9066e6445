"""Parts of torch whose types say little or nothing, named once as what they are: Any."""

import threading
from importlib import import_module
from typing import Any

pytree: Any = import_module("torch.utils._pytree")
"""The only tree code that torch's tracers accept."""
map_arg: Any = import_module("torch.fx.node").map_arg
"""Applies a function to the nodes within a node's arguments."""
PlainCode: Any = import_module("torch.fx.graph").CodeGen
"""The signature of a graph whose inputs come one after another."""
copy_all: Any = import_module("torch")._foreach_copy_
"""Copies a list of tensors into another in one call."""
core: Any = import_module("torch._C")
"""Torch's switches without a public name."""

TRACING = threading.Lock()
"""Torch's tracers and its compiler are not made for threads: one at a time."""
