"""Settings, connections, and the harness that runs a pure processor on one partition exactly once.

Each module is imported on its own, so that a process loads what it uses: `mlmm.runtime.settings` and
`mlmm.runtime.errors` load neither Kafka nor Redis nor numpy. See docs/architecture.md.
"""
