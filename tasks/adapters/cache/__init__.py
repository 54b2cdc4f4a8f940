"""A cache of vectors that corpora and machines share: keys and values of bytes, in Redis or in memory."""
