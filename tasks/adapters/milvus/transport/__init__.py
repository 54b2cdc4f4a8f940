"""The way to a Milvus server: certificates, proxies, and why nothing answers."""
