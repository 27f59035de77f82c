"""What all tests share."""

import signal

# Whoever starts the tests in the background of a script has Ctrl-C ignored, and programs pass that on to what they run.
signal.signal(signal.SIGINT, signal.default_int_handler)
