"""All that Unison asks of Ray, and the one file that imports it: only once a cluster is really needed."""

import contextlib
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from unison.errors import LearnerGroupError, MissingExtraError
from unison.learner_group.collectives import Meeting, SingleCollective, StoreMeeting
from unison.learner_group.collectives.collective import Collective, Joiner
from unison.learner_group.collectives.torch_distributed import Backend
from unison.learner_group.ray.references import fill, lift
from unison.learner_group.ray.worker import Message, RayWorker
from unison.learner_group.uninterrupted import Interruptible

Ref = Any
"""An object in Ray's store, that is or will be there."""
ActorHandle = Any
_STARTS_OF_A_SERVER = 3
_LOOK_S = 0.5  # between looks for Ctrl-C while there is no room
_WATCH = "watch"  # the threads of a worker that answer while its object is busy

_log = logging.getLogger("unison")
_lock = threading.Lock()
_leases: "set[RayCluster]" = set()
_is_ours = False  # whether the connection that this process has was made here


class ActorGone(Exception):
    """The process of an actor has ended, or its node has; says how.

    Args:
        told: by Ray.
    """

    def __init__(self, told: str) -> None:
        super().__init__(" ".join(told.split(" Some common causes")[0].split()))  # several lines of guesses
        self.never_ran = "its node has died" in told and "never ran" in told
        """Whether it was placed on a node that was gone already; Ray tells of that in words only."""


def is_in_use() -> bool:
    """Whether this process has a connection to Ray, or the environment names a cluster."""
    return bool(os.environ.get("RAY_ADDRESS")) or _connected_ray() is not None


def with_objects(value: Any) -> Any:
    """An argument with copies of the objects that references in it stand for (see `lift`)."""
    ray = _connected_ray()
    if ray is None:
        return value
    refs: list[Ref] = []
    lifted = lift(value, lambda item: isinstance(item, ray.ObjectRef), refs)
    return fill(lifted, [Message.of(item).open() for item in ray.get(refs)]) if refs else value


def _connected_ray() -> Any:
    ray = sys.modules.get("ray")
    return ray if ray and hasattr(ray, "is_initialized") and ray.is_initialized() else None


class RayCluster:
    """A lease of the connection to Ray; the last `release()` ends what the first one began.

    Args:
        address: of a cluster, as for `ray.init`; None: the one that this process is connected to, else that of the
            environment variable RAY_ADDRESS, else a new one on this machine, on loopback only.
        cpus: how many CPUs a new one must offer at least, whether this machine has them or not.
    """

    def __init__(self, address: str | None, cpus: float) -> None:
        global _is_ours
        self._ray, self._client, self._schedules = _import_ray()
        self._groups: list[Any] = []
        with _lock:
            if not self._ray.is_initialized():
                with _own_sigterm():
                    _connect(self._ray, address or os.environ.get("RAY_ADDRESS"), cpus)
                _is_ours = True
            _leases.add(self)

    @property
    def is_alive(self) -> bool:
        """Whether the connection is there; whoever made it may have ended it."""
        return bool(self._ray.is_initialized())

    def release(self) -> None:
        """Give the places back, and end the connection if nobody here needs it any more and it was made here."""
        global _is_ours
        with _lock:
            _leases.discard(self)
            ends, _is_ours = _is_ours and not _leases, _is_ours and bool(_leases)
            if ends and self.is_alive:
                self._ray.shutdown()  # Gives all places back too, and does not wait for a cluster that is gone.
            elif self.is_alive:
                for group in self._groups:
                    self._ray.util.remove_placement_group(group)
            self._groups.clear()

    def place(self, number: int, resources: Mapping[str, float], strategy: str, timeout_s: float) -> Any:
        """A placement group with a bundle for each of `number` workers."""
        group = self._ray.util.placement_group([dict(resources)] * number, strategy=strategy)
        self._groups.append(group)
        deadline = time.monotonic() + timeout_s
        while not group.wait(_LOOK_S):  # which no signal interrupts
            if time.monotonic() > deadline:
                free = {name: left for name, left in self._ray.available_resources().items() if ":" not in name}
                raise LearnerGroupError(
                    f"The Ray cluster had no room for {number} workers with {dict(resources)} each, placed by "
                    f"{strategy}, for {timeout_s:.0f} s. Free: {free}. Ask for less with resources(), or add nodes."
                )
        return group

    def spawn(self, group: Any, bundle: int, resources: Mapping[str, float]) -> ActorHandle:
        """Begin to make a worker in one bundle of a placement group."""
        place = self._schedules.PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=bundle
        )
        actor = self._ray.remote(
            num_cpus=resources["CPU"],
            num_gpus=resources.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            concurrency_groups={_WATCH: 2},
            scheduling_strategy=place,
        )(_actor_class(self._ray))
        return actor.remote()

    def meeting(self, world_size: int, timeout_s: float, backend: Backend) -> Meeting:
        """Where ranks meet: a store in this process if it is on a node of the cluster, else in an actor."""
        if world_size == 1:
            return _Nobody()
        if self._client.ray.is_connected():
            return _MeetingElsewhere(self._ray, world_size, timeout_s, backend)
        return StoreMeeting(world_size, timeout_s, backend=backend, host=self._ray.util.get_node_ip_address())

    def put(self, value: object) -> Ref:
        """Into the object store."""
        return self._ray.put(value)

    def is_ref(self, value: object) -> bool:
        """Whether it refers to an object in the store."""
        return isinstance(value, self._ray.ObjectRef)

    def ready(self, refs: Sequence[Ref], timeout_s: float) -> list[Ref]:
        """Those refs whose objects are there, waiting up to `timeout_s` seconds for the first one."""
        if not refs:
            return []
        different = list(dict.fromkeys(refs))
        with Interruptible():
            there, _ = self._ray.wait(different, num_returns=len(different), timeout=0, fetch_local=False)
            if not there and timeout_s > 0:
                there, _ = self._ray.wait(different, num_returns=1, timeout=timeout_s, fetch_local=False)
        return list(there)

    def get(self, ref: Ref) -> Any:
        """The object; raises ActorGone, or what kept the object from being made."""
        exceptions = self._ray.exceptions
        try:
            with Interruptible():
                return self._ray.get(ref)
        except (exceptions.RayActorError, exceptions.NodeDiedError, exceptions.WorkerCrashedError) as error:
            raise ActorGone(str(error)) from error

    def is_intact(self, ref: Ref) -> bool:
        """Whether an object that was there can still be had."""
        try:
            with Interruptible():
                self._ray.get(ref)
        except self._ray.exceptions.RayError:
            return False
        return True

    def kill(self, actor: ActorHandle) -> None:
        """End the process of an actor, also if it no longer listens."""
        if self.is_alive:
            self._ray.kill(actor)


