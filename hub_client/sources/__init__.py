"""Where files live: one module per URL scheme, found through `hub_client.sources.registry`."""
