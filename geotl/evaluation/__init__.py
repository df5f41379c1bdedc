"""Numbers in, judgement out: scores, intervals, calibration, map accuracy and areas."""
