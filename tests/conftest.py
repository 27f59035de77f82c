"""What all tests share."""

import signal

from hypothesis import HealthCheck, settings

# Whoever starts the tests in the background of a script has Ctrl-C ignored, and programs pass that on to what they run.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No example is judged by the time that it takes: the machine may be busy.
settings.register_profile("relbuild", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relbuild")
