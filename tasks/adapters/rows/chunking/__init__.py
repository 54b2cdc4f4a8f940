"""Splits documents into chunks: texts that the encoder reads whole, each a row of its own.

    source -> rows (`rows.builder`) -> chunks (here) -> pieces -> ranks -> parts -> seal

- `splitter` cuts one text at natural boundaries (`semantic-text-splitter`). Sizes are in tokens of the encoder's own tokenizer, including prompt and
  special tokens; each chunk is counted once more as the rank will count it, and one that does not fit is cut again. A text is split in windows,
  each beginning where the last chunk of the previous one began, so a document of any size needs only a window's memory beside its own.
- `token_counts` counts the parts that the library tries: each stretch of a window is tokenised once.
- `documents` turns a batch of rows into batches of chunks. From there on a chunk is a row: its `row` is its position among the shard's chunks, and
  pieces, ranks, parts and loading do not know about documents. Row accounting is by documents: a seal counts source rows, and chunks separately.
- A chunk that cannot be embedded quarantines its document: before a shard is sealed, parts with other chunks of the document are rewritten without
  them (`engines.documents.whole_documents`).
- A key that occurs in several files is resolved by document: its owner's chunks stay, all others are removed (`stages.deduplicate`,
  `targets.part_loading`). Every version of a document has a chunk 0, so a chunk whose document's chunk 0 is in another shard is a leftover.
"""
