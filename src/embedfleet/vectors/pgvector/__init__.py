"""pgvector, the extension of PostgreSQL: as a vector store, and as a source to adopt.

The store (`kind`, `store`) has a schema of its own, by default in the database that has the records. So the
rows of a document can be committed in the transaction that makes it live (`within`). Its statements are in
`rows`, its tables in `schema`, and what makes searches quick in `upkeep`. The source (`source`, `tables`)
reads tables of others and never changes them.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
