"""What the wire looks like: requests, answers, streams, usage and errors of the dialects, as plain functions over bytes.

In: the bytes of a request, or of an answer as they arrive. Out: the few facts that the gateway needs (model, stream, limits on
output, usage, finish reasons, errors), and the bytes to pass on, which are the original ones wherever nothing must change.
Nothing here does I/O or knows about accounts, prices or time.
"""
