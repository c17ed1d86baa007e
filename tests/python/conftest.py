"""What all tests share: Ctrl-C reaches the programs they start.

A shell gives its background jobs an ignored SIGINT, which every child inherits and facet respects.
"""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
