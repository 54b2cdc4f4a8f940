"""The HTML page that `kitestring tune` writes."""
