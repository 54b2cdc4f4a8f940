"""Collections: specifications, fields, proofs and promotions."""
