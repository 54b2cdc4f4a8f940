"""A vector cache shared between corpora and machines: byte keys and values, in Redis or in memory."""
