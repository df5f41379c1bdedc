"""Pure functions of numbers: scores, intervals, calibration, map accuracy and areas."""
