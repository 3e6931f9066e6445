"""What holds for every test: one thread each (tests run side by side), and reproducible random cases."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("unison", deadline=None, derandomize=True, database=None)
settings.load_profile("unison")
