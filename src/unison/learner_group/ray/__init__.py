"""The transport of a Ray cluster."""

from unison.learner_group.ray.transport import RayTransport

__all__ = ["RayTransport"]
