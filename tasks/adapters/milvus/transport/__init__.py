"""The transport to a Milvus server: certificates, proxies, and diagnosis of connection failures."""