def _import_ray() -> tuple[Any, Any, Any]:
    try:
        import ray
        from ray.util import client, scheduling_strategies
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "resources(backend='ray')") from error
    return ray, client, scheduling_strategies


def _actor_class(ray: Any) -> Any:
    watch = ray.method(concurrency_group=_WATCH)

    class Actor(RayWorker):  # local, so that it travels by value: where it arrives, nobody has decorated RayWorker
        @watch
        def pid(self) -> int:
            return super().pid()

        @watch
        def stack(self) -> str:
            return super().stack()

        @watch
        def end(self) -> None:
            super().end()

    return Actor


def _connect(ray: Any, address: str | None, cpus: float) -> None:
    if address and address.startswith("ray://"):
        _connect_client(ray, address)
    elif address and address != "local":
        ray.init(address, log_to_driver=False, logging_level="error")
    else:
        with _on_loopback():
            ray.init(
                "local",
                num_cpus=max(os.cpu_count() or 1, math.ceil(cpus)),
                include_dashboard=False,
                log_to_driver=False,
                logging_level="error",
            )


def _connect_client(ray: Any, address: str) -> None:
    """Ask the head node for a server of our own there; one that ends while it starts is asked for again."""
    for left in reversed(range(_STARTS_OF_A_SERVER)):
        try:
            ray.init(address)
            return
        except ConnectionAbortedError as error:
            if not left:
                raise
            reason = str(error).strip().rpartition("\n")[2]
            _log.warning(
                "The head node of %s gave no server: %s Asking again, at most %d times.", address, reason, left
            )


@contextlib.contextmanager
def _own_sigterm() -> Generator[None]:
    """Put the program's own handler of SIGTERM back in place of Ray's, which ends the process at once."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        # Without a handler of its own, Ray's is better than none: it ends the processes of a local cluster too.
        has_own = handler not in (None, signal.SIG_DFL)
        if has_own and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _on_loopback() -> Generator[None]:
    """Have Ray's processes listen on loopback only, as it does by itself on desktop systems, and say nothing of it."""
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    constants: Any = sys.modules["ray._private.ray_constants"]  # read the variable when Ray was imported
    logger = logging.getLogger("ray")
    before = (os.environ.get(name), constants.ENABLE_RAY_CLUSTER, logger.level)
    os.environ[name], constants.ENABLE_RAY_CLUSTER = "0", False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        variable, constants.ENABLE_RAY_CLUSTER, level = before
        logger.setLevel(level)
        if variable is None:
            del os.environ[name]
        else:
            os.environ[name] = variable


class _Nobody(Meeting):
    """The meeting of a lone rank."""

    descriptors = ()

    def joiner(self) -> Joiner:
        return _alone

    def abort(self, epoch: int) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Nothing is held."""


def _alone(rank: int, descriptors: Sequence[int]) -> Collective:
    return SingleCollective()


class _MeetingElsewhere(Meeting):
    """A StoreMeeting in an actor, for a driver that the ranks can't reach."""

    descriptors = ()

    def __init__(self, ray: Any, world_size: int, timeout_s: float, backend: Backend) -> None:
        class Keeper:
            def __init__(self) -> None:
                here = ray.util.get_node_ip_address()
                self.meeting = StoreMeeting(world_size, timeout_s, backend=backend, host=here)

            def joiner(self) -> Joiner:
                return self.meeting.joiner()

            def abort(self, epoch: int) -> None:
                self.meeting.abort(epoch)

        self._ray = ray
        self._keeper = ray.remote(num_cpus=0)(Keeper).remote()

    def joiner(self) -> Joiner:
        return self._ray.get(self._keeper.joiner.remote())

    def abort(self, epoch: int) -> None:
        self._keeper.abort.remote(epoch)

    def close(self) -> None:
        self._ray.kill(self._keeper)
