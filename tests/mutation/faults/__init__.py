"""Every mistake that is planted, by what goes wrong."""

from tests.mutation.faults.fault import Fault
from tests.mutation.faults.frequency import FREQUENCY
from tests.mutation.faults.layout import LAYOUT
from tests.mutation.faults.length import LENGTH
from tests.mutation.faults.outside import OUTSIDE
from tests.mutation.faults.position import POSITION
from tests.mutation.faults.precision import PRECISION

FAULTS: tuple[Fault, ...] = (*LAYOUT, *POSITION, *FREQUENCY, *LENGTH, *PRECISION, *OUTSIDE)

__all__ = ["FAULTS", "Fault"]
