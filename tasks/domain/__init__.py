"""Values and rules: standard library and pydantic only, no I/O and no SDK.

The laws of the project. Code and tests cite them by name.

Accounted rows      Source rows = embedded + reused + duplicates + quarantined, in each shard and on each run. A row in a collection
                    that no seal accounts for is found and named. No row leaves a collection uncounted.
One retry owner     Prefect retries a group, an adapter retries a call, an engine retries nothing. An error says what may be done:
                    Transient, OutcomeUnknown or Permanent (`tasks.domain.errors`).
Isolated failures   A bad row does not fail its shard, a bad shard not its run, a bad host not its job, a damaged document not its corpus.
                    More than `failures.max_quarantined` fails the run after the good rows are stored.
No orphans          No process outlives its run, whatever ends the run. No thread ends in silence.
No barriers         A rank or a host that dies costs at most the parts that it was writing. No process waits for all others.
Encoded once        A row is encoded once for each digest of its content and each fingerprint of the encoder.
Bounded memory      Memory depends on the batch and the part, never on the shard, the document or the corpus.
One model           A collection carries the model that made it. A query or a load with another encoder is refused.
Files are places    A file is identified by its location: the same name below another root is another file.
Honest proofs       A proof claims what was compared: counts, a sample, or every row.
Growing formats     Documents of older versions stay readable. Documents of newer versions are refused as newer, not as damaged.
"""
