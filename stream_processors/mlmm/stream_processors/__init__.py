"""Pure processors that fold events into findings: `serving` and `training`. They import neither Kafka nor Redis."""
