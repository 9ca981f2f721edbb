"""The schema, step by step, as tortoise's migrations; generated from ``dwctl.store.tables`` and never edited once released."""
