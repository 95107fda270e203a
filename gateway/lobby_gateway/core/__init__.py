"""What decides: plain code with no I/O and no clock; the time is an argument."""
