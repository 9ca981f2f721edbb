"""What dwctl costs, measured against a bare forwarder and nginx in the same run: ``python -m tests.bench``."""
