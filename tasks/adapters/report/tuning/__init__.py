"""The page that `kitestring tune` writes."""
