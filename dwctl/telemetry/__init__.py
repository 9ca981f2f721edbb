"""What the program says about itself: structured logs without secrets, and prometheus metrics.

Rooms get a logger from ``structlog.get_logger()`` and define their metrics against `metrics.REGISTRY`; what fails
without anybody waiting for it goes to `alarms.alarm`.
"""
