"""How many kill points and corruptions the tests of faults have tried; shown at the end of a run that tried any."""

from collections import Counter

TALLY: Counter[str] = Counter()
