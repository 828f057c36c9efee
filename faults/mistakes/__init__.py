"""Every mistake that is planted, by what goes wrong."""

from faults.mistakes.fault import Fault
from faults.mistakes.frequency import FREQUENCY
from faults.mistakes.layout import LAYOUT
from faults.mistakes.length import LENGTH
from faults.mistakes.outside import OUTSIDE
from faults.mistakes.position import POSITION
from faults.mistakes.precision import PRECISION

FAULTS: tuple[Fault, ...] = (*LAYOUT, *POSITION, *FREQUENCY, *LENGTH, *PRECISION, *OUTSIDE)

__all__ = ["FAULTS", "Fault"]
