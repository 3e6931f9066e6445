"""Parameters of one optimizer side by side in flat buffers.

One flat buffer [N] for the parameters, one for their gradients and one per moment of the
optimizer turn an optimizer step into a handful of kernels, however many layers there are. The
module's parameters and the entries of the torch optimizer's state are views of these buffers,
so whoever reads or writes them sees the same numbers.
"""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from unison.learner.engines.torch_parts import pointers
from unison.learner.links import Links
from unison.learner.update_rules import Options, UpdateRule
from unison.types import ParamRef

Parameter = torch.nn.Parameter
_requires_grad = attrgetter("requires_grad")


class FlatGroup:
    """Parameters of one param group, one dtype and one device, held flat.

    Args:
        optimizer: owner of the state and the settings.
        index: which of its param groups.
        refs: the group's parameters by name.
        rule: how the buffers move; None if only the optimizer's own `step()` can move them.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        index: int,
        refs: dict[ParamRef, Parameter],
        rule: UpdateRule | None,
    ) -> None:
        self.refs = refs
        self._optimizer = optimizer
        self._index = index
        self._rule = rule
        self._sizes = [p.numel() for p in refs.values()]
        self._pointers: list[int] = []
        self._links = Links()
        self.sync()

    @property
    def options(self) -> Options:
        """The param group: its settings, learning rate included."""
        return self._optimizer.param_groups[self._index]

    def sync(self) -> None:
        """Adopt what others may have changed: tensors replaced (a moved module, a loaded state), the learning rate."""
        if not self._is_bound():
            self._allocate()
        if len(set(map(_requires_grad, self.refs.values()))) > 1:
            self.is_uniform = False  # Frozen ones take no steps.
        self.lr.fill_(float(self.options["lr"]))

    def look_at_counts(self) -> None:
        """See whether all parameters are at the same step; to be called where counts were set from outside."""
        self.is_uniform = bool((self.count == self.count[0]).all())

    def put_back(self, buffers: Mapping[str, Tensor], *, is_uniform: bool) -> None:
        """Use the buffers of before, where others have taken their place meanwhile."""
        if self.parameters is not buffers["parameters"] or not self._is_bound():
            self._bind(buffers)
        self.is_uniform = is_uniform

    def _bind(self, buffers: Mapping[str, Tensor]) -> None:
        """Use `buffers` (named as `buffers()` names them) from now on; their views are made anew."""
        self.parameters = buffers["parameters"]
        self.gradients = buffers["gradients"]
        self.count = buffers["count"]
        self.lr = buffers["lr"]
        self.last_non_finite = buffers["last_non_finite"]
        self.moments = {name: buffers[name] for name in self._moment_names()}
        self.gradient_views = dict(zip(self.refs, self.views(self.gradients), strict=True))
        moments = {name: self.views(moment) for name, moment in self.moments.items()}
        self._links = Links()
        for i, (p, view) in enumerate(zip(self.refs.values(), self.views(self.parameters), strict=True)):
            p.data = view
            if self._rule:
                self._state[p] = {"step": self.count[i], **{name: parts[i] for name, parts in moments.items()}}
                self._note(p)
        self._pointers = pointers(self.refs.values())

    def buffers(self) -> dict[str, Tensor]:
        """Everything that a step reads or writes: parameters, gradients, moments [N], count [P], lr (0-d).

        `last_non_finite` [P] tells which parameters had NaN or infinity in their gradients, when one last had.
        """
        return {
            "parameters": self.parameters,
            "gradients": self.gradients,
            **self.moments,
            "count": self.count,
            "lr": self.lr,
            "last_non_finite": self.last_non_finite,
        }

    def write(self, gradients: Mapping[ParamRef, Tensor]) -> set[ParamRef]:
        """Put `gradients` into the flat buffer; return the names that have none (their entries become 0)."""
        missing: set[ParamRef] = set()
        for ref, view in self.gradient_views.items():
            gradient = gradients.get(ref)
            if gradient is view:
                continue
            if gradient is None:
                view.zero_()
                missing.add(ref)
            else:
                view.copy_(gradient)
        return missing

    def find_non_finite(self) -> Tensor:
        """[P] float: 1 where a parameter's gradient holds NaN or infinity."""
        return non_finite(torch.stack([view.sum() for view in self.gradient_views.values()]))

    def step(self, skip: Tensor, missing: set[ParamRef], *, fused: bool) -> None:
        """Move the parameters by the flat gradient, unless `skip` is 1; those in `missing` stay as they are."""
        assert self._rule is not None
        if len(missing) == len(self.refs):
            return
        kept = self._parts(missing) if missing else []
        saved = [part.clone() for part in kept]
        self.count.add_(1 - skip)
        self.is_uniform = self.is_uniform and not missing
        # Parameters that were left out of steps are at an earlier step of their own.
        count = self.count[0] if self.is_uniform else self._count_of_entries()
        fused = fused and self.is_uniform
        self._rule.step(self.options, self.parameters, self.gradients, self.moments, count, self.lr, skip, fused=fused)
        for part, value in zip(kept, saved, strict=True):
            part.copy_(value)

    def views(self, flat: Tensor) -> list[Tensor]:
        """Views into a flat buffer [N], one of each parameter's shape."""
        parts = flat.split_with_sizes(self._sizes)
        return [part.view(p.shape) for part, p in zip(parts, self.refs.values(), strict=True)]

    def _count_of_entries(self) -> Tensor:
        """The count [N] of each entry's parameter, by operations whose shapes depend on no values."""
        return torch.cat([count.expand(size) for count, size in zip(self.count.unbind(), self._sizes, strict=True)])

    def _moment_names(self) -> tuple[str, ...]:
        return self._rule.moments if self._rule else ()

    def _parts(self, refs: set[ParamRef]) -> list[Tensor]:
        chosen = [i for i, ref in enumerate(self.refs) if ref in refs]
        flats = [self.parameters, *self.moments.values()]
        parts = [view for flat in flats for i, view in enumerate(self.views(flat)) if i in chosen]
        return parts + [self.count[i : i + 1] for i in chosen]

    def _is_bound(self) -> bool:
        """Whether the parameters and the optimizer's state still are the views made here."""
        return pointers(self.refs.values()) == self._pointers and self._links.hold()

    def _allocate(self) -> None:
        params = list(self.refs.values())
        with torch.no_grad():
            flat = torch.cat([p.detach().reshape(-1) for p in params])
            buffers = {"parameters": flat, "gradients": torch.zeros_like(flat)}
            buffers |= {"lr": torch.zeros((), device=flat.device)}
            buffers |= {"last_non_finite": torch.zeros(len(params), device=flat.device)}
            for name in self._moment_names():
                buffers[name] = torch.cat([self._old_moment(p, name).reshape(-1) for p in params])
            counts = [float(self._state[p].get("step", 0.0)) if p in self._state else 0.0 for p in params]
            buffers["count"] = torch.tensor(counts, device=flat.device)
        self._bind(buffers)
        self.look_at_counts()

    def _note(self, parameter: Parameter) -> None:
        """Remember where the views that make up a parameter's state hang."""
        state = self._links.add(vars(self._optimizer), "state")
        entry = self._links.add(state, parameter)
        for name in ("step", *self._moment_names()):
            self._links.add(entry, name)

    @property
    def _state(self) -> Any:
        # Asked for each time, as the options are: torch's load_state_dict() puts other dicts in their place.
        return self._optimizer.state

    def _old_moment(self, parameter: Parameter, name: str) -> Tensor:
        old = self._state[parameter].get(name) if parameter in self._state else None
        return torch.zeros_like(parameter) if old is None else old.detach().to(parameter)


def non_finite(sums: Tensor) -> Tensor:
    """1 where what was summed holds NaN or infinity, else 0: a sum is finite only if all its terms are."""
    return torch.isfinite(sums).logical_not().to(torch.float32)
