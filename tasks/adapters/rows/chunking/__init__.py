"""Documents as chunks: texts that the encoder reads whole, each a row of its own.

    source -> rows (`rows.builder`) -> chunks (here) -> pieces -> ranks -> parts -> seal

- `splitter` cuts one text at natural boundaries (`semantic-text-splitter`). Sizes are those of the encoder's own tokenizer, prompt and special tokens
  counted; each chunk is counted once more as the rank will count it, and one that does not fit is cut again. A text is split in windows, and each
  begins where the last chunk of the one before began, so that a document of any size takes the memory of a window beside its own.
- `token_counts` counts the parts that the library tries: each stretch of a window is tokenised once.
- `documents` makes a batch of rows into batches of chunks. From there on a chunk is a row: its `row` is its position among the shard's chunks, and
  pieces, ranks, parts and loading know nothing of documents. Accounts are kept by documents: a seal counts the source's rows, and chunks beside them.
- A chunk that cannot be embedded takes its document with it: before a shard is sealed, parts that hold other chunks of it are written anew without
  them (`engines.whole_documents`).
- A key that comes in several files is settled by document: its owner's chunks stay, and all others leave (`stages.deduplicate`,
  `targets.leftover_chunks`). Every version of a document has a chunk 0, so a chunk whose document's chunk 0 is in another shard is a leftover.
"""
